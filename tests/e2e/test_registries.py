#!/usr/bin/env python3
"""Real registries as people have them: where credentials lie, certificates, registries.conf, what stands before a registry. Where
skopeo reads the same configuration it must come to the same end."""
import base64
import json
import os
import shutil
import unittest

import lab
import web

CREDS = {"user": "pass:word"}


def setUpModule():
    global ca, layout
    lab.need("docker-registry", "skopeo")
    web.hosts("registry.test", "mirror.test", "sub.wild.test", "other.test")
    ca = web.Authority()
    layout = lab.Layout().image(lab.layer(lab.member("a", "content"), lab.member("b", os.urandom(200000))))


class Case(unittest.TestCase):
    def works(self, image, *options, env=None):
        with lab.mounted(image, "--cache-dir", "none", *options, env=env) as mnt:
            self.assertEqual((mnt / "a").read_text(), "content")
            self.assertEqual(len((mnt / "b").read_bytes()), 200000)

    def fails(self, code, words, image, *options, env=None):
        p = lab.imagefs(image, lab.folder("mnt"), "--cache-dir", "none", *options, env=env, check=False)
        self.assertEqual(p.returncode, code, p.err)
        for word in words:
            self.assertIn(word, p.err)
        return p.err

    def skopeo(self, image, *options, env=None):
        """does skopeo get it?"""
        env = dict(env or {})
        conf = [f"--registries-conf={env['CONTAINERS_REGISTRIES_CONF']}"] if "CONTAINERS_REGISTRIES_CONF" in env else []
        p = lab.run("skopeo", "--insecure-policy", *conf, "inspect", "--raw", *options, f"docker://{image}", check=False,
                    env=dict(os.environ, **env))
        self.said = p.err
        return p.returncode == 0

    def alike(self, good, image, *options, env=None, skopeo=("--tls-verify=false",)):
        """imagefs and skopeo both get it, or neither"""
        if good:
            self.works(image, *options, env=env)
        else:
            self.fails(4, [], image, *options, env=env)
        more = [o for o in options if str(o).startswith(("--authfile", "--creds"))]
        self.assertEqual(self.skopeo(image, *skopeo, *more, env=env), good)


def auth(user="user", password="pass:word"):
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def document(path, doc):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(doc if isinstance(doc, str) else json.dumps(doc))
    return path


