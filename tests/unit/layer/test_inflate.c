/*
 * inflate, both engines: every kind of encoder's stream, entered again at every place where a stop is possible; and what is
 * malformed refused as zlib refuses it. The encoders that are programs are run if they are installed.
 */
#include <dirent.h>
#include <errno.h>
#include <libdeflate.h>
#include <sys/stat.h>

#include "layer/inflate.h"
#include "streams.h"

static const struct inflate_engine *const engines[] = {&inflate_own, &inflate_zlib};

struct bytes {
        uint8_t *data;
        size_t len;
};

static void bytes_done(struct bytes *b)
{
        free(b->data);
}

static struct bytes made(int nature, size_t len)
{
        struct bytes b = {malloc(len ? len : 1), len};
        CHECK(b.data);
        stream_fill(b.data, len, nature, (uint64_t)nature * 77 + 5);
        return b;
}

/** What zlib makes of a raw stream: result of inflate(), output in *ret, bytes taken. */
static int judge(const uint8_t *in, size_t len, struct bytes *ret, size_t *ret_used)
{
        z_stream z = {0};
        size_t room = len * 8 + (1 << 16);
        int r;
        CHECK_INT(inflateInit2(&z, -15), Z_OK);
        *ret = (struct bytes){malloc(room), 0};
        z.next_in = (uint8_t *)in;
        z.avail_in = (unsigned)len;
        do {
                if (ret->len == room)
                        ret->data = realloc(ret->data, room *= 2);
                CHECK(ret->data);
                z.next_out = ret->data + ret->len;
                z.avail_out = (unsigned)(room - ret->len);
                r = inflate(&z, Z_SYNC_FLUSH);
                ret->len = room - z.avail_out;
        } while (r == Z_OK && z.avail_out == 0);
        *ret_used = len - z.avail_in;
        inflateEnd(&z);
        return r;
}

/** Runs from *used on, in pieces of at most `piece` bytes and rooms of at most `space`, into out (with its history before it), until
 *  the status is another one than "more". */
static enum inflate_status feed(struct inflate *z, const uint8_t *in, size_t len, size_t *used, uint8_t *base,
        uint8_t **out, uint8_t *end, size_t piece, size_t space, unsigned flags)
{
        for (;;) {
                size_t n = MIN(piece, len - *used), m = MIN(space, (size_t)(end - *out));
                struct inflate_io io = {in + *used, in + *used + n, *out, *out + m, base};
                enum inflate_status status = inflate_run(z, &io, flags);
                *used = (size_t)(io.in - in);
                *out = io.out;
                if ((status == INFLATE_INPUT && *used < len) || (status == INFLATE_OUTPUT && *out < end))
                        continue;
                return status;
        }
}

/** Enters at a place again, with both engines: `n` bytes must come. window: before the place, with what is not used overwritten;
 *  supply: what is used. */
static void enter(const struct inflate_place *place, struct inflate_used *supply, const uint8_t *in, size_t len,
        const uint8_t *window, size_t window_len, const uint8_t *want, size_t n)
{
        static uint8_t room[2 * INFLATE_WINDOW];
        for (size_t e = 0; e < ARRAY_LEN(engines); e++) {
                cleanup(inflate_freep) struct inflate *z = inflate_new(engines[e]);
                uint8_t *begin = room + window_len, *out = begin;
                size_t used = 0;
                memcpy(room, window, window_len);
                CHECK_INT(inflate_resume(z, place, room, window_len), 0);
                feed(z, in, len, &used, room, &out, out + n, 1 << 20, 1 << 20, 0);
                CHECK_INT(out - begin, n);
                CHECK(memcmp(begin, want, n) == 0);

                /* and with nothing but the bytes that are used */
                memset(room, 0, INFLATE_WINDOW);
                begin = out = room + INFLATE_WINDOW;
                used = 0;
                CHECK_INT(inflate_resume(z, place, room, INFLATE_WINDOW), 0);
                inflate_supply(z, supply);
                feed(z, in, len, &used, room, &out, out + n, 1 << 20, 1 << 20, 0);
                CHECK_INT(out - begin, n);
                CHECK(memcmp(begin, want, n) == 0);
        }
}

