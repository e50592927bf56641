/* Credentials: key matching, order of the places, entries of every form, helpers (scripts of this test) and their failures. */
#include "source/credentials.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "check.h"
#include "source/credentials_files.h"
#include "source/helper.h"

/* base64 of "u:p:w", "ns:x", "org:x", "host:x" and "nul:pw\0\0" */
#define AUTH_UPW  "dTpwOnc="
#define AUTH_NS   "bnM6eA=="
#define AUTH_ORG  "b3JnOng="
#define AUTH_HOST "aG9zdDp4"
#define AUTH_NUL  "bnVsOnB3AAA="

static char folder[100];
static char warnings[4000];

static void sink(enum log_topic topic, const char *line, void *ctx)
{
        (void)ctx;
        if (topic == LOG_WARNING) {
                strncat(warnings, line, sizeof warnings - strlen(warnings) - 2);
                strcat(warnings, "\n");
        }
}

/* an empty world: every variable points below a new folder */
static void new_world(void)
{
        static const char *const unset[] = {
                "REGISTRY_AUTH_FILE", "DOCKER_AUTH_CONFIG", "DOCKER_CONFIG", "XDG_CONFIG_HOME"};
        strcpy(folder, "/tmp/credentials.XXXXXX");
        CHECK(mkdtemp(folder));
        for (size_t i = 0; i < ARRAY_LEN(unset); i++)
                unsetenv(unset[i]);
        char path[200];
        snprintf(path, sizeof path, "%s/run", folder);
        setenv("XDG_RUNTIME_DIR", path, 1);
        snprintf(path, sizeof path, "%s/home", folder);
        setenv("HOME", path, 1);
        snprintf(path, sizeof path, "%s/bin:/bin:/usr/bin", folder);
        setenv("PATH", path, 1);
        warnings[0] = '\0';
        log_setup(0, sink, NULL);
}

static void end_world(void)
{
        char command[200];
        snprintf(command, sizeof command, "rm -rf '%s'", folder);
        CHECK_INT(system(command), 0);
}

static const char *put(const char *name, const char *text)
{
        static char path[300];
        snprintf(path, sizeof path, "%s/%s", folder, name);
        for (char *p = path + strlen(folder) + 1; (p = strchr(p, '/')); p++) {
                *p = '\0';
                mkdir(path, 0700);
                *p = '/';
        }
        FILE *f = fopen(path, "w");
        CHECK(f);
        fputs(text, f);
        CHECK_INT(fchmod(fileno(f), 0700), 0);
        fclose(f);
        return path;
}

/* "user:password", "id=TOKEN", "bearer=TOKEN", "none", or the error's text */
static const char *look(const char *authfile, const char *creds, const char *domain, const char *path)
{
        static char text[1000];
        struct credentials_options options = {.authfile = authfile, .creds = creds};
        struct credentials c;
        struct error err = {0};
        struct buf tried;
        buf_init(&tried, 4096);
        int r = credentials_find(&options, domain, path, &c, &tried, &err);
        if (strstr(buf_str(&tried), "secret") || strstr(err.msg, "secret") || strstr(warnings, "secret"))
                CHECK_FAIL("a secret in \"%s\", \"%s\" or \"%s\"", buf_str(&tried), err.msg, warnings);
        buf_done(&tried);
        if (r < 0) {
                CHECK_INT(r, err.code);
                snprintf(text, sizeof text, "%d %s", r, err.msg);
                return text;
        }
        CHECK_STR(err.msg, "");
        snprintf(text, sizeof text, "none");
        if (c.username)
                snprintf(text, sizeof text, "%s:%s", c.username, c.password);
        if (c.identity_token)
                snprintf(text, sizeof text, "id=%s", c.identity_token);
        if (c.registry_token)
                snprintf(text, sizeof text, "bearer=%s", c.registry_token);
        credentials_done(&c);
        CHECK(!c.username && !c.password && !c.identity_token && !c.registry_token);
        return text;
}

static const char *in_text(enum credentials_kind kind, const char *domain, const char *path, const char *text)
{
        static char found[300];
        struct credentials c = {0};
        int r = credentials_find_text(text, strlen(text), kind, domain, path, &c);
        if (r != 1)
                return r == 0 ? "none" : r == -EINVAL ? "invalid" : "?";
        snprintf(found, sizeof found, "%s:%s:%s:%s", c.username ? c.username : "", c.password ? c.password : "",
                c.identity_token ? c.identity_token : "", c.registry_token ? c.registry_token : "");
        credentials_done(&c);
        return found;
}

