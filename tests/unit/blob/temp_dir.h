#pragma once
/** A directory for one test, removed with all that is in it when its scope ends. */
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/mem.h"

struct temp_dir {
        char path[200];
};

static inline int temp_dir_remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
        (void)st, (void)type, (void)ftw;
        return remove(path);
}

static inline void temp_dir_done(struct temp_dir *t)
{
        nftw(t->path, temp_dir_remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static inline struct temp_dir temp_dir_new(void)
{
        struct temp_dir t;
        const char *base = getenv("TMPDIR");
        snprintf(t.path, sizeof t.path, "%s/imagefs-test-XXXXXX", base && *base ? base : "/tmp");
        if (!mkdtemp(t.path))
                abort();
        return t;
}

#define TEMP_DIR(name) cleanup(temp_dir_done) struct temp_dir name = temp_dir_new()
