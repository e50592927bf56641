/* How: one table says everything of an option: its name, argument, help and commands; getopt_long's structures and --help
 * are made from it. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>

#include "base/log.h"
#include "base/mem.h"
#include "cli/cli.h"

enum { TIMES_MAX = 3600 * 1000 };

enum option_id {
        OPT_HELP = 'h',
        OPT_VERSION = 'V',
        OPT_VERBOSE = 'v',
        OPT_QUIET = 'q',
        OPT_FOREGROUND = 'f',
        OPT_MOUNT_OPTIONS = 'o',
        OPT_LAZY = 'l',
        OPT_LONG = 256,
        OPT_PLATFORM,
        OPT_CACHE_DIR,
        OPT_CACHE_SIZE,
        OPT_MEMORY,
        OPT_OFFLINE,
        OPT_AUTHFILE,
        OPT_CREDS,
        OPT_TLS_VERIFY,
        OPT_DEBUG,
        OPT_JSON,
        OPT_DATA,
        OPT_INDEX,
        OPT_EVERYTHING,
};

static const struct {
        int id;
        const char *name;
        const char *arg; /* NULL: takes none; "[X]": may take one */
        const char *help;
        unsigned commands;
} table[] = {
        {OPT_MOUNT_OPTIONS, "options", "LIST", "mount options: allow_other, suid, dev, noexec, ...", FOR_MOUNT},
        {OPT_FOREGROUND, "foreground", NULL, "stay in the foreground; Ctrl-C unmounts", FOR_MOUNT},
        {OPT_PLATFORM, "platform", "OS/ARCH[/VARIANT]", "which of the image's platforms (default: this machine's)",
                FOR_IMAGES},
        {OPT_OFFLINE, "offline", NULL, "ask no registry: only what is in the cache", FOR_IMAGES},
        {OPT_CACHE_DIR, "cache-dir", "DIR", "where fetched data are kept; \"none\": nowhere", FOR_IMAGES | FOR_CACHE},
        {OPT_CACHE_SIZE, "cache-size", "SIZE", "how much is kept (default 10G)", FOR_IMAGES | FOR_CACHE},
        {OPT_MEMORY, "memory", "SIZE", "inflated data kept in memory (default 64M)", FOR_MOUNT},
        {OPT_AUTHFILE, "authfile", "FILE", "credentials as docker or podman wrote them", FOR_IMAGES},
        {OPT_CREDS, "creds", "USER[:PASSWORD]", "credentials for the registry", FOR_IMAGES},
        {OPT_TLS_VERIFY, "tls-verify", "[true|false]", "check the registry's certificate (default true)", FOR_IMAGES},
        {OPT_JSON, "json", NULL, "output for programs", FOR_INSPECT | FOR_STAT | FOR_CACHE},
        {OPT_LAZY, "lazy", NULL, "also when something in it is in use", FOR_UMOUNT},
        {OPT_DATA, "data", NULL, "rm: layers' bytes, but not their indexes", FOR_CACHE},
        {OPT_INDEX, "index", NULL, "rm: indexes", FOR_CACHE},
        {OPT_EVERYTHING, "all", NULL, "rm: of all images", FOR_CACHE},
        {OPT_VERBOSE, "verbose", NULL, "say more", FOR_ALL},
        {OPT_QUIET, "quiet", NULL, "no progress line, no hints", FOR_ALL},
        {OPT_DEBUG, "debug", "TOPICS", "http, auth, cache, layer, tree, fuse or all, to stderr", FOR_ALL},
        {OPT_HELP, "help", NULL, "this text", FOR_ALL},
        {OPT_VERSION, "version", NULL, "the version", FOR_ALL},
};

static bool given[ARRAY_LEN(table)];

