/* The cache directory: what is kept comes back right or not at all, who may own it, its bounds, and its bad days. */
#include "check.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "base/log.h"
#include "blob/store.h"
#include "blob/store_internal.h"
#include "fake_blob.h"
#include "temp_dir.h"

static atomic_uint warnings;

static void count_warnings(enum log_topic topic, const char *line, void *ctx)
{
        (void)line, (void)ctx;
        if (topic == LOG_WARNING)
                atomic_fetch_add(&warnings, 1);
}

static struct store *open_store(const char *dir, uint64_t size_max)
{
        struct store *s;
        struct error err = {0};
        log_setup(LOG_CACHE, count_warnings, NULL);
        if (store_open(&(struct store_options){dir, size_max}, &s, &err) < 0)
                CHECK_FAIL("%s", err.msg);
        return s;
}

static struct digest digest_of(const void *data, size_t len)
{
        struct digest d;
        CHECK_INT(digest_memory(DIGEST_SHA256, data, len, &d), 0);
        return d;
}

/* DIR/v1/KIND/sha256/HEX and what follows */
static const char *path_of(const char *dir, const char *kind, const struct digest *d, const char *suffix)
{
        static char path[600];
        char hex[DIGEST_MAX_TEXT];
        snprintf(path, sizeof path, "%s/v1/%s/%s%s", dir, kind, digest_hex(d, hex), suffix);
        return path;
}

static void flip(const char *path, off_t off)
{
        uint8_t byte;
        int fd = open(path, O_RDWR | O_CLOEXEC);
        CHECK(fd >= 0 && pread(fd, &byte, 1, off) == 1);
        byte ^= 1;
        CHECK(pwrite(fd, &byte, 1, off) == 1);
        close(fd);
}

static bool exists(const char *path)
{
        return access(path, F_OK) == 0;
}

static size_t files_in(const char *dir, const char *sub)
{
        char path[400];
        snprintf(path, sizeof path, "%s/v1/%s", dir, sub);
        DIR *d = opendir(path);
        CHECK(d);
        size_t count = 0;
        for (struct dirent *e; (e = readdir(d));)
                count += e->d_name[0] != '.';
        closedir(d);
        return count;
}

/* runs fn in a child, whose exit status must be 0, or 77 for "cannot be tried here" */
static void in_child(void (*fn)(const char *dir), const char *dir)
{
        fflush(stdout);
        pid_t pid = fork();
        if (pid == 0) {
                fn(dir);
                exit(0);
        }
        int status;
        CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status));
        if (WEXITSTATUS(status) == 77)
                printf("skipped: no rights for a mount namespace\n");
        else
                CHECK_INT(WEXITSTATUS(status), 0);
}

TEST(documents)
{
        TEMP_DIR(dir);
        struct store *s = open_store(dir.path, 0);
        const char text[] = "{\"a\": 1}";
        struct digest d = digest_of(text, sizeof text);
        struct buf out;
        buf_init(&out, 1000);
        buf_adds(&out, "before");
        struct error err = {0};
        CHECK_INT(store_get(s, STORE_DOC, &d, &out, &err), -ENOENT);
        CHECK_STR(buf_str(&out), "before");
        CHECK_INT(store_put(s, STORE_DOC, &d, text, sizeof text, &err), 0);
        CHECK_INT(store_put(s, STORE_DOC, &d, text, sizeof text, &err), 0);
        CHECK_INT(store_get(s, STORE_DOC, &d, &out, &err), 0);
        CHECK_INT(out.len, 6 + sizeof text);
        CHECK_MEM(out.data + 6, text, sizeof text);
        /* too large for the reader: said so, and left alone */
        struct buf tiny;
        buf_init(&tiny, 3);
        CHECK_INT(store_get(s, STORE_DOC, &d, &tiny, &err), -EFBIG);
        CHECK_INT(buf_error(&tiny), 0);
        /* every byte is checked */
        const char *path = path_of(dir.path, "docs/sha256", &d, "");
        for (size_t i = 0; i < sizeof text; i++) {
                CHECK_INT(store_put(s, STORE_DOC, &d, text, sizeof text, &err), 0);
                flip(path, (off_t)i);
                buf_clear(&out);
                CHECK_INT(store_get(s, STORE_DOC, &d, &out, &err), -ENOENT);
                CHECK_INT(out.len, 0);
                CHECK(!exists(path));
        }
        /* a damaged one is replaced, not trusted */
        CHECK_INT(store_put(s, STORE_DOC, &d, text, sizeof text, &err), 0);
        flip(path, 3);
        CHECK_INT(store_put(s, STORE_DOC, &d, text, sizeof text, &err), 0);
        CHECK_INT(store_get(s, STORE_DOC, &d, &out, &err), 0);
        CHECK_INT(files_in(dir.path, "tmp"), 0);
        buf_done(&out);
        buf_done(&tiny);
        store_close(s);
}