class Credentials(Case):
    @classmethod
    def setUpClass(cls):
        cls.registry = lab.Registry(auth=CREDS)
        cls.image = cls.registry.push(layout, "org/app", creds="user:pass:word")
        cls.good = {"auths": {cls.registry.name: auth()}}
        cls.bad = {"auths": {cls.registry.name: auth(password="wrong")}}

    @classmethod
    def tearDownClass(cls):
        cls.registry.stop()

    def home(self, name, doc):
        home = lab.folder("home")
        document(home / name, doc)
        return dict(HOME=str(home), XDG_RUNTIME_DIR=str(home / "run"))

    def test_docker_config(self):
        self.alike(True, self.image, env=self.home(".docker/config.json", self.good))
        self.alike(False, self.image, env=self.home(".docker/config.json", self.bad))
        self.alike(False, self.image, env=self.home(".docker/config.json", {}))
        url = {"auths": {f"https://{self.registry.name}/v1/": auth()}, "psFormat": "x", "HttpHeaders": {"a": "b"}}
        self.alike(True, self.image, env=self.home(".docker/config.json", url))
        self.works(self.image, env=self.home(".dockercfg", {f"https://{self.registry.name}/v1/": auth()}))

    def test_docker_config_variable(self):
        d = document(lab.folder() / "config.json", self.good).parent
        self.alike(True, self.image, env=dict(self.home(".docker/config.json", self.bad), DOCKER_CONFIG=str(d)))

    def test_docker_auth_config(self):
        env = self.home(".docker/config.json", self.bad)
        self.works(self.image, env=dict(env, DOCKER_AUTH_CONFIG=json.dumps(self.good)))
        said = self.fails(4, [], self.image, env=dict(env, DOCKER_AUTH_CONFIG="{" + json.dumps(self.good)))
        self.assertNotIn(auth()["auth"], said)

    def test_duplicate_keys(self):
        """docker takes the last one"""
        doc = f'{{"auths": {{}}, "auths": {{"{self.registry.name}": {json.dumps(auth())}}}}}'
        self.alike(True, self.image, env=self.home(".docker/config.json", doc))

    def test_containers_auth(self):
        self.alike(True, self.image, env=self.home("run/containers/auth.json", self.good))
        self.alike(True, self.image, env=self.home(".config/containers/auth.json", self.good))
        deep = {"auths": {self.registry.name: auth(password="wrong"), f"{self.registry.name}/org": auth()}}
        self.alike(True, self.image, env=self.home("run/containers/auth.json", deep))
        other = {"auths": {f"{self.registry.name}/other": auth()}}
        self.alike(False, self.image, env=self.home("run/containers/auth.json", other))

    def test_runtime_file_before_others(self):
        env = self.home("run/containers/auth.json", self.good)
        document(lab.pathlib.Path(env["HOME"]) / ".docker/config.json", self.bad)
        self.alike(True, self.image, env=env)
        env = self.home("run/containers/auth.json", self.bad)
        document(lab.pathlib.Path(env["HOME"]) / ".docker/config.json", self.good)
        self.alike(False, self.image, env=env)

    def test_named_file(self):
        good, bad = (document(lab.folder() / "auth.json", d) for d in (self.good, self.bad))
        env = self.home(".docker/config.json", self.bad)
        self.alike(True, self.image, f"--authfile={good}", env=env)
        self.alike(True, self.image, env=dict(env, REGISTRY_AUTH_FILE=str(good)))
        self.alike(False, self.image, f"--authfile={bad}", env=dict(env, REGISTRY_AUTH_FILE=str(good)))
        self.fails(3, ["/nowhere/auth.json"], self.image, "--authfile=/nowhere/auth.json")

    def test_creds(self):
        self.alike(True, self.image, "--creds=user:pass:word", env=self.home(".docker/config.json", self.bad))
        self.alike(False, self.image, "--creds=user:pass", env=self.home(".docker/config.json", self.good))

    def test_podman_login(self):
        lab.need("podman")
        home = lab.folder("home")
        env = dict(HOME=str(home), XDG_RUNTIME_DIR=str(home / "run"))
        file = home / "made.json"
        lab.run("podman", "login", "--tls-verify=false", f"--authfile={file}", "-u", "user", "-p", "pass:word",
                self.registry.name, env=dict(os.environ, **env))
        self.alike(True, self.image, f"--authfile={file}", env=env)
        lab.run("podman", "logout", f"--authfile={file}", self.registry.name, env=dict(os.environ, **env))
        self.alike(False, self.image, f"--authfile={file}", env=env)

    # ---- helpers

    def helper(self, script):
        """PATH with docker-credential-tests in it"""
        d = lab.folder("bin")
        f = d / "docker-credential-tests"
        f.write_text(f"#!/bin/sh\ncd {d}\ntr '\\0' ' ' <\"/proc/$$/cmdline\" >>cmdline\nprintf '%s' \"$1\" >verb\ncat >server\n"
                     f"{script}\n")
        f.chmod(0o755)
        return d, dict(PATH=f"{d}:{os.environ['PATH']}")

    ANSWER = """printf '{"ServerURL":"%s","Username":"user","Secret":"pass:word"}' "$(cat server)" """

    def test_helper_of_a_registry(self):
        d, path = self.helper(self.ANSWER)
        env = dict(self.home(".docker/config.json", {"credHelpers": {self.registry.name: "tests"}}), **path)
        self.alike(True, self.image, env=env)
        self.assertEqual((d / "verb").read_text(), "get")
        self.assertEqual((d / "server").read_text().strip(), self.registry.name)

    def test_helper_store(self):
        _, path = self.helper(self.ANSWER)
        doc = {"credsStore": "tests", "auths": {self.registry.name: {}}}
        self.works(self.image, env=dict(self.home(".docker/config.json", doc), **path))

    def test_helper_with_nothing(self):
        _, path = self.helper("echo credentials not found in native keychain; exit 1")
        doc = {"credsStore": "tests", "auths": {self.registry.name: auth()}}
        self.fails(4, ["docker-credential-tests"], self.image, env=dict(self.home(".docker/config.json", doc), **path))

    def test_helper_that_fails(self):
        _, path = self.helper("echo the keychain is locked; exit 1")
        env = dict(self.home(".docker/config.json", {"credsStore": "tests"}), **path)
        self.fails(4, ["docker-credential-tests", "the keychain is locked"], self.image, env=env)

    def test_helper_that_is_absent(self):
        env = self.home(".docker/config.json", {"credsStore": "none-here"})
        self.fails(4, ["docker-credential-none-here is not installed"], self.image, env=env)
        with lab.Registry() as public:
            self.works(public.push(layout, "org/app"), env=env)

    def test_helper_has_ordinary_signals(self):
        """the daemon blocks and ignores some; programs that it starts must not inherit that"""
        d, path = self.helper("grep -E '^Sig(Blk|Ign)' /proc/self/status >signals\n" + self.ANSWER)
        front_env = dict(self.home(".docker/config.json", {"credsStore": "tests"}), **path)
        self.works(self.image, env=front_env)
        for line in (d / "signals").read_text().splitlines():
            self.assertEqual(int(line.split()[1], 16) & 0x7fffffff, 0, line)  # above are glibc's own


