/*
 * The tar reader with each of its allocations failing in turn: -ENOMEM, a message, and nothing lost. The sources are
 * compiled in here with allocators that fail on demand, so that this works under the address sanitizer too, which then
 * looks for leaks; without it the blocks are counted.
 */
#include <stdlib.h>

static int allocations_left = -1; /* until one fails; -1: none does */
static long blocks;               /* not yet freed */

static int may_fail(void)
{
        return allocations_left == 0 || (allocations_left > 0 && allocations_left-- == 0);
}

static void *failing_calloc(size_t count, size_t len)
{
        void *p = may_fail() ? NULL : calloc(count, len);
        blocks += p != NULL;
        return p;
}

static void *failing_realloc(void *old, size_t len)
{
        void *p = may_fail() ? NULL : realloc(old, len);
        blocks += p && !old;
        return p;
}

static void counting_free(void *p)
{
        blocks -= p != NULL;
        free(p);
}

#define calloc  failing_calloc
#define realloc failing_realloc
#define free    counting_free
#include "base/buf.c"
#include "layer/tar.c"
#include "layer/tar_header.c"
#include "layer/tar_pax.c"
#include "layer/tar_sparse.c"
#undef calloc
#undef realloc
#undef free

#include "check.h"
#include "unit/layer/tar_build.h"

static int count_entry(void *ctx, const struct tar_entry *e)
{
        (void)e;
        ++*(int *)ctx;
        return 0;
}

/* Something of everything that needs memory. */
static void build(struct buf *b)
{
        char name[600];
        memset(name, 'n', sizeof name);
        for (size_t i = 100; i < sizeof name; i += 100)
                name[i] = '/';
        name[sizeof name - 1] = '\0';
        tar_build_long(b, 'L', name);
        tar_build_long(b, 'K', name);
        PAX(b, "SCHILY.xattr.user.a", name);
        tar_build_file(b, (struct tar_build){.name = "x", .type = '2', .link = "l"});
        PAX(b, "GNU.sparse.size", "1000", "GNU.sparse.numblocks", "1", "GNU.sparse.offset", "10", "GNU.sparse.numbytes",
                "2");
        tar_build_file(b, (struct tar_build){.name = "s", .data = "ab"});
        char map[512] = "20\n";
        for (int i = 0; i < 20; i++)
                snprintf(map + strlen(map), 20, "%d\n%d\n", i * 10, 1);
        PAX(b, "GNU.sparse.major", "1", "GNU.sparse.minor", "0", "GNU.sparse.realsize", "1000");
        struct buf data;
        tar_build_init(&data);
        buf_add(&data, map, sizeof map);
        buf_add(&data, "12345678901234567890", 20);
        tar_build_file(b, (struct tar_build){.name = "s", .data = data.data, .size = data.len});
        buf_done(&data);
        tar_build_end(b);
}

/* With allocation number n failing. Did it come to that? */
static int try_failing(const struct buf *b, size_t piece, int n)
{
        struct error err = {0};
        int entries = 0, code = 0;
        long before = blocks;
        allocations_left = n;
        struct tar_reader *t = tar_reader_new(count_entry, &entries);
        if (t) {
                for (size_t off = 0; off < b->len && code == 0; off += piece)
                        code = tar_push(t, b->data + off, MIN(piece, b->len - off), &err);
                if (code == 0)
                        code = tar_finish(t, &err);
                else
                        CHECK_INT(tar_finish(t, NULL), code);
        } else {
                code = error_nomem(&err);
        }
        allocations_left = -1;
        tar_reader_free(t);
        CHECK_INT(blocks, before);
        if (code == 0) {
                CHECK_INT(entries, 3);
                return 0;
        }
        CHECK_INT(code, -ENOMEM);
        CHECK(strstr(err.msg, "out of memory"));
        return 1;
}

TEST(every_allocation_fails_once)
{
        struct buf b;
        tar_build_init(&b);
        build(&b);
        for (size_t piece = 1; piece <= b.len; piece = piece == 1     ? 100
                                                       : piece == 100 ? 512
                                                       : piece == 512 ? b.len
                                                                      : b.len + 1) {
                int n = 0;
                while (try_failing(&b, piece, n))
                        n++;
                CHECK(n >= 8);
        }
        buf_done(&b);
        CHECK_INT(blocks, 0);
}
