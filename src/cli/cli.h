#pragma once
/**
 * What the commands share: the options, how a failure is said, exit codes. One thread.
 */
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "image/image.h"
#include "source/http.h"

/** Documented in imagefs(1). */
enum exit_code {
        EXIT_DONE = 0,
        EXIT_OTHER = 1,
        EXIT_USAGE = 2,
        EXIT_NO_SUCH = 3,
        EXIT_LOGIN = 4,
        EXIT_NETWORK = 5,
        EXIT_CONTENT = 6,
        EXIT_MOUNT = 7,
        EXIT_UNSUPPORTED = 8,
};

/** Bits: which commands an option is for. */
enum command_bit {
        FOR_MOUNT = 1 << 0,
        FOR_UMOUNT = 1 << 1,
        FOR_PULL = 1 << 2,
        FOR_INSPECT = 1 << 3,
        FOR_STAT = 1 << 4,
        FOR_CACHE = 1 << 5,
        FOR_HELP = 1 << 6,
        FOR_IMAGES = FOR_MOUNT | FOR_PULL | FOR_INSPECT,
        FOR_ALL = (1 << 7) - 1,
};

struct cli {
        struct image_options image; /* strings borrowed from argv */
        struct image_progress progress;
        struct http_options http; /* times; zeros but for what IMAGEFS_HTTP_TIMES says */
        bool verbose, quiet, json, foreground, lazy, help, version;
        bool rm_data, rm_index, rm_all; /* cache rm */
        char *mount_options;            /* all -o, comma-joined; owned */
        char *creds;                    /* of --creds; owned, secret */
        unsigned topics;                /* of --debug */
};

/** One command: its words after the options are argv[0..argc). Gives an exit code. */
typedef int command_fn(struct cli *cli, int argc, char **argv);
command_fn cmd_mount, cmd_umount, cmd_pull, cmd_inspect, cmd_stat, cmd_cache;

/** Prints "imagefs: MESSAGE" and gives the exit code for it. */
int cli_fail(const struct error *err);
/** The same when the mount itself failed: EXIT_MOUNT. */
int cli_fail_mount(const struct error *err);
/** Prints a usage error with a pointer to --help; EXIT_USAGE. */
int cli_usage(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/** Reads options (they may stand anywhere) out of argv, which is permuted; *ret_words: index of the first word. 0 or an exit
 *  code. */
int options_read(struct cli *cli, int argc, char **argv, int *ret_words);
/** Reads IMAGEFS_HTTP_TIMES. 0 or EXIT_USAGE. */
int options_environment(struct cli *cli);
/** Forgets what --creds said. */
void cli_wipe_creds(struct cli *cli);
/** Is every option that was given one for this command? 0 or EXIT_USAGE. */
int options_check(enum command_bit command, const char *name);
/** Prints the options of a command, for --help. */
void options_help(enum command_bit command);

/** Opens the image with a progress line while layers are read (a terminal, and not quiet). */
int cli_open_image(struct cli *cli, const char *reference, struct image **ret_image, struct error *err);