class Tls(Case):
    HOST = "registry.test"

    @classmethod
    def setUpClass(cls):
        cls.certificate = ca.issue("server", "registry.test", "127.0.0.1")
        cls.registry = lab.Registry(tls=cls.certificate, host=cls.HOST)
        cls.image = cls.registry.push(layout, "org/app")

    @classmethod
    def tearDownClass(cls):
        cls.registry.stop()

    def certs_d(self, place, name=None, **files):
        d = lab.pathlib.Path(place) / "certs.d" / (name or self.registry.name)
        d.mkdir(parents=True)
        for target, source in files.items():
            shutil.copy(source, d / target.replace("_", "."))
        self.addCleanup(shutil.rmtree, d, True)
        return d

    def home(self):
        return lab.pathlib.Path(os.environ["HOME"])

    def test_unknown_authority(self):
        said = self.fails(5, ["not trusted", f"certs.d/{self.registry.name}/ca.crt"], self.image)
        self.assertEqual(len(said.splitlines()), 1)
        self.assertFalse(self.skopeo(self.image))
        image = self.image.replace("registry.test", "127.0.0.1")
        self.fails(5, ["not trusted"], image)  # loopback is no reason to believe anybody who speaks TLS

    def test_other_name(self):
        env = dict(SSL_CERT_FILE=str(ca.ca))
        self.fails(5, ["not for this host"], self.image.replace("registry.test", "other.test"), env=env)

    def test_expired(self):
        cert = ca.issue("expired", "registry.test", days=0)
        with web.Server(tls=cert, host=self.HOST) as server:
            lab.time.sleep(1.1)
            said = self.fails(5, ["expired"], f"{server.name}/org/app", env=dict(SSL_CERT_FILE=str(ca.ca)))
            self.assertNotIn("ca.crt", said)

    def test_plain_server(self):
        with lab.Registry(host=self.HOST) as plain:
            image = plain.push(layout, "org/app")
            said = self.fails(5, ["https", "insecure"], image)
            self.assertEqual(len(said.splitlines()), 1)
            self.works(image, "--tls-verify=false")

    def test_containers_certs_d(self):
        self.certs_d(self.home() / ".config/containers", ca_crt=ca.ca)
        self.works(self.image)
        self.assertTrue(self.skopeo(self.image))

    def test_docker_certs_d(self):
        self.certs_d(self.home() / ".config/docker", ca_crt=ca.ca)
        self.works(self.image)

    def test_machine_certs_d(self):
        for place in ("/etc/containers", "/etc/docker"):
            if not os.path.isdir(place):
                continue
            copy = lab.folder("etc")
            shutil.copytree(place, copy, dirs_exist_ok=True)
            lab.run("mount", "--bind", copy, place)
            self.addCleanup(lab.run, "umount", place)
            with self.subTest(place):
                d = self.certs_d(place, ca_crt=ca.ca)
                self.works(self.image)
                self.assertTrue(self.skopeo(self.image))
                os.rename(d, d.with_name("elsewhere"))
                self.fails(5, ["not trusted"], self.image)
                os.rename(d.with_name("elsewhere"), d)
                lab.run("umount", place)
                lab.run("mount", "--bind", lab.folder(), place)

    def test_environment(self):
        self.works(self.image, env=dict(SSL_CERT_FILE=str(ca.ca)))
        self.assertTrue(self.skopeo(self.image, env=dict(SSL_CERT_FILE=str(ca.ca))))
        d = lab.folder()
        shutil.copy(ca.ca, d / "ca.pem")
        lab.run("openssl", "rehash", d)
        self.works(self.image, env=dict(SSL_CERT_DIR=str(d)))

    def test_unchecked(self):
        self.works(self.image, "--tls-verify=false")
        self.assertTrue(self.skopeo(self.image, "--tls-verify=false"))
        conf = document(lab.folder() / "r.conf", f'[[registry]]\nlocation = "{self.registry.name}"\ninsecure = true\n')
        env = dict(CONTAINERS_REGISTRIES_CONF=str(conf))
        self.works(self.image, env=env)
        self.assertTrue(self.skopeo(self.image, env=env))
        self.fails(5, ["not trusted"], self.image, "--tls-verify=true", env=env)

    def test_client_certificate(self):
        cert, key = self.certificate
        port, name = lab.free_port(), "registry.test"
        client = ca.issue("client")
        conf = (f"server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {cert}; ssl_certificate_key {key};\n"
                f"ssl_client_certificate {ca.ca}; ssl_verify_client on;\n"
                f"location / {{ proxy_pass https://127.0.0.1:{self.registry.port}; proxy_set_header Host $http_host; }} }}")
        image = f"{name}:{port}/org/app"
        with web.nginx(conf, port):
            d = self.certs_d(self.home() / ".config/containers", f"{name}:{port}", ca_crt=ca.ca)
            self.fails(5, ["client certificate", str(d)], image)
            shutil.copy(client[0], d / "me.cert")
            self.fails(2, ["me.key", "missing"], image)
            shutil.copy(client[1], d / "me.key")
            self.works(image)
            self.assertTrue(self.skopeo(image))

    def test_client_certificate_demanded_in_the_handshake(self):
        with web.Server(upstream=self.registry, tls=self.certificate, client_ca=ca.ca, host=self.HOST) as server:
            d = self.certs_d(self.home() / ".config/containers", server.name, ca_crt=ca.ca)
            self.fails(5, ["client certificate", str(d)], f"{server.name}/org/app")

    def test_http2(self):
        cert, key = self.certificate
        port = lab.free_port()
        conf = (f"log_format protocols '$server_protocol $request_method $uri';\n"
                f"server {{ listen 127.0.0.1:{port} ssl http2; ssl_certificate {cert}; ssl_certificate_key {key};\n"
                f"location / {{ proxy_pass https://127.0.0.1:{self.registry.port}; proxy_set_header Host $http_host; }} }}")
        with web.nginx(conf, port) as d:
            (d / "x").touch()
            self.works(f"registry.test:{port}/org/app", env=dict(SSL_CERT_FILE=str(ca.ca)))
            lines = (d / "access").read_text().splitlines()
            self.assertGreater(len(lines), 1)
            for line in lines:
                self.assertIn("HTTP/2.0", line)


