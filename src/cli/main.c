/*
 * imagefs: container images as directories, lazily.
 *
 *   cli/     this program's words: one cmd_*.c a command, options.c, progress.c
 *   mount/   a tree shown to the kernel                              (libfuse)
 *   image/   reference -> manifest -> blobs -> layers -> tree; the public library
 *   tree/    layers merged into one immutable table of inodes
 *   layer/   a compressed tar and the index that makes each file in it readable   (zlib, zstd, libdeflate)
 *   source/  where manifests and blobs come from: registries, layouts, archives   (libcurl)
 *   blob/    bytes at an offset; the store; verified chunks
 *   base/    knows nothing of images                                 (OpenSSL, jansson)
 *
 * A folder may call only those below it; tree/ and layer/ do not know source/, nor the reverse. docs/ARCHITECTURE.md has the
 * rest.
 *
 * This file: the command words, --help, how failures are said.
 */
#include <errno.h>
#include <locale.h>
#include <malloc.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/log.h"
#include "cli/cli.h"
#include "cli/progress.h"
#include "mount/daemon.h"

static const struct command {
        const char *name;
        command_fn *fn;
        enum command_bit bit;
        int words_min, words_max; /* -1: any number */
        const char *words;
        const char *help;
} commands[] = {
        {"mount", cmd_mount, FOR_MOUNT, 2, 2, "IMAGE MOUNTPOINT", "show an image as a directory"},
        {"umount", cmd_umount, FOR_UMOUNT, 1, -1, "MOUNTPOINT...", "end mounts"},
        {"pull", cmd_pull, FOR_PULL, 1, -1, "IMAGE...", "fetch whole images into the cache, for use without a network"},
        {"inspect", cmd_inspect, FOR_INSPECT, 1, 1, "IMAGE", "what an image is: platform, layers, config"},
        {"stat", cmd_stat, FOR_STAT, 1, 1, "MOUNTPOINT", "what a mount has done: requests, bytes, memory"},
        {"cache", cmd_cache, FOR_CACHE, 1, -1, "ls|rm|gc|verify [DIGEST...]", "look after the cache"},
};

int cli_usage(const char *fmt, ...)
{
        va_list ap;
        va_start(ap, fmt);
        fputs("imagefs: ", stderr);
        vfprintf(stderr, fmt, ap);
        fputs("\nTry 'imagefs --help'.\n", stderr);
        va_end(ap);
        return EXIT_USAGE;
}

/* an untrusted name in a message must not drive the terminal */
static void print_clean(const char *s)
{
        for (; *s; s++) {
                unsigned char c = (unsigned char)*s;
                if (c < 0x20 || c == 0x7f)
                        fprintf(stderr, "\\x%02x", c);
                else
                        fputc(c, stderr);
        }
}

static int exit_code_of(int code)
{
        switch (-code) {
        case ENOENT:
        case ENOTDIR: return EXIT_NO_SUCH;
        case EACCES: return EXIT_LOGIN;
        case ETIMEDOUT:
        case ENETUNREACH:
        case EHOSTUNREACH:
        case ECONNREFUSED:
        case ECONNRESET:
        case EPROTO: return EXIT_NETWORK;
        case EBADMSG:
        case EFBIG: return EXIT_CONTENT;
        case EOPNOTSUPP: return EXIT_UNSUPPORTED;
        case EINVAL: return EXIT_USAGE;
        case EBUSY:
        case ENOTCONN:
        case ENODEV: return EXIT_MOUNT;
        default: return EXIT_OTHER;
        }
}

static void say(const struct error *err)
{
        flockfile(stderr);
        fputs("imagefs: ", stderr);
        print_clean(err->msg);
        fputc('\n', stderr);
        funlockfile(stderr);
}

int cli_fail(const struct error *err)
{
        say(err);
        return exit_code_of(err->code);
}

int cli_fail_mount(const struct error *err)
{
        say(err);
        return EXIT_MOUNT;
}