TEST(entries)
{
        new_world();
        const enum credentials_kind k = CREDENTIALS_CONTAINERS;
#define ENTRY(json) in_text(k, "q.io", "a", "{\"auths\":{\"q.io\":" json "}}")
        CHECK_STR(ENTRY("{\"auth\":\"" AUTH_UPW "\"}"), "u:p:w::");
        CHECK_STR(ENTRY("{\"auth\":\"" AUTH_NUL "\"}"), "nul:pw::");
        CHECK_STR(ENTRY("{\"username\":\"n\",\"password\":\"s\"}"), "n:s::");
        CHECK_STR(ENTRY("{\"auth\":\"" AUTH_NS "\",\"username\":\"n\",\"password\":\"s\"}"), "ns:x::");
        CHECK_STR(ENTRY("{\"auth\":\"" AUTH_NS "\",\"identitytoken\":\"t\"}"), "ns:x:t:");
        CHECK_STR(ENTRY("{\"registrytoken\":\"b\"}"), ":::b");
        CHECK_STR(ENTRY("{\"email\":\"x@y\",\"other\":[1]}"), "none");
        CHECK_STR(ENTRY("{}"), "none");
        CHECK_STR(ENTRY("[]"), "none");
        CHECK_STR(warnings, "");
        CHECK_STR(ENTRY("{\"auth\":\"%%\"}"), "none");
        CHECK(strstr(warnings, "\"q.io\" has no valid \"auth\""));
        CHECK_STR(ENTRY("{\"auth\":\"dXNlcg==\"}"), "none"); /* no colon */
        CHECK_STR(ENTRY("{\"auth\":\"OnB3\"}"), "none");     /* no user */
        CHECK_STR(ENTRY("{\"auth\":\"dTpwAHc=\"}"), "none"); /* NUL in the middle */
        CHECK_STR(ENTRY("{\"auth\":7}"), "none");
        CHECK_STR(in_text(k, "q.io", "a", ""), "none");
        CHECK_STR(in_text(k, "q.io", "a", " \n"), "none");
        CHECK_STR(in_text(k, "q.io", "a", "{}"), "none");
        CHECK_STR(in_text(k, "q.io", "a", "{\"auths\":[]}"), "none");
        CHECK_STR(in_text(k, "q.io", "a", "[]"), "invalid");
        CHECK_STR(in_text(k, "q.io", "a", "{"), "invalid");
        end_world();
}

