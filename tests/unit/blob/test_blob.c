/* Blobs of memory, files and windows, and what the public functions promise for all of them. */
#include "check.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "blob/blob.h"
#include "fake_blob.h"
#include "temp_dir.h"

static int collect(void *ctx, const void *data, size_t len)
{
        buf_add(ctx, data, len);
        return buf_error(ctx);
}

static int stop_at_once(void *ctx, const void *data, size_t len)
{
        (void)data;
        *(size_t *)ctx += len;
        return -ECANCELED;
}

/* all that holds for any blob with these bytes */
static void check_blob(struct blob *b, const uint8_t *want, size_t len)
{
        uint8_t *got = malloc(len + 10);
        CHECK(got);
        CHECK_INT(blob_size(b), len);
        CHECK_INT(blob_read(b, got, len + 10, 0, NULL), len);
        CHECK_MEM(got, want, len);
        CHECK_INT(blob_read(b, got, 10, len, NULL), 0);
        CHECK_INT(blob_read(b, got, 10, UINT64_MAX, NULL), 0);
        CHECK_INT(blob_read(b, got, 10, len - 3, NULL), 3);
        CHECK_MEM(got, want + len - 3, 3);
        CHECK_INT(blob_read_all(b, got, 5, 4, NULL), 0);
        CHECK_MEM(got, want + 4, 5);
        CHECK_INT(blob_read_all(b, got, 0, len, NULL), 0);
        struct error err = {0};
        CHECK_INT(blob_read_all(b, got, 4, len - 3, &err), -EBADMSG);
        CHECK_INT(blob_read_all(b, got, SIZE_MAX, 1, &err), -EBADMSG);
        for (size_t off = 0; off <= len; off += len / 4) {
                struct buf all;
                buf_init(&all, len);
                CHECK_INT(blob_stream(b, off, collect, &all, NULL), 0);
                CHECK_INT(all.len, len - off);
                if (len > off)
                        CHECK_MEM(all.data, want + off, len - off);
                buf_done(&all);
        }
        CHECK_INT(blob_stream(b, len + 1, collect, NULL, &err), -EBADMSG);
        size_t seen = 0;
        CHECK_INT(blob_stream(b, 0, stop_at_once, &seen, &err), -ECANCELED);
        CHECK(seen > 0);
        free(got);
}

TEST(memory)
{
        uint8_t data[1000];
        fake_bytes(data, sizeof data, 1);
        struct blob *b;
        CHECK_INT(blob_new_memory(data, sizeof data, &b, NULL), 0);
        check_blob(b, data, sizeof data);
        struct blob *again = blob_ref(b);
        blob_unref(b);
        check_blob(again, data, sizeof data);
        blob_unref(again);
        CHECK_INT(blob_new_memory(NULL, 0, &b, NULL), 0);
        CHECK_INT(blob_stream(b, 0, collect, NULL, NULL), 0);
        blob_unref(b);
        blob_unref(NULL);
}

static void write_file(const char *path, const void *data, size_t len)
{
        int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        CHECK(fd >= 0 && write(fd, data, len) == (ssize_t)len);
        close(fd);
}

TEST(files)
{
        TEMP_DIR(dir);
        char path[300];
        size_t len = 700001;
        uint8_t *data = malloc(len);
        CHECK(data);
        fake_bytes(data, len, 2);
        snprintf(path, sizeof path, "%s/file", dir.path);
        write_file(path, data, len);
        struct blob *b;
        CHECK_INT(blob_open_file(AT_FDCWD, path, &b, NULL), 0);
        check_blob(b, data, len);
        CHECK_INT(truncate(path, 1000), 0);
        struct error err = {0};
        CHECK_INT(blob_read_all(b, data, 10, 995, &err), -EBADMSG);
        CHECK(strstr(err.msg, "shorter"));
        blob_unref(b);
        free(data);

        CHECK_INT(blob_open_file(AT_FDCWD, dir.path, &b, &err), -EISDIR);
        CHECK(strstr(err.msg, dir.path));
        snprintf(path, sizeof path, "%s/none", dir.path);
        CHECK_INT(blob_open_file(AT_FDCWD, path, &b, &err), -ENOENT);
        snprintf(path, sizeof path, "%s/fifo", dir.path);
        CHECK_INT(mkfifo(path, 0600), 0);
        CHECK_INT(blob_open_file(AT_FDCWD, path, &b, &err), -EINVAL);
}

TEST(windows)
{
        uint8_t data[1000];
        fake_bytes(data, sizeof data, 3);
        struct blob *base, *b, *inner;
        CHECK_INT(blob_new_memory(data, sizeof data, &base, NULL), 0);
        CHECK_INT(blob_new_window(base, 100, 500, &b, NULL), 0);
        check_blob(b, data + 100, 500);
        CHECK_INT(blob_new_window(b, 50, 400, &inner, NULL), 0);
        check_blob(inner, data + 150, 400);
        blob_unref(inner);
        blob_unref(b);
        CHECK_INT(blob_new_window(base, 0, 1000, &b, NULL), 0);
        check_blob(b, data, 1000);
        blob_unref(b);
        CHECK_INT(blob_new_window(base, 501, 500, &b, NULL), -EBADMSG);
        CHECK_INT(blob_new_window(base, UINT64_MAX, 2, &b, NULL), -EBADMSG);
        blob_unref(base);

        /* the base lives as long as its window, and what it learns about itself arrives there */
        struct fake_blob *fake = fake_blob_new(data, sizeof data);
        CHECK_INT(blob_new_window(&fake->blob, 10, 900, &b, NULL), 0);
        blob_unref(&fake->blob);
        check_blob(b, data + 10, 900);
        CHECK(!b->sequential);
        fake->no_ranges = true;
        struct error err = {0};
        CHECK_INT(blob_read(b, data, 10, 0, &err), -EOPNOTSUPP);
        CHECK(b->sequential);
        blob_unref(b);
}

/* ---- implementations that break their word ---- */

static int lie_read(struct blob *b, void *data, size_t len, uint64_t off, struct error *err)
{
        (void)b, (void)off, (void)err;
        memset(data, 0, len);
        return 0;
}

static int lie_stream(struct blob *b, uint64_t off, blob_sink_fn *sink, void *ctx, struct error *err)
{
        (void)off, (void)err;
        uint8_t piece[100] = {0};
        uint64_t give = b->size == 50 ? 49 : 100;
        return sink(ctx, piece, (size_t)give);
}

static void lie_free(struct blob *b)
{
        (void)b;
}

TEST(streams_that_are_too_short_or_too_long)
{
        static const struct blob_ops ops = {lie_read, lie_stream, lie_free};
        struct blob b;
        struct buf all;
        struct error err = {0};
        buf_init(&all, 1000);
        blob_init(&b, &ops, 50);
        CHECK_INT(blob_stream(&b, 0, collect, &all, &err), -EBADMSG);
        CHECK_INT(all.len, 49);
        blob_init(&b, &ops, 99);
        buf_clear(&all);
        CHECK_INT(blob_stream(&b, 0, collect, &all, &err), -EBADMSG);
        CHECK_INT(all.len, 0);
        buf_done(&all);
}

TEST(a_stream_of_nothing_asks_nobody)
{
        struct fake_blob *f = fake_blob_new("abc", 3);
        atomic_store(&f->fail_count, -1);
        CHECK_INT(blob_stream(&f->blob, 3, NULL, NULL, NULL), 0);
        CHECK_INT(atomic_load(&f->streams), 0);
        blob_unref(&f->blob);
}
