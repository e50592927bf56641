/*
 * docker-archives and OCI layouts over files in memory. The input is files, each "====PATH\n" and then its bytes; before the
 * first one stands the wish: a name, "@N", or nothing. What opens is also loaded, and its layers are opened.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "source/manifest.h"
#include "unit/source/memory_files.h"

static void add_files(struct memory_files *f, const char *text, size_t len)
{
        while (len) {
                const char *line = memchr(text, '\n', len);
                if (!line)
                        return;
                const char *end = memmem(line, len - (size_t)(line - text), "\n====", 5);
                const char *stop = end ? end : text + len;
                char path[160];
                snprintf(path, sizeof path, "%.*s", (int)(line - text < 150 ? line - text : 150), text);
                memory_files_add(f, path, line + 1, end == line ? 0 : (size_t)(stop - line - 1));
                if (!end)
                        return;
                len -= (size_t)(end + 5 - text);
                text = end + 5;
        }
}

static void use(struct source *s)
{
        cleanup(store_closep) struct store *store = store_new_null();
        struct manifest_request rq = {.source = s, .store = store};
        struct manifest m;
        struct digest top;
        platform_parse("linux/amd64", &rq.platform, NULL);
        if (manifest_load(&rq, &m, &top, NULL) < 0)
                return;
        for (size_t i = 0; i < m.layer_count; i++) {
                cleanup(blob_unrefp) struct blob *blob = NULL;
                if (s->ops->blob(s, &m.layers[i].descriptor, &blob, NULL) == 0 &&
                        blob_size(blob) != m.layers[i].descriptor.size)
                        abort();
        }
        manifest_done(&m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        const char *text = (const char *)data;
        const char *first = size ? memmem(text, size, "====", 4) : NULL;
        if (!first)
                return 0;
        struct memory_files f = memory_files();
        char wish[100];
        snprintf(wish, sizeof wish, "%.*s", (int)(first - text < 99 ? first - text : 99), text);
        add_files(&f, first + 4, size - (size_t)(first + 4 - text));

        static const enum reference_transport transports[] = {REFERENCE_ARCHIVE, REFERENCE_OCI_ARCHIVE};
        for (size_t i = 0; i < 2; i++) {
                struct reference ref = {.transport = transports[i], .number = -1};
                struct source *s = NULL;
                struct error err = {0};
                if (wish[0] == '@')
                        ref.number = wish[1] >= '0' && wish[1] <= '9' ? wish[1] - '0' : 0;
                else if (wish[0])
                        ref.name = wish;
                int r = source_open_files(&f.base, &ref, "it", &s, &err);
                if (r < 0 && (!err.msg[0] || err.code != r))
                        abort();
                if (r == 0)
                        use(s);
                source_close(s);
        }
        memory_files_done(&f);
        return 0;
}