static unsigned entered;

/** Stops at each block's end and, every `every` bytes of output, inside; enters again at each of these. */
static void each_place(const uint8_t *in, size_t len, const struct bytes *want, size_t every)
{
        cleanup(inflate_freep) struct inflate *z = inflate_new(&inflate_own);
        static struct inflate_used used_bytes;
        static uint8_t window[INFLATE_WINDOW];
        struct inflate_place place;
        uint8_t *room = malloc(want->len + 1), *out = room;
        size_t used = 0, place_used = 0, place_at = 0;
        bool marking = false;

        for (;;) {
                size_t limit = MIN(want->len, (size_t)(out - room) + every);
                unsigned flags = INFLATE_STOP_BLOCK;
                enum inflate_status status = feed(z, in, len, &used, room, &out, room + limit, 5000, 1 << 30, flags);
                if (status == INFLATE_OUTPUT && limit < want->len)
                        status = feed(z, in, len, &used, room, &out, room + want->len, 3, 1 << 30,
                                flags | INFLATE_STOP_SYMBOL);
                size_t at = (size_t)(out - room);
                if (marking) {
                        static struct inflate_used supply;
                        supply = used_bytes;
                        size_t history = MIN(place_at, (size_t)INFLATE_WINDOW);
                        memcpy(window, room + place_at - history, history);
                        for (size_t i = 0; i < history; i++)
                                window[i] ^= used_bytes.known[INFLATE_WINDOW - history + i] ? 0 : 0xff;
                        enter(&place, &supply, in + place_used, len - place_used, window, history,
                                want->data + place_at, MIN(at - place_at, (size_t)INFLATE_WINDOW));
                        entered++;
                }
                if (status != INFLATE_BLOCK && status != INFLATE_SYMBOL) {
                        if (status != INFLATE_END)
                                status = feed(z, in, len, &used, room, &out, room + want->len + 1, 1 << 20, 1 << 30, 0);
                        CHECK_INT(status, INFLATE_END);
                        break;
                }
                inflate_place(z, &place);
                place_used = used - (place.bits ? 1 : 0);
                place_at = at;
                CHECK(inflate_collect(z, &used_bytes));
                marking = true;
        }
        CHECK_INT(out - room, want->len);
        CHECK(memcmp(room, want->data, want->len) == 0);
        free(room);
}

/** All that must hold for a raw stream, good or bad. */
static void check_stream(const uint8_t *in, size_t len)
{
        static const size_t pieces[] = {1 << 30, 4096, 13, 1}, spaces[] = {1 << 30, 7000, 301, 5};
        cleanup(bytes_done) struct bytes want = {0};
        size_t want_used;
        int verdict = judge(in, len, &want, &want_used);
        uint8_t *room = malloc(want.len + 1);

        for (size_t e = 0; e < ARRAY_LEN(engines); e++)
                for (size_t i = 0; i < ARRAY_LEN(pieces); i++) {
                        cleanup(inflate_freep) struct inflate *z = inflate_new(engines[e]);
                        uint8_t *out = room;
                        size_t used = 0;
                        if (len > 200000 && pieces[i] < 4096)
                                continue;
                        enum inflate_status status =
                                feed(z, in, len, &used, room, &out, room + want.len + 1, pieces[i], spaces[i], 0);
                        CHECK_INT(status, verdict == Z_STREAM_END   ? INFLATE_END
                                          : verdict == Z_DATA_ERROR ? INFLATE_BAD
                                                                    : INFLATE_INPUT);
                        CHECK_INT(out - room, want.len);
                        CHECK(memcmp(room, want.data, want.len) == 0);
                        if (status == INFLATE_END)
                                CHECK_INT(used, want_used);
                }
        free(room);
        if (verdict == Z_STREAM_END)
                each_place(in, len, &want, want.len / 40 + 1000);
}

