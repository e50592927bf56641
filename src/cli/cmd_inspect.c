/* imagefs inspect IMAGE: what it is. Layers that were never read are read, because the number of entries is part of it. */
#include <stdio.h>

#include "base/json.h"
#include "cli/cli.h"
#include "image/notes.h"
#include "mount/daemon.h"
#include "source/platform.h"

static json_t *notes_json(const struct tar_notes *n)
{
        return json_pack("{s:I, s:I, s:I, s:I, s:I, s:b, s:b}", "dropped_names", (json_int_t)n->dropped_names,
                "dropped_types", (json_int_t)n->dropped_types, "dropped_xattrs", (json_int_t)n->dropped_xattrs,
                "dropped_links", (json_int_t)n->dropped_links, "clamped_times", (json_int_t)n->clamped_times,
                "trailing_garbage", n->trailing_garbage, "missing_end", n->missing_end);
}

static json_t *layer_json(const struct image *image, unsigned i)
{
        const struct image_layer *il = &image_manifest(image)->layers[i];
        const struct index_info *info = index_info(layer_index(tree_get_layer(image_tree(image), i)));
        static const char *const compressions[] = {"none", "gzip", "zstd"};
        char digest[DIGEST_MAX_TEXT], diff_id[DIGEST_MAX_TEXT];
        return json_pack("{s:s, s:s, s:I, s:s, s:s, s:I, s:I, s:I, s:I, s:o}", "digest",
                digest_format(&info->digest, digest), "media_type", il->descriptor.media_type, "size",
                (json_int_t)info->blob_size, "compression", compressions[info->compression], "diff_id",
                digest_format(&info->diff_id, diff_id), "uncompressed_size", (json_int_t)info->tar_size, "entries",
                (json_int_t)info->entries, "spans", (json_int_t)info->spans, "index_size",
                (json_int_t)info->index_bytes, "left_out", notes_json(&info->notes));
}

/* the parts of the config that say how the image is run; the whole config is there too */
static json_t *describe(const struct image *image)
{
        const struct manifest *m = image_manifest(image);
        const struct tree_stats *stats = tree_stats(image_tree(image));
        json_t *layers = json_array();
        for (unsigned i = 0; layers && i < m->layer_count; i++)
                json_array_append_new(layers, layer_json(image, i));
        char digest[DIGEST_MAX_TEXT], config_digest[DIGEST_MAX_TEXT], platform[100];
        return json_pack("{s:s, s:s, s:s, s:s, s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:O}", "image",
                image_name(image), "manifest_digest", digest_format(&m->digest, digest), "config_digest",
                digest_format(&m->config.digest, config_digest), "platform", platform_format(&m->platform, platform),
                "layers", layers, "entries", (json_int_t)stats->names, "inodes", (json_int_t)stats->inodes, "bytes",
                (json_int_t)stats->bytes, "replaced_parents", (json_int_t)stats->replaced_parents, "dropped_hard_links",
                (json_int_t)stats->dropped_links, "dropped_loops", (json_int_t)stats->dropped_loops, "odd_whiteouts",
                (json_int_t)stats->odd_whiteouts, "config", m->config_json);
}

/* image content on a terminal: no control characters */
static void print_text(const char *s)
{
        for (; *s; s++)
                if ((unsigned char)*s < 0x20 || *s == 0x7f)
                        printf("\\x%02x", (unsigned char)*s);
                else
                        putchar(*s);
}

static void print_value(json_t *value)
{
        cleanup(freep) char *text = json_is_string(value) ? strdup(json_string_value(value)) : json_text(value, false);
        if (text)
                print_text(text);
}

static void print_config(json_t *config)
{
        static const char *const keys[] = {
                "Entrypoint", "Cmd", "User", "WorkingDir", "ExposedPorts", "Volumes", "StopSignal"};
        json_t *run = json_object_get(config, "config");
        json_t *created = json_object_get(config, "created"), *env = json_object_get(run, "Env"), *value;
        if (json_is_string(created)) {
                printf("%-14s ", "created");
                print_value(created);
                putchar('\n');
        }
        for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
                value = json_object_get(run, keys[i]);
                if (!value || json_is_null(value) || (json_is_string(value) && !json_string_length(value)))
                        continue;
                printf("%-14s ", keys[i]);
                print_value(value);
                putchar('\n');
        }
        size_t i;
        json_array_foreach(env, i, value)
        {
                printf("%-14s ", i ? "" : "Env");
                print_value(value);
                putchar('\n');
        }
}

static void print_human(const struct image *image)
{
        const struct manifest *m = image_manifest(image);
        const struct tree_stats *stats = tree_stats(image_tree(image));
        char digest[DIGEST_MAX_TEXT], platform[100], notes[NOTES_TEXT];
        printf("%-14s %s\n", "image", image_name(image));
        printf("%-14s %s\n", "manifest", digest_format(&m->digest, digest));
        printf("%-14s %s\n", "platform", platform_format(&m->platform, platform));
        printf("%-14s %llu names, %llu inodes, %.1f MB\n", "content", (unsigned long long)stats->names,
                (unsigned long long)stats->inodes, (double)stats->bytes / 1e6);
        for (unsigned i = 0; i < m->layer_count; i++) {
                const struct index_info *info = index_info(layer_index(tree_get_layer(image_tree(image), i)));
                printf("layer %-8u %s  %.1f MB, %.1f MB unpacked, %u entries  ", i + 1,
                        digest_format(&info->digest, digest), (double)info->blob_size / 1e6,
                        (double)info->tar_size / 1e6, info->entries);
                print_text(m->layers[i].descriptor.media_type);
                putchar('\n');
                if (*notes_of_layer(&info->notes, notes))
                        printf("%-14s %s\n", "", notes);
        }
        if (*notes_of_tree(stats, notes))
                printf("%-14s %s\n", "odd", notes);
        print_config(m->config_json);
}

int cmd_inspect(struct cli *cli, int argc, char **argv)
{
        (void)argc;
        struct error err = {0};
        cleanup(daemon_freep) struct daemon *d = NULL;
        if (daemon_start(true, &cli->progress.cancel, &d, NULL, &err) < 0)
                return cli_fail(&err);
        cleanup(image_closep) struct image *image = NULL;
        if (cli_open_image(cli, argv[0], &image, &err) < 0)
                return cli_fail(&err);
        if (!cli->json) {
                print_human(image);
                return EXIT_DONE;
        }
        cleanup(json_freep) json_t *json = describe(image);
        cleanup(freep) char *text = json ? json_text(json, true) : NULL;
        fputs(text ? text : "", stdout);
        return text ? EXIT_DONE : EXIT_OTHER;
}
