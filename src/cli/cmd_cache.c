/* imagefs cache ls|rm|gc|verify */
#include <errno.h>
#include <stdio.h>
#include <time.h>

#include "base/json.h"
#include "cli/cli.h"
#include "image/verify.h"
#include "mount/daemon.h"

static int print_json(json_t *owned)
{
        cleanup(json_freep) json_t *json = owned;
        cleanup(freep) char *text = json ? json_text(json, true) : NULL;
        fputs(text ? text : "", stdout);
        return text ? EXIT_DONE : EXIT_OTHER;
}

/* ---- ls ---- */

struct listing {
        json_t *items; /* NULL: print lines */
        uint64_t bytes;
};

static int list_item(void *ctx, const struct store_item *item)
{
        struct listing *l = ctx;
        l->bytes += item->bytes;
        if (l->items)
                return json_array_append_new(
                        l->items, json_pack("{s:s, s:s, s:I, s:I, s:I}", "kind", item->kind, "digest", item->name,
                                          "bytes", (json_int_t)item->bytes, "size", (json_int_t)item->size, "used",
                                          (json_int_t)item->used_s));
        char when[32] = "";
        time_t used = (time_t)item->used_s;
        struct tm tm;
        if (localtime_r(&used, &tm))
                strftime(when, sizeof when, "%Y-%m-%d %H:%M", &tm);
        printf("%-8s %12llu %12llu  %-16s  %s\n", item->kind, (unsigned long long)item->bytes,
                (unsigned long long)item->size, when, item->name);
        return 0;
}

static int cache_ls(struct cli *cli, struct store *store, struct error *err)
{
        struct listing l = {.items = cli->json ? json_array() : NULL};
        if (!cli->json)
                printf("%-8s %12s %12s  %-16s  %s\n", "kind", "on disk", "size", "used", "digest");
        int r = store_each(store, list_item, &l, err);
        if (r < 0) {
                json_free(l.items);
                return r;
        }
        if (cli->json)
                return print_json(json_pack(
                        "{s:s, s:I, s:o}", "dir", store_dir(store), "bytes", (json_int_t)l.bytes, "items", l.items));
        printf("%s: %.1f MB\n", store_dir(store), (double)l.bytes / 1e6);
        return EXIT_DONE;
}

/* ---- rm, gc, verify ---- */

static int say_freed(const struct cli *cli, uint64_t bytes)
{
        if (cli->json)
                return print_json(json_pack("{s:I}", "freed_bytes", (json_int_t)bytes));
        if (!cli->quiet)
                printf("%.1f MB freed\n", (double)bytes / 1e6);
        return EXIT_DONE;
}

static int cache_rm(struct cli *cli, struct store *store, int argc, char **argv, struct error *err)
{
        unsigned what = cli->rm_data || cli->rm_index ? 0 : STORE_RM_ALL;
        what |= cli->rm_data ? STORE_RM_DATA : 0;
        what |= cli->rm_index ? STORE_RM_INDEX : 0;
        uint64_t bytes = 0;
        if (!argc && !cli->rm_all && what == STORE_RM_ALL)
                return cli_usage("cache rm: digests of layers, or --all, or --data or --index are meant");
        int r = argc ? 0 : store_remove(store, what, NULL, &bytes, err);
        for (int i = 0; r == 0 && i < argc; i++) {
                struct digest d;
                char text[DIGEST_MAX_TEXT + 8];
                uint64_t one = 0;
                snprintf(text, sizeof text, "%s%s",
                        strchr(argv[i], ':')     ? ""
                        : strlen(argv[i]) == 128 ? "sha512:"
                                                 : "sha256:",
                        argv[i]);
                if (digest_parse(text, strlen(text), &d) < 0)
                        return cli_usage("cache rm: %s is not a digest", argv[i]);
                r = store_remove(store, what, &d, &one, err);
                bytes += one;
        }
        return r < 0 ? r : say_freed(cli, bytes);
}

static int cache_gc(struct cli *cli, struct store *store, struct error *err)
{
        uint64_t bytes = 0;
        int r = store_gc(store, cli->image.cache_size, &bytes, err);
        return r < 0 ? r : say_freed(cli, bytes);
}

static int cache_verify(struct cli *cli, struct store *store, struct error *err)
{
        struct verify_result v;
        int r = verify_store(store, &cli->progress.cancel, &v, err);
        if (r < 0)
                return r;
        uint64_t bad = v.bad_docs + v.bad_indexes + v.bad_chunks;
        if (cli->json)
                print_json(json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "docs", (json_int_t)v.docs, "indexes",
                        (json_int_t)v.indexes, "chunks", (json_int_t)v.chunks, "chunk_bytes", (json_int_t)v.chunk_bytes,
                        "bad_docs", (json_int_t)v.bad_docs, "bad_indexes", (json_int_t)v.bad_indexes, "bad_chunks",
                        (json_int_t)v.bad_chunks));
        else
                printf("%llu documents, %llu indexes, %llu chunks (%.1f MB): %llu bad\n", (unsigned long long)v.docs,
                        (unsigned long long)v.indexes, (unsigned long long)v.chunks, (double)v.chunk_bytes / 1e6,
                        (unsigned long long)bad);
        return bad ? EXIT_CONTENT : EXIT_DONE;
}

int cmd_cache(struct cli *cli, int argc, char **argv)
{
        struct error err = {0};
        if (cli->image.cache_dir && !strcmp(cli->image.cache_dir, "none"))
                return cli_usage("--cache-dir=none: then there is no cache to look after");
        cleanup(daemon_freep) struct daemon *d = NULL;
        if (daemon_start(true, &cli->progress.cancel, &d, NULL, &err) < 0)
                return cli_fail(&err);
        cleanup(store_closep) struct store *store = NULL;
        struct store_options options = {.dir = cli->image.cache_dir, .size_max = cli->image.cache_size, .manual = true};
        if (store_open(&options, &store, &err) < 0)
                return cli_fail(&err);
        int r;
        if (!strcmp(argv[0], "ls") && argc == 1)
                r = cache_ls(cli, store, &err);
        else if (!strcmp(argv[0], "rm"))
                r = cache_rm(cli, store, argc - 1, argv + 1, &err);
        else if (!strcmp(argv[0], "gc") && argc == 1)
                r = cache_gc(cli, store, &err);
        else if (!strcmp(argv[0], "verify") && argc == 1)
                r = cache_verify(cli, store, &err);
        else
                return cli_usage("cache: ls, rm, gc or verify is meant");
        return r < 0 ? cli_fail(&err) : r;
}
