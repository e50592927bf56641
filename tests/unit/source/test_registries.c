/* registries.conf: which rule fits, what the endpoints are, which files are read, and what a mistake is called. */
#include "source/registries.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"
#include "check.h"
#include "source/registries_files.h"

#define HEX64 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static struct registries *load(const char *text)
{
        struct registries *reg = NULL;
        struct error err = {0};
        if (registries_load_text(text, strlen(text), &reg, &err) != 0)
                CHECK_FAIL("%s\n%s", text, err.msg);
        return reg;
}

static void refuse(const char *text, const char *words)
{
        struct registries *reg = NULL;
        struct error err = {0};
        CHECK_INT(registries_load_text(text, strlen(text), &reg, &err), -EINVAL);
        CHECK(!reg);
        if (!strstr(err.msg, words))
                CHECK_FAIL("%s\nsays \"%s\", not \"%s\"", text, err.msg, words);
}

static int ask(const struct registries *reg, const char *image, struct buf *out, struct error *err)
{
        struct reference ref;
        CHECK_INT(reference_parse_name(image, &ref, NULL), 0);
        struct endpoint *list;
        size_t count;
        int r = registries_endpoints(reg, &ref, &list, &count, err);
        for (size_t i = 0; r == 0 && i < count; i++)
                buf_addf(out, "%s%s/%s%s%s", i ? " " : "", list[i].domain, list[i].path, list[i].mirror ? " M" : "",
                        list[i].insecure ? " I" : "");
        if (r == 0)
                endpoints_free(list, count);
        reference_done(&ref);
        return r;
}

static void expect(const struct registries *reg, const char *image, const char *want)
{
        struct buf out;
        buf_init(&out, 4096);
        struct error err = {0};
        if (ask(reg, image, &out, &err) != 0)
                CHECK_FAIL("%s: %s", image, err.msg);
        if (strcmp(buf_str(&out), want) != 0)
                CHECK_FAIL("%s: \"%s\", not \"%s\"", image, buf_str(&out), want);
        buf_done(&out);
}

static void fails(const struct registries *reg, const char *image, int code, const char *words)
{
        struct buf out;
        buf_init(&out, 4096);
        struct error err = {0};
        CHECK_INT(ask(reg, image, &out, &err), code);
        if (!strstr(err.msg, words))
                CHECK_FAIL("%s: \"%s\" does not say \"%s\"", image, err.msg, words);
        CHECK_INT(ask(reg, image, &out, NULL), code);
        buf_done(&out);
}

/* the names that an image may mean, " " between them */
static void means(const struct registries *reg, const char *image, const char *want)
{
        struct reference ref, *names = NULL;
        struct error err = {0};
        size_t count = 0;
        CHECK_INT(reference_parse_name(image, &ref, NULL), 0);
        if (registries_names(reg, &ref, &names, &count, &err) != 0)
                CHECK_FAIL("%s: %s", image, err.msg);
        struct buf out;
        buf_init(&out, 4096);
        for (size_t i = 0; i < count; i++) {
                cleanup(freep) char *text = reference_text(&names[i]);
                buf_addf(&out, "%s%s", i ? " " : "", text);
        }
        if (strcmp(buf_str(&out), want) != 0)
                CHECK_FAIL("%s: \"%s\", not \"%s\"", image, buf_str(&out), want);
        buf_done(&out);
        names_free(names, count);
        reference_done(&ref);
}