static void deflate_check(const struct bytes *d, int level, int strategy, int mem, int wbits, int flush, size_t every)
{
        z_stream z = {0};
        size_t room = d->len + d->len / 2 + (every ? d->len / every * 30 : 0) + 1000;
        uint8_t *out = malloc(room);
        CHECK(out);
        CHECK_INT(deflateInit2(&z, level, Z_DEFLATED, -wbits, mem, strategy), Z_OK);
        z.next_out = out;
        z.avail_out = (unsigned)room;
        for (size_t at = 0; at < d->len || at == 0;) {
                size_t n = every && every < d->len - at ? every : d->len - at;
                z.next_in = d->data + at;
                z.avail_in = (unsigned)n;
                at += n ? n : 1;
                int r = deflate(&z, at >= d->len ? Z_FINISH : flush);
                CHECK(r == Z_OK || r == Z_STREAM_END || r == Z_BUF_ERROR);
        }
        CHECK_INT(deflate(&z, Z_FINISH), Z_STREAM_END);
        check_stream(out, room - z.avail_out);
        deflateEnd(&z);
        free(out);
}

TEST(zlib_levels)
{
        for (int nature = 0; nature < NATURES; nature++) {
                cleanup(bytes_done) struct bytes d = made(nature, 200000);
                for (int level = 0; level <= 9; level += 1 + (level > 1))
                        deflate_check(&d, level, Z_DEFAULT_STRATEGY, 8, 15, 0, 0);
        }
        cleanup(bytes_done) struct bytes none = made(0, 0);
        deflate_check(&none, 6, 0, 8, 15, 0, 0);
}

TEST(zlib_strategies)
{
        static const int flushes[] = {Z_PARTIAL_FLUSH, Z_SYNC_FLUSH, Z_FULL_FLUSH, Z_BLOCK};
        cleanup(bytes_done) struct bytes d = made(NATURE_MIXED, 60000);
        for (int strategy = Z_DEFAULT_STRATEGY; strategy <= Z_FIXED; strategy++)
                for (int mem = 1; mem <= 9; mem += 4)
                        for (int wbits = 9; wbits <= 15; wbits += 3)
                                for (int f = 0; f < 4; f++)
                                        deflate_check(&d, 6, strategy, mem, wbits, flushes[f], 100u << mem);
}

TEST(libdeflate_levels)
{
        cleanup(bytes_done) struct bytes d = made(NATURE_MIXED, 1 << 20);
        for (int level = 0; level <= 12; level += 3) {
                struct libdeflate_compressor *c = libdeflate_alloc_compressor(level);
                size_t room = libdeflate_deflate_compress_bound(c, d.len);
                uint8_t *out = malloc(room);
                size_t n = libdeflate_deflate_compress(c, d.data, d.len, out, room);
                CHECK(n > 0);
                check_stream(out, n);
                free(out);
                libdeflate_free_compressor(c);
        }
}

/* ---- malformed ---- */

/** Bits, written first to last. */
struct bits {
        uint8_t data[512];
        size_t at;
};

static void bits_add(struct bits *b, unsigned value, unsigned count)
{
        for (; count; count--, value >>= 1, b->at++)
                b->data[b->at >> 3] |= (uint8_t)((value & 1) << (b->at & 7));
}

/** A final dynamic block's beginning: the code length code has just the lengths 1 for the two symbols given. */
static struct bits dynamic(
        unsigned litlens, unsigned dists, unsigned first, unsigned second, unsigned first_len, unsigned second_len)
{
        static const uint8_t order[19] = {16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15};
        struct bits b = {0};
        bits_add(&b, 5, 3);
        bits_add(&b, litlens - 257, 5);
        bits_add(&b, dists - 1, 5);
        bits_add(&b, 15, 4);
        for (int i = 0; i < 19; i++)
                bits_add(&b, order[i] == first ? first_len : order[i] == second ? second_len : 0, 3);
        return b;
}

