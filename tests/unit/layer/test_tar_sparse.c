/* The tar reader: sparse files of all four formats, whole and broken. */
#include "layer/tar.h"

#include <errno.h>

#include "base/buf.h"
#include "check.h"
#include "unit/layer/tar_build.h"
#include "unit/layer/tar_list.h"

/* ---- sparse files */

static size_t add_old_sparse(struct buf *b, const char *const *map, size_t entries, const char *realsize, size_t stored)
{
        size_t at = tar_build_header(
                b, (struct tar_build){.name = "s", .type = 'S', .size = stored, .format = TAR_BUILD_GNU});
        for (size_t i = 0, done = 0, block = at; i < entries; i++, done++) {
                size_t room = block == at ? 4 : 21;
                if (done == room) {
                        b->data[block + (block == at ? 482 : 504)] = 1;
                        block = b->len;
                        buf_extend(b, 512);
                        done = 0;
                }
                memcpy(b->data + block + (block == at ? 386 : 0) + done * 24, map[2 * i], strlen(map[2 * i]));
                memcpy(b->data + block + (block == at ? 386 : 0) + done * 24 + 12, map[2 * i + 1],
                        strlen(map[2 * i + 1]));
        }
        memcpy(b->data + at + 483, realsize, strlen(realsize));
        tar_build_seal(b->data + at);
        if (stored > 0)
                buf_extend(b, stored);
        tar_build_pad(b);
        return at;
}

TEST(sparse_old_gnu)
{
        ARCHIVE(b);
        const char *map[64];
        char text[64][13];
        add_old_sparse(&b, (const char *const[]){"0", "1", "1000", "2", "2000", "0"}, 3, "2000", 3);
        for (int i = 0; i < 32; i++) { /* two extension blocks */
                snprintf(text[2 * i], 13, "%o", i * 100);
                snprintf(text[2 * i + 1], 13, "%o", i < 30 ? 1 : 0);
                map[2 * i] = text[2 * i];
                map[2 * i + 1] = text[2 * i + 1];
        }
        add_old_sparse(&b, map, 32, "6034", 30);
        tar_build_header(&b, (struct tar_build){.name = "last"});
        struct buf want;
        buf_init(&want, 1 << 20);
        buf_adds(&want, "reg \"s\" 644 0:0 t=0.000000000 1024@512 sparse 0+1@512 512+2@513\n"
                        "reg \"s\" 644 0:0 t=0.000000000 3100@2560 sparse");
        for (int i = 0; i < 30; i++)
                buf_addf(&want, " %d+1@%d", i * 100, 2560 + i);
        buf_adds(&want, "\nreg \"last\" 644 0:0 t=0.000000000 0@3584\n");
        check_list(&b, buf_str(&want));
        buf_done(&want);

        add_old_sparse(&b, map, 25, "6034", 25); /* the last extension block is full */
        tar_build_header(&b, (struct tar_build){.name = "last"});
        buf_init(&want, 1 << 20);
        buf_adds(&want, "reg \"s\" 644 0:0 t=0.000000000 3100@1024 sparse");
        for (int i = 0; i < 25; i++)
                buf_addf(&want, " %d+1@%d", i * 100, 1024 + i);
        buf_adds(&want, "\nreg \"last\" 644 0:0 t=0.000000000 0@2048\n");
        check_list(&b, buf_str(&want));
        buf_done(&want);

        add_old_sparse(&b, (const char *const[]){"10", "5", "7", "1"}, 2, "2000", 6);
        check_refused(&b, -EBADMSG, "malformed sparse map"); /* overlaps */
        add_old_sparse(&b, (const char *const[]){"1770", "21"}, 1, "2000", 17);
        check_refused(&b, -EBADMSG, "malformed sparse map"); /* past the end */
        add_old_sparse(&b, (const char *const[]){"x", "1"}, 1, "2000", 1);
        check_refused(&b, -EBADMSG, "malformed sparse map");
        add_old_sparse(&b, (const char *const[]){"0", "1"}, 1, "junk", 1);
        check_refused(&b, -EBADMSG, "malformed size of a sparse file");
        add_old_sparse(&b, (const char *const[]){"0", "1"}, 1, "2000", 2);
        check_refused(&b, -EBADMSG, "sparse map of 1 bytes, but 2 are stored");
        tar_build_file(&b, (struct tar_build){.name = "s", .type = 'S'});
        check_refused(&b, -EBADMSG, "not GNU's");
        add_old_sparse(&b, map, 32, "6034", 30);
        b.len = 1536;
        check_refused(&b, -EBADMSG, "the stream ends inside this entry, at byte 1536");
}

