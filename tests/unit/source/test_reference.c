/* References: normalization, every kind of mistake and its message, paths and transports. */
#include "source/reference.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "check.h"

#define HEX64 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static void expect(const char *text, const char *full)
{
        struct reference ref;
        struct error err = {0};
        int r = reference_parse(text, &ref, &err);
        if (r != 0)
                CHECK_FAIL("%s: %s", text, err.msg);
        cleanup(freep) char *got = reference_text(&ref);
        if (!got || strcmp(got, full) != 0)
                CHECK_FAIL("%s became %s, not %s", text, got, full);
        if (ref.transport == REFERENCE_REGISTRY) {
                /* the full form is a fixed point */
                struct reference again;
                CHECK_INT(reference_parse_name(got, &again, &err), 0);
                cleanup(freep) char *second = reference_text(&again);
                CHECK_STR(second, full);
                reference_done(&again);
        }
        reference_done(&ref);
}

static void refuse_with(const char *text, int code, const char *words)
{
        struct reference ref = {.number = 77};
        struct error err = {0};
        int r = reference_parse(text, &ref, &err);
        if (r != code)
                CHECK_FAIL("%s gives %d, not %d", text, r, code);
        if (!strstr(err.msg, words))
                CHECK_FAIL("%s: \"%s\" does not say \"%s\"", text, err.msg, words);
        CHECK_INT(ref.number, 77);
        CHECK_INT(reference_parse(text, &ref, NULL), code);
}

static void refuse(const char *text, const char *words)
{
        refuse_with(text, -EINVAL, words);
}

TEST(normalization)
{
        expect("alpine", "docker.io/library/alpine:latest");
        expect("alpine:3.20", "docker.io/library/alpine:3.20");
        expect("library/alpine:latest", "docker.io/library/alpine:latest");
        expect("docker.io/alpine", "docker.io/library/alpine:latest");
        expect("index.docker.io/alpine", "docker.io/library/alpine:latest");
        expect("index.docker.io/org/app", "docker.io/org/app:latest");
        expect("docker://alpine", "docker.io/library/alpine:latest");
        expect("docker://quay.io/a/b:c", "quay.io/a/b:c");
        expect("docker:dind", "docker.io/library/docker:dind");
        expect("org/app", "docker.io/org/app:latest");
        expect("localhost/app", "localhost/app:latest");
        expect("localhost:5000/app", "localhost:5000/app:latest");
        expect("localhost:5000/app:1", "localhost:5000/app:1");
        expect("localhost:5000", "docker.io/library/localhost:5000");
        expect("test.com:5000", "docker.io/library/test.com:5000");
        expect("MyHost/app", "MyHost/app:latest");
        expect("[::1]:5000/app:x", "[::1]:5000/app:x");
        expect("[2001:db8::1]/a/b", "[2001:db8::1]/a/b:latest");
        expect("127.0.0.1:5000/app", "127.0.0.1:5000/app:latest");
        expect("gcr.io/a/b/c/d_e__f-g--h.i:T_a.g-1", "gcr.io/a/b/c/d_e__f-g--h.i:T_a.g-1");
        expect("my--host.example/app", "my--host.example/app:latest");
}

TEST(digests)
{
        expect("alpine@sha256:" HEX64, "docker.io/library/alpine@sha256:" HEX64);
        expect("q.io/a:t@sha256:" HEX64, "q.io/a:t@sha256:" HEX64);
        expect("q.io/a@sha512:" HEX64 HEX64, "q.io/a@sha512:" HEX64 HEX64);
        struct reference ref;
        CHECK_INT(reference_parse("alpine@sha256:" HEX64, &ref, NULL), 0);
        CHECK(!ref.tag);
        CHECK_INT(ref.digest.alg, DIGEST_SHA256);
        CHECK_INT(ref.digest.bytes[31], 0xef);
        CHECK_INT(ref.number, -1);
        reference_done(&ref);
        reference_done(&ref);

        refuse("alpine@", "empty");
        refuse("alpine@sha256", "looks like sha256:");
        refuse("alpine@sha256:abc", "3 hexadecimal digits where 64 belong");
        refuse("alpine@sha256:" HEX64 "00", "66 hexadecimal digits where 64 belong");
        refuse("alpine@sha256:ABCDEF6789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", "lower case");
        refuse("alpine@sha256:xyz", "'x' is no hexadecimal digit");
        refuse("alpine@blake3:" HEX64, "cannot be verified");
        refuse("alpine@sha256:" HEX64 "@sha256:" HEX64, "no hexadecimal digit");
        refuse("alpine@:" HEX64, "not a digest");
        refuse("user:secret@host/app", "looks like sha256");
}

