/* TOML, and the rules that registries.conf makes of it. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "source/registries_files.h"
#include "source/toml.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void walk(const struct toml_value *v)
{
        if (v->type == TOML_STRING)
                assert(v->string && strlen(v->string) <= TOML_MAX_BYTES);
        if (v->type != TOML_ARRAY && v->type != TOML_TABLE)
                return;
        for (const struct toml_value *c = v->first; c; c = c->next) {
                assert(!c->key == (v->type == TOML_ARRAY));
                assert(c->next || v->last == c);
                assert(!c->key || toml_find(v, c->key) == c); /* no key twice */
                walk(c);
        }
}

static void ask(const struct registries *reg, const char *name)
{
        struct reference ref;
        struct endpoint *list;
        size_t count;
        struct error err = {0};
        int r = reference_parse_name(name, &ref, &err);
        assert(r == 0);
        if (registries_endpoints(reg, &ref, &list, &count, &err) == 0) {
                assert(count >= 1);
                for (size_t i = 0; i < count; i++)
                        assert(*list[i].domain && *list[i].path && list[i].mirror == (i + 1 < count));
                endpoints_free(list, count);
        } else {
                assert(err.msg[0]);
        }
        struct reference *names;
        if (registries_names(reg, &ref, &names, &count, &err) == 0) {
                assert(count >= 1);
                for (size_t i = 0; i < count; i++)
                        assert(names[i].domain && names[i].path && !names[i].tag == !ref.tag);
                names_free(names, count);
        } else {
                assert(err.msg[0]);
        }
        reference_done(&ref);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct toml *toml;
        struct registries *reg;
        struct error err = {0};
        int r = toml_parse(data, size, &toml, &err);
        if (r < 0) {
                assert(err.msg[0]);
                return 0;
        }
        walk(toml_root(toml));
        toml_free(toml);
        if (registries_load_text((const char *)data, size, &reg, &err) < 0)
                return 0;
        ask(reg, "alpine:3");
        ask(reg, "a.example.com/b/c@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef");
        registries_alias(reg, "alpine");
        registries_free(reg);
        return 0;
}