TEST(sparse_maps_have_a_ceiling)
{
        ARCHIVE(b);
        size_t entries = TAR_SPARSE_MAX + 1;
        const char **map = calloc(2 * entries, sizeof *map);
        CHECK(map);
        for (size_t i = 0; i < 2 * entries; i++)
                map[i] = "0";
        add_old_sparse(&b, map, entries, "6034", 0);
        check_refused(&b, -EFBIG, "sparse map of more than 1048576 extents");
        free(map);
}

TEST(sparse_pax_00)
{
        ARCHIVE(b);
        PAX(&b, "GNU.sparse.size", "1000", "GNU.sparse.numblocks", "2", "GNU.sparse.offset", "10",
                "GNU.sparse.numbytes", "2", "GNU.sparse.offset", "500", "GNU.sparse.numbytes", "3");
        tar_build_file(&b, (struct tar_build){.name = "s", .data = "abcde"});
        PAX(&b, "GNU.sparse.size", "9", "GNU.sparse.numblocks", "1", "GNU.sparse.offset", "1", "GNU.sparse.numbytes",
                "1");
        tar_build_file(&b, (struct tar_build){.name = "t", .data = "a"});
        tar_build_header(&b, (struct tar_build){.name = "last"});
        check_list(&b, "reg \"s\" 644 0:0 t=0.000000000 1000@1536 sparse 10+2@1536 500+3@1538\n"
                       "reg \"t\" 644 0:0 t=0.000000000 9@3584 sparse 1+1@3584\n"
                       "reg \"last\" 644 0:0 t=0.000000000 0@4608\n");
        PAX(&b, "GNU.sparse.size", "9", "GNU.sparse.numblocks", "1", "GNU.sparse.numbytes", "2", "GNU.sparse.offset",
                "1");
        check_refused(&b, -EBADMSG, "not by turns");
        PAX(&b, "GNU.sparse.size", "9", "GNU.sparse.numblocks", "1", "GNU.sparse.offset", "1,1");
        check_refused(&b, -EBADMSG, "comma");
}

TEST(sparse_pax_01)
{
        ARCHIVE(b);
        PAX(&b, "GNU.sparse.name", "real/name", "GNU.sparse.size", "100", "GNU.sparse.numblocks", "3", "GNU.sparse.map",
                "0,2,2,1,100,0", "path", "GNUSparseFile.0/name");
        tar_build_file(&b, (struct tar_build){.name = "s", .data = "abc"});
        PAX(&b, "GNU.sparse.major", "0", "GNU.sparse.minor", "1", "GNU.sparse.realsize", "100", "GNU.sparse.numblocks",
                "0");
        tar_build_file(&b, (struct tar_build){.name = "hole"});
        PAX(&b, "GNU.sparse.size", "100", "GNU.sparse.name", "ignored"); /* no map: an ordinary file */
        tar_build_file(&b, (struct tar_build){.name = "plain", .data = "abc"});
        check_list(&b, "reg \"real/name\" 644 0:0 t=0.000000000 100@1536 sparse 0+3@1536\n"
                       "reg \"hole\" 644 0:0 t=0.000000000 100@3584 sparse\n"
                       "reg \"plain\" 644 0:0 t=0.000000000 3@5120\n");
        static const char *const bad[][3] = {
                {"1", "0", "5"},
                {"1", "0,1,2", "5"},
                {"1", "0,1,", "5"},
                {"2", "0,1", "5"},
                {"1", "0,1,2,3", "5"},
                {"x", "0,1", "5"},
                {"-1", "0,1", "5"},
                {"1", "-1,1", "5"},
                {"1", "0,-1", "5"},
                {"1", "0,6", "5"},
                {"2", "0,1,0,1", "5"},
                {"1", "9223372036854775807,1", "9223372036854775807"},
                {"1", "0,1", "-5"},
                {"1", "0,1", "x"},
                {"1", "0,2", "5"},
                {"1", "0, 1", "5"},
                {"", "0,1", "5"},
        };
        for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
                PAX(&b, "GNU.sparse.numblocks", bad[i][0], "GNU.sparse.map", bad[i][1], "GNU.sparse.size", bad[i][2]);
                tar_build_file(&b, (struct tar_build){.name = "s", .data = "a"});
                check_refused(&b, -EBADMSG, "sparse");
        }
        PAX(&b, "GNU.sparse.numblocks", "1", "GNU.sparse.map", "0,0", "GNU.sparse.size", "0");
        tar_build_file(&b, (struct tar_build){.name = "d", .type = '5'});
        check_refused(&b, -EBADMSG, "no file");
        PAX(&b, "GNU.sparse.numblocks", "1048577", "GNU.sparse.map", "0,0", "GNU.sparse.size", "0");
        tar_build_file(&b, (struct tar_build){.name = "s"});
        check_refused(&b, -EFBIG, "more than 1048576 extents");
}

