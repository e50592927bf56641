/* References: any text is refused with a message, or its full form means the same again. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "source/reference.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_fixed_point(const struct reference *ref)
{
        struct reference again;
        cleanup(freep) char *full = reference_text(ref);
        assert(full);
        int r = reference_parse_name(full, &again, NULL);
        assert(r == 0);
        cleanup(freep) char *second = reference_text(&again);
        assert(second && !strcmp(full, second));
        assert(strlen(again.path) <= REFERENCE_PATH_MAX && !strstr(again.path, "..") && again.path[0] != '/');
        assert(!again.tag || strlen(again.tag) <= REFERENCE_TAG_MAX);
        reference_done(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        cleanup(freep) char *text = malloc(size + 1);
        if (!text)
                return 0;
        if (size)
                memcpy(text, data, size);
        text[size] = '\0';
        struct reference ref;
        struct error err = {0};
        if (reference_parse(text, &ref, &err) == 0) {
                if (ref.transport == REFERENCE_REGISTRY)
                        check_fixed_point(&ref);
                else
                        assert(ref.file && *ref.file && !ref.domain);
                reference_done(&ref);
        } else {
                assert(err.code < 0 && err.msg[0]);
        }
        if (reference_parse_name(text, &ref, NULL) == 0) {
                check_fixed_point(&ref);
                reference_done(&ref);
        }
        return 0;
}