class Fronts(Case):
    """What stands before a registry."""

    @classmethod
    def setUpClass(cls):
        cls.registry = lab.Registry()
        cls.image = cls.registry.push(layout, "org/app")
        cls.big_layout = lab.Layout().image(lab.layer(lab.member("a", "content"), lab.member("big", os.urandom(3 << 20)),
                                                      lab.member("b", os.urandom(200000)), level=1))
        cls.registry.push(cls.big_layout, "org/big")

    @classmethod
    def tearDownClass(cls):
        cls.registry.stop()

    def proxy(self, more=""):
        return f"proxy_pass http://127.0.0.1:{self.registry.port}; proxy_set_header Host $http_host; {more}"

    def test_path_prefix(self):
        port = lab.free_port()
        conf = (f"server {{ listen 127.0.0.1:{port}; location / {{ return 404; }}\n"
                f"location = /v2/ {{ {self.proxy()} }}\n"
                f"location /v2/team/cache/ {{ rewrite ^/v2/team/cache/(.*) /v2/$1 break; {self.proxy()} }} }}")
        with web.nginx(conf, port):
            self.works(f"127.0.0.1:{port}/team/cache/org/app")
            conf = document(lab.folder() / "r.conf", f'[[registry]]\nprefix = "example.test/x"\n'
                            f'location = "127.0.0.1:{port}/team/cache/org"\ninsecure = true\n')
            env = dict(CONTAINERS_REGISTRIES_CONF=str(conf))
            self.works("example.test/x/app", env=env)
            self.assertTrue(self.skopeo("example.test/x/app", env=env), self.said)

    def test_redirected_blobs(self):
        """as to object storage: another origin, an address that is signed, no credentials welcome"""
        front, storage = lab.free_port(), lab.free_port()
        conf = (f"server {{ listen 127.0.0.1:{front}; location / {{ {self.proxy()} }}\n"
                f"location ~ ^/v2/.*/blobs/ {{ return 307 http://127.0.0.1:{storage}$uri?X-Amz-Signature=abc; }} }}\n"
                f"server {{ listen 127.0.0.1:{storage};\n location / {{ if ($arg_X-Amz-Signature != abc) {{ return 403; }}\n"
                f"if ($http_authorization) {{ return 400; }} {self.proxy()} }} }}")
        conf = conf.replace("$arg_X-Amz-Signature", "$args").replace("!= abc", '!= "X-Amz-Signature=abc"')
        with web.nginx(conf, front, storage) as d:
            with lab.mounted(f"127.0.0.1:{front}/org/big", "--creds", "user:secret", "--cache-dir", "none") as mnt:
                self.assertEqual((mnt / "a").read_text(), "content")
                self.assertEqual(len((mnt / "big").read_bytes()), 3 << 20)
            lines = (d / "access").read_text().splitlines()
            self.assertEqual([x for x in lines if '" 40' in x and '"\\x16' not in x], [])  # but for a try of TLS
            redirects = [x for x in lines if '" 307 ' in x and "/blobs/" in x]
            self.assertEqual(len(redirects), 2)  # config and layer: the address is kept

    def test_slow(self):
        port = lab.free_port()
        with web.nginx(f"server {{ listen 127.0.0.1:{port}; location / {{ {self.proxy('limit_rate 2m;')} }} }}", port):
            self.works(f"127.0.0.1:{port}/org/big")

    def test_without_ranges(self):
        port = lab.free_port()
        cut = self.proxy('proxy_set_header Range ""; max_ranges 0;')
        with web.nginx(f"server {{ listen 127.0.0.1:{port}; location / {{ {cut} }} }}", port) as d:
            with lab.mounted(f"127.0.0.1:{port}/org/big") as mnt:
                self.assertEqual((mnt / "a").read_text(), "content")
                self.assertEqual(len((mnt / "b").read_bytes()), 200000)
                self.assertEqual(len((mnt / "big").read_bytes()), 3 << 20)
            self.assertNotIn('" 206 ', (d / "access").read_text())

    def test_pull_through_cache(self):
        with lab.Registry(proxy=self.registry.url) as cache:
            image = f"{cache.name}/org/big"
            for _ in range(2):
                self.works(image)
            self.registry.stop()
            try:
                self.works(image)
            finally:
                self.registry.start()

    def test_ipv6(self):
        try:
            server = web.Server(upstream=self.registry, host="[::1]", bind="::1")
        except OSError:
            self.skipTest("no IPv6 here")
        with server:
            self.works(f"{server.name}/org/app")
            self.assertGreater(server.count("GET", "/blobs/"), 0)

    def test_server_down(self):
        port = lab.free_port()
        image = f"127.0.0.1:{port}/org/app"
        said = self.fails(5, ["nobody answers", f"127.0.0.1:{port}"], image)
        self.assertEqual(said.count("org/app"), 1, said)

    def test_no_such_host(self):
        self.fails(5, ["nowhere.invalid", "name"], "nowhere.invalid/org/app")