static int checked(const struct bits *b)
{
        struct bytes out;
        size_t used, len = (b->at + 7) / 8 + 8;
        int r = judge(b->data, len, &out, &used);
        bytes_done(&out);
        for (size_t cut = 0; cut <= len; cut++)
                check_stream(b->data, cut);
        return r;
}

TEST(malformed)
{
        struct bits b = {0};
        bits_add(&b, 7, 3); /* block type 3 */
        CHECK_INT(checked(&b), Z_DATA_ERROR);
        b = (struct bits){0};
        bits_add(&b, 1, 8); /* stored, and the length's complement is wrong */
        bits_add(&b, 5, 16);
        bits_add(&b, 5, 16);
        CHECK_INT(checked(&b), Z_DATA_ERROR);
        for (unsigned code = 0; code < 8;
                code++) { /* fixed: lengths 286 and 287, of codes 0xc6 and 0xc7, first bit first */
                b = (struct bits){0};
                bits_add(&b, 3, 3);
                bits_add(&b, 0x03, 5);
                bits_add(&b, code, 3);
                CHECK_INT(checked(&b) == Z_DATA_ERROR, true);
        }
        for (unsigned dist = 0; dist < 32; dist++) { /* fixed: a byte, then a match at every distance code */
                b = (struct bits){0};
                bits_add(&b, 3, 3);
                bits_add(&b, 0x0c, 8); /* byte 0 */
                bits_add(&b, 0x40, 7); /* length 3 */
                unsigned reversed = 0;
                for (unsigned i = 0; i < 5; i++)
                        reversed |= (dist >> i & 1) << (4 - i);
                bits_add(&b, reversed, 5);
                bits_add(&b, 0, 7);
                CHECK_INT(checked(&b), dist == 0 ? Z_STREAM_END : Z_DATA_ERROR);
        }
        b = dynamic(287, 1, 0, 1, 1, 1);
        CHECK_INT(checked(&b), Z_DATA_ERROR);
        b = dynamic(257, 31, 0, 1, 1, 1);
        CHECK_INT(checked(&b), Z_DATA_ERROR);
        b = dynamic(257, 1, 0, 0, 1, 1); /* an incomplete code length code */
        CHECK_INT(checked(&b), Z_DATA_ERROR);
        b = dynamic(257, 1, 0, 0, 0, 0); /* an empty one: zlib goes on with lengths of zero, a bit each */
        for (int i = 0; i < 300; i++)
                bits_add(&b, 0, 1);
        CHECK_INT(checked(&b), Z_DATA_ERROR);
        b = dynamic(257, 1, 0, 16, 1, 1); /* repeat what? */
        bits_add(&b, 1, 1);
        CHECK_INT(checked(&b), Z_DATA_ERROR);
}

/** Two codes of two bits are too few for a code, and five too many. */
TEST(incomplete)
{
        struct bits b = dynamic(257, 1, 18, 2, 1, 1); /* 2 -> code 0, 18 -> code 1 */
        bits_add(&b, 0, 1);
        bits_add(&b, 1, 1);
        bits_add(&b, 127, 7);
        bits_add(&b, 1, 1);
        bits_add(&b, 117 - 11, 7);
        bits_add(&b, 0, 1);
        bits_add(&b, 0, 1);
        CHECK_INT(checked(&b), Z_DATA_ERROR);
        b = dynamic(257, 1, 18, 2, 1, 1);
        bits_add(&b, 0, 5);
        bits_add(&b, 1, 1);
        bits_add(&b, 127, 7);
        bits_add(&b, 1, 1);
        bits_add(&b, 113 - 11, 7);
        bits_add(&b, 0, 2);
        CHECK_INT(checked(&b), Z_DATA_ERROR);
}

