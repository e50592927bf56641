/* How: OpenSSL's EVP interface, which picks the processor's SHA instructions. The EVP_MD objects are fetched once: an
 * implicit fetch at each init costs more than hashing a small span. */
#include "base/digest.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <openssl/evp.h>

struct digest_ctx {
        EVP_MD_CTX *evp;
        enum digest_alg alg;
};

static EVP_MD *md_sha256, *md_sha512;
static pthread_once_t md_once = PTHREAD_ONCE_INIT;

static void fetch_all(void)
{
        md_sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
        md_sha512 = EVP_MD_fetch(NULL, "SHA512", NULL);
}

static const EVP_MD *md_of(enum digest_alg alg)
{
        pthread_once(&md_once, fetch_all);
        return alg == DIGEST_SHA512 ? md_sha512 : md_sha256;
}

size_t digest_size(enum digest_alg alg)
{
        return alg == DIGEST_SHA256 ? 32 : alg == DIGEST_SHA512 ? 64 : 0;
}

const char *digest_alg_name(enum digest_alg alg)
{
        return alg == DIGEST_SHA512 ? "sha512" : "sha256";
}

static int hex_value(char c)
{
        return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* alg(sep alg)*:hex{32,}, image-spec descriptor.md, "Digests" */
static bool well_formed(const char *text, size_t alg_len, const char *hex, size_t hex_len)
{
        bool separator = true;
        for (size_t i = 0; i < alg_len; i++) {
                bool word = (text[i] >= 'a' && text[i] <= 'z') || (text[i] >= '0' && text[i] <= '9');
                if (!word && (separator || !memchr("+._-", text[i], 4)))
                        return false;
                separator = !word;
        }
        if (separator || hex_len < 32)
                return false;
        for (size_t i = 0; i < hex_len; i++)
                if (hex_value(hex[i]) < 0)
                        return false;
        return true;
}

int digest_parse(const char *text, size_t len, struct digest *ret_digest)
{
        const char *colon = memchr(text, ':', len);
        if (!colon)
                return -EINVAL;
        size_t alg_len = (size_t)(colon - text);
        const char *hex = colon + 1;
        size_t hex_len = len - alg_len - 1;
        struct digest d = {0};
        if (alg_len == 6 && !memcmp(text, "sha256", 6))
                d.alg = DIGEST_SHA256;
        else if (alg_len == 6 && !memcmp(text, "sha512", 6))
                d.alg = DIGEST_SHA512;
        if (!well_formed(text, alg_len, hex, hex_len))
                return -EINVAL;
        if (d.alg == DIGEST_NONE)
                return -EOPNOTSUPP;
        if (hex_len != 2 * digest_size(d.alg))
                return -EINVAL;
        for (size_t i = 0; i < hex_len / 2; i++)
                d.bytes[i] = (uint8_t)(hex_value(hex[2 * i]) << 4 | hex_value(hex[2 * i + 1]));
        *ret_digest = d;
        return 0;
}

static void put_hex(const struct digest *d, char *text)
{
        size_t size = digest_size(d->alg);
        for (size_t i = 0; i < size; i++) {
                text[2 * i] = "0123456789abcdef"[d->bytes[i] >> 4];
                text[2 * i + 1] = "0123456789abcdef"[d->bytes[i] & 15];
        }
        text[2 * size] = '\0';
}

const char *digest_hex(const struct digest *d, char text[DIGEST_MAX_TEXT])
{
        put_hex(d, text);
        return text;
}

const char *digest_format(const struct digest *d, char text[DIGEST_MAX_TEXT])
{
        memcpy(text, digest_alg_name(d->alg), 6);
        text[6] = ':';
        put_hex(d, text + 7);
        return text;
}

bool digest_equal(const struct digest *a, const struct digest *b)
{
        return a->alg == b->alg && !memcmp(a->bytes, b->bytes, digest_size(a->alg));
}

struct digest_ctx *digest_ctx_new(enum digest_alg alg)
{
        assert(alg != DIGEST_NONE);
        struct digest_ctx *ctx = calloc(1, sizeof *ctx);
        if (!ctx)
                return NULL;
        ctx->alg = alg;
        ctx->evp = EVP_MD_CTX_new();
        if (!ctx->evp || !md_of(alg) || EVP_DigestInit_ex2(ctx->evp, md_of(alg), NULL) != 1) {
                digest_ctx_free(ctx);
                return NULL;
        }
        return ctx;
}

void digest_ctx_free(struct digest_ctx *ctx)
{
        if (!ctx)
                return;
        EVP_MD_CTX_free(ctx->evp);
        free(ctx);
}

void digest_ctx_update(struct digest_ctx *ctx, const void *data, size_t len)
{
        /* software hashing of memory has no way to fail once the context is made */
        int ok = EVP_DigestUpdate(ctx->evp, data, len);
        assert(ok == 1);
        (void)ok;
}

void digest_ctx_final(struct digest_ctx *ctx, struct digest *ret_digest)
{
        *ret_digest = (struct digest){.alg = ctx->alg};
        int ok = EVP_DigestFinal_ex(ctx->evp, ret_digest->bytes, NULL);
        assert(ok == 1);
        (void)ok;
}

int digest_memory(enum digest_alg alg, const void *data, size_t len, struct digest *ret_digest)
{
        struct digest d = {.alg = alg};
        const EVP_MD *md = md_of(alg);
        if (!md || EVP_Digest(data, len, d.bytes, NULL, md, NULL) != 1)
                return -ENOMEM;
        *ret_digest = d;
        return 0;
}

int sha256_memory(const void *data, size_t len, uint8_t ret_hash[SHA256_BYTES])
{
        struct digest d;
        int r = digest_memory(DIGEST_SHA256, data, len, &d);
        if (r == 0)
                memcpy(ret_hash, d.bytes, SHA256_BYTES);
        return r;
}

int digest_check(const struct digest *want, const void *data, size_t len, const char *what, struct error *err)
{
        struct digest got;
        int r = digest_memory(want->alg, data, len, &got);
        if (r < 0)
                return error_nomem(err);
        if (digest_equal(&got, want))
                return 0;
        char want_text[DIGEST_MAX_TEXT], got_text[DIGEST_MAX_TEXT];
        return error_set(err, -EBADMSG, "%s: the content is not what its digest says (expected %s, got %s)", what,
                digest_format(want, want_text), digest_format(&got, got_text));
}
