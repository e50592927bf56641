/* A registry with a certificate of our own making: who is trusted, who is not, and what the error says. */
#include "unit/source/faulty.h"

/* A certificate that signs itself, for 127.0.0.1 only. */
static void make_certificate(void)
{
        char command[400];
        snprintf(command, sizeof command,
                "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=test -addext subjectAltName=IP:127.0.0.1 "
                "-keyout %s/key.pem -out %s/cert.pem 2>/dev/null",
                faulty.dir, faulty.dir);
        if (system(command) != 0)
                faulty_skip("no openssl program");
}

static void start(void)
{
        faulty.tls = true;
        faulty.prepare = make_certificate;
        faulty_set("{\"redirect\":true}", NULL);
}

/* Puts the certificate where podman's users put theirs, or takes it away. */
static void trust(bool yes)
{
        char command[600];
        snprintf(command, sizeof command,
                yes ? "d=%s/.config/containers/certs.d/127.0.0.1:%u; mkdir -p $d && cp %s/cert.pem $d/ca.crt"
                    : "rm -rf %s/.config/containers/certs.d; : %u %s",
                faulty.dir, faulty.registry, faulty.dir);
        CHECK_INT(system(command), 0);
}

static int resolve(const char *host, int tls_verify, struct error *err)
{
        cleanup(source_closep) struct source *s = faulty_open_at(host, "test/app", NULL, tls_verify);
        struct buf out;
        buf_init(&out, SOURCE_MANIFEST_MAX);
        char *type = NULL;
        int r = s->ops->resolve(s, NULL, &out, &type, err);
        if (r == 0) {
                cleanup(blob_unrefp) struct blob *b = NULL;
                char data[100];
                CHECK_INT(s->ops->blob(s, &faulty.layer, &b, NULL), 0);
                CHECK_INT(blob_read_all(b, data, sizeof data, 1000, err),
                        0); /* from the storage server, same authority */
                CHECK_MEM(data, faulty.blob + 1000, sizeof data);
        }
        free(type);
        buf_done(&out);
        return r;
}

TEST(unknown_authority)
{
        start();
        struct error err = {0};
        CHECK_INT(resolve("127.0.0.1", -1, &err), -EPROTO);
        CHECK(strstr(err.msg, "not trusted") && strstr(err.msg, "/certs.d/127.0.0.1:") && strstr(err.msg, "ca.crt"));
        CHECK_INT(faulty_count("/v2/", NULL, 0), 0);
}

TEST(not_verified_on_request)
{
        start();
        CHECK_INT(resolve("127.0.0.1", 0, NULL), 0);
        CHECK_INT(resolve("127.0.0.1", 1, NULL), -EPROTO);
}

TEST(authority_in_certs_d)
{
        start();
        trust(true);
        struct error err = {0};
        CHECK_INT(resolve("127.0.0.1", -1, &err), 0);
        trust(false);
        CHECK_INT(resolve("127.0.0.1", -1, &err), -EPROTO);
}

TEST(client_certificate)
{
        start();
        trust(true);
        CHECK_INT(resolve("127.0.0.1", -1, NULL), 0);
        CHECK_STR(faulty_field("/v2/", 0, "certificate"), "");
        char command[600];
        snprintf(command, sizeof command,
                "cd %s/.config/containers/certs.d/127* && cp %s/cert.pem c.cert && cp %s/key.pem c.key", faulty.dir,
                faulty.dir, faulty.dir);
        CHECK_INT(system(command), 0);
        faulty_set("{\"redirect\":true}", NULL);
        CHECK_INT(resolve("127.0.0.1", -1, NULL), 0);
        CHECK_INT(strlen(faulty_field("/v2/", 0, "certificate")), 64);
        CHECK_STR(faulty_field("/data/", 0, "port"), "storage");
        CHECK_STR(faulty_field("/data/", 0, "certificate"), ""); /* another origin */
        trust(false);
}

TEST(authority_in_the_environment)
{
        start();
        char path[200];
        struct error err = {0};
        snprintf(path, sizeof path, "%s/cert.pem", faulty.dir);
        setenv("SSL_CERT_FILE", path, 1);
        CHECK_INT(resolve("127.0.0.1", -1, &err), 0);
        CHECK_INT(resolve("localhost", -1, &err), -EPROTO); /* trusted, but not as that host */
        CHECK(strstr(err.msg, "not for this host"));
        unsetenv("SSL_CERT_FILE");
}
