/* certs.d: which folder is used, what is taken from it, and incomplete pairs. */
#include "source/certs.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "check.h"
#include "source/certs_files.h"

#define PEM(x) "-----BEGIN CERTIFICATE-----\n" x "\n-----END CERTIFICATE-----"

static char folder[100], user[150], etc[150], containerd[150], warnings[1000];
static struct certs_place places[] = {{user, false}, {NULL, false}, {etc, false}, {containerd, true}};

static void sink(enum log_topic topic, const char *line, void *ctx)
{
        (void)ctx;
        if (topic == LOG_WARNING)
                snprintf(warnings, sizeof warnings, "%s", line);
}

static void new_world(void)
{
        strcpy(folder, "/tmp/certs.XXXXXX");
        CHECK(mkdtemp(folder));
        snprintf(user, sizeof user, "%s/user", folder);
        snprintf(etc, sizeof etc, "%s/etc", folder);
        snprintf(containerd, sizeof containerd, "%s/containerd", folder);
        warnings[0] = '\0';
        log_setup(0, sink, NULL);
}

static void end_world(void)
{
        char command[200];
        snprintf(command, sizeof command, "rm -rf '%s'", folder);
        CHECK_INT(system(command), 0);
}

static void put(const char *name, const char *text)
{
        char path[300];
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
}

static struct certs find(const char *domain)
{
        struct certs c = {0};
        struct error err = {0};
        if (certs_find_in(places, ARRAY_LEN(places), domain, &c, &err) != 0)
                CHECK_FAIL("%s: %s", domain, err.msg);
        CHECK_STR(err.msg, "");
        return c;
}

static void refuse(const char *domain, int code, const char *words)
{
        struct certs c = {0};
        struct error err = {0};
        CHECK_INT(certs_find_in(places, ARRAY_LEN(places), domain, &c, &err), code);
        CHECK(!c.dir && !c.ca_pem && !c.client_cert);
        if (!strstr(err.msg, words))
                CHECK_FAIL("\"%s\" does not say \"%s\"", err.msg, words);
}

static const char *below(const char *name)
{
        static char path[2][300];
        static int turn;
        turn = !turn;
        snprintf(path[turn], sizeof path[turn], "%s/%s", folder, name);
        return path[turn];
}

TEST(nothing)
{
        new_world();
        struct certs c = find("q.io");
        CHECK(!c.dir && !c.ca_pem && !c.client_cert && !c.client_key);
        put("user/q.io/README", "x");
        c = find("q.io");
        CHECK_STR(c.dir, below("user/q.io"));
        CHECK(!c.ca_pem && !c.client_cert);
        certs_done(&c);
        certs_done(&c);
        c = find("..");
        CHECK(!c.dir);
        c = find("a/b");
        CHECK(!c.dir);
        c = find("");
        CHECK(!c.dir);
        end_world();
}

TEST(everything)
{
        new_world();
        put("etc/q.io:5000/b.crt", PEM("second"));
        put("etc/q.io:5000/a.crt", PEM("first") "\n");
        put("etc/q.io:5000/c.cert", "x");
        put("etc/q.io:5000/c.key", "x");
        put("etc/q.io:5000/d.cert", "x");
        put("etc/q.io:5000/d.key", "x");
        put("etc/q.io:5000/other.pem", PEM("third"));
        put("etc/q.io:5000/hosts.toml", "not = read =");
        struct certs c = find("q.io:5000");
        CHECK_STR(c.ca_pem, PEM("first") "\n\n" PEM("second") "\n");
        CHECK_STR(c.client_cert, below("etc/q.io:5000/c.cert"));
        CHECK_STR(c.client_key, below("etc/q.io:5000/c.key"));
        CHECK_STR(c.dir, below("etc/q.io:5000"));
        certs_done(&c);
        c = find("q.io");
        CHECK(!c.dir);
        /* the more important folder is used alone */
        put("user/q.io:5000/z.crt", PEM("mine"));
        c = find("q.io:5000");
        CHECK_STR(c.ca_pem, PEM("mine") "\n");
        CHECK(!c.client_cert);
        certs_done(&c);
        put("user/q.io:5000/0.crt", "\x30\x82 in DER form");
        c = find("q.io:5000");
        CHECK_STR(c.ca_pem, PEM("mine") "\n");
        CHECK(strstr(warnings, "0.crt: not a certificate in PEM form"));
        certs_done(&c);
        end_world();
}

