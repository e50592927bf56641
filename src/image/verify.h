#pragma once
/** Looks through the whole store for bytes that are not what they should be: `imagefs cache verify`. */
#include <stdatomic.h>
#include <stdint.h>

#include "base/error.h"
#include "blob/store.h"

struct verify_result {
        uint64_t docs, indexes, chunks, chunk_bytes; /* looked at */
        uint64_t bad_docs, bad_indexes, bad_chunks;  /* wrong; removed, set aside, forgotten */
};

/** cancel: may be NULL. 0 also when something was wrong: the result says it. */
int verify_store(struct store *store, const atomic_bool *cancel, struct verify_result *ret_result, struct error *err);