TEST(short_names)
{
        cleanup(registries_freep) struct registries *none = load("");
        means(none, "alpine", "docker.io/library/alpine:latest");
        means(none, "org/app:1@sha256:" HEX64, "docker.io/org/app:1@sha256:" HEX64);

        cleanup(registries_freep) struct registries *alias =
                load("unqualified-search-registries = ['a.test']\n[aliases]\nfedora = 'f.test/x/fedora'\n");
        means(alias, "fedora:40", "f.test/x/fedora:40");
        means(alias, "fedora@sha256:" HEX64, "f.test/x/fedora@sha256:" HEX64);
        means(alias, "docker.io/library/fedora", "docker.io/library/fedora:latest");
        means(alias, "library/fedora", "docker.io/library/fedora:latest");

        cleanup(registries_freep) struct registries *list =
                load("unqualified-search-registries = ['a.test', 'b.test/n/']\n");
        means(list, "app", "a.test/app:latest b.test/n/app:latest");
        means(list, "org/app:2", "a.test/org/app:2 b.test/n/org/app:2");
        means(list, "library/alpine", "docker.io/library/alpine:latest");
        means(list, "localhost/x", "localhost/x:latest");

        cleanup(registries_freep) struct registries *odd =
                load("unqualified-search-registries = ['a.test', 'intern']\n");
        struct reference ref, *names;
        size_t count;
        struct error err = {0};
        CHECK_INT(reference_parse_name("app", &ref, NULL), 0);
        CHECK_INT(registries_names(odd, &ref, &names, &count, &err), -EINVAL);
        CHECK(strstr(err.msg, "\"intern\""));
        reference_done(&ref);

        cleanup(registries_freep) struct registries *hub =
                load("unqualified-search-registries = ['a.test', 'docker.io']\n");
        means(hub, "app", "docker.io/library/app:latest");

        cleanup(registries_freep) struct registries *v1 = load("[registries.search]\nregistries = ['a.test']\n");
        means(v1, "app", "a.test/app:latest");
        refuse("unqualified-search-registries = [1]\n", "line 1");
        refuse("unqualified-search-registries = ['/']\n", "line 1");
}

static struct registries *with_docker(const char *conf, const char *text)
{
        struct registries *reg = load(conf);
        struct error err = {0};
        if (registries_add_docker(reg, text, strlen(text), &err) != 0)
                CHECK_FAIL("%s: %s", text, err.msg);
        return reg;
}

TEST(docker_daemon)
{
        cleanup(registries_freep) struct registries *reg = with_docker("[[registry]]\nlocation = 'ruled.test'\n",
                "{\"registry-mirrors\": [\"https://m.test/\", \"http://n.test:5000\", \"https://p.test/path\", 3],"
                " \"insecure-registries\": [\"i.test:5000\", \"10.1.0.0/20\", \"fd00::/8\", \"ruled.test\", "
                "\"1.2.3.4/\","
                " \"1.2.3.4/33\", \"x\"], \"insecure-registries-too\": 1}");
        expect(reg, "alpine", "m.test/library/alpine M n.test:5000/library/alpine M I docker.io/library/alpine");
        expect(reg, "quay.io/a", "quay.io/a");
        expect(reg, "i.test:5000/a", "i.test:5000/a I");
        expect(reg, "I.test:5000/a", "I.test:5000/a I");
        expect(reg, "i.test/a", "i.test/a");
        expect(reg, "10.1.15.255:80/a", "10.1.15.255:80/a I");
        expect(reg, "10.1.16.0/a", "10.1.16.0/a");
        expect(reg, "[fd12::1]:80/a", "[fd12::1]:80/a I");
        expect(reg, "[fe80::1]/a", "[fe80::1]/a");
        expect(reg, "1.2.3.4/a", "1.2.3.4/a");
        expect(reg, "ruled.test/a", "ruled.test/a"); /* registries.conf says that it is not */

        cleanup(registries_freep) struct registries *odd =
                with_docker("", "{\"registry-mirrors\": {}, \"insecure-registries\": \"x\"}");
        expect(odd, "alpine", "docker.io/library/alpine");
        struct error err = {0};
        CHECK_INT(registries_add_docker(odd, "[]", 2, &err), -EBADMSG);
        CHECK_INT(registries_add_docker(odd, "{", 1, &err), -EBADMSG);
}

TEST(nothing)
{
        cleanup(registries_freep) struct registries *reg = load("");
        expect(reg, "alpine", "docker.io/library/alpine");
        expect(reg, "localhost:5000/a/b:1", "localhost:5000/a/b");
        CHECK(!registries_alias(reg, "alpine"));
        registries_free(NULL);
        endpoints_free(NULL, 0);
}