/** Codes of one word: litlen has only the end of block, distance none, one, or two; RFC 1951 3.2.7. */
TEST(lone_codes)
{
        for (unsigned dists = 0; dists < 2; dists++) {
                struct bits b = dynamic(257, 1, 18, 1, 1, 1); /* 1 -> code 0, 18 -> code 1 */
                bits_add(&b, 1, 1);
                bits_add(&b, 127, 7); /* 138 zeros */
                bits_add(&b, 1, 1);
                bits_add(&b, 118 - 11, 7); /* 118 zeros */
                bits_add(&b, 0, 1);        /* symbol 256 has length 1 */
                bits_add(&b, 0, 1);        /* and so has distance 0 */
                bits_add(&b, dists, 1);    /* the end of block, or the code that is not there */
                CHECK_INT(checked(&b), dists ? Z_DATA_ERROR : Z_STREAM_END);
        }
}

/** A good stream with a bit flipped, everywhere. */
TEST(flipped)
{
        cleanup(bytes_done) struct bytes d = made(NATURE_MIXED, 3000);
        uint8_t out[8000];
        for (int strategy = 0; strategy <= Z_FIXED; strategy += 4) {
                z_stream z = {0};
                deflateInit2(&z, 9, Z_DEFLATED, -15, 8, strategy);
                z.next_in = d.data;
                z.avail_in = (unsigned)d.len;
                z.next_out = out;
                z.avail_out = sizeof out;
                deflate(&z, Z_FINISH);
                size_t len = sizeof out - z.avail_out;
                deflateEnd(&z);
                for (size_t bit = 0; bit < len * 8; bit += bit < 1200 ? 1 : 61) {
                        out[bit >> 3] ^= (uint8_t)(1 << (bit & 7));
                        check_stream(out, len);
                        out[bit >> 3] ^= (uint8_t)(1 << (bit & 7));
                }
        }
}

/* ---- programs and files ---- */

/** The raw deflate inside a gzip file that has one member; false when it is something else. */
static bool inside_gzip(const struct bytes *f, size_t *ret_off, size_t *ret_len)
{
        size_t at = 10;
        if (f->len < 18 || memcmp(f->data, "\x1f\x8b\x08", 3) != 0)
                return false;
        uint8_t flags = f->data[3];
        if (flags & 4)
                at += 2u + f->data[at] + 256u * f->data[at + 1];
        for (int i = 0; i < 2; i++)
                if (flags & (8 << i)) {
                        while (at < f->len && f->data[at])
                                at++;
                        at++;
                }
        if (flags & 2)
                at += 2;
        if (at >= f->len)
                return false;
        *ret_off = at;
        *ret_len = f->len - at;
        return true;
}

static bool slurp(const char *path, struct bytes *ret)
{
        FILE *f = fopen(path, "rb");
        if (!f)
                return false;
        fseek(f, 0, SEEK_END);
        ret->len = (size_t)ftell(f);
        ret->data = malloc(ret->len ? ret->len : 1);
        rewind(f);
        CHECK(fread(ret->data, 1, ret->len, f) == ret->len);
        fclose(f);
        return true;
}

/** A file of raw deflate, or gzip, whatever its members and its end. */
static bool check_file(const char *path)
{
        cleanup(bytes_done) struct bytes f = {0};
        size_t off = 0, len;
        if (!slurp(path, &f))
                return false;
        len = f.len;
        if (len < 8 << 20)
                check_stream(f.data, len); /* as it is: mostly not deflate, refused alike */
        if (inside_gzip(&f, &off, &len))
                check_stream(f.data + off, len);
        /* and as a layer: the own pass, read back */
        if (off) {
                struct told t;
                told_decode(&t, COMPRESSION_GZIP, f.data, f.len, -70000);
                if (t.result == 0) {
                        told_check_points(&t, f.len);
                        told_resume(&t, f.data, f.len);
                }
                told_done(&t);
        }
        return true;
}

