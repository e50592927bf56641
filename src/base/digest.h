#pragma once
/**
 * Digests as OCI writes them ("sha256:" and lower-case hex; image-spec descriptor.md), and the hashes behind them.
 * A struct digest is a plain value. A digest_ctx belongs to one thread. Only this file knows OpenSSL.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/mem.h"

enum digest_alg { DIGEST_NONE = 0, DIGEST_SHA256 = 1, DIGEST_SHA512 = 2 };
enum { DIGEST_MAX_BYTES = 64, DIGEST_MAX_TEXT = 7 + 128 + 1, SHA256_BYTES = 32 };

struct digest {
        enum digest_alg alg;
        uint8_t bytes[DIGEST_MAX_BYTES]; /* the first digest_size() count, the rest is zero */
};

/** 32 or 64; 0 for DIGEST_NONE. */
size_t digest_size(enum digest_alg alg);

/**
 * Parses "alg:hex" (len bytes, no NUL needed). -EINVAL: not a digest, upper-case hex included;
 * -EOPNOTSUPP: well-formed, but of an algorithm that cannot be verified here.
 */
int digest_parse(const char *text, size_t len, struct digest *ret_digest);

/** Writes "sha256:..." into a caller's buffer and returns it. */
const char *digest_format(const struct digest *d, char text[DIGEST_MAX_TEXT]);

/** The hex part alone. */
const char *digest_hex(const struct digest *d, char text[DIGEST_MAX_TEXT]);

/** "sha256" or "sha512". */
const char *digest_alg_name(enum digest_alg alg);

bool digest_equal(const struct digest *a, const struct digest *b);

/** Digest of a piece of memory. 0 or -ENOMEM. */
int digest_memory(enum digest_alg alg, const void *data, size_t len, struct digest *ret_digest);

/** SHA-256 alone, for spans. 0 or -ENOMEM. */
int sha256_memory(const void *data, size_t len, uint8_t ret_hash[SHA256_BYTES]);

/** -EBADMSG with both digests in the message when data is not what `want` names; `what` says whose data it is. */
int digest_check(const struct digest *want, const void *data, size_t len, const char *what, struct error *err);

struct digest_ctx;

/** NULL when out of memory. */
struct digest_ctx *digest_ctx_new(enum digest_alg alg);
void digest_ctx_free(struct digest_ctx *ctx);
DEFINE_CLEANUP(struct digest_ctx, digest_ctx_free);

void digest_ctx_update(struct digest_ctx *ctx, const void *data, size_t len);

/** Gives the digest of all bytes; the context is used up. */
void digest_ctx_final(struct digest_ctx *ctx, struct digest *ret_digest);
