#pragma once
/**
 * The first look at a layer: its blob is read once, from its first byte to its last, and in that pass hashed, kept in the
 * store (unless the blob is local), inflated, its tar headers collected and its index built. Memory does not depend on the layer's
 * size, but for the index. Three threads a scan: the caller's takes the bytes in, hashes and keeps them; one decodes; one hashes
 * what came of it.
 */
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/digest.h"
#include "base/error.h"
#include "blob/blob.h"
#include "blob/store.h"
#include "layer/index.h"

/** A layer may expand to SCAN_RATIO_MAX times its size, and to SCAN_FREE in any case. (gzip cannot reach the ratio, zstd can.) */
enum { SCAN_RATIO_MAX = 2048, SCAN_FREE = 1 << 30 };

/** What the pass is about; read by another thread for a progress line. */
struct scan_progress {
        _Atomic uint64_t done; /* compressed bytes taken in */
        atomic_bool cancel;    /* set by anyone: the scan ends with -ECANCELED soon */
};

struct scan_request {
        struct blob *blob;              /* borrowed */
        struct digest digest;           /* of the blob; DIGEST_NONE: not known (a local tar): computed, not checked */
        struct digest diff_id;          /* of the tar stream, from the config; DIGEST_NONE: not known */
        struct store *store;            /* where the bytes and the index go */
        struct scan_progress *progress; /* NULL: nobody looks */
};

/**
 * Scans and publishes. Takes the store's lock of the digest first: if another process made the index meanwhile, that is
 * taken and nothing is read. -EBADMSG: digest, size, diff ID or format is wrong (message says which), -EFBIG: a ceiling; nothing is left in the
 * store then. A cut-off download leaves its bytes for the next try.
 */
int scan_layer(const struct scan_request *rq, struct index **ret_index, struct error *err);