TEST(modes_are_private)
{
        TEMP_DIR(dir);
        char path[300], tag[100] = "";
        snprintf(path, sizeof path, "%s/a/b/cache", dir.path);
        mode_t mask = umask(0);
        struct store *s = open_store(path, 0);
        struct digest d = digest_of("x", 1);
        CHECK_INT(store_put(s, STORE_DOC, &d, "x", 1, NULL), 0);
        umask(mask);
        CHECK_STR(store_dir(s), path);
        struct stat st;
        CHECK(stat(path, &st) == 0 && (st.st_mode & 07777) == 0700);
        CHECK(stat(path_of(path, "docs/sha256", &d, ""), &st) == 0 && (st.st_mode & 07777) == 0600);
        strcat(path, "/CACHEDIR.TAG");
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        CHECK(fd >= 0 && read(fd, tag, sizeof tag - 1) > 43);
        close(fd);
        CHECK_MEM(tag, "Signature: 8a477f597d28d172789f06886806bc55", 43);
        store_close(s);
}

TEST(directories_of_others_are_refused)
{
        TEMP_DIR(dir);
        struct store *s;
        struct error err = {0};
        struct store_options options = {.dir = dir.path};
        CHECK_INT(chmod(dir.path, 0770), 0);
        CHECK_INT(store_open(&options, &s, &err), -EPERM);
        CHECK(strstr(err.msg, "chmod go-w"));
        CHECK_INT(chmod(dir.path, 0755), 0);
        CHECK_INT(store_open(&options, &s, &err), 0);
        store_close(s);
        char v1[300];
        snprintf(v1, sizeof v1, "%s/v1/docs", dir.path);
        CHECK_INT(chmod(v1, 0702), 0);
        CHECK_INT(store_open(&options, &s, &err), -EPERM);
        CHECK_INT(chmod(v1, 0700), 0);
        if (geteuid() != 0) {
                printf("not root: the check of the owner is skipped\n");
                return;
        }
        CHECK_INT(chown(dir.path, 12345, 12345), 0);
        CHECK_INT(store_open(&options, &s, &err), -EPERM);
        CHECK(strstr(err.msg, "12345") && strstr(err.msg, "--cache-dir"));
}

static void as_somebody_else(const char *dir)
{
        struct store *s;
        struct error err = {0};
        CHECK_INT(seteuid(65534), 0);
        CHECK_INT(store_open(&(struct store_options){.dir = dir}, &s, &err), -EPERM);
        CHECK(strstr(err.msg, "belongs to user 0"));
        _exit(0); /* the leak sanitizer cannot do its work after a change of user */
}

TEST(directories_of_others_are_refused_also_when_they_cannot_be_opened)
{
        TEMP_DIR(dir);
        if (geteuid() == 0)
                in_child(as_somebody_else, dir.path);
}