TEST(mirrors)
{
        cleanup(registries_freep) struct registries *reg = load("[[registry]]\n"
                                                                "prefix = \"docker.io\"\n"
                                                                "location = \"docker.io\"\n"
                                                                "[[registry.mirror]]\n"
                                                                "location = \"localhost:5000\"\n"
                                                                "insecure = true\n"
                                                                "[[registry.mirror]]\n"
                                                                "location = \"m.example/cache/\"\n"
                                                                "pull-from-mirror = \"digest-only\"\n"
                                                                "[[registry.mirror]]\n"
                                                                "location = \"t.example\"\n"
                                                                "pull-from-mirror = \"tag-only\"\n"
                                                                "[[registry]]\n"
                                                                "location = \"q.io\"\n"
                                                                "mirror-by-digest-only = true\n"
                                                                "mirror = [{location = 'm.example'}]\n");
        expect(reg, "alpine", "localhost:5000/library/alpine M I t.example/library/alpine M docker.io/library/alpine");
        expect(reg, "o/a@sha256:" HEX64, "localhost:5000/o/a M I m.example/cache/o/a M docker.io/o/a");
        expect(reg, "o/a:t@sha256:" HEX64, "localhost:5000/o/a M I m.example/cache/o/a M docker.io/o/a");
        expect(reg, "q.io/a:1", "q.io/a");
        expect(reg, "q.io/a@sha256:" HEX64, "m.example/a M q.io/a");
}

TEST(prefixes)
{
        cleanup(registries_freep) struct registries *reg =
                load("registry = [\n"
                     "{prefix='e.com', location='one.com'},\n"
                     "{prefix='e.com/foo', location='two.com/x'},\n"
                     "{prefix='e.com/foo/bar', location='three.com'},\n"
                     "{prefix='e.com/foo/bar:dev', location='four.com/z:dev'},\n"
                     "{prefix='one.image/a', location='five.com/b'},\n"
                     "{prefix='e.com/late', location='old.com'},\n"
                     "{prefix='e.com/late', insecure=true},\n"
                     "]\n");
        expect(reg, "e.com/a", "one.com/a");
        expect(reg, "e.com/foobar", "one.com/foobar");
        expect(reg, "e.com/foo/q", "two.com/x/q");
        expect(reg, "e.com/foo:1", "two.com/x");
        expect(reg, "e.com/foo@sha256:" HEX64, "two.com/x");
        expect(reg, "e.com/foo/bar/b", "three.com/b");
        expect(reg, "e.com/foo/bar:dev", "four.com/z");
        expect(reg, "one.image/a:3", "five.com/b");
        expect(reg, "e.community/a", "e.community/a");
        expect(reg, "e.com/late/x", "e.com/late/x I"); /* the later table replaces the earlier one */
        fails(reg, "e.com/foo/bar:1", -EINVAL, "three.com");
}

TEST(wildcards)
{
        cleanup(registries_freep) struct registries *reg = load("registry = [\n"
                                                                "{prefix='*.e.com', insecure=true},\n"
                                                                "{prefix='*.e.com/deep', location='d.com/x'},\n"
                                                                "{prefix='a.e.com', location='a.com'},\n"
                                                                "]\n");
        expect(reg, "b.e.com/x", "b.e.com/x I");
        expect(reg, "c.b.e.com/x", "c.b.e.com/x I");
        expect(reg, "b.e.com:5000/x", "b.e.com:5000/x I");
        expect(reg, "b.e.com.e.com/x", "b.e.com.e.com/x I");
        expect(reg, "e.com/x", "e.com/x");
        expect(reg, "b.e.com/deep/x", "d.com/x/x");
        expect(reg, "a.e.com/x", "a.com/x"); /* as long as the wildcard: the exact one wins */
        expect(reg, "q.io/b.e.com/x", "q.io/b.e.com/x");
}

TEST(blocked_and_impossible)
{
        cleanup(registries_freep) struct registries *reg =
                load("registry = [\n"
                     "{location='bad.com', blocked=true, mirror=[{location='m.io'}]},\n"
                     "{prefix='p.com', location='bare'},\n"
                     "{prefix='r.com', location='UP.com/Case'},\n"
                     "{prefix='s.com/a:1', location='s.com/a:2'},\n"
                     "]\n");
        fails(reg, "bad.com/x", -EACCES, "registries.conf blocks \"bad.com\"");
        fails(reg, "p.com/x", -EINVAL, "does not begin with a host name");
        fails(reg, "r.com/x", -EINVAL, "lower case");
        fails(reg, "s.com/a:1", -EOPNOTSUPP, "tag");
        expect(reg, "s.com/a:3", "s.com/a");
}

