/* How: the tar becomes the only file of a struct files, and a config is made around it, so that everything else sees an
 * ordinary image. What a compressed tar unpacks to is not known here (decoders live elsewhere): its diff ID stays "". */
#include "source/layout.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "source/made.h"
#include "source/platform.h"

struct one_file {
        struct files base;
        struct blob *blob;
};

static int one_open(struct files *f, const char *path, struct blob **ret_blob, struct error *err)
{
        (void)path;
        (void)err;
        *ret_blob = blob_ref(((struct one_file *)f)->blob);
        return 0;
}

static void one_close(struct files *f)
{
        blob_unref(((struct one_file *)f)->blob);
        free(f);
}

static struct files *one_file(struct blob *blob)
{
        struct one_file *one = malloc(sizeof *one);
        if (!one)
                return NULL;
        *one = (struct one_file){.base = {.open = one_open, .close = one_close}, .blob = blob_ref(blob)};
        return &one->base;
}

static void make_config(const struct made_layer *layer, struct buf *config)
{
        struct platform host;
        char text[DIGEST_MAX_TEXT] = "";
        platform_host(&host);
        if (layer->packing == MADE_PLAIN)
                digest_format(&layer->digest, text);
        buf_init(config, SOURCE_CONFIG_MAX);
        buf_addf(config,
                "{\"architecture\":\"%s\",\"variant\":\"%s\",\"os\":\"%s\",\"rootfs\":{\"type\":\"layers\",\"diff_"
                "ids\":[\"%s\"]}}",
                host.architecture, host.variant, host.os, text);
}

int rootfs_open(struct blob *blob, const char *what, struct source **ret_source, struct error *err)
{
        struct made_layer layer = {.size = blob_size(blob)};
        int r = made_sniff_blob(blob, &layer.packing, err);
        if (r == 0)
                r = made_digest(blob, &layer.digest, err);
        if (r < 0)
                return error_wrap(err, r, "%s", what);

        struct buf config;
        make_config(&layer, &config);
        cleanup(files_closep) struct files *files = one_file(blob);
        struct made_layer *layers = calloc(1, sizeof *layers);
        layer.path = strdup(what);
        if (!files || !layers || !layer.path || buf_error(&config)) {
                free(layers);
                free(layer.path);
                buf_done(&config);
                return error_nomem(err);
        }
        *layers = layer;
        return made_open(take(files), what, &config, layers, 1, ret_source, err);
}