static int parse_size(const char *text, const char *option, uint64_t *ret)
{
        char *end;
        errno = 0;
        unsigned long long value = strtoull(text, &end, 10);
        static const char units[] = "KMGT";
        const char *unit = *end ? strchr(units, *end & ~0x20) : NULL;
        unsigned shift = unit ? 10 * (unsigned)(unit - units + 1) : 0;
        if (unit)
                end++;
        if (*end == 'i')
                end++;
        if (*end == 'B')
                end++;
        if (errno || end == text || *end || text[0] == '-' || (shift && value >> (64 - shift)))
                return cli_usage("--%s=%s: a size is meant, like 500M or 10G", option, text);
        *ret = (uint64_t)value << shift;
        return 0;
}

static int add_mount_options(struct cli *cli, const char *list)
{
        size_t old = cli->mount_options ? strlen(cli->mount_options) : 0;
        char *longer = realloc(cli->mount_options, old + strlen(list) + 2);
        if (!longer)
                return EXIT_OTHER;
        if (old)
                longer[old++] = ',';
        memcpy(longer + old, list, strlen(list) + 1);
        cli->mount_options = longer;
        return 0;
}

void cli_wipe_creds(struct cli *cli)
{
        if (cli->creds)
                explicit_bzero(cli->creds, strlen(cli->creds));
        free(cli->creds);
        cli->image.registry.creds = cli->creds = NULL;
}

/* argv is what ps shows to everybody, as long as the daemon lives: the secret does not stay in it. */
static int hide_creds(struct cli *cli, char *arg)
{
        char *copy = strdup(arg);
        if (!copy)
                return EXIT_OTHER;
        explicit_bzero(arg, strlen(arg));
        cli_wipe_creds(cli);
        cli->image.registry.creds = cli->creds = copy;
        return 0;
}

static int apply(struct cli *cli, int id, char *arg)
{
        switch (id) {
        case OPT_HELP: cli->help = true; break;
        case OPT_VERSION: cli->version = true; break;
        case OPT_VERBOSE:
                cli->verbose = true;
                cli->topics |= LOG_NOTICE;
                break;
        case OPT_QUIET: cli->quiet = true; break;
        case OPT_FOREGROUND: cli->foreground = true; break;
        case OPT_LAZY: cli->lazy = true; break;
        case OPT_MOUNT_OPTIONS: return add_mount_options(cli, arg);
        case OPT_PLATFORM: cli->image.platform = arg; break;
        case OPT_CACHE_DIR: cli->image.cache_dir = arg; break;
        case OPT_CACHE_SIZE: return parse_size(arg, "cache-size", &cli->image.cache_size);
        case OPT_MEMORY: return parse_size(arg, "memory", &cli->image.memory);
        case OPT_OFFLINE: cli->image.offline = true; break;
        case OPT_AUTHFILE: cli->image.registry.authfile = arg; break;
        case OPT_CREDS: return hide_creds(cli, arg);
        case OPT_TLS_VERIFY:
                if (arg && strcmp(arg, "true") != 0 && strcmp(arg, "false") != 0)
                        return cli_usage("--tls-verify=%s: true or false is meant", arg);
                cli->image.registry.tls_verify = !arg || !strcmp(arg, "true");
                break;
        case OPT_DEBUG: {
                unsigned topics;
                if (log_parse_topics(arg, &topics) < 0)
                        return cli_usage("--debug=%s: topics are http, auth, cache, layer, tree, fuse, all", arg);
                cli->topics |= topics;
                break;
        }
        case OPT_JSON: cli->json = true; break;
        case OPT_DATA: cli->rm_data = true; break;
        case OPT_INDEX: cli->rm_index = true; break;
        case OPT_EVERYTHING: cli->rm_all = true; break;
        default: break;
        }
        return 0;
}

static size_t row_of(int id)
{
        size_t i = 0;
        while (table[i].id != id)
                i++;
        return i;
}

