#pragma once
/**
 * JSON from outside, read strictly: parsed with ceilings, duplicate keys refused, values fetched by getters that say
 * what is wrong in words ("layers[3].size: a number is missing"). Only json.c knows the parser library's functions;
 * others hold `json_t *` values borrowed from the document.
 *
 * A document is immutable once parsed: any thread may read it.
 */
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/mem.h"

enum { JSON_MAX_DEPTH = 64 };

/** Parses len bytes. -EBADMSG: not JSON, a duplicate key, nested deeper than JSON_MAX_DEPTH. Free with json_free(). */
int json_parse(const void *data, size_t len, json_t **ret_json, struct error *err);

/** The same for other programs' configuration: of members with the same key the last one counts, as it does for them. */
int json_parse_config(const void *data, size_t len, json_t **ret_json, struct error *err);
void json_free(json_t *json);
DEFINE_CLEANUP(json_t, json_free);

/**
 * Getters: absent or null gives 0 and *ret NULL (or the default); another type than asked gives -EBADMSG, and the
 * message names the key. Results are borrowed. `obj` must be an object.
 */
int json_get_string(json_t *obj, const char *key, const char **ret, struct error *err);
int json_get_object(json_t *obj, const char *key, json_t **ret, struct error *err);
int json_get_array(json_t *obj, const char *key, json_t **ret, struct error *err);
int json_get_u64(json_t *obj, const char *key, uint64_t absent, uint64_t *ret, struct error *err);
int json_get_bool(json_t *obj, const char *key, bool absent, bool *ret, struct error *err);

/** The value as text (compact, or indented with a final newline), free() it; NULL when out of memory. */
char *json_text(const json_t *json, bool indented);