TEST(version_1)
{
        cleanup(registries_freep) struct registries *reg =
                load("[registries.search]\nregistries = ['docker.io']\n"
                     "[registries.insecure]\nregistries = ['i.com', 'both.com/']\n"
                     "[registries.block]\nregistries = ['b.com', 'both.com']\n");
        expect(reg, "i.com/x", "i.com/x I");
        fails(reg, "b.com/x", -EACCES, "blocks");
        fails(reg, "both.com/x", -EACCES, "blocks");
        registries_freep(&reg);
        reg = load("unqualified-search-registries=[]\n[registries.insecure]\nregistries = []\n");
        refuse("unqualified-search-registries=['a']\n[registries.insecure]\nregistries=['x']", "line 1: \"unqualified");
        refuse("[[registry]]\nlocation='x'\n[registries.block]\nregistries=['x']", "must not have both");
        refuse("[registries.block]\nregistries=[1]", "line 2");
        refuse("[registries.block]\nregistries=['/']", "host name is missing");
}

TEST(aliases)
{
        cleanup(registries_freep) struct registries *reg = load("[aliases]\nalpine='docker.io/library/alpine'\n"
                                                                "\"a/b\"='q.io/x/y'\ngone=''\n");
        CHECK_STR(registries_alias(reg, "alpine"), "docker.io/library/alpine");
        CHECK_STR(registries_alias(reg, "a/b"), "q.io/x/y");
        CHECK(!registries_alias(reg, "gone"));
        CHECK(!registries_alias(reg, "alpin"));
        refuse("[aliases]\nx=1", "line 2: the alias \"x\" must be text");
        refuse("[aliases]\n\nx='Q/X y'", "line 3: the alias \"x\"");
}

TEST(mistakes)
{
        refuse("[[registry]]\ninsecure=true", "registries.conf: line 1: a registry without");
        refuse("[[registry]]\nlocation='x.io'\ninsecure='yes'", "line 3: \"insecure\" must be true or false");
        refuse("[[registry]]\nlocation='https://x.io'", "leave out");
        refuse("[[registry]]\nlocation='*.x.io'", "'*'");
        refuse("[[registry]]\nprefix='a.*.io'", "'*'");
        refuse("[[registry]]\nprefix='*.'", "'*'");
        refuse("[[registry]]\nprefix='*x'", "'*'");
        refuse("[[registry]]\nprefix='*.x.*'", "'*'");
        refuse("[[registry]]\nlocation='/'", "host name is missing");
        refuse("[[registry]]\nlocation='x.io'\n[[registry.mirror]]\ninsecure=true", "line 3: a mirror without");
        refuse("[[registry]]\nlocation='x.io'\n[[registry.mirror]]\nlocation='y'\npull-from-mirror='x'",
                "line 5: pull-from");
        refuse("[[registry]]\nlocation='x.io'\nmirror-by-digest-only=true\n[[registry.mirror]]\nlocation='y'\n"
               "pull-from-mirror='all'",
                "exclude each other");
        refuse("[registry]\nlocation='x.io'", "\"registry\" must be a list");
        refuse("registry=[1]", "must be a table");
        refuse("aliases=1", "must be a table");
        refuse("registries=1", "must be a table");
        refuse("x", "registries.conf: line 1: a '='");
}

static char folder[] = "/tmp/registries.XXXXXX";

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
        fclose(f);
        return path;
}

static void drop_folder(void)
{
        char command[100];
        snprintf(command, sizeof command, "rm -rf '%s'", folder);
        CHECK_INT(system(command), 0);
}

