#pragma once
/** Private to credentials.c, its tests and its fuzz target. */
#include <stddef.h>

#include "source/credentials.h"

enum { CREDENTIALS_FILE_MAX = 1 << 20 };

/** Whose rules hold for a file. */
enum credentials_kind {
        CREDENTIALS_CONTAINERS, /* auth.json */
        CREDENTIALS_DOCKER,     /* config.json: its credsStore goes before its auths */
        CREDENTIALS_LEGACY,     /* .dockercfg: nothing but the auths, keys are URLs */
};

/** Looks into one document's text. Helper programs are not run. 1: found, 0: not, -EINVAL: not such a document. */
int credentials_find_text(const char *text, size_t len, enum credentials_kind kind, const char *domain,
        const char *path, struct credentials *ret_credentials);