TEST(keys)
{
        const enum credentials_kind k = CREDENTIALS_CONTAINERS;
        static const char spaces[] =
                "{\"auths\":{\"q.io\":{\"auth\":\"" AUTH_HOST "\"},\"q.io/org\":{\"auth\":\"" AUTH_ORG
                "\"},\"q.io/org/app\":{\"auth\":\"" AUTH_NS "\"}}}";
        CHECK_STR(in_text(k, "q.io", "org/app", spaces), "ns:x::");
        CHECK_STR(in_text(k, "q.io", "org/app2", spaces), "org:x::");
        CHECK_STR(in_text(k, "q.io", "org/app/sub", spaces), "ns:x::");
        CHECK_STR(in_text(k, "q.io", "organ", spaces), "host:x::");
        CHECK_STR(in_text(k, "q.io:443", "org/app", spaces), "none");
        CHECK_STR(in_text(k, "io", "org", spaces), "none");

#define KEY(key) "{\"auths\":{\"" key "\":{\"auth\":\"" AUTH_UPW "\"}}}"
        CHECK_STR(in_text(k, "q.io", "org/app", KEY("q.io/org")), "u:p:w::");
        CHECK_STR(in_text(k, "q.io", "other", KEY("q.io/org")), "none"); /* not for its neighbours */
        CHECK_STR(in_text(CREDENTIALS_DOCKER, "q.io", "other", KEY("q.io/org")), "u:p:w::"); /* as docker has it */
        CHECK_STR(in_text(CREDENTIALS_DOCKER, "q.io", "org/app", spaces), "ns:x::");
        CHECK_STR(in_text(CREDENTIALS_DOCKER, "q.io", "x", spaces), "host:x::");
        CHECK_STR(in_text(k, "q.io", "a", KEY("https://q.io")), "u:p:w::");
        CHECK_STR(in_text(k, "q.io", "a", KEY("http://q.io/v1/")), "u:p:w::");
        CHECK_STR(in_text(k, "q.io", "a", KEY("https://q.io/any/thing")), "u:p:w::");
        CHECK_STR(in_text(k, "q.io", "a", KEY("q.io/v2/")), "u:p:w::");
        CHECK_STR(in_text(k, "q.io", "a", KEY("https://q.io.evil")), "none");
        CHECK_STR(in_text(k, "localhost:5000", "a", KEY("localhost:5000")), "u:p:w::");
        CHECK_STR(in_text(k, "localhost:5000", "a", KEY("localhost")), "none");

        CHECK_STR(in_text(k, "docker.io", "library/a", KEY("https://index.docker.io/v1/")), "u:p:w::");
        CHECK_STR(in_text(k, "docker.io", "library/a", KEY("index.docker.io")), "u:p:w::");
        CHECK_STR(in_text(k, "docker.io", "library/a", KEY("docker.io")), "u:p:w::");
        CHECK_STR(in_text(k, "docker.io", "library/a", KEY("registry-1.docker.io")), "u:p:w::");
        CHECK_STR(in_text(k, "docker.io", "library/a", KEY("docker.io/library")), "u:p:w::");
        CHECK_STR(in_text(k, "docker.io", "org/a", KEY("docker.io/library")), "none");
        CHECK_STR(in_text(k, "registry-1.docker.io", "org/a", KEY("docker.io")), "u:p:w::");
        CHECK_STR(in_text(k, "q.io", "a", KEY("https://index.docker.io/v1/")), "none");

        static const char twice[] = "{\"auths\":{\"q.io\":{\"auth\":\"" AUTH_HOST
                                    "\"}},\"auths\":{\"q.io\":{\"auth\":\"" AUTH_ORG "\",\"auth\":\"" AUTH_UPW "\"}}}";
        CHECK_STR(in_text(CREDENTIALS_DOCKER, "q.io", "a", twice), "u:p:w::"); /* the last one, as docker has it */

        static const char legacy[] = "{\"q.io/x/y\":{\"auth\":\"" AUTH_UPW "\"}}";
        CHECK_STR(in_text(CREDENTIALS_LEGACY, "q.io", "a", legacy), "u:p:w::");
        CHECK_STR(in_text(CREDENTIALS_LEGACY, "r.io", "a", legacy), "none");
}

#define FILE_FOR(key, auth) "{\"auths\":{\"" key "\":{\"auth\":\"" auth "\"}}}"

TEST(places)
{
        new_world();
        CHECK_STR(look(NULL, NULL, "q.io", "a"), "none");
        /* the least important first: each new one wins */
        put("home/.dockercfg", "{\"https://q.io/v1/\":{\"auth\":\"" AUTH_UPW "\"}}");
        CHECK_STR(look(NULL, NULL, "q.io", "a"), "u:p:w");
        put("home/.docker/config.json", FILE_FOR("q.io", AUTH_NS));
        CHECK_STR(look(NULL, NULL, "q.io", "a"), "ns:x");
        put("home/.config/containers/auth.json", FILE_FOR("q.io", AUTH_ORG));
        CHECK_STR(look(NULL, NULL, "q.io", "a"), "org:x");
        put("run/containers/auth.json", FILE_FOR("q.io", AUTH_HOST));
        CHECK_STR(look(NULL, NULL, "q.io", "a"), "host:x");
        setenv("DOCKER_AUTH_CONFIG", FILE_FOR("q.io", AUTH_UPW), 1);
        CHECK_STR(look(NULL, NULL, "q.io", "a"), "u:p:w");
        setenv("DOCKER_AUTH_CONFIG", "{secret", 1);
        CHECK_STR(look(NULL, NULL, "q.io", "a"), "host:x");
        CHECK(strstr(warnings, "$DOCKER_AUTH_CONFIG: not valid"));
        const char *named = put("named.json", FILE_FOR("q.io", AUTH_ORG));
        setenv("REGISTRY_AUTH_FILE", named, 1);
        CHECK_STR(look(NULL, NULL, "q.io", "a"), "org:x");
        CHECK_STR(look(NULL, NULL, "r.io", "a"), "none"); /* no other file is looked at */
        CHECK_STR(look(put("other.json", FILE_FOR("q.io", AUTH_NUL)), NULL, "q.io", "a"), "nul:pw");
        CHECK_STR(look(NULL, "me:my:word", "q.io", "a"), "me:my:word");
        CHECK_STR(look(NULL, "me", "q.io", "a"), "me:");
        CHECK(strstr(look(NULL, ":secret", "q.io", "a"), "user name is missing"));
        end_world();
}

