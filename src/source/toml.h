#pragma once
/**
 * TOML (toml.io, version 1.0), as configuration files of this field use it: read whole into a tree of values, with the line
 * of each for messages. Floats and dates are recognized and read over, not interpreted (TOML_OTHER).
 * A document is immutable once parsed: any thread.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/mem.h"

enum {
        TOML_MAX_BYTES = 1 << 20, /* of a document */
        TOML_MAX_DEPTH = 32,      /* of arrays and inline tables in each other, and of the parts of a dotted key */
};

enum toml_type { TOML_STRING, TOML_INTEGER, TOML_BOOLEAN, TOML_OTHER, TOML_ARRAY, TOML_TABLE };

struct toml_value {
        enum toml_type type;
        unsigned line;           /* where it stands, from 1 */
        const char *key;         /* its name in the table, NULL in an array */
        struct toml_value *next; /* the next one in the same table or array, in the order of the file */

        const char *string;              /* STRING: without NULs inside, valid UTF-8; OTHER: as written */
        int64_t integer;                 /* INTEGER */
        bool boolean;                    /* BOOLEAN */
        struct toml_value *first, *last; /* ARRAY, TABLE: the values in it */
        unsigned id;                     /* TABLE: for the parser */
        unsigned char how;               /* TABLE, ARRAY: for the parser: what made it, and thus what may be added */
};

struct toml;

/** Parses len bytes. -EINVAL: not TOML, the message begins with "line N: "; -EFBIG. Free with toml_free(). */
int toml_parse(const void *data, size_t len, struct toml **ret_toml, struct error *err);
void toml_free(struct toml *toml);
DEFINE_CLEANUP(struct toml, toml_free);

/** The table of the whole document; borrowed, as everything that is reached from it. */
const struct toml_value *toml_root(const struct toml *toml);

/** The value of a table's key, NULL when there is none. */
const struct toml_value *toml_find(const struct toml_value *table, const char *key);

/** Absent: 0 and *ret NULL (or the default). Another type than asked: -EINVAL, "line N: ...". */
int toml_get(const struct toml_value *table, const char *key, enum toml_type type, const struct toml_value **ret_value,
        struct error *err);
int toml_get_string(const struct toml_value *table, const char *key, const char **ret_string, struct error *err);
int toml_get_bool(const struct toml_value *table, const char *key, bool absent, bool *ret_bool, struct error *err);

/** Is every value of the array of that type? -EINVAL, "line N: ...". */
int toml_check_items(const struct toml_value *array, enum toml_type type, struct error *err);
