/* imagefs stat MOUNTPOINT: the daemon's numbers, asked for through an extended attribute of the root. */
#include <stdio.h>

#include "base/json.h"
#include "cli/cli.h"
#include "mount/mountpoint.h"

static void print_human(json_t *stat)
{
        const char *key;
        json_t *value;
        json_object_foreach(stat, key, value)
        {
                if (json_is_integer(value))
                        printf("%-17s %lld\n", key, (long long)json_integer_value(value));
                else if (json_is_string(value))
                        printf("%-17s %s\n", key, json_string_value(value));
        }
}

int cmd_stat(struct cli *cli, int argc, char **argv)
{
        (void)argc;
        struct error err = {0};
        cleanup(freep) char *text = NULL;
        if (mountpoint_stat(argv[0], &text, &err) < 0)
                return cli_fail_mount(&err);
        cleanup(json_freep) json_t *stat = NULL;
        if (json_parse(text, strlen(text), &stat, &err) < 0)
                return cli_fail(&err);
        if (!cli->json) {
                print_human(stat);
                return EXIT_DONE;
        }
        cleanup(freep) char *out = json_text(stat, true);
        fputs(out ? out : "", stdout);
        return out ? EXIT_DONE : EXIT_OTHER;
}