TEST(mistakes_in_names)
{
        refuse("", "empty");
        refuse("Alpine", "did you mean alpine?");
        refuse("q.io/Org/App:Tag", "did you mean q.io/org/app:Tag?");
        refuse("docker.io/library/ALPINE", "must be lower case: did you mean docker.io/library/alpine?");
        refuse(HEX64, "image ID");
        refuse("a b", "no spaces");
        refuse("a\nb", "control character");
        refuse("caf\xc3\xa9", "not ASCII");
        refuse("a//b", "empty part");
        refuse("a/", "empty part");
        refuse("q.io/", "empty part");
        refuse("-a", "must begin");
        refuse("a-", "must end");
        refuse("a/_b", "must begin");
        refuse("a..b", "not a mixture");
        refuse("a___b", "not a mixture");
        refuse("a.-b", "not a mixture");
        refuse("a$b", "'$' must not stand in an image name");
        refuse("q.io/a:b/c", "':' must not stand in an image name");
        refuse("[::1]:5000", "a host alone");
        refuse("https://q.io/a", "leave out https://");
        refuse("docker://https://q.io/a", "leave out");
        refuse("ftp://q.io/a", "leave out");
}

TEST(mistakes_in_domains)
{
        refuse("q..io/a", "empty part");
        refuse("q.io-/a", "'-' must not stand at an edge");
        refuse("-q.io/a", "'-' must not stand at an edge");
        refuse("q_x.io/a", "'_' must not stand in");
        refuse("q.io:/a", "port");
        refuse("q.io:0/a", "port");
        refuse("q.io:65536/a", "port");
        refuse("q.io:4294967297/a", "port");
        refuse("q.io:5x/a", "port");
        refuse("[::1/a", "']' is missing");
        refuse("[::1]5000/a", "':' is missing");
        refuse("[::1%lo]:5000/a", "IPv6");
        refuse("[:]/a", "IPv6");
        refuse(":5000/a", "empty part");
}

TEST(tags)
{
        char text[300] = "q.io/a:";
        memset(text + 7, 't', 128);
        expect(text, text);
        text[7 + 128] = 't';
        refuse(text, "longer than 128");
        refuse("alpine:", "tag is empty");
        refuse("alpine:.x", "'.' must not stand at the start of a tag");
        refuse("alpine:a:b", "':' must not stand in a tag");
        refuse("alpine:x+y", "'+' must not stand in a tag");
        refuse("alpine:@sha256:" HEX64, "tag is empty");
}

TEST(lengths)
{
        char text[6000] = "q.io/";
        memset(text + 5, 'a', 255);
        struct reference ref;
        CHECK_INT(reference_parse_name(text, &ref, NULL), 0);
        CHECK_INT(strlen(ref.path), 255);
        reference_done(&ref);
        text[5 + 255] = 'a';
        refuse(text, "longer than 255");
        text[5 + 250] = '\0';
        refuse(text + 5, "longer than 255"); /* "library/" counts */
        memset(text, 'a', 5999);
        refuse(text, "longer than 4096");
        text[260] = '.';
        text[261] = '/';
        text[263] = '\0';
        refuse(text, "longer than 255");
}

