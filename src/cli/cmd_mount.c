/*
 * imagefs IMAGE MOUNTPOINT: checks the mountpoint, forks, opens the image in sight of the terminal, mounts, and lets go.
 * The parent's exit code is the truth: it leaves when the mount can be used, or cannot be had.
 */
#include <errno.h>
#include <stdio.h>

#include "cli/cli.h"
#include "mount/session.h"

/* in the process that becomes the daemon */
static int serve(struct cli *cli, struct session *session, struct daemon *d, const char *reference)
{
        struct error err = {0};
        cleanup(image_closep) struct image *image = NULL;
        if (cli_open_image(cli, reference, &image, &err) < 0)
                return cli_fail(&err);
        const char *hint = cli->quiet ? NULL : session_hint(session);
        if (hint)
                fprintf(stderr, "imagefs: %s\n", hint);
        return session_serve(session, image, d, &err) < 0 ? cli_fail_mount(&err) : EXIT_DONE;
}

int cmd_mount(struct cli *cli, int argc, char **argv)
{
        (void)argc;
        struct error err = {0};
        struct session_options options = {.options = cli->mount_options};
        cleanup(session_freep) struct session *session = NULL;
        int r = session_new(argv[1], &options, &session, &err);
        if (r < 0)
                return r == -EINVAL ? cli_fail(&err) : cli_fail_mount(&err);
        int status = EXIT_OTHER;
        cleanup(daemon_freep) struct daemon *d = NULL;
        r = daemon_start(cli->foreground, &cli->progress.cancel, &d, &status, &err);
        if (r != 0)
                return r < 0 ? cli_fail(&err) : status;
        return serve(cli, session, d, argv[0]);
}
