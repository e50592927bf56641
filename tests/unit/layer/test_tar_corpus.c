/*
 * The tar reader over the shared corpus, where Go's verdict and the expected tree of each archive are known. Skipped when
 * the corpus is not there (SHARED).
 */
#include "layer/tar.h"

#include <sys/stat.h>
#include <zlib.h>

#include "base/buf.h"
#include "base/json.h"
#include "check.h"
#include "unit/layer/tar_list.h"

static void *read_file(const char *path, size_t *ret_len)
{
        gzFile f = gzopen(path, "rb"); /* also reads what is not compressed */
        if (!f)
                return NULL;
        struct buf b;
        buf_init(&b, (size_t)1 << 30);
        for (;;) {
                char piece[1 << 16];
                int n = gzread(f, piece, sizeof piece);
                if (n <= 0)
                        break;
                buf_add(&b, piece, (size_t)n);
        }
        gzclose(f);
        return buf_take(&b, ret_len);
}

static bool ends_with(const char *s, const char *end)
{
        size_t len = strlen(s), end_len = strlen(end);
        return len >= end_len && strcmp(s + len - end_len, end) == 0;
}

/* Calls fn with each line of a file. */
static void each_line(const char *path, void (*fn)(char *line, void *ctx), void *ctx)
{
        FILE *f = fopen(path, "r");
        char *line = NULL;
        size_t room = 0;
        for (ssize_t n; f && (n = getline(&line, &room, f)) > 0;) {
                line[strcspn(line, "\n")] = '\0';
                fn(line, ctx);
        }
        free(line);
        if (f)
                fclose(f);
}

struct corpus {
        const char *shared;
        unsigned archives, refused, entries;
        const char *listing; /* of the archive whose expected tree is read */
        const char *file;
};

/* What stands behind type and path in the last such line of the listing, or NULL. */
static const char *find_entry(const char *listing, const char *type, const char *path)
{
        char start[5000];
        const char *found = NULL;
        int len = snprintf(start, sizeof start, "%s \"%s\" ", type, path);
        for (const char *at = listing; (at = strstr(at, start)); at++)
                if (at == listing || at[-1] == '\n')
                        found = at + len;
        return found;
}

/*
 * The last entry of a path must be what the expected tree has there. Merging is not this test's matter: hard links and
 * names that are not ASCII are passed over.
 */
static void compare_line(char *line, void *ctx)
{
        struct corpus *c = ctx;
        cleanup(json_freep) json_t *j = NULL;
        const char *path, *type, *mode = NULL;
        uint64_t uid, gid, size;
        char want[5000];
        bool implicit;
        if (json_parse(line, strlen(line), &j, NULL) < 0) /* a name that is no UTF-8 */
                return;
        CHECK(json_get_string(j, "path", &path, NULL) == 0 && json_get_string(j, "type", &type, NULL) == 0);
        CHECK_INT(json_get_string(j, "mode", &mode, NULL), 0);
        CHECK_INT(json_get_bool(j, "implicit", false, &implicit, NULL), 0);
        CHECK(json_get_u64(j, "uid", 0, &uid, NULL) == 0 && json_get_u64(j, "gid", 0, &gid, NULL) == 0);
        CHECK_INT(json_get_u64(j, "size", 0, &size, NULL), 0);
        if (implicit || json_object_get(j, "hl") || strpbrk(path, "\\\n\t") || strcmp(path, ".") == 0)
                return;
        for (const char *p = path; *p; p++)
                if (*p & 0x80)
                        return;
        const char *at = find_entry(c->listing, type, path);
        if (!at && find_entry(c->listing, "hard", path))
                return;
        if (!at)
                CHECK_FAIL("%s: no %s \"%s\" in\n%s", c->file, type, path, c->listing);
        intmax_t mtime = (intmax_t)json_integer_value(json_object_get(j, "mtime_ns"));
        intmax_t s = mtime / 1000000000 - (mtime % 1000000000 < 0);
        int n = snprintf(want, sizeof want, "%" PRIu64 ":%" PRIu64 " t=%jd.%09jd", uid, gid, s, mtime - s * 1000000000);
        json_t *rdev = json_object_get(j, "rdev");
        const char *target = json_string_value(json_object_get(j, "target"));
        if (target)
                snprintf(want + n, sizeof want - (size_t)n, " -> %s", target);
        if (rdev)
                snprintf(want + n, sizeof want - (size_t)n, " dev %d,%d",
                        (int)json_integer_value(json_array_get(rdev, 0)),
                        (int)json_integer_value(json_array_get(rdev, 1)));
        if (strcmp(type, "reg") == 0)
                snprintf(want + n, sizeof want - (size_t)n, " %" PRIu64 "@", size);
        if (mode)
                CHECK_INT(strtol(at, NULL, 8), strtol(mode, NULL, 8));
        const char *rest = strchr(at, ' ') + 1;
        if (strncmp(rest, want, strlen(want)) != 0)
                CHECK_FAIL("%s: %s: \"%.80s\" does not begin \"%s\"", c->file, path, rest, want);
        c->entries++;
}

/* Where Go's verdict is not ours, on purpose: here a header stands behind a single zero block. */
static bool verdict_differs(const char *file)
{
        return ends_with(file, "/test_compat_plexus_archiver_tar.tar");
}

static void check_archive(char *line, void *ctx)
{
        struct corpus *c = ctx;
        char *column[12] = {0};
        for (size_t i = 0; i < ARRAY_LEN(column); i++)
                column[i] = strsep(&line, "\t");
        const char *file = column[1], *go = column[4];
        if (!go || !*go || !(ends_with(file, ".tar") || ends_with(file, ".tar.gz") || ends_with(file, ".tgz")))
                return;
        if (strncmp(file, "tar-", 4) != 0 && strncmp(file, "layer-", 6) != 0)
                return;
        char path[4096];
        size_t len;
        snprintf(path, sizeof path, "%s/corpus/data/%s", c->shared, file);
        cleanup(freep) char *tar = read_file(path, &len);
        CHECK(tar);
        struct listing l;
        read_all_ways(tar, len, &l);
        c->archives++;
        c->refused += l.code != 0;
        if (!verdict_differs(file) && (l.code != 0) != (strcmp(go, "error") == 0))
                CHECK_FAIL("%s: Go says %s, we say %s", file, go, l.code ? l.err.msg : "nothing");
        if (l.code == 0 && strcmp(go, "same") == 0) {
                snprintf(path, sizeof path, "%s/corpus/expect/", c->shared);
                for (const char *p = file; *p; p++)
                        snprintf(path + strlen(path), 3, "%s", *p == '/' ? "__" : (char[]){*p, 0});
                strcat(path, ".jsonl");
                c->listing = buf_str(&l.text);
                c->file = file;
                each_line(path, compare_line, c);
        }
        buf_done(&l.text);
}

TEST(corpus)
{
        struct corpus c = {.shared = getenv("SHARED")};
        char path[4096];
        struct stat st;
        snprintf(path, sizeof path, "%s/corpus/index.tsv", c.shared ? c.shared : "");
        if (!c.shared || stat(path, &st) < 0) {
                printf("skipped: no shared corpus\n");
                return;
        }
        each_line(path, check_archive, &c);
        printf("%u archives, %u of them refused; %u entries as expected\n", c.archives, c.refused, c.entries);
        CHECK(c.archives > 200 && c.refused > 10 && c.entries > 1000);
}
