#pragma once
/* struct files in memory, for tests: the test owns it and its texts; closing it is counted. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "source/layout.h"

struct memory_files {
        struct files base;
        struct {
                char path[160];
                char *data;
                size_t len;
        } list[64];
        size_t count;
        int opened, closed;
};

static int memory_files_open(struct files *f, const char *path, struct blob **ret_blob, struct error *err)
{
        struct memory_files *m = (struct memory_files *)f;
        while (strncmp(path, "./", 2) == 0)
                path += 2;
        m->opened++;
        for (size_t i = 0; i < m->count; i++)
                if (strcmp(m->list[i].path, path) == 0)
                        return blob_new_memory(m->list[i].data, m->list[i].len, ret_blob, err);
        return error_set(err, -ENOENT, "%.100s: no such file", path);
}

static void memory_files_close(struct files *f)
{
        ((struct memory_files *)f)->closed++;
}

static struct memory_files memory_files(void)
{
        return (struct memory_files){.base = {.open = memory_files_open, .close = memory_files_close}};
}

/* adds a copy; a path that is there already is replaced. Too many or too long: nothing happens */
static void memory_files_add(struct memory_files *m, const char *path, const void *data, size_t len)
{
        size_t i = 0;
        while (i < m->count && strcmp(m->list[i].path, path) != 0)
                i++;
        if (i == sizeof m->list / sizeof *m->list || strlen(path) >= sizeof m->list[i].path)
                return;
        if (i == m->count)
                m->count++;
        else
                free(m->list[i].data);
        strcpy(m->list[i].path, path);
        m->list[i].data = malloc(len + 1);
        if (!m->list[i].data)
                abort();
        memcpy(m->list[i].data, data, len);
        m->list[i].len = len;
}

static inline void memory_files_text(struct memory_files *m, const char *path, const char *text)
{
        memory_files_add(m, path, text, strlen(text));
}

static void memory_files_done(struct memory_files *m)
{
        for (size_t i = 0; i < m->count; i++)
                free(m->list[i].data);
        m->count = 0;
}
