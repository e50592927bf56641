/* docker's daemon.json, and what it says of some registries. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "source/dockerd.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        static const char *const domains[] = {"i.test:5000", "10.1.2.3:5000", "[fd00::1]:5000", "[", ""};
        struct dockerd d;
        struct error err = {0};
        if (dockerd_parse((const char *)data, size, &d, &err) < 0) {
                assert(err.msg[0]);
                return 0;
        }
        for (size_t i = 0; i < d.mirror_count; i++)
                assert(*d.mirrors[i].host && !strpbrk(d.mirrors[i].host, "/@?#"));
        for (size_t i = 0; i < sizeof domains / sizeof *domains; i++)
                dockerd_is_insecure(&d, domains[i]);
        dockerd_done(&d);
        return 0;
}
