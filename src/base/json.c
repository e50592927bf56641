/* How: jansson with JSON_REJECT_DUPLICATES. It has its own depth limit (2048); ours is stricter and is checked on the raw
 * bytes before the parser runs, where brackets are counted outside of strings. */
#include "base/json.h"

#include <errno.h>

static int check_depth(const char *data, size_t len, struct error *err)
{
        int depth = 0;
        bool in_string = false;
        for (size_t i = 0; i < len; i++) {
                char c = data[i];
                if (in_string) {
                        if (c == '\\')
                                i++;
                        else if (c == '"')
                                in_string = false;
                } else if (c == '"') {
                        in_string = true;
                } else if (c == '{' || c == '[') {
                        if (++depth > JSON_MAX_DEPTH)
                                return error_set(err, -EBADMSG, "JSON: nested deeper than %d", JSON_MAX_DEPTH);
                } else if (c == '}' || c == ']') {
                        depth--;
                }
        }
        return 0;
}

static int parse(const void *data, size_t len, size_t flags, json_t **ret_json, struct error *err)
{
        int r = check_depth(data, len, err);
        if (r < 0)
                return r;
        json_error_t e;
        json_t *json = json_loadb(data, len, flags, &e);
        if (!json)
                return error_set(err, json_error_code(&e) == json_error_out_of_memory ? -ENOMEM : -EBADMSG,
                        "JSON, line %d: %s", e.line, e.text);
        *ret_json = json;
        return 0;
}

int json_parse(const void *data, size_t len, json_t **ret_json, struct error *err)
{
        return parse(data, len, JSON_REJECT_DUPLICATES, ret_json, err);
}

int json_parse_config(const void *data, size_t len, json_t **ret_json, struct error *err)
{
        return parse(data, len, 0, ret_json, err);
}

void json_free(json_t *json)
{
        json_decref(json);
}

static int wrong_type(const char *key, const char *want, struct error *err)
{
        return error_set(err, -EBADMSG, "JSON: \"%s\" is not %s", key, want);
}

/* the member, NULL when it is absent or null */
static json_t *member(json_t *obj, const char *key)
{
        json_t *value = json_object_get(obj, key);
        return json_is_null(value) ? NULL : value;
}

int json_get_string(json_t *obj, const char *key, const char **ret, struct error *err)
{
        json_t *value = member(obj, key);
        if (value && !json_is_string(value))
                return wrong_type(key, "a string", err);
        *ret = value ? json_string_value(value) : NULL;
        return 0;
}

int json_get_object(json_t *obj, const char *key, json_t **ret, struct error *err)
{
        json_t *value = member(obj, key);
        if (value && !json_is_object(value))
                return wrong_type(key, "an object", err);
        *ret = value;
        return 0;
}

int json_get_array(json_t *obj, const char *key, json_t **ret, struct error *err)
{
        json_t *value = member(obj, key);
        if (value && !json_is_array(value))
                return wrong_type(key, "a list", err);
        *ret = value;
        return 0;
}

int json_get_u64(json_t *obj, const char *key, uint64_t absent, uint64_t *ret, struct error *err)
{
        json_t *value = member(obj, key);
        if (!value) {
                *ret = absent;
                return 0;
        }
        if (!json_is_integer(value) || json_integer_value(value) < 0)
                return wrong_type(key, "a whole number that is not negative", err);
        *ret = (uint64_t)json_integer_value(value);
        return 0;
}

int json_get_bool(json_t *obj, const char *key, bool absent, bool *ret, struct error *err)
{
        json_t *value = member(obj, key);
        if (value && !json_is_boolean(value))
                return wrong_type(key, "true or false", err);
        *ret = value ? json_is_true(value) : absent;
        return 0;
}

char *json_text(const json_t *json, bool indented)
{
        size_t flags = JSON_ENCODE_ANY | JSON_PRESERVE_ORDER;
        char *text = json_dumps(json, indented ? flags | JSON_INDENT(2) : flags | JSON_COMPACT);
        if (text && indented) {
                size_t len = strlen(text);
                char *longer = realloc(text, len + 2);
                if (!longer) {
                        free(text);
                        return NULL;
                }
                text = longer;
                memcpy(text + len, "\n", 2);
        }
        return text;
}