TEST(a_place_that_cannot_be_made_gives_an_empty_store_and_a_warning)
{
        TEMP_DIR(dir);
        char path[300];
        snprintf(path, sizeof path, "%s/file", dir.path);
        close(open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
        strcat(path, "/cache");
        warnings = 0;
        struct store *s = open_store(path, 0);
        CHECK_INT(warnings, 1);
        CHECK(!store_writable(s));
        CHECK_STR(store_dir(s), "");
        struct digest d = digest_of("x", 1);
        struct buf out;
        buf_init(&out, 10);
        int fd = 7;
        CHECK_INT(store_put(s, STORE_DOC, &d, "x", 1, NULL), 0);
        CHECK_INT(store_get(s, STORE_DOC, &d, &out, NULL), -ENOENT);
        CHECK_INT(store_open_index(s, &d, NULL), -ENOENT);
        CHECK_INT(store_put_name(s, "x", "y", 1, NULL), 0);
        CHECK_INT(store_get_name(s, "x", &out, NULL), -ENOENT);
        CHECK_INT(store_lock(s, &d, -1, &fd, NULL), 0);
        CHECK_INT(fd, -1);
        uint64_t bytes = 1;
        struct store_partial *p;
        CHECK_INT(store_partial_open(s, &d, 10, &p, &bytes, NULL), 0);
        CHECK(!p && bytes == 0);
        struct store_blob *b = (void *)&bytes;
        CHECK_INT(store_blob_open(s, &d, 10, 2, false, &b, NULL), 0);
        CHECK(!b);
        CHECK_INT(store_gc(s, 0, &bytes, NULL), 0);
        CHECK_INT(store_remove(s, STORE_RM_ALL, NULL, &bytes, NULL), 0);
        CHECK_INT(warnings, 1);
        store_close(s);
}

TEST(indexes)
{
        TEMP_DIR(dir);
        struct store *s = open_store(dir.path, 0);
        struct digest d = digest_of("layer", 5);
        char got[10] = "";
        CHECK_INT(store_open_index(s, &d, NULL), -ENOENT);
        CHECK_INT(store_put(s, STORE_INDEX, &d, "index", 5, NULL), 0);
        int fd = store_open_index(s, &d, NULL);
        CHECK(fd >= 0 && read(fd, got, sizeof got) == 5);
        CHECK_MEM(got, "index", 5);
        close(fd);
        store_set_aside(s, STORE_INDEX, &d);
        CHECK_INT(store_open_index(s, &d, NULL), -ENOENT);
        CHECK(exists(path_of(dir.path, "index/sha256", &d, ".bad")));
        store_set_aside(s, STORE_INDEX, &d);
        /* a symlink is not followed */
        CHECK_INT(symlink("/etc/passwd", path_of(dir.path, "index/sha256", &d, "")), 0);
        CHECK_INT(store_open_index(s, &d, NULL), -ENOENT);
        CHECK_INT(store_put(s, STORE_INDEX, &d, "index", 5, NULL), 0);
        fd = store_open_index(s, &d, NULL);
        CHECK(fd >= 0);
        close(fd);
        store_close(s);
}

TEST(names)
{
        TEMP_DIR(dir);
        struct store *s = open_store(dir.path, 0);
        struct buf out;
        buf_init(&out, 100);
        const char *name = "docker.io/library/alpine:latest";
        CHECK_INT(store_get_name(s, name, &out, NULL), -ENOENT);
        CHECK_INT(store_put_name(s, name, "sha256:1\n\ntext", 14, NULL), 0);
        CHECK_INT(store_put_name(s, name, "sha256:2\n\nnew", 13, NULL), 0);
        CHECK_INT(store_put_name(s, "other", "", 0, NULL), 0);
        CHECK_INT(store_get_name(s, name, &out, NULL), 0);
        CHECK_STR(buf_str(&out), "sha256:2\n\nnew");
        buf_clear(&out);
        CHECK_INT(store_get_name(s, "other", &out, NULL), 0);
        CHECK_INT(out.len, 0);
        struct digest d = digest_of(name, strlen(name));
        const char *path = path_of(dir.path, "names", &d, "");
        struct stat st;
        CHECK_INT(stat(path, &st), 0);
        for (off_t i = 0; i < st.st_size; i++) {
                flip(path, i);
                CHECK_INT(store_get_name(s, name, &out, NULL), -ENOENT);
                flip(path, i);
        }
        CHECK_INT(truncate(path, st.st_size - 1), 0);
        CHECK_INT(store_get_name(s, name, &out, NULL), -ENOENT);
        CHECK_INT(truncate(path, 0), 0);
        CHECK_INT(store_get_name(s, name, &out, NULL), -ENOENT);
        CHECK_INT(out.len, 0);
        buf_done(&out);
        store_close(s);
}

/* ---- locks ---- */

struct contest {
        struct store *store;
        struct digest digest;
        atomic_int inside, most;
};

static void *contest_work(void *arg)
{
        struct contest *c = arg;
        for (int i = 0; i < 5; i++) {
                int fd;
                CHECK_INT(store_lock(c->store, &c->digest, -1, &fd, NULL), 0);
                CHECK(fd >= 0);
                int now = atomic_fetch_add(&c->inside, 1) + 1;
                if (now > c->most)
                        c->most = now;
                nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
                atomic_fetch_sub(&c->inside, 1);
                close(fd);
        }
        return NULL;
}

TEST(locks_exclude_threads_and_die_with_processes)
{
        TEMP_DIR(dir);
        struct contest c = {.store = open_store(dir.path, 0), .digest = digest_of("x", 1)};
        pthread_t threads[4];
        for (size_t i = 0; i < ARRAY_LEN(threads); i++)
                CHECK_INT(pthread_create(&threads[i], NULL, contest_work, &c), 0);
        for (size_t i = 0; i < ARRAY_LEN(threads); i++)
                pthread_join(threads[i], NULL);
        CHECK_INT(c.most, 1);

        int ready[2], fd = -1;
        CHECK_INT(pipe(ready), 0);
        pid_t pid = fork();
        if (pid == 0) {
                if (store_lock(c.store, &c.digest, 0, &fd, NULL) < 0 || write(ready[1], "x", 1) != 1)
                        _exit(1);
                pause();
        }
        char byte;
        CHECK(read(ready[0], &byte, 1) == 1);
        struct error err = {0};
        CHECK_INT(store_lock(c.store, &c.digest, 20, &fd, &err), -ETIMEDOUT);
        struct digest other = digest_of("y", 1);
        CHECK_INT(store_lock(c.store, &other, 0, &fd, &err), 0);
        close(fd);
        kill(pid, SIGKILL);
        CHECK_INT(store_lock(c.store, &c.digest, 10000, &fd, &err), 0);
        close(fd);
        waitpid(pid, NULL, 0);
        close(ready[0]);
        close(ready[1]);
        store_close(c.store);
}

static void make_old(const char *path, long seconds)
{
        struct timespec times[2];
        clock_gettime(CLOCK_REALTIME, &times[0]);
        times[0].tv_sec -= seconds;
        times[1] = times[0];
        CHECK_INT(utimensat(AT_FDCWD, path, times, 0), 0);
}

TEST(old_locks_and_partial_files_go_unless_held)
{
        TEMP_DIR(dir);
        struct store *s = open_store(dir.path, 0);
        struct digest d = digest_of("x", 1), e = digest_of("y", 1);
        int fd;
        uint64_t len;
        struct store_partial *p;
        for (int i = 0; i < 2; i++) {
                CHECK_INT(store_lock(s, i ? &e : &d, 0, &fd, NULL), 0);
                CHECK_INT(store_partial_open(s, i ? &e : &d, 100, &p, &len, NULL), 0);
                CHECK_INT(store_partial_append(p, "abc", 3, NULL), 0);
                store_partial_keep(p);
                if (i == 0)
                        close(fd);
                make_old(path_of(dir.path, "locks", i ? &e : &d, ""), 100000);
                make_old(path_of(dir.path, "partial", i ? &e : &d, ""), 100000);
        }
        CHECK_INT(store_gc(s, 0, &len, NULL), 0);
        CHECK(len > 0);
        CHECK(!exists(path_of(dir.path, "partial", &d, "")));
        CHECK(exists(path_of(dir.path, "partial", &e, "")));
        CHECK(exists(path_of(dir.path, "locks", &e, "")));
        close(fd);
        store_close(s);
}

/* ---- partial files ---- */

TEST(a_first_pass_is_resumed_and_published)
{
        TEMP_DIR(dir);
        struct store *s = open_store(dir.path, 0);
        uint8_t data[100000], got[100000];
        fake_bytes(data, sizeof data, 5);
        struct digest d = digest_of(data, sizeof data);
        struct store_partial *p;
        uint64_t len = 1;
        CHECK_INT(store_partial_open(s, &d, sizeof data, &p, &len, NULL), 0);
        CHECK_INT(len, 0);
        CHECK_INT(store_partial_append(p, data, 30000, NULL), 0);
        store_partial_keep(p);
        store_close(s);

        s = open_store(dir.path, 0);
        CHECK_INT(store_partial_open(s, &d, sizeof data, &p, &len, NULL), 0);
        CHECK_INT(len, 30000);
        CHECK_INT(store_partial_read(p, got, sizeof got, 0), 30000);
        CHECK_MEM(got, data, 30000);
        struct error err = {0};
        CHECK_INT(store_partial_append(p, data, 70001, &err), -EBADMSG);
        CHECK_INT(store_partial_append(p, data + 30000, 70000, NULL), 0);
        CHECK_INT(store_partial_publish(p, 33, NULL), 0);
        CHECK(!exists(path_of(dir.path, "partial", &d, "")));
        CHECK_INT(store_count(s).written_bytes, 70000);

        struct store_blob *b;
        CHECK_INT(store_blob_open(s, &d, sizeof data, 33, false, &b, NULL), 0);
        CHECK_INT(store_blob_present(b), 33);
        CHECK_INT(store_blob_read(b, got, sizeof got, 0), 0);
        CHECK_MEM(got, data, sizeof data);
        CHECK_INT(store_count(s).read_bytes, sizeof data);
        store_blob_close(b);

        /* what is not whole is not published; what is wrong is removed; what is longer than it can be starts over */
        struct digest e = digest_of("e", 1);
        CHECK_INT(store_partial_open(s, &e, 100, &p, &len, NULL), 0);
        CHECK_INT(store_partial_append(p, data, 99, NULL), 0);
        CHECK_INT(store_partial_publish(p, 1, &err), -EBADMSG);
        CHECK(!exists(path_of(dir.path, "blobs/sha256", &e, "")));
        CHECK_INT(store_partial_open(s, &e, 100, &p, &len, NULL), 0);
        CHECK_INT(store_partial_append(p, data, 99, NULL), 0);
        store_partial_keep(p);
        CHECK_INT(store_partial_open(s, &e, 50, &p, &len, NULL), 0);
        CHECK_INT(len, 0);
        store_partial_discard(p);
        CHECK(!exists(path_of(dir.path, "partial", &e, "")));
        store_close(s);
}

TEST(a_complete_blob_is_read_again_without_fetching)
{
        TEMP_DIR(dir);
        struct store *s = open_store(dir.path, 0);
        struct digest d = digest_of("x", 1);
        struct store_partial *p;
        uint64_t len;
        char got[20];
        CHECK_INT(store_partial_open(s, &d, 10, &p, &len, NULL), 0);
        CHECK_INT(store_partial_append(p, "0123456789", 10, NULL), 0);
        CHECK_INT(store_partial_publish(p, 5000, NULL), 0);

        CHECK_INT(store_partial_open(s, &d, 10, &p, &len, NULL), 0);
        CHECK_INT(len, 10);
        CHECK_INT(store_partial_read(p, got, sizeof got, 0), 10);
        CHECK_MEM(got, "0123456789", 10);
        CHECK(!exists(path_of(dir.path, "blobs", &d, "")));
        CHECK(!exists(path_of(dir.path, "blobs", &d, ".map")));
        CHECK_INT(store_partial_publish(p, 7000, NULL), 0);

        /* one of another size, or with a chunk that is missing, is not complete */
        CHECK_INT(store_partial_open(s, &d, 11, &p, &len, NULL), 0);
        CHECK_INT(len, 0);
        store_partial_discard(p);
        struct store_blob *b;
        CHECK_INT(store_blob_open(s, &d, 10, 7000, false, &b, NULL), 0);
        store_blob_forget(b, 6999);
        store_blob_close(b);
        CHECK_INT(store_partial_open(s, &d, 10, &p, &len, NULL), 0);
        CHECK_INT(len, 0);
        store_partial_discard(p);
        store_close(s);
}

TEST(a_partial_file_that_is_removed_meanwhile_is_just_not_kept)
{
        TEMP_DIR(dir);
        struct store *s = open_store(dir.path, 0);
        struct digest d = digest_of("d", 1);
        struct store_partial *p;
        uint64_t len;
        CHECK_INT(store_partial_open(s, &d, 3, &p, &len, NULL), 0);
        CHECK_INT(store_partial_append(p, "ab", 2, NULL), 0);
        CHECK_INT(store_remove(s, STORE_RM_ALL, NULL, &len, NULL), 0);
        CHECK_INT(store_partial_append(p, "c", 1, NULL), 0);
        CHECK_INT(store_partial_publish(p, 1, NULL), 0);
        CHECK_INT(files_in(dir.path, "blobs/sha256"), 0);
        CHECK(store_writable(s));
        store_close(s);
}

/* ---- blobs by chunks ---- */

TEST(chunks_are_shared_between_stores)
{
        TEMP_DIR(dir);
        struct store *s = open_store(dir.path, 0), *t = open_store(dir.path, 0);
        struct digest d = digest_of("d", 1);
        struct store_blob *a, *b;
        char got[10];
        CHECK_INT(store_blob_open(s, &d, 1000, 10, false, &a, NULL), 0);
        CHECK_INT(store_blob_open(t, &d, 1000, 10, false, &b, NULL), 0);
        CHECK(!store_blob_has(a, 3));
        store_blob_write(a, 3, "hello", 5, 300);
        CHECK(store_blob_has(b, 3) && !store_blob_has(b, 2));
        CHECK_INT(store_blob_present(b), 1);
        CHECK_INT(store_blob_read(b, got, 5, 300), 0);
        CHECK_MEM(got, "hello", 5);
        store_blob_forget(b, 3);
        CHECK(!store_blob_has(a, 3));
        CHECK_INT(store_blob_read(a, got, 10, 995), -EIO);
        store_blob_write(a, 9, "x", 1, 999);
        store_blob_close(a);
        /* another number of chunks: started over, and the other process notices when it writes */
        CHECK_INT(store_blob_open(s, &d, 1000, 20, false, &a, NULL), 0);
        CHECK_INT(store_blob_present(a), 0);
        store_blob_close(a);
        store_blob_close(b);
        store_close(s);
        store_close(t);
}

TEST(damaged_maps_are_started_over)
{
        TEMP_DIR(dir);
        struct store *s = open_store(dir.path, 0);
        struct digest d = digest_of("d", 1);
        struct store_blob *b;
        char map[600];
        snprintf(map, sizeof map, "%s", path_of(dir.path, "blobs/sha256", &d, ".map"));
        for (int i = 0; i < 32 + 3; i++) {
                CHECK_INT(store_blob_open(s, &d, 1000, 10, false, &b, NULL), 0);
                store_blob_write(b, 3, "hello", 5, 300);
                store_blob_close(b);
                if (i < 32)
                        flip(map, i);
                else
                        CHECK_INT(truncate(map, i == 32 ? 0 : i == 33 ? 41 : 43), 0);
                CHECK_INT(store_blob_open(s, &d, 1000, 10, false, &b, NULL), 0);
                CHECK_INT(store_blob_present(b), 0);
                store_blob_write(b, 4, "hello", 5, 400);
                /* cut off under a live user */
                CHECK_INT(truncate(map, 20), 0);
                CHECK(!store_blob_has(b, 4));
                CHECK_INT(store_blob_present(b), 0);
                store_blob_close(b);
        }
        store_close(s);
}

TEST(spill_files_have_no_name)
{
        struct store *s = store_new_null();
        struct digest d = digest_of("d", 1);
        struct store_blob *b;
        char got[5];
        CHECK(s);
        CHECK_INT(store_blob_open(s, &d, 1000, 10, true, &b, NULL), 0);
        CHECK_INT(store_blob_present(b), 0);
        store_blob_write(b, 3, "hello", 5, 300);
        CHECK(store_blob_has(b, 3));
        CHECK_INT(store_blob_read(b, got, 5, 300), 0);
        CHECK_MEM(got, "hello", 5);
        store_blob_close(b);
        store_close(s);
}

/* ---- bounds ---- */

static uint64_t total(struct store *s, const char *kind);

struct sum {
        const char *kind;
        uint64_t bytes, count;
};

static int add_item(void *ctx, const struct store_item *item)
{
        struct sum *sum = ctx;
        if (strcmp(item->kind, sum->kind) == 0) {
                sum->bytes += item->bytes;
                sum->count++;
                CHECK(item->used_s > 0);
        }
        return 0;
}

static uint64_t total(struct store *s, const char *kind)
{
        struct sum sum = {.kind = kind};
        CHECK_INT(store_each(s, add_item, &sum, NULL), 0);
        return sum.bytes;
}

static struct store_blob *put_blob(struct store *s, int n, long age, const char *dir)
{
        static uint8_t data[100000];
        struct digest d = digest_of(&n, sizeof n);
        struct store_blob *b;
        fake_bytes(data, sizeof data, (uint64_t)n);
        CHECK_INT(store_blob_open(s, &d, sizeof data, 1, false, &b, NULL), 0);
        store_blob_write(b, 0, data, sizeof data, 0);
        make_old(path_of(dir, "blobs/sha256", &d, ".map"), age);
        return b;
}

TEST(least_recently_used_go_first)
{
        TEMP_DIR(dir);
        struct store *s = open_store(dir.path, 0);
        struct digest doc = digest_of("doc", 3);
        CHECK_INT(store_put(s, STORE_DOC, &doc, "doc", 3, NULL), 0);
        CHECK_INT(store_put(s, STORE_INDEX, &doc, "index", 5, NULL), 0);
        static const long ages[] = {50, 90, 10, 70, 30};
        for (int i = 0; i < 5; i++)
                store_blob_close(put_blob(s, i, ages[i], dir.path));
        uint64_t all = total(s, "blob"), freed = 0;
        CHECK(all >= 500000);
        CHECK_INT(store_gc(s, all - 150000, &freed, NULL), 0);
        CHECK(freed >= 200000 && freed < 300000);
        CHECK_INT(total(s, "blob"), all - freed);
        for (int i = 0; i < 5; i++) {
                struct digest d = digest_of(&i, sizeof i);
                CHECK_INT(exists(path_of(dir.path, "blobs/sha256", &d, "")), ages[i] < 70);
                CHECK_INT(exists(path_of(dir.path, "blobs/sha256", &d, ".map")), ages[i] < 70);
        }
        store_close(s);
        /* at the next opening the bound is kept too; documents and indexes stay */
        s = open_store(dir.path, 1);
        CHECK_INT(total(s, "blob"), 0);
        CHECK(total(s, "doc") > 0 && total(s, "index") > 0);
        store_close(s);
}

TEST(eviction_under_use_frees_the_space_and_the_user_starts_afresh)
{
        TEMP_DIR(dir);
        struct store *s = open_store(dir.path, 0), *t = open_store(dir.path, 0);
        struct store_blob *b = put_blob(s, 1, 0, dir.path);
        uint8_t data[100000];
        uint64_t bytes;
        CHECK(store_blob_has(b, 0));
        CHECK_INT(store_remove(t, STORE_RM_DATA, NULL, &bytes, NULL), 0);
        CHECK(bytes >= 100000);
        CHECK_INT(store_blob_read(b, data, sizeof data, 0), -EIO);
        store_blob_forget(b, 0);
        fake_bytes(data, sizeof data, 1);
        store_blob_write(b, 0, data, sizeof data, 0);
        CHECK(store_blob_has(b, 0));
        CHECK_INT(store_blob_read(b, data, sizeof data, 0), 0);
        CHECK_INT(files_in(dir.path, "blobs/sha256"), 2);
        store_blob_close(b);
        store_close(s);
        store_close(t);
}

TEST(removing_by_kind_and_by_digest)
{
        TEMP_DIR(dir);
        struct store *s = open_store(dir.path, 0);
        int one = 1;
        struct digest d = digest_of(&one, sizeof one);
        for (int i = 0; i < 3; i++) {
                struct digest e = digest_of(&i, sizeof i);
                store_blob_close(put_blob(s, i, 0, dir.path));
                CHECK_INT(store_put(s, STORE_INDEX, &e, "index", 5, NULL), 0);
                CHECK_INT(store_put(s, STORE_DOC, &e, &i, sizeof i, NULL), 0);
        }
        CHECK_INT(store_put_name(s, "name", "x", 1, NULL), 0);
        CHECK_INT(store_remove(s, STORE_RM_DATA | STORE_RM_INDEX, &d, NULL, NULL), 0);
        CHECK_INT(files_in(dir.path, "blobs/sha256"), 4);
        CHECK_INT(files_in(dir.path, "index/sha256"), 2);
        CHECK_INT(files_in(dir.path, "docs/sha256"), 3);
        CHECK_INT(store_remove(s, STORE_RM_DATA, NULL, NULL, NULL), 0);
        CHECK_INT(files_in(dir.path, "blobs/sha256"), 0);
        CHECK_INT(files_in(dir.path, "index/sha256"), 2);
        CHECK_INT(store_remove(s, STORE_RM_ALL, NULL, NULL, NULL), 0);
        CHECK_INT(files_in(dir.path, "index/sha256"), 0);
        CHECK_INT(files_in(dir.path, "docs/sha256"), 0);
        CHECK_INT(files_in(dir.path, "names"), 0);
        store_close(s);
}

TEST(leftovers_of_the_dead_are_removed)
{
        TEMP_DIR(dir);
        store_close(open_store(dir.path, 0));
        char path[300];
        snprintf(path, sizeof path, "%s/v1/tmp/left", dir.path);
        close(open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
        store_close(open_store(dir.path, 0));
        CHECK_INT(files_in(dir.path, "tmp"), 0);
        /* but not while somebody is writing there */
        struct store *s = open_store(dir.path, 0);
        struct store_tmp t;
        CHECK_INT(store_tmp_open(s, &t), 0);
        store_close(open_store(dir.path, 0));
        CHECK_INT(files_in(dir.path, "tmp"), 1);
        store_tmp_drop(s, &t);
        CHECK_INT(files_in(dir.path, "tmp"), 0);
        store_close(s);
}

/* ---- bad days ---- */

/* everything that writes, on a store that cannot: no error, one warning */
static void write_everything(struct store *s)
{
        static uint8_t data[3 << 20];
        struct digest d = digest_of("d", 1);
        struct store_partial *p = NULL;
        struct store_blob *b = NULL;
        uint64_t len;
        CHECK_INT(store_partial_open(s, &d, sizeof data, &p, &len, NULL), 0);
        if (p) {
                CHECK_INT(store_partial_append(p, data, sizeof data, NULL), 0);
                CHECK_INT(store_partial_append(p, data, 0, NULL), 0);
                CHECK_INT(store_partial_publish(p, 3, NULL), 0);
        }
        CHECK(!store_writable(s));
        CHECK_INT(store_put(s, STORE_DOC, &d, data, sizeof data, NULL), 0);
        CHECK_INT(store_put_name(s, "x", "y", 1, NULL), 0);
        CHECK_INT(store_blob_open(s, &d, sizeof data, 3, false, &b, NULL), 0);
        if (b)
                store_blob_write(b, 0, data, sizeof data, 0);
        store_blob_close(b);
        CHECK_INT(warnings, 1);
}

static void with_file_limit(const char *dir)
{
        struct digest kept = digest_of("kept", 4);
        struct store *s = open_store(dir, 0);
        CHECK_INT(store_put(s, STORE_DOC, &kept, "kept", 4, NULL), 0);
        signal(SIGXFSZ, SIG_IGN);
        CHECK_INT(setrlimit(RLIMIT_FSIZE, &(struct rlimit){1 << 20, 1 << 20}), 0);
        warnings = 0;
        write_everything(s);
        struct buf out;
        buf_init(&out, 100);
        CHECK_INT(store_get(s, STORE_DOC, &kept, &out, NULL), 0);
        buf_done(&out);
        store_close(s);
}

TEST(files_that_cannot_grow_turn_writing_off)
{
        TEMP_DIR(dir);
        in_child(with_file_limit, dir.path);
        CHECK_INT(files_in(dir.path, "partial"), 0);
        CHECK_INT(files_in(dir.path, "tmp"), 0);
}

static void mount_small(const char *dir)
{
        if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
                mount("tmpfs", dir, "tmpfs", 0, "size=2m,mode=0700") < 0)
                exit(77);
}

static void with_full_disk(const char *dir)
{
        mount_small(dir);
        struct store *s = open_store(dir, 0);
        warnings = 0;
        write_everything(s);
        store_close(s);
}

TEST(a_full_disk_turns_writing_off)
{
        TEMP_DIR(dir);
        in_child(with_full_disk, dir.path);
}

static void with_nearly_full_disk(const char *dir)
{
        mount_small(dir);
        struct store *s = open_store(dir, 0);
        store_blob_close(put_blob(s, 1, 100, dir));
        /* somebody else takes the rest but 60 KiB of 2 MiB */
        static uint8_t data[1900 << 10];
        char path[300];
        snprintf(path, sizeof path, "%s/other", dir);
        int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        CHECK(fd >= 0 && write(fd, data, sizeof data) > (1800 << 10));
        warnings = 0;
        CHECK_INT(store_gc(s, 0, NULL, NULL), 0);
        CHECK_INT(total(s, "blob"), 0);
        /* nothing is left to evict: blobs are not kept until there is room again, small things are */
        CHECK(pwrite(fd, data, 60 << 10, sizeof data) == (60 << 10));
        CHECK_INT(store_gc(s, 0, NULL, NULL), 0);
        CHECK_INT(warnings, 1);
        struct digest d = digest_of("d", 1);
        struct store_blob *b;
        CHECK_INT(store_blob_open(s, &d, 10, 1, false, &b, NULL), 0);
        CHECK(!b);
        CHECK(!store_writable(s));
        CHECK_INT(store_put(s, STORE_DOC, &d, "d", 1, NULL), 0);
        CHECK_INT(total(s, "doc") > 0, true);
        CHECK_INT(ftruncate(fd, 0), 0);
        store_blob_close(put_blob(s, 2, 0, dir));
        CHECK(store_writable(s));
        CHECK(total(s, "blob") > 0);
        CHECK_INT(warnings, 1);
        close(fd);
        store_close(s);
}

TEST(the_last_of_the_disk_is_left_to_others)
{
        TEMP_DIR(dir);
        in_child(with_nearly_full_disk, dir.path);
}

static void with_read_only(const char *dir)
{
        struct digest d = digest_of("doc", 3);
        struct store *s;
        mount_small(dir);
        s = open_store(dir, 0);
        CHECK_INT(store_put(s, STORE_DOC, &d, "doc", 3, NULL), 0);
        store_blob_close(put_blob(s, 1, 0, dir));
        store_close(s);
        CHECK_INT(mount("none", dir, NULL, MS_REMOUNT | MS_RDONLY, NULL), 0);
        warnings = 0;
        s = open_store(dir, 0);
        CHECK_INT(warnings, 1);
        write_everything(s);
        struct buf out;
        buf_init(&out, 100);
        CHECK_INT(store_get(s, STORE_DOC, &d, &out, NULL), 0);
        buf_done(&out);
        int one = 1;
        uint8_t data[100000];
        struct store_blob *b;
        d = digest_of(&one, sizeof one);
        CHECK_INT(store_blob_open(s, &d, sizeof data, 1, false, &b, NULL), 0);
        CHECK(b && store_blob_has(b, 0));
        CHECK_INT(store_blob_read(b, data, sizeof data, 0), 0);
        store_blob_forget(b, 0);
        store_blob_close(b);
        store_close(s);
}

TEST(a_read_only_cache_is_read)
{
        TEMP_DIR(dir);
        in_child(with_read_only, dir.path);
}

TEST(the_default_place)
{
        char *dir;
        setenv("XDG_CACHE_HOME", "/x/cache", 1);
        CHECK_INT(store_default_dir(&dir, NULL), 0);
        CHECK_STR(dir, "/x/cache/imagefs");
        free(dir);
        setenv("XDG_CACHE_HOME", "relative", 1);
        setenv("HOME", "/h", 1);
        CHECK_INT(store_default_dir(&dir, NULL), 0);
        CHECK_STR(dir, geteuid() == 0 ? "/var/cache/imagefs" : "/h/.cache/imagefs");
        free(dir);
}