/* what getopt_long() did not like; word: the last one that it looked at, which for a letter may be the wrong one */
static int bad_option(int id, const char *word)
{
        char letter[] = {'-', (char)optopt, '\0'};
        const char *name = optopt > 0 && optopt < OPT_LONG && strncmp(word, "--", 2) != 0 ? letter : word;
        if (id == ':')
                return cli_usage("%s: an argument is missing", name);
        if (optopt && name == word)
                return cli_usage("%s: that option takes no argument", name);
        return cli_usage("%s: no such option", name);
}

int options_read(struct cli *cli, int argc, char **argv, int *ret_words)
{
        struct option longs[ARRAY_LEN(table) + 1] = {0};
        char shorts[3 * ARRAY_LEN(table) + 2] = ":";
        size_t n = 1;
        for (size_t i = 0; i < ARRAY_LEN(table); i++) {
                int has = !table[i].arg ? no_argument : table[i].arg[0] == '[' ? optional_argument : required_argument;
                longs[i] = (struct option){table[i].name, has, NULL, table[i].id};
                if (table[i].id < OPT_LONG) {
                        shorts[n++] = (char)table[i].id;
                        if (has == required_argument)
                                shorts[n++] = ':';
                }
        }
        cli->image.registry.tls_verify = -1;
        opterr = 0;
        int id;
        while ((id = getopt_long(argc, argv, shorts, longs, NULL)) != -1) {
                if (id == ':' || id == '?')
                        return bad_option(id, argv[optind - 1]);
                given[row_of(id)] = true;
                int code = apply(cli, id, optarg);
                if (code)
                        return code;
        }
        *ret_words = optind;
        return 0;
}

/* How long requests wait and how often they are tried: "stall=1000,tries=3". For networks that the defaults do not fit, and
 * for tests of what a reader sees when all tries are used up. */
int options_environment(struct cli *cli)
{
        const struct {
                const char *name;
                unsigned *value;
        } times[] = {
                {"connect", &cli->http.connect_ms},
                {"stall", &cli->http.stall_ms},
                {"tries", &cli->http.tries},
                {"backoff", &cli->http.backoff_ms},
                {"retry_after", &cli->http.retry_after_max_ms},
                {"deadline", &cli->http.deadline_ms},
        };
        const char *text = getenv("IMAGEFS_HTTP_TIMES");
        while (text && *text) {
                size_t len = strcspn(text, "="), i = 0;
                while (i < ARRAY_LEN(times) && (strlen(times[i].name) != len || memcmp(times[i].name, text, len) != 0))
                        i++;
                char *end = NULL;
                unsigned long value = text[len] ? strtoul(text + len + 1, &end, 10) : 0;
                if (i == ARRAY_LEN(times) || !value || value > TIMES_MAX || (*end && *end != ','))
                        return cli_usage("IMAGEFS_HTTP_TIMES: %s: connect, stall, backoff, retry_after, deadline (ms) "
                                         "or tries, like stall=1000,tries=3, are meant",
                                text);
                *times[i].value = (unsigned)value;
                text = end + (*end == ',');
        }
        cli->image.registry.http = &cli->http;
        return 0;
}

int options_check(enum command_bit command, const char *name)
{
        for (size_t i = 0; i < ARRAY_LEN(table); i++)
                if (given[i] && !(table[i].commands & command))
                        return cli_usage("--%s is not an option of %s", table[i].name, name);
        return 0;
}

void options_help(enum command_bit command)
{
        for (size_t i = 0; i < ARRAY_LEN(table); i++) {
                if (!(table[i].commands & command))
                        continue;
                char left[64], letter[8] = "    ";
                if (table[i].id < OPT_LONG)
                        snprintf(letter, sizeof letter, "-%c, ", table[i].id);
                const char *arg = table[i].arg;
                bool optional = arg && arg[0] == '[';
                snprintf(left, sizeof left, "%s--%s%s%s", letter, table[i].name, arg ? optional ? "[=" : "=" : "",
                        arg ? arg + optional : "");
                printf("  %-36s %s\n", left, table[i].help);
        }
}