class Configuration(Case):
    """registries.conf"""

    @classmethod
    def setUpClass(cls):
        cls.registry = lab.Registry()
        cls.registry.push(layout, "org/app")
        cls.registry.push(layout, "library/alpine")
        digest = layout.entries[0]["digest"]
        cls.by_tag, cls.by_digest = "example.test/org/app:latest", f"example.test/org/app@{digest}"

    @classmethod
    def tearDownClass(cls):
        cls.registry.stop()

    def conf(self, text):
        return dict(CONTAINERS_REGISTRIES_CONF=str(document(lab.folder() / "registries.conf", text)))

    def mirrors(self, *mirrors, location="127.0.0.1:1"):
        text = f'[[registry]]\nprefix = "example.test"\nlocation = "{location}"\ninsecure = true\n'
        for m in mirrors:
            name, rule = m if isinstance(m, tuple) else (m, None)
            text += f'[[registry.mirror]]\nlocation = "{name}"\ninsecure = true\n'
            text += f'pull-from-mirror = "{rule}"\n' if rule else ""
        return self.conf(text)

    def test_mirrors_in_order(self):
        with web.Server(upstream=self.registry) as one, web.Server(upstream=self.registry) as two:
            env = self.mirrors(one.name, two.name)
            self.works(self.by_tag, env=env)
            self.assertGreater(one.count(), 0)
            self.assertEqual(two.count(), 0)
            self.assertTrue(self.skopeo(self.by_tag, env=env), self.said)

    def test_next_mirror(self):
        down = f"127.0.0.1:{lab.free_port()}"
        with web.Server(lambda r: (404, {}, b"")) as empty, web.Server(lambda r: (500, {}, b"")) as broken, \
                web.Server(lambda r: (401, {"WWW-Authenticate": 'Basic realm="x"'}, b"")) as locked:
            env = self.mirrors(down, empty.name, broken.name, locked.name, location=self.registry.name)
            self.works(self.by_tag, env=env)
            self.assertTrue(self.skopeo(self.by_tag, env=env), self.said)
            for server in (empty, broken, locked):
                self.assertGreater(server.count(), 0)
            env = self.mirrors(down, empty.name)
            self.fails(3, ["example.test/org/app"], self.by_tag, env=env)

    def test_mirror_rules(self):
        with web.Server(upstream=self.registry) as tags, web.Server(upstream=self.registry) as digests:
            env = self.mirrors((tags.name, "tag-only"), (digests.name, "digest-only"), location=self.registry.name)
            self.works(self.by_tag, env=env)
            self.assertGreater(tags.count(), 0)
            self.assertEqual(digests.count(), 0)
            tags.forget()
            self.works(self.by_digest, env=env)
            self.assertGreater(digests.count(), 0)
            self.assertEqual(tags.count(), 0)

    def test_credentials_are_not_for_mirrors(self):
        with web.Server(upstream=self.registry) as mirror:
            asked = web.Server(lambda r: None if r.auth else (401, {"WWW-Authenticate": 'Basic realm="x"'}, b""),
                               upstream=self.registry)
            with asked:
                env = self.mirrors(asked.name, mirror.name)
                self.works(self.by_tag, "--creds=user:secret", env=env)
                self.assertEqual([r for r in asked.seen + mirror.seen if r.auth], [])

    def test_blocked(self):
        env = self.conf('[[registry]]\nlocation = "example.test"\nblocked = true\n')
        said = self.fails(4, ["example.test", "blocked", "registries.conf"], self.by_tag, env=env)
        self.assertEqual(said.count("example.test/org/app"), 1, said)
        self.assertFalse(self.skopeo(self.by_tag, env=env))

    def test_wildcard(self):
        port = self.registry.port
        env = self.conf('[[registry]]\nprefix = "*.wild.test"\ninsecure = true\n')
        image = f"sub.wild.test:{port}/org/app"
        self.works(image, env=env)
        self.assertTrue(self.skopeo(image, env=env))

    def test_drop_ins(self):
        home = lab.folder("home")
        document(home / ".config/containers/registries.conf", '[[registry]]\nlocation = "example.test"\nblocked = true\n')
        document(home / ".config/containers/registries.conf.d/10-x.conf",
                 f'[[registry]]\nprefix = "example.test"\nlocation = "{self.registry.name}"\ninsecure = true\n')
        self.works(self.by_tag, env=dict(HOME=str(home)))
        self.assertTrue(self.skopeo(self.by_tag, env=dict(HOME=str(home))))

    def test_malformed(self):
        env = self.conf('[[registry]]\nlocation = "example.test\n')
        self.fails(2, ["registries.conf", "line 2"], self.by_tag, env=env)

    def test_short_names(self):
        """Docker Hub's, unless an alias says otherwise"""
        hub = f'[[registry]]\nprefix = "docker.io"\nlocation = "{self.registry.name}"\ninsecure = true\n'
        self.works("alpine", env=self.conf(hub))
        self.works("library/alpine", env=self.conf(hub))
        alias = hub + f'[aliases]\n"app" = "{self.registry.name}/org/app"\n"org/thing" = "{self.registry.name}/org/app"\n'
        self.works("app", env=self.conf(alias))
        self.works("app:latest", env=self.conf(alias))
        self.works("org/thing", env=self.conf(alias))
        self.fails(3, ["docker.io/library/app"], "docker.io/library/app", env=self.conf(alias))

    def test_search(self):
        hub = f'[[registry]]\nprefix = "docker.io"\nlocation = "127.0.0.1:1"\ninsecure = true\n'
        with web.Server(lambda r: (404, {}, b"")) as empty:
            names = f'unqualified-search-registries = ["{empty.name}", "{self.registry.name}"]\n'
            self.works("org/app", env=self.conf(names + hub))
            self.assertGreater(empty.count(), 0)
            self.fails(3, ["org/none", empty.name, self.registry.name], "org/none", env=self.conf(names + hub))
        self.works("alpine", env=self.conf(f'unqualified-search-registries = ["{self.registry.name}", "docker.io"]\n' +
                                           hub.replace("127.0.0.1:1", self.registry.name)))