TEST(programs)
{
        static const char *commands[] = {"gzip -1 -c in", "gzip -6 -c in", "gzip -9 -c in", "pigz -p 2 -c in",
                "pigz -p 2 -b 128 -i -c in", "pigz -11 -b 512 -I 1 -c in", "igzip -0 -c in", "igzip -1 -c in",
                "igzip -2 -c in", "igzip -3 -c in", "zopfli --i1 -c in", "bgzip -c in", "libdeflate-gzip -1 -c in",
                "libdeflate-gzip -12 -c in", "7z a -tgzip -mx9 -so x in",
                "cp in t && gzip -f t && advdef -z -2 -q t.gz && cat t.gz",
                "gzip -c in; gzip -c in; head -c 300 /dev/zero",
                /* Go's encoders: umoci's, and skopeo's of the same layer */
                "umoci init --layout o && umoci new --image o:t && umoci raw add-layer --image o:t in && "
                "cat $(ls -S o/blobs/sha256/* | head -1)",
                "$skopeo --dest-decompress oci:o:t dir:u && $skopeo --dest-compress --dest-compress-level 1 dir:u "
                "dir:v1 && "
                "cat $(ls -S v1/* | head -1)",
                "$skopeo --dest-compress --dest-compress-level 6 dir:u dir:v6 && cat $(ls -S v6/* | head -1)",
                "$skopeo --dest-compress --dest-compress-level 9 dir:u dir:v9 && cat $(ls -S v9/* | head -1)"};
        char dir[] = "/tmp/inflate-XXXXXX", path[64];
        unsigned ran = 0;
        cleanup(bytes_done) struct bytes d = made(NATURE_MIXED, 1500000);

        CHECK(mkdtemp(dir));
        snprintf(path, sizeof path, "%s/in", dir);
        FILE *f = fopen(path, "wb");
        CHECK(f && fwrite(d.data, 1, d.len, f) == d.len);
        fclose(f);
        for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
                char line[500];
                snprintf(line, sizeof line,
                        "cd %s && skopeo='skopeo --insecure-policy copy -q --dest-compress-format gzip' && (%s) > out "
                        "2>/dev/null",
                        dir, commands[i]);
                if (system(line) != 0) {
                        printf("skipped: %s\n", commands[i]);
                        continue;
                }
                snprintf(path, sizeof path, "%s/out", dir);
                CHECK(check_file(path));
                ran++;
        }
        char line[100];
        snprintf(line, sizeof line, "rm -r %s", dir);
        CHECK(system(line) == 0);
        printf("%u encoders, %u places entered\n", ran, entered);
}

static unsigned check_folder(const char *path)
{
        unsigned files = 0;
        DIR *dir = opendir(path);
        for (struct dirent *e; dir && (e = readdir(dir));) {
                char name[4096];
                struct stat st;
                snprintf(name, sizeof name, "%s/%s", path, e->d_name);
                if (e->d_name[0] == '.' || stat(name, &st) < 0)
                        continue;
                if (S_ISDIR(st.st_mode))
                        files += check_folder(name);
                else
                        files += check_file(name);
        }
        if (dir)
                closedir(dir);
        return files;
}

TEST(corpus)
{
        static const char *folders[] = {"gz-go", "gz-htslib", "gz-klauspost", "gz-wuffs"};
        const char *shared = getenv("SHARED");
        unsigned files = 0;
        for (size_t i = 0; shared && i < ARRAY_LEN(folders); i++) {
                char path[4096];
                snprintf(path, sizeof path, "%s/corpus/data/%s", shared, folders[i]);
                files += check_folder(path);
        }
        if (!files)
                printf("skipped: no corpus in SHARED\n");
        else
                printf("%u files\n", files);
}
