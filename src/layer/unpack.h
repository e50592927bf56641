#pragma once
/**
 * The tar stream of a layer as a blob: for layers whose compressed stream has no way in (one large zstd frame). It can only
 * be streamed; blob/cached.h keeps what comes out. Locks itself.
 */
#include "blob/blob.h"
#include "blob/store.h"
#include "layer/index.h"

/** slow: the compressed blob, referenced; NULL: only the store's copy, if it has one. info, store: borrowed. */
int unpack_open(const struct index_info *info, struct blob *slow, struct store *store, struct blob **ret_blob,
        struct error *err);