class Docker(Case):
    """/etc/docker/daemon.json"""

    def setUp(self):
        os.makedirs("/etc/docker", exist_ok=True)
        self.dir = lab.folder("docker")
        lab.run("mount", "--bind", self.dir, "/etc/docker")
        self.addCleanup(lab.run, "umount", "/etc/docker")

    def test_insecure_registries(self):
        with lab.Registry(host="registry.test") as plain:
            image = plain.push(layout, "org/app")
            self.fails(5, ["https"], image)
            document(self.dir / "daemon.json", {"insecure-registries": [plain.name]})
            self.works(image)
            self.fails(5, ["https"], image, "--tls-verify=true")

    def test_mirrors_of_docker_hub(self):
        with lab.Registry() as registry, web.Server(upstream=registry) as mirror:
            registry.push(layout, "library/alpine")
            document(self.dir / "daemon.json", {"registry-mirrors": [mirror.url + "/"]})
            self.works("alpine")
            self.assertGreater(mirror.count(), 0)

    def test_broken_file(self):
        with lab.Registry() as registry:
            image = registry.push(layout, "org/app")
            document(self.dir / "daemon.json", "{")
            self.works(image)


class Proxies(Case):
    @classmethod
    def setUpClass(cls):
        cls.plain = lab.Registry(host="registry.test")
        cls.image = cls.plain.push(layout, "org/app")

    @classmethod
    def tearDownClass(cls):
        cls.plain.stop()

    def test_plain(self):
        with web.Server() as proxy:
            env = dict(http_proxy=proxy.url)
            self.works(self.image, "--tls-verify=false", env=env)
            self.assertGreater(proxy.count("GET", "http://registry.test"), 0)
            proxy.forget()
            self.works(self.image, "--tls-verify=false", env=dict(env, NO_PROXY="registry.test"))
            self.assertEqual(proxy.count(), 0)

    def test_tunnel(self):
        cert = ca.issue("tunnel", "registry.test")
        with lab.Registry(tls=cert, host="registry.test") as registry, web.Server() as proxy:
            image = registry.push(layout, "org/app")
            env = dict(SSL_CERT_FILE=str(ca.ca))
            for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
                proxy.forget()
                self.works(image, env=dict(env, **{name: proxy.url}))
                self.assertGreater(proxy.count("CONNECT", registry.name), 0, name)
            proxy.forget()
            self.works(image, env=dict(env, HTTPS_PROXY=proxy.url, no_proxy=".test"))
            self.assertEqual(proxy.count(), 0)

    def test_proxy_password_is_no_secret_of_ours_to_tell(self):
        dead = f"http://user:s3cr3t@127.0.0.1:{lab.free_port()}"
        said = self.fails(5, ["proxy"], "registry.test/org/app", "--debug=all", env=dict(HTTPS_PROXY=dead))
        self.assertNotIn("s3cr3t", said)

    def test_loopback_needs_none(self):
        dead = f"http://127.0.0.1:{lab.free_port()}"
        image = self.image.replace("registry.test", "127.0.0.1")
        self.works(image, env=dict(http_proxy=dead, HTTPS_PROXY=dead, ALL_PROXY=dead))


if __name__ == "__main__":
    lab.main()