TEST(a_file_with_a_match_wins_over_one_without)
{
        new_world();
        put("run/containers/auth.json", FILE_FOR("other.io", AUTH_HOST));
        put("home/.config/containers/auth.json", "{\"auths\":{\"q.io\":{}}}");
        put("docker/config.json", FILE_FOR("q.io", AUTH_NS));
        char path[200];
        snprintf(path, sizeof path, "%s/docker", folder);
        setenv("DOCKER_CONFIG", path, 1);
        CHECK_STR(look(NULL, NULL, "q.io", "a"), "ns:x");

        struct credentials_options options = {0};
        struct credentials c;
        struct buf tried;
        buf_init(&tried, 4096);
        CHECK_INT(credentials_find(&options, "none.io", "a", &c, &tried, NULL), 0);
        CHECK(!c.username);
        char want[1000];
        snprintf(want, sizeof want,
                "%s/run/containers/auth.json (no entry), %s/home/.config/containers/auth.json (no entry), "
                "%s/docker/config.json (no entry), %s/home/.dockercfg (not there)",
                folder, folder, folder, folder);
        CHECK_STR(buf_str(&tried), want);
        buf_done(&tried);
        CHECK_INT(credentials_find(&options, "q.io", "a", &c, NULL, NULL), 0);
        CHECK_STR(c.username, "ns");
        credentials_done(&c);
        end_world();
}

TEST(broken_files)
{
        new_world();
        put("run/containers/auth.json", "{\"auths\": secret");
        put("home/.docker/config.json", FILE_FOR("q.io", AUTH_NS));
        CHECK_STR(look(NULL, NULL, "q.io", "a"), "ns:x");
        CHECK(strstr(warnings, "auth.json: not valid JSON"));
        CHECK(strstr(look(put("broken", "{\"secret"), NULL, "q.io", "a"), "broken: not valid JSON"));
        CHECK(!strncmp(look("/nonexistent/a", NULL, "q.io", "a"), "-2 /nonexistent/a: ", 19));
        CHECK(strstr(look(folder, NULL, "q.io", "a"), folder));
        CHECK(strstr(look("/dev/zero", NULL, "q.io", "a"), "larger than"));
        CHECK_STR(look("/dev/null", NULL, "q.io", "a"), "none");
        end_world();
}

static const char helper_script[] =
        "#!/bin/sh\n"
        "[ \"$1\" = get ] || exit 9\n"
        "server=$(cat)\n"
        "echo \"$server\" >> \"$HOME/asked\"\n"
        "case $server in\n"
        "q.io) echo '{\"ServerURL\":\"q.io\",\"Username\":\"hu\",\"Secret\":\"hp\"}';;\n"
        "token.io) echo '{\"Username\":\"<token>\",\"Secret\":\"tt\"}';;\n"
        "empty.io) echo '{\"Username\":\"\",\"Secret\":\"\"}';;\n"
        "odd.io) echo 'secret, but no JSON';;\n"
        "docker.io) echo '{\"Username\":\"hub\",\"Secret\":\"hp\"}';;\n"
        "locked.io) echo '  the chain is locked '; echo more; exit 1;;\n"
        "mute.io) exit 3;;\n"
        "leak.io) echo '{\"Secret\":\"secret\"}'; exit 1;;\n"
        "dead.io) kill -9 $$;;\n"
        "agent.io) sleep 100 & echo $! > \"$HOME/agent\"; echo '{\"Username\":\"a\",\"Secret\":\"g\"}';;\n"
        "flood.io) exec cat /dev/zero;;\n"
        "slow.io) exec sleep 100;;\n"
        "*) echo 'credentials not found in native keychain'; exit 1;;\n"
        "esac\n";