TEST(files)
{
        CHECK(mkdtemp(folder));
        char usr[100], etc[100], home[100];
        snprintf(usr, sizeof usr, "%s/usr", folder);
        snprintf(etc, sizeof etc, "%s/etc", folder);
        snprintf(home, sizeof home, "%s/home", folder);
        const char *dirs[] = {usr, etc, home};
        struct registries *reg;
        CHECK_INT(registries_load_dirs(dirs, 3, &reg, NULL), 0);
        expect(reg, "a.io/x", "a.io/x");
        registries_freep(&reg);

        put("usr/registries.conf", "[[registry]]\nprefix='usr.io'\nlocation='seen.io'\n");
        put("etc/registries.conf", "[[registry]]\nprefix='a.io'\nlocation='etc.io'\n");
        put("usr/registries.conf.d/10-x.conf",
                "[[registry]]\nprefix='b.io'\nlocation='usr-b.io'\n[aliases]\np='p.io/p'\n");
        put("usr/registries.conf.d/20-y.conf",
                "[[registry]]\nprefix='m.io'\nlocation='masked.io'\n[aliases]\nm='m.io/m'\n");
        put("etc/registries.conf.d/20-y.conf", "[[registry]]\nprefix='b.io'\nlocation='etc-b.io'\n");
        put("etc/registries.conf.d/README", "not = toml =");
        struct error err = {0};
        CHECK_INT(registries_load_dirs(dirs, 3, &reg, &err), 0);
        CHECK_STR(err.msg, "");
        expect(reg, "a.io/x", "etc.io/x");
        expect(reg, "usr.io/x", "usr.io/x"); /* only the first main file */
        expect(reg, "b.io/x", "etc-b.io/x"); /* 20-y comes after 10-x */
        expect(reg, "m.io/x", "m.io/x");     /* the same name in /etc hides it */
        CHECK_STR(registries_alias(reg, "p"), "p.io/p");
        CHECK(!registries_alias(reg, "m"));
        registries_freep(&reg);

        put("home/registries.conf", "");
        put("home/registries.conf.d/30.conf", "[aliases]\np=''\n");
        put(geteuid() ? "etc/registries.rootless.conf.d/40.conf" : "etc/registries.rootful.conf.d/40.conf",
                "[[registry]]\nprefix='who.io'\nlocation='w.io'\n");
        CHECK_INT(registries_load_dirs(dirs, 3, &reg, NULL), 0);
        expect(reg, "a.io/x", "a.io/x"); /* the user's main file replaces /etc's */
        expect(reg, "b.io/x", "etc-b.io/x");
        expect(reg, "who.io/x", "w.io/x");
        CHECK(!registries_alias(reg, "p"));
        registries_freep(&reg);

        put("etc/registries.conf.d/50.conf", "\n\nx");
        CHECK_INT(registries_load_dirs(dirs, 3, &reg, &err), -EINVAL);
        CHECK(strstr(err.msg, "etc/registries.conf.d/50.conf: line 3: "));
        drop_folder();
}

TEST(named_file)
{
        strcpy(folder, "/tmp/registries.XXXXXX");
        CHECK(mkdtemp(folder));
        struct registries *reg;
        struct error err = {0};
        CHECK_INT(registries_load("/nonexistent/registries.conf", &reg, &err), -ENOENT);
        CHECK(strstr(err.msg, "/nonexistent/registries.conf"));
        CHECK_INT(registries_load(folder, &reg, &err), -EISDIR);
        CHECK_INT(registries_load("/dev/null", &reg, &err), 0);
        registries_freep(&reg);
        CHECK_INT(registries_load("/dev/zero", &reg, &err), -EFBIG);
        const char *path = put("one.conf", "[[registry]]\nprefix='a.io'\nlocation='b.io'\n");
        CHECK_INT(registries_load(path, &reg, &err), 0);
        expect(reg, "a.io/x", "b.io/x");
        registries_freep(&reg);

        setenv("CONTAINERS_REGISTRIES_CONF", path, 1);
        setenv("CONTAINERS_REGISTRIES_CONF_OVERRIDE", put("two.conf", "[[registry]]\nprefix='a.io'\nlocation='c.io'\n"),
                1);
        CHECK_INT(registries_load(NULL, &reg, &err), 0);
        expect(reg, "a.io/x", "c.io/x");
        registries_freep(&reg);
        setenv("CONTAINERS_REGISTRIES_CONF", "/nonexistent", 1);
        CHECK_INT(registries_load(NULL, &reg, &err), -ENOENT);
        drop_folder();
}

TEST(the_users_own)
{
        strcpy(folder, "/tmp/registries.XXXXXX");
        CHECK(mkdtemp(folder));
        unsetenv("CONTAINERS_REGISTRIES_CONF");
        unsetenv("CONTAINERS_REGISTRIES_CONF_OVERRIDE");
        setenv("XDG_CONFIG_HOME", folder, 1);
        put("containers/registries.conf", "[[registry]]\nprefix='unit.test.example'\nlocation='mine.example'\n");
        struct registries *reg;
        struct error err = {0};
        CHECK_INT(registries_load(NULL, &reg, &err), 0);
        CHECK_STR(err.msg, "");
        expect(reg, "unit.test.example/x", "mine.example/x");
        registries_free(reg);
        drop_folder();
}
