/* Files of credentials: the first byte chooses the kind and the image. No helper program is run. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "source/credentials_files.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        static const char *const images[][2] = {
                {"docker.io", "library/alpine"}, {"q.io", "org/app"}, {"localhost:5000", "a"}, {"[::1]:5000", "a/b"}};
        if (!size)
                return 0;
        struct credentials c;
        const char *const *image = images[data[0] / 3 % 4];
        int r = credentials_find_text(
                (const char *)data + 1, size - 1, (enum credentials_kind)(data[0] % 3), image[0], image[1], &c);
        if (r == 1) {
                assert(c.username || c.identity_token || c.registry_token);
                assert(!c.username == !c.password);
                credentials_done(&c);
        }
        return 0;
}