int cli_open_image(struct cli *cli, const char *reference, struct image **ret_image, struct error *err)
{
        cli->image.progress = &cli->progress;
        struct progress *line = cli->quiet ? NULL : progress_start(&cli->progress);
        int r = image_open(reference, &cli->image, ret_image, err);
        progress_stop(line);
        return r;
}

static void help_all(void)
{
        puts("imagefs shows a container image as a directory, without unpacking it.\n\n"
             "  imagefs [OPTIONS] IMAGE MOUNTPOINT");
        for (size_t i = 1; i < ARRAY_LEN(commands); i++)
                printf("  imagefs %-8s %-28s %s\n", commands[i].name, commands[i].words, commands[i].help);
        puts("  imagefs help [COMMAND]\n\n"
             "IMAGE is a name as docker and podman take it (alpine, quay.io/org/app:1.2, "
             "localhost:5000/x@sha256:...),\n"
             "or oci:DIR[:NAME], oci-archive:FILE, docker-archive:FILE[:NAME], or the path of such a directory or "
             "file.\n\n"
             "  imagefs library/alpine:latest /mnt/alpine\n"
             "  sudo chroot /mnt/alpine sh\n"
             "  imagefs umount /mnt/alpine\n\n"
             "Options of a mount:");
        options_help(FOR_MOUNT);
        puts("\nExit codes: 0 done, 1 other failure, 2 usage, 3 no such image, 4 login needed, 5 network, 6 content "
             "that is not\n"
             "what it claims to be, 7 mount, 8 not supported or no such platform. imagefs(1) has the rest.");
}

static void help_command(const struct command *c)
{
        printf("imagefs %s %s: %s\n\nOptions:\n", c->name, c->words, c->help);
        options_help(c->bit);
}

static const struct command *find_command(const char *word)
{
        for (size_t i = 0; i < ARRAY_LEN(commands); i++)
                if (!strcmp(commands[i].name, word))
                        return &commands[i];
        return NULL;
}

static int run(struct cli *cli, int argc, char **argv)
{
        const struct command *c = argc ? find_command(argv[0]) : NULL;
        if (cli->version) {
                puts("imagefs " IMAGEFS_VERSION);
                return EXIT_DONE;
        }
        bool help_word = argc && !strcmp(argv[0], "help");
        if (cli->help || help_word) {
                if (help_word)
                        c = argc > 1 ? find_command(argv[1]) : NULL;
                if (help_word && argc > 1 && !c)
                        return cli_usage("%s: no such command", argv[1]);
                if (c)
                        help_command(c);
                else
                        help_all();
                return EXIT_DONE;
        }
        if (!argc)
                return cli_usage("an image and a mountpoint are needed");
        if (c) {
                argc--;
                argv++;
        } else {
                c = &commands[0];
                if (argc == 1)
                        return cli_usage("%s: where to mount it? (imagefs IMAGE MOUNTPOINT)", argv[0]);
        }
        int code = options_check(c->bit, c->name);
        if (code)
                return code;
        if (argc < c->words_min || (c->words_max >= 0 && argc > c->words_max))
                return cli_usage("imagefs %s %s is meant", c->name, c->words);
        return c->fn(cli, argc, argv);
}

int main(int argc, char **argv)
{
        /* large buffers go back to the system when they are freed, however often: the daemon lives long */
        mallopt(M_MMAP_THRESHOLD, 1 << 20);
        mallopt(M_TRIM_THRESHOLD, 8 << 20);
        setlocale(LC_CTYPE, "");
        signal(SIGXFSZ, SIG_IGN); /* a file-size limit turns the cache off, it does not end the program */
        struct cli cli = {0};
        int words = 0;
        int code = options_read(&cli, argc, argv, &words);
        if (code == 0)
                code = options_environment(&cli);
        if (code == 0) {
                log_setup(cli.topics, daemon_log, NULL);
                code = run(&cli, argc - words, argv + words);
        }
        free(cli.mount_options);
        cli_wipe_creds(&cli);
        if (fflush(stdout) != 0 && code == EXIT_DONE) {
                perror("imagefs: standard output");
                code = EXIT_OTHER;
        }
        return code;
}
