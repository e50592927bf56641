#pragma once
/**
 * The members of an archive (docker save, OCI archive) as struct files: read in place, nothing is unpacked. A plain tar is
 * walked from header to header; a compressed one is scanned like a layer and read through its spans.
 */
#include "blob/blob.h"
#include "blob/store.h"
#include "source/layout.h"

/** blob: the archive file, referenced. -EBADMSG: it is no tar. */
int files_open_tar(struct blob *blob, struct files **ret_files, struct error *err);
