#pragma once
/**
 * The machine's and the user's configuration files: where they lie, and reading one whole. Their content may be secret, so
 * no copy of it is left behind in freed memory. Any thread.
 */
#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

/** A file's bytes. Pipes and /dev/null are files too. */
struct conf_file {
        char *data; /* a NUL follows the last byte */
        size_t len;
};

/** Reads all of it. -ENOENT: no such file (also when a folder on the way is none); -EFBIG: more than max bytes;
 *  else what the system said. The message begins with the path. */
int conf_read(const char *path, size_t max, struct conf_file *ret_file, struct error *err);

/** Wipes and frees. */
void conf_done(struct conf_file *file);

/** Overwrites a string and frees it; NULL is fine. */
void conf_wipe_string(char *s);

/** The user's home ($HOME, else the password database) with rest behind it: conf_home("/.docker"). NULL: none is known, or
 *  out of memory. free() it. */
char *conf_home(const char *rest);

/** ${XDG_CONFIG_HOME:-~/.config} with rest behind it. NULL as above. free() it. */
char *conf_user(const char *rest);

/** As asprintf(), but NULL when out of memory. free() it. */
char *conf_format(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/** The variable's value, NULL when it is not set or empty. Borrowed. */
const char *conf_env(const char *name);