TEST(transports)
{
        expect("oci:dir", "oci:dir");
        expect("oci:dir:", "oci:dir");
        expect("oci:/a/b:docker.io/library/alpine:3", "oci:/a/b:docker.io/library/alpine:3");
        expect("oci:dir:@2", "oci:dir:@2");
        expect("oci-archive:x.tar:name", "oci-archive:x.tar:name");
        expect("oci-archive://a/b.tar", "oci-archive://a/b.tar");
        expect("docker-archive:x.tar:alpine:3", "docker-archive:x.tar:alpine:3");
        expect("docker-archive:x.tar:@0", "docker-archive:x.tar:@0");
        struct reference ref;
        CHECK_INT(reference_parse("oci:d:x:y", &ref, NULL), 0);
        CHECK_INT(ref.transport, REFERENCE_OCI);
        CHECK_STR(ref.file, "d");
        CHECK_STR(ref.name, "x:y");
        CHECK_INT(ref.number, -1);
        CHECK(!ref.domain && !ref.path && !ref.tag);
        reference_done(&ref);
        CHECK_INT(reference_parse("docker-archive:d:@12", &ref, NULL), 0);
        CHECK_INT(ref.number, 12);
        CHECK(!ref.name);
        reference_done(&ref);

        refuse("oci:", "path is missing");
        refuse("oci::x", "path is missing");
        refuse("oci:d:@", "number is missing");
        refuse("oci:d:@-1", "number is missing");
        refuse("oci:d:@9999999999", "number is missing");
        refuse("docker-archive:d:alpine@sha256:" HEX64, "have no digest");
        refuse("docker-archive:d:Alpine", "lower case");
        refuse("dir:/x", "skopeo copy");
        refuse("containers-storage:alpine", "podman save");
        refuse("docker-daemon:alpine:latest", "docker save");
}

TEST(paths)
{
        char dir[] = "/tmp/reference.XXXXXX";
        CHECK(mkdtemp(dir));
        CHECK_INT(chdir(dir), 0);
        CHECK_INT(mkdir("layout", 0700), 0);
        CHECK_INT(close(open("layout/oci-layout", O_CREAT | O_WRONLY, 0600)), 0);
        CHECK_INT(mkdir("alpine", 0700), 0);
        CHECK_INT(close(open("saved", O_CREAT | O_WRONLY, 0600)), 0);
        CHECK_INT(close(open("with:colon", O_CREAT | O_WRONLY, 0600)), 0);
        CHECK_INT(mkfifo("fifo", 0600), 0);

        expect("layout", "oci:layout");
        expect("./layout", "oci:./layout");
        expect("./layout:name:1", "oci:./layout:name:1");
        expect("./layout:@1", "oci:./layout:@1");
        expect("saved", "saved");
        expect("./saved", "./saved");
        expect("with:colon", "with:colon");
        expect("./with:colon", "./with:colon");
        expect("alpine", "docker.io/library/alpine:latest"); /* a directory, but no image in it */
        expect("fifo", "docker.io/library/fifo:latest");
        struct reference ref;
        CHECK_INT(reference_parse("saved", &ref, NULL), 0);
        CHECK_INT(ref.transport, REFERENCE_ARCHIVE);
        reference_done(&ref);
        CHECK_INT(reference_parse_name("saved", &ref, NULL), 0);
        CHECK_INT(ref.transport, REFERENCE_REGISTRY);
        reference_done(&ref);

        refuse("./alpine", "not an OCI layout");
        refuse(".", "not an OCI layout");
        refuse("./fifo", "neither a directory nor a regular file");
        refuse_with("./absent", -ENOENT, "no such file");
        refuse_with("/nonexistent/x:y", -ENOENT, "no such file");
        refuse("./layout:@x", "number is missing");

        CHECK_INT(unlink("layout/oci-layout") | rmdir("layout") | rmdir("alpine") | unlink("saved"), 0);
        CHECK_INT(unlink("with:colon") | unlink("fifo") | chdir("/") | rmdir(dir), 0);
}
