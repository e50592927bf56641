/* imagefs umount MOUNTPOINT... */
#include "cli/cli.h"
#include "mount/mountpoint.h"

int cmd_umount(struct cli *cli, int argc, char **argv)
{
        int code = EXIT_DONE;
        for (int i = 0; i < argc; i++) {
                struct error err = {0};
                if (mountpoint_umount(argv[i], cli->lazy, &err) < 0)
                        code = cli_fail_mount(&err);
        }
        return code;
}