TEST(incomplete_pairs)
{
        new_world();
        put("etc/a.io/x.cert", "x");
        refuse("a.io", -EINVAL, "x.cert: the key \"x.key\"");
        put("etc/b.io/x.key", "x");
        refuse("b.io", -EINVAL, "x.key: the certificate \"x.cert\"");
        put("etc/c.io/x.crt/y", "a folder");
        refuse("c.io", -EISDIR, "x.crt");
        CHECK_INT(certs_find_in(places, ARRAY_LEN(places), "a.io", &(struct certs){0}, NULL), -EINVAL);
        end_world();
}

TEST(containerd_folders)
{
        new_world();
        put("containerd/_default/d.crt", PEM("default"));
        struct certs c = find("any.io");
        CHECK_STR(c.ca_pem, PEM("default") "\n");
        certs_done(&c);
        put("containerd/q.io:5000/d.crt", PEM("written"));
        c = find("q.io:5000");
        CHECK_STR(c.ca_pem, PEM("written") "\n");
        certs_done(&c);
        put("containerd/q.io_5000_/d.crt", PEM("spelled"));
        c = find("q.io:5000");
        CHECK_STR(c.ca_pem, PEM("spelled") "\n");
        certs_done(&c);
        put("etc/q.io:5000/d.crt", PEM("docker"));
        c = find("q.io:5000");
        CHECK_STR(c.ca_pem, PEM("docker") "\n");
        certs_done(&c);
        end_world();
}

TEST(hosts_toml)
{
        new_world();
        put("containerd/q.io/ca.pem", PEM("ca"));
        put("containerd/q.io/more.pem", PEM("more"));
        put("containerd/q.io/ignored.crt", PEM("ignored"));
        put("containerd/q.io/hosts.toml",
                "server = 'https://q.io'\nca = 'ca.pem'\n[host.'https://q.io']\nca = ['more.pem']\n"
                "client = [['c.pem', '/abs/k.pem']]\n[host.'https://mirror.io']\nca = 'none.pem'\n");
        struct certs c = find("q.io");
        CHECK_STR(c.ca_pem, PEM("ca") "\n" PEM("more") "\n");
        CHECK_STR(c.client_cert, below("containerd/q.io/c.pem"));
        CHECK_STR(c.client_key, "/abs/k.pem");
        certs_done(&c);
        put("containerd/q.io/hosts.toml", "client = 'both.pem'");
        c = find("q.io");
        CHECK_STR(c.client_cert, below("containerd/q.io/both.pem"));
        CHECK_STR(c.client_key, below("containerd/q.io/both.pem"));
        certs_done(&c);
        put("containerd/q.io/hosts.toml", "client = ['both.pem']");
        c = find("q.io");
        CHECK_STR(c.client_key, below("containerd/q.io/both.pem"));
        certs_done(&c);
        put("containerd/q.io/hosts.toml", "\nclient = [1]");
        refuse("q.io", -EINVAL, "hosts.toml: line 2: \"client\"");
        put("containerd/q.io/hosts.toml", "ca = 1");
        refuse("q.io", -EINVAL, "\"ca\" must be");
        put("containerd/q.io/hosts.toml", "ca = [1]");
        refuse("q.io", -EINVAL, "\"ca\" must be");
        put("containerd/q.io/hosts.toml", "ca = 'absent.pem'");
        refuse("q.io", -ENOENT, "absent.pem");
        put("containerd/q.io/hosts.toml", "ca = ");
        refuse("q.io", -EINVAL, "line 1");
        end_world();
}

TEST(the_users_own)
{
        new_world();
        setenv("XDG_CONFIG_HOME", folder, 1);
        put("docker/certs.d/unit.test.example/a.crt", PEM("rootless"));
        struct certs c;
        CHECK_INT(certs_find("unit.test.example", &c, NULL), 0);
        CHECK_STR(c.ca_pem, PEM("rootless") "\n");
        certs_done(&c);
        put("containers/certs.d/unit.test.example/a.crt", PEM("containers"));
        CHECK_INT(certs_find("unit.test.example", &c, NULL), 0);
        CHECK_STR(c.ca_pem, PEM("containers") "\n");
        certs_done(&c);
        unsetenv("XDG_CONFIG_HOME");
        setenv("HOME", folder, 1);
        put(".config/containers/certs.d/unit.test.example/a.crt", PEM("home"));
        CHECK_INT(certs_find("unit.test.example", &c, NULL), 0);
        CHECK_STR(c.ca_pem, PEM("home") "\n");
        certs_done(&c);
        end_world();
}
