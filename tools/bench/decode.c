/*
 * bench_decode FILE.gz [ROUNDS]: what the decoding of a layer costs, and what its checkpoints weigh. CPU time, medians of ROUNDS turns
 * (default 5), all contestants in each turn. FILE.gz must have one member.
 *
 *   libdeflate   gzip_decompress of the whole, from memory to memory, with CRC
 *   zlib         inflate in pieces of 128 KiB, with CRC
 *   inflate      ours, the symbols alone: no CRC, no points
 *   decoder      ours, all of it: CRC, points, what is used of the windows
 *   layer        the same, and what makes an index of it: SHA-256 of the layer and of its chunks, tar headers, packed windows
 *   with diff ID the same, and SHA-256 of the tar stream: all that the first look at a layer does, on one thread
 */
#include <libdeflate.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <zlib.h>
#include <zstd.h>

#include "layer/decode.h"
#include "layer/index.h"
#include "layer/inflate.h"

enum { ROUNDS_MAX = 99, SLICE = 128 << 10 };

static uint8_t *gz;
static size_t gz_len, tar_len, body; /* body: where deflate begins */

static void die(const char *what)
{
        fprintf(stderr, "bench_decode: %s\n", what);
        exit(1);
}

static double now(void)
{
        struct timespec t;
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
        return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void run_libdeflate(void)
{
        static uint8_t *out;
        struct libdeflate_decompressor *d = libdeflate_alloc_decompressor();
        if (!out && !(out = malloc(tar_len)))
                die("no memory");
        if (libdeflate_gzip_decompress(d, gz, gz_len, out, tar_len, NULL) != LIBDEFLATE_SUCCESS)
                die("libdeflate failed (more than one member?)");
        libdeflate_free_decompressor(d);
}

static void run_zlib(void)
{
        static uint8_t out[SLICE];
        z_stream z = {.next_in = gz, .avail_in = (unsigned)gz_len};
        int r;
        inflateInit2(&z, 31);
        do {
                z.next_out = out;
                z.avail_out = sizeof out;
                r = inflate(&z, Z_NO_FLUSH);
        } while (r == Z_OK);
        if (r != Z_STREAM_END)
                die("zlib failed");
        inflateEnd(&z);
}

static void run_inflate(void)
{
        static uint8_t buf[INFLATE_WINDOW + SLICE];
        cleanup(inflate_freep) struct inflate *z = inflate_new(&inflate_own);
        uint8_t *begin = buf + INFLATE_WINDOW;
        struct inflate_io io = {gz + body, gz + gz_len, begin, buf + sizeof buf, begin};
        while (inflate_run(z, &io, 0) == INFLATE_OUTPUT) {
                memcpy(buf, buf + SLICE, INFLATE_WINDOW);
                io.out = begin;
                io.base = buf;
        }
        if (io.in != gz + gz_len - 8)
                die("inflate failed");
}

/** What the points weigh; filled when levels are asked for. */
static const int levels[] = {1, 3, 9, 19};
static struct {
        bool weigh;
        unsigned points, inside, headers;
        uint64_t windows, packed[ARRAY_LEN(levels)];
        double cost[ARRAY_LEN(levels)];
} tally;

static int take_data(void *ctx, const uint8_t *data, size_t len)
{
        (void)ctx;
        (void)data;
        (void)len;
        return 0;
}

static int take_point(void *ctx, uint64_t uoff, const struct decode_point *p)
{
        static uint8_t out[ZSTD_COMPRESSBOUND(DECODE_WINDOW)];
        static ZSTD_CCtx *z;
        (void)ctx;
        (void)uoff;
        if (!tally.weigh)
                return 0;
        if (!z)
                z = ZSTD_createCCtx();
        tally.points++;
        tally.inside += p->kind == DECODE_INSIDE;
        tally.headers += (p->header_bits + 7) / 8;
        tally.windows += p->window_len;
        for (size_t i = 0; p->window_len && i < ARRAY_LEN(levels); i++) {
                double t = now();
                tally.packed[i] += ZSTD_compressCCtx(z, out, sizeof out, p->window, p->window_len, levels[i]);
                tally.cost[i] += now() - t;
        }
        return 0;
}

static void run_decoder(void)
{
        struct decode_sink sink = {NULL, take_data, take_point};
        struct error err;
        cleanup(decoder_freep) struct decoder *d = decoder_new(COMPRESSION_GZIP, &sink);
        for (size_t at = 0; at < gz_len; at += 1 << 16)
                if (decoder_push(d, gz + at, MIN(gz_len - at, (size_t)(1 << 16)), &err) < 0)
                        die(err.msg);
        if (decoder_finish(d, &err) < 0)
                die(err.msg);
}

/* ---- a whole layer ---- */

struct pass {
        struct index_builder *builder;
        struct tar_reader *tar;
        struct digest_ctx *diff;
        uint64_t chunk_off;
        bool any;
};

static int pass_data(void *ctx, const uint8_t *data, size_t len)
{
        struct pass *p = ctx;
        if (p->diff)
                digest_ctx_update(p->diff, data, len);
        return tar_push(p->tar, data, len, NULL);
}

static int pass_entry(void *ctx, const struct tar_entry *e)
{
        struct pass *p = ctx;
        return index_builder_entry(p->builder, e, NULL);
}

static void pass_chunk(struct pass *p, uint64_t end)
{
        uint8_t hash[SHA256_BYTES];
        if (sha256_memory(gz + p->chunk_off, (size_t)(end - p->chunk_off), hash) < 0 ||
                index_builder_chunk(p->builder, p->chunk_off, end - p->chunk_off, hash, NULL) < 0)
                die("chunk");
}

static int pass_point(void *ctx, uint64_t uoff, const struct decode_point *point)
{
        struct pass *p = ctx;
        if (p->any)
                pass_chunk(p, point->coff + (point->bits != 0));
        p->any = true;
        p->chunk_off = point->coff;
        return index_builder_span(p->builder, uoff, point, NULL);
}

static size_t pass(bool diff)
{
        struct pass p = {.builder = index_builder_new(), .diff = diff ? digest_ctx_new(DIGEST_SHA256) : NULL};
        struct decode_sink sink = {&p, pass_data, pass_point};
        struct index_info info = {.compression = COMPRESSION_GZIP, .blob_size = gz_len, .tar_size = tar_len};
        struct error err;
        cleanup(decoder_freep) struct decoder *d = decoder_new(COMPRESSION_GZIP, &sink);
        cleanup(digest_ctx_freep) struct digest_ctx *blob = digest_ctx_new(DIGEST_SHA256);
        p.tar = tar_reader_new(pass_entry, &p);
        for (size_t at = 0; at < gz_len; at += 1 << 16) {
                size_t len = MIN(gz_len - at, (size_t)(1 << 16));
                digest_ctx_update(blob, gz + at, len);
                if (decoder_push(d, gz + at, len, &err) < 0)
                        die(err.msg);
        }
        if (decoder_finish(d, &err) < 0 || tar_finish(p.tar, &err) < 0)
                die(err.msg);
        pass_chunk(&p, gz_len);
        digest_ctx_final(blob, &info.digest);
        info.diff_id.alg = DIGEST_SHA256;
        if (p.diff)
                digest_ctx_final(p.diff, &info.diff_id);
        uint8_t *index;
        size_t len;
        if (index_builder_finish(p.builder, &info, &index, &len, &err) < 0)
                die(err.msg);
        free(index);
        tar_reader_free(p.tar);
        digest_ctx_free(p.diff);
        index_builder_free(p.builder);
        return len;
}

static void run_layer(void)
{
        pass(false);
}

static void run_diff(void)
{
        pass(true);
}

static int ascending(const void *a, const void *b)
{
        double x = *(const double *)a, y = *(const double *)b;
        return (x > y) - (x < y);
}

static void load(const char *path)
{
        FILE *f = fopen(path, "rb");
        if (!f || fseek(f, 0, SEEK_END) < 0)
                die("can't open the file");
        gz_len = (size_t)ftell(f);
        gz = malloc(gz_len + 1);
        rewind(f);
        if (!gz || fread(gz, 1, gz_len, f) != gz_len || gz_len < 18)
                die("can't read the file");
        fclose(f);
        if (memcmp(gz, "\x1f\x8b\x08", 3) != 0 || (gz[3] & ~8))
                die("not gzip, or with unusual fields");
        body = gz[3] & 8 ? 10 + strlen((char *)gz + 10) + 1 : 10;
        tar_len = gz[gz_len - 4] | (size_t)gz[gz_len - 3] << 8 | (size_t)gz[gz_len - 2] << 16 |
                  (size_t)gz[gz_len - 1] << 24;
}

int main(int argc, char **argv)
{
        static const struct {
                const char *name;
                void (*run)(void);
        } contestants[] = {{"libdeflate", run_libdeflate}, {"zlib", run_zlib}, {"inflate", run_inflate},
                {"decoder", run_decoder}, {"layer", run_layer}, {"with diff ID", run_diff}};
        double times[ARRAY_LEN(contestants)][ROUNDS_MAX];
        int rounds = argc > 2 ? atoi(argv[2]) : 5;

        if (argc < 2 || rounds < 1 || rounds > ROUNDS_MAX)
                die("usage: bench_decode FILE.gz [ROUNDS]");
        load(argv[1]);
        run_libdeflate(); /* brings its memory in */
        for (int k = 0; k < rounds; k++)
                for (size_t i = 0; i < ARRAY_LEN(contestants); i++) {
                        double t = now();
                        contestants[i].run();
                        times[i][k] = now() - t;
                }
        for (size_t i = 0; i < ARRAY_LEN(contestants); i++)
                qsort(times[i], (size_t)rounds, sizeof times[i][0], ascending);
        printf("%zu bytes of gzip, %zu of tar, %d rounds\n", gz_len, tar_len, rounds);
        printf("%-12s %8s %8s %12s %12s\n", "", "median", "minimum", "of zlib's", "of libdeflate's");
        for (size_t i = 0; i < ARRAY_LEN(contestants); i++)
                printf("%-12s %7.3fs %7.3fs %12.2f %12.2f\n", contestants[i].name, times[i][rounds / 2], times[i][0],
                        times[i][rounds / 2] / times[1][rounds / 2], times[i][rounds / 2] / times[0][rounds / 2]);

        printf("index %.2f %% of the layer\n", 100.0 * (double)pass(false) / (double)gz_len);
        tally.weigh = true;
        run_decoder();
        double n = tally.points, all = (double)gz_len;
        printf("points %u (%u inside a block, %u bytes of headers), one in %.0f bytes of tar\n", tally.points,
                tally.inside, tally.headers, (double)tar_len / n);
        printf("windows: %.0f bytes used each, %.1f %% of 32 KiB\n", (double)tally.windows / n,
                100 * (double)tally.windows / n / DECODE_WINDOW);
        for (size_t i = 0; i < ARRAY_LEN(levels); i++)
                printf("  zstd -%-2d %7.0f bytes each, %5.2f %% of the layer, %6.1f us each\n", levels[i],
                        (double)tally.packed[i] / n, 100 * (double)tally.packed[i] / all, 1e6 * tally.cost[i] / n);
        return 0;
}