TEST(helpers)
{
        new_world();
        put("bin/docker-credential-test", helper_script);
        put("home/x", "");
        put("home/.docker/config.json", "{\"auths\":{\"none.io\":{\"auth\":\"" AUTH_NS "\"}},\"credsStore\":\"test\"}");
        CHECK_STR(look(NULL, NULL, "q.io", "a"), "hu:hp");
        CHECK_STR(look(NULL, NULL, "token.io", "a"), "id=tt");
        CHECK_STR(look(NULL, NULL, "docker.io", "library/a"), "hub:hp"); /* the third of its names */
        CHECK_STR(look(NULL, NULL, "none.io", "a"), "none");             /* the file's own entry does not count */
        CHECK_STR(look(NULL, NULL, "empty.io", "a"), "none");
        CHECK(!strncmp(look(NULL, NULL, "locked.io", "a"), "-13 ", 4));
        CHECK(strstr(look(NULL, NULL, "locked.io", "a"), "config.json: docker-credential-test: the chain is locked"));
        CHECK(strstr(look(NULL, NULL, "odd.io", "a"), "makes no sense"));
        CHECK(strstr(look(NULL, NULL, "mute.io", "a"), "status 3"));
        CHECK(strstr(look(NULL, NULL, "leak.io", "a"), "status 1"));
        CHECK(strstr(look(NULL, NULL, "dead.io", "a"), "signal 9"));
        CHECK(strstr(look(NULL, NULL, "flood.io", "a"), "answers too much"));

        char path[200], asked[300] = "";
        snprintf(path, sizeof path, "%s/home/asked", folder);
        FILE *f = fopen(path, "r");
        CHECK(f);
        size_t n = fread(asked, 1, sizeof asked - 1, f);
        fclose(f);
        CHECK(n > 0);
        CHECK(!strncmp(asked, "q.io\ntoken.io\nhttps://index.docker.io/v1/\nindex.docker.io\ndocker.io\n", 65));
        end_world();
}

TEST(helpers_by_registry)
{
        new_world();
        put("bin/docker-credential-test", helper_script);
        put("home/x", "");
        put("run/containers/auth.json",
                "{\"credHelpers\":{\"q.io\":\"test\",\"none.io\":\"test\",\"docker.io\":\"test\"},"
                "\"auths\":{\"q.io\":{\"auth\":\"" AUTH_NS "\"},\"none.io\":{\"auth\":\"" AUTH_NS
                "\"},\"r.io\":{\"auth\":\"" AUTH_ORG "\"}}}");
        put("home/.docker/config.json", FILE_FOR("none.io", AUTH_HOST));
        CHECK_STR(look(NULL, NULL, "q.io", "a"), "hu:hp");
        CHECK_STR(look(NULL, NULL, "none.io", "a"), "host:x"); /* not this file's auths, but the next file's */
        CHECK_STR(look(NULL, NULL, "r.io", "a"), "org:x");
        CHECK_STR(look(NULL, NULL, "docker.io", "x"), "hub:hp");
        /* podman's order for its own files: auths, then what docker would ask */
        const char *named =
                put("named.json", "{\"credsStore\":\"test\",\"auths\":{\"q.io\":{\"auth\":\"" AUTH_NS "\"}}}");
        CHECK_STR(look(named, NULL, "q.io", "a"), "ns:x");
        CHECK_STR(look(named, NULL, "token.io", "a"), "id=tt");
        end_world();
}

TEST(helper_not_installed)
{
        new_world();
        put("home/.docker/config.json",
                "{\"credsStore\":\"absent\",\"auths\":{\"q.io\":{\"auth\":\"" AUTH_NS "\"},\"r.io\":{}}}");
        CHECK_STR(look(NULL, NULL, "r.io", "a"), "none");
        CHECK(strstr(warnings, "docker-credential-absent is not installed"));
        CHECK_STR(look(NULL, NULL, "q.io", "a"), "ns:x");
        put("home/.docker/config.json", "{\"credHelpers\":{\"q.io\":\"../../bin/sh\"}}");
        CHECK(strstr(look(NULL, NULL, "q.io", "a"), "name in the configuration is not one"));
        put("home/.docker/config.json", "{\"credHelpers\":{\"q.io\":\"a b\"}}");
        CHECK(strstr(look(NULL, NULL, "q.io", "a"), "name in the configuration is not one"));
        end_world();
}

TEST(helper_limits)
{
        new_world();
        put("bin/docker-credential-test", helper_script);
        put("home/x", "");
        struct credentials c;
        struct error err = {0};
        CHECK_INT(helper_get("test", "slow.io", 100, &c, &err), -EACCES);
        CHECK_STR(err.msg, "docker-credential-test: gave no answer in 1 seconds");
        /* an agent that is left behind and holds the output open does not keep us */
        CHECK_INT(helper_get("test", "agent.io", 20000, &c, &err), 1);
        CHECK_STR(c.username, "a");
        credentials_done(&c);
        char path[200];
        snprintf(path, sizeof path, "%s/home/agent", folder);
        FILE *f = fopen(path, "r");
        int pid = 0;
        CHECK(f && fscanf(f, "%d", &pid) == 1 && pid > 1);
        fclose(f);
        CHECK_INT(kill(pid, SIGKILL), 0);
        CHECK_INT(helper_get("absent", "q.io", 100, &c, &err), -ENOENT);
        end_world();
}
