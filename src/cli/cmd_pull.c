/* imagefs pull IMAGE...: everything into the cache; says the digest of each, as it can be pinned. */
#include <stdio.h>

#include "base/digest.h"
#include "cli/cli.h"
#include "cli/progress.h"
#include "mount/daemon.h"

static int pull_one(struct cli *cli, const char *reference)
{
        struct error err = {0};
        cleanup(image_closep) struct image *image = NULL;
        int r = cli_open_image(cli, reference, &image, &err);
        if (r == 0) {
                struct progress *line = cli->quiet ? NULL : progress_start(&cli->progress);
                r = image_fill(image, &cli->progress, &err);
                progress_stop(line);
        }
        if (r < 0)
                return cli_fail(&err);
        char digest[DIGEST_MAX_TEXT];
        printf("%s %s\n", digest_format(&image_manifest(image)->digest, digest), image_name(image));
        fflush(stdout);
        return EXIT_DONE;
}

int cmd_pull(struct cli *cli, int argc, char **argv)
{
        struct error err = {0};
        cleanup(daemon_freep) struct daemon *d = NULL;
        if (daemon_start(true, &cli->progress.cancel, &d, NULL, &err) < 0)
                return cli_fail(&err);
        int code = EXIT_DONE;
        for (int i = 0; i < argc && !daemon_stopping(d); i++) {
                int one = pull_one(cli, argv[i]);
                code = one ? one : code;
        }
        return code;
}