#define PAX_10(b, realsize)                                                                                            \
        PAX(b, "GNU.sparse.major", "1", "GNU.sparse.minor", "0", "GNU.sparse.name", "n", "GNU.sparse.realsize",        \
                realsize)

TEST(sparse_pax_10)
{
        ARCHIVE(b);
        char data[1536] = "2\n5\n1\n+00000000000000000000000000000009\n2\n";
        PAX_10(&b, "4000");
        tar_build_file(&b, (struct tar_build){.name = "s", .data = data, .size = 515});
        struct buf text; /* a map of several blocks */
        buf_init(&text, 1 << 20);
        buf_adds(&text, "300\n");
        for (int i = 0; i < 300; i++)
                buf_addf(&text, "%d\n%d\n", i * 1000, i == 0);
        while (text.len % 512)
                buf_addc(&text, '\0');
        size_t map_len = text.len;
        buf_addc(&text, 'x');
        PAX_10(&b, "300000");
        tar_build_file(&b, (struct tar_build){.name = "s", .data = text.data, .size = text.len});
        buf_done(&text);
        PAX_10(&b, "77");
        memset(data, 0, sizeof data);
        strcpy(data, "0\n");
        tar_build_file(&b, (struct tar_build){.name = "s", .data = data, .size = 512});
        char want[400];
        snprintf(want, sizeof want,
                "reg \"n\" 644 0:0 t=0.000000000 4000@2048 sparse 5+1@2048 9+2@2049\n"
                "reg \"n\" 644 0:0 t=0.000000000 300000@%zu sparse 0+1@%zu\n"
                "reg \"n\" 644 0:0 t=0.000000000 77@%zu sparse\n",
                4096 + map_len, 4096 + map_len, 4096 + map_len + 512 + 2048);
        check_list(&b, want);

        static const struct {
                const char *text;
                size_t size;
                int code;
        } bad[] = {
                {"", 512, -EBADMSG},
                {"\n", 512, -EBADMSG},
                {"1\n0\n", 512, -EBADMSG},
                {"1\n0\n1\n", 512, -EBADMSG},
                {"0\n", 513, -EBADMSG},
                {"-1\n", 512, -EBADMSG},
                {"1\n0\n-1\n", 512, -EBADMSG},
                {"1\n0\nx\n", 512, -EBADMSG},
                {"1\n0-\n1\n", 513, -EBADMSG},
                {"1\n-\n1\n", 513, -EBADMSG},
                {"0\n", 511, -EBADMSG},
                {"0\n", 0, -EBADMSG},
                {"1\n0\n9999\n", 512, -EBADMSG},
                {"1\n99999999999999999999\n1\n", 513, -EBADMSG},
                {"1048577\n", 1024, -EFBIG},
        };
        for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
                memset(data, 0, sizeof data);
                strcpy(data, bad[i].text);
                PAX_10(&b, "77");
                tar_build_file(&b, (struct tar_build){.name = "s", .data = data, .size = bad[i].size});
                if (bad[i].size == 0)
                        tar_build_end(&b);
                check_refused(&b, bad[i].code, "sparse map");
        }
        for (size_t i = 0; i < 512; i += 4) /* lines to the end of the data, and more announced */
                memcpy(data + i, i ? "\n0\n0" : "9999", 4);
        PAX_10(&b, "77");
        tar_build_file(&b, (struct tar_build){.name = "s", .data = data, .size = 1000});
        check_refused(&b, -EBADMSG, "sparse map longer than the data that hold it");

        PAX_10(&b, "77");
        strcpy(data, "9\n");
        tar_build_file(&b, (struct tar_build){.name = "s", .data = data, .size = 1024});
        b.len -= 512;
        check_refused(&b, -EBADMSG, "");
}

TEST(sparse_unknown_version_is_a_plain_file)
{
        ARCHIVE(b);
        PAX(&b, "GNU.sparse.major", "2", "GNU.sparse.minor", "0", "GNU.sparse.name", "n", "GNU.sparse.realsize", "77");
        tar_build_file(&b, (struct tar_build){.name = "s", .data = "abc"});
        check_list(&b, "reg \"s\" 644 0:0 t=0.000000000 3@1536\n");
}
