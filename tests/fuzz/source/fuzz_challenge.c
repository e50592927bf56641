/* WWW-Authenticate headers, one a line, and the other header values that a server chooses. */
#include <assert.h>

#include "source/auth.h"
#include "source/http.h"
#include "source/url.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        char *text = malloc(size + 1);
        if (!text)
                return 0;
        memcpy(text, data, size);
        text[size] = '\0';

        struct challenges c = {0};
        for (char *line = text, *rest = NULL; (line = strtok_r(line, "\n", &rest)); line = NULL)
                assert(challenges_add(&c, line) == 0);
        assert(c.bearer == (c.realm != NULL));
        challenges_done(&c);

        memcpy(text, data, size);
        uint64_t first, last, total;
        if (http_parse_content_range(text, &first, &last, &total) == 0)
                assert(first <= last && (total == UINT64_MAX || last < total));
        assert(http_parse_retry_after(text, 1000) >= -1);
        char shown[64], *url = NULL;
        url_show(text, shown, sizeof shown);
        if (url_resolve("https://registry.example/v2/a/blobs/b", text, &url, NULL) == 0) {
                struct url parts = {0};
                assert(url_parse(url, &parts, NULL) == 0);
                host_is_private(parts.host);
                url_done(&parts);
                free(url);
        }
        char *token = NULL, *refresh = NULL;
        int64_t expires;
        if (auth_parse_token(data, size, &token, &refresh, &expires, NULL) == 0) {
                assert(*token && expires >= 60);
                free(token);
                free(refresh);
        }
        free(text);
        return 0;
}
