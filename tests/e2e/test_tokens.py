#!/usr/bin/env python3
"""Tokens, secrets and manners: a token server of the test's own and a front before a real registry that wants its tokens. What the
servers saw decides."""
import base64
import concurrent.futures
import email.utils
import json
import os
import pathlib
import re
import subprocess
import threading
import time
import unittest

import lab
import web

USER, PASSWORD = "user", "pa55:w0rd-of-the-test"
BASIC = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
LONG = 30 << 20


def setUpModule():
    global registry, layout, big, content
    lab.need("docker-registry", "skopeo")
    web.hosts("registry.test", "auth.test", "mirror.test")
    registry = lab.Registry()
    layout = lab.Layout().image(lab.layer(lab.member("a", "content")))
    registry.push(layout, "org/app")
    content = os.urandom(2 << 20)
    files = [lab.member(f"f{i}", content[i * 100000:(i + 1) * 100000]) for i in range(20)]
    big = lab.Layout().image(lab.layer(*files, level=1), lab.layer(lab.member("a", "content")))
    registry.push(big, "org/big")
    many = [lab.layer(lab.member(f"f{i}", content[i * 100000:(i + 1) * 100000]), level=1) for i in range(16)]
    registry.push(lab.Layout().image(*many), "org/many")


def tearDownModule():
    registry.stop()


def unauthorized(challenge, code="UNAUTHORIZED"):
    return 401, {"WWW-Authenticate": challenge}, json.dumps({"errors": [{"code": code, "message": "no"}]})


class Gate:
    """A front before the registry that lets pass who has a good token, and the server that gives them out.
    anonymous: who has no name gets a token, too; refresh: the refresh token that POST takes (None: there is no POST)."""

    def __init__(self, anonymous=True, refresh=None, realm=None, scope="repository:{0}:pull", life=300, uses=0,
                 public=lambda r: False, tls=None, host="127.0.0.1", upstream=None, **kw):
        self.anonymous, self.refresh, self.scope, self.life, self.uses = anonymous, refresh, scope, life, uses
        self.public, self.tokens, self.lock, self.harbor = public, {}, threading.Lock(), False
        self.refusals, self.together, self.refused = 0, 0, threading.Condition()
        self.server = web.Server(self.token)
        self.front = web.Server(self.check, upstream=upstream or registry, tls=tls, host=host, **kw)
        self.realm = realm or f"{self.server.url}/token"
        self.name = self.front.name

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.__exit__()
        self.front.__exit__()

    def revoke(self):
        with self.lock:
            self.tokens.clear()

    def token(self, r):
        if r.method == "POST":
            if self.refresh is None:
                return 404, {}, b""
            if r.form.get("refresh_token") != [self.refresh]:
                return unauthorized("Basic")
        elif r.auth != BASIC and not (self.anonymous and not r.auth):
            return unauthorized("Basic")
        with self.lock:
            value = f"t0ken-{len(self.server.seen)}-{os.urandom(4).hex()}"
            self.tokens[value] = 0
        return 200, {"Content-Type": "application/json"}, json.dumps({"token": value, "expires_in": self.life})

    def check(self, r):
        if self.public(r):
            return None
        with self.lock:
            value = r.auth[7:] if r.auth.startswith("Bearer ") else None
            if value in self.tokens:
                self.tokens[value] += 1
                if not self.uses or self.tokens[value] <= self.uses:
                    return None
                del self.tokens[value]
        with self.refused:  # so many refusals are held back until they are that many
            self.refusals += 1
            self.refused.notify_all()
            self.refused.wait_for(lambda: self.refusals >= self.together, 10)
        if self.harbor and r.auth:
            return unauthorized('Basic realm="harbor"')
        m = re.match(r"/v2/(.*)/(manifests|blobs)/", r.path)
        scope = f',scope="{self.scope.format(m[1] if m else "")}"' if self.scope else ""
        error = ',error="invalid_token"' if r.auth else ""
        return unauthorized(f'Bearer realm="{self.realm}",service="the gate"{scope}{error}')

    def scopes(self):
        return [r.query.get("scope", r.form.get("scope")) for r in self.server.seen]


class Case(unittest.TestCase):
    def works(self, image, *options, env=None):
        with lab.mounted(image, "--cache-dir", "none", *options, env=env) as mnt:
            self.assertEqual((mnt / "a").read_text(), "content")

    def fails(self, code, words, image, *options, env=None):
        p = lab.imagefs(image, lab.folder("mnt"), "--cache-dir", "none", *options, env=env, check=False)
        self.assertEqual(p.returncode, code, p.err)
        for word in words:
            self.assertIn(word, p.err)
        return p.err

    def config(self, doc):
        d = lab.folder("config")
        (d / "config.json").write_text(json.dumps(doc))
        return dict(DOCKER_CONFIG=str(d))


class Flows(Case):
    def test_anonymous(self):
        with Gate() as g:
            self.works(f"{g.name}/org/app")
            self.assertEqual(g.scopes(), [["repository:org/app:pull"]])
            query = g.server.seen[0].query
            self.assertEqual(query["service"], ["the gate"])
            self.assertEqual([r.auth for r in g.server.seen], [""])

    def test_with_a_name(self):
        with Gate(anonymous=False) as g:
            self.fails(4, ["docker login", "login is needed"], f"{g.name}/org/app")
            self.works(f"{g.name}/org/app", f"--creds={USER}:{PASSWORD}")
            self.assertEqual(g.server.seen[-1].auth, BASIC)
            for r in g.front.seen:  # the password itself never comes here
                self.assertFalse(r.auth.startswith("Basic"), r)
            said = self.fails(4, ["login was refused"], f"{g.name}/org/app", "--creds=user:nonsense")
            self.assertNotIn("nonsense", said)

    def test_refresh_token(self):
        with Gate(anonymous=False, refresh="r3fresh") as g:
            entry = {"auth": base64.b64encode(b"00000000-0000:").decode(), "identitytoken": "r3fresh"}
            self.works(f"{g.name}/org/app", env=self.config({"auths": {g.name: entry}}))
            self.assertEqual([r.method for r in g.server.seen], ["POST"])
            form = g.server.seen[0].form
            self.assertEqual(form["grant_type"], ["refresh_token"])
            self.assertEqual(form["scope"], ["repository:org/app:pull"])
            self.assertEqual(g.server.seen[0].auth, "")
            entry["identitytoken"] = "0ld"
            said = self.fails(4, ["docker login"], f"{g.name}/org/app", env=self.config({"auths": {g.name: entry}}))
            self.assertNotIn("0ld", said)

    def test_token_of_a_helper(self):
        with Gate(anonymous=False, refresh="r3fresh") as g:
            d = lab.folder("bin")
            (d / "docker-credential-t").write_text(
                '#!/bin/sh\necho \'{"ServerURL":"x","Username":"<token>","Secret":"r3fresh"}\'\n')
            (d / "docker-credential-t").chmod(0o755)
            env = dict(self.config({"credHelpers": {g.name: "t"}}), PATH=f"{d}:{os.environ['PATH']}")
            self.works(f"{g.name}/org/app", env=env)
            self.assertEqual([r.method for r in g.server.seen], ["POST"])

    def test_refresh_token_where_there_is_no_post(self):
        """a name and password beside it are used then"""
        with Gate(anonymous=False) as g:
            entry = {"auth": BASIC[6:], "identitytoken": "r3fresh"}
            self.works(f"{g.name}/org/app", env=self.config({"auths": {g.name: entry}}))
            self.assertEqual([r.method for r in g.server.seen], ["POST", "GET"])

    def test_registry_token(self):
        with Gate() as g:
            g.tokens["r3gistry"] = 0
            self.works(f"{g.name}/org/app", env=self.config({"auths": {g.name: {"registrytoken": "r3gistry"}}}))
            self.assertEqual(g.server.seen, [])

    def test_opaque_scope(self):
        with Gate(scope="aws") as g:
            self.works(f"{g.name}/org/app")
            self.assertEqual(g.scopes(), [["repository:org/app:pull", "aws"]])

    def test_scope_of_the_challenge(self):
        with Gate(scope="repository:{0}:pull,push repository:other:pull") as g:
            self.works(f"{g.name}/org/app")
            self.assertEqual(g.scopes(), [["repository:org/app:pull", "repository:other:pull"]])

    def test_no_scope(self):
        with Gate(scope=None) as g:
            self.works(f"{g.name}/org/app")
            self.assertEqual(g.scopes(), [["repository:org/app:pull"]])

    def test_harbor(self):
        """answers a bearer that is not good enough with a Basic challenge"""
        with Gate(anonymous=False, uses=2) as g:
            g.harbor = True
            self.works(f"{g.name}/org/app", f"--creds={USER}:{PASSWORD}")
            self.assertGreater(len(g.server.seen), 1)
            self.assertEqual([r for r in g.front.seen if r.auth.startswith("Basic")], [])

    def test_skopeo_agrees(self):
        for anonymous, good in ((True, True), (False, False)):
            with Gate(anonymous=anonymous) as g:
                args = ["skopeo", "--insecure-policy", "inspect", "--raw", "--tls-verify=false"]
                self.assertEqual(lab.run(*args, f"docker://{g.name}/org/app", check=False).returncode == 0, good)
                self.assertEqual(lab.run(*args, f"--creds={USER}:{PASSWORD}", f"docker://{g.name}/org/app",
                                         check=False).returncode, 0)


class Expiry(Case):
    def test_tokens_that_wear_out(self):
        with Gate(uses=3) as g:
            with lab.mounted(f"{g.name}/org/big", "--cache-dir", "none") as mnt:
                for i in range(20):
                    self.assertEqual((mnt / f"f{i}").read_bytes(), content[i * 100000:(i + 1) * 100000])
            self.assertGreater(len(g.server.seen), 1)

    def test_revoked_during_a_mount(self):
        with Gate(life=1) as g:
            with lab.mounted(f"{g.name}/org/big", "--cache-dir", "none", "--memory=1M") as mnt:
                before = len(g.server.seen)
                self.assertEqual(before, 1)
                g.revoke()
                self.assertEqual((mnt / "f7").read_bytes(), content[700000:800000])
                self.assertEqual((mnt / "f9").read_bytes(), content[900000:1000000])
                self.assertEqual(len(g.server.seen), 2)

    def test_one_token_for_all_readers(self):
        with Gate() as g:
            with lab.mounted(f"{g.name}/org/many", "--cache-dir", "none", "--memory=1M") as mnt:
                g.revoke()
                g.refusals, g.together = 0, 3
                with concurrent.futures.ThreadPoolExecutor(16) as pool:
                    got = list(pool.map(lambda i: (mnt / f"f{i}").read_bytes(), range(16)))
                for i, data in enumerate(got):
                    self.assertEqual(data, content[i * 100000:(i + 1) * 100000])
                self.assertGreaterEqual(g.refusals, 3)  # several met the same one
                self.assertEqual(len(g.server.seen), 2)

    def test_login_withdrawn(self):
        """reads fail then, and work again when the login does"""
        with Gate() as g:
            with lab.mounted(f"{g.name}/org/big", "--cache-dir", "none", "--memory=1M") as mnt:
                g.anonymous = False
                g.revoke()
                with self.assertRaises(OSError):
                    (mnt / "f3").read_bytes()
                g.anonymous = True
                self.assertEqual((mnt / "f3").read_bytes(), content[300000:400000])


    def test_login_renewed(self):
        """passwords of cloud registries are good for hours, mounts live longer"""
        for bearer in (False, True):
            with self.subTest(bearer=bearer):
                password = ["0ne"]

                def good(r):
                    return r.auth == "Basic " + base64.b64encode(f"user:{password[0]}".encode()).decode()

                with Gate(anonymous=False) as g:
                    given = g.token
                    g.server.answer = lambda r: given(web.with_auth(r, BASIC)) if good(r) else unauthorized("Basic")
                    if not bearer:
                        g.front.answer = lambda r: None if good(r) else unauthorized('Basic realm="x"')
                    d = lab.folder("bin")
                    helper = d / "docker-credential-t"
                    helper.write_text(f'#!/bin/sh\necho x >>{d}/runs\nprintf \'{{"ServerURL":"x","Username":"user","Secret":'
                                      f'"%s"}}\' "$(cat {d}/secret)"\n')
                    helper.chmod(0o755)
                    (d / "secret").write_text("0ne")
                    env = dict(self.config({"credHelpers": {g.name: "t"}}), PATH=f"{d}:{os.environ['PATH']}")
                    with lab.mounted(f"{g.name}/org/big", "--cache-dir", "none", "--memory=1M", env=env) as mnt:
                        password[0] = "tw0"
                        g.revoke()
                        with self.assertRaises(OSError):
                            (mnt / "f1").read_bytes()
                        (d / "secret").write_text("tw0")
                        time.sleep(3.1)
                        self.assertEqual((mnt / "f2").read_bytes(), content[200000:300000])
                        self.assertLessEqual(len((d / "runs").read_text().split()), 3)

    def test_helper_runs_in_the_daemon(self):
        """the first request that wants a login is a read: the daemon blocks signals, the helper must not"""
        d, cache = lab.folder("bin"), lab.folder("cache")
        helper = d / "docker-credential-t"
        helper.write_text(f"#!/bin/sh\ngrep -E '^Sig(Blk|Ign)' /proc/self/status >{d}/signals\n"
                          f'echo \'{{"ServerURL":"x","Username":"{USER}","Secret":"{PASSWORD}"}}\'\n')
        helper.chmod(0o755)
        with Gate(anonymous=False, public=lambda r: True) as g:
            env = dict(self.config({"credHelpers": {g.name: "t"}}), PATH=f"{d}:{os.environ['PATH']}")
            image = f"{g.name}/org/big"
            with lab.mounted(image, "--cache-dir", cache):
                pass
            lab.imagefs("cache", "rm", "--cache-dir", cache, "--data", "--all")
            g.public = lambda r: "/blobs/" not in r.path
            with lab.mounted(image, "--cache-dir", cache, env=env) as mnt:
                self.assertFalse((d / "signals").exists())
                self.assertEqual((mnt / "f2").read_bytes(), content[200000:300000])
            for line in (d / "signals").read_text().splitlines():
                self.assertEqual(int(line.split()[1], 16) & 0x7fffffff, 0, line)


class Boundaries(Case):
    """Where secrets go."""

    def test_http_realm_of_an_https_registry(self):
        ca = web.Authority()
        cert = ca.issue("server", "registry.test", "auth.test")
        env = dict(SSL_CERT_FILE=str(ca.ca))
        with Gate(anonymous=False, tls=cert, host="registry.test") as g:
            g.realm = f"http://auth.test:{g.server.port}/token"
            self.fails(4, ["not https", f"auth.test:{g.server.port}"], f"{g.name}/org/app", f"--creds={USER}:{PASSWORD}",
                       env=env)
            self.assertEqual(g.server.seen, [])
            with web.Server(g.token, tls=cert, host="auth.test") as server:
                g.realm = f"{server.url}/token"
                self.works(f"{g.name}/org/app", f"--creds={USER}:{PASSWORD}", env=env)
                self.assertEqual(server.seen[0].auth, BASIC)

    def test_realm_at_a_private_address(self):
        ca = web.Authority()
        with Gate(tls=ca.issue("server", "registry.test"), host="registry.test") as g:
            for g.realm, code, word in (("https://169.254.169.254/token", 4, "private"), ("https://10.0.0.1/token", 4, "private"),
                                        ("https://[::1]:1/x", 4, "private"), ("file:///etc/passwd", 5, "file:///etc/passwd")):
                self.fails(code, [word], f"{g.name}/org/app", env=dict(SSL_CERT_FILE=str(ca.ca)))

    def test_redirect_targets_get_none(self):
        for challenge in (None, unauthorized('Basic realm="give me"'), unauthorized('Bearer realm="http://127.0.0.1:1/t"')):
            with web.Server(lambda r: challenge, upstream=registry) as store:
                def front(r):
                    if "/blobs/" in r.path and r.auth:
                        return 307, {"Location": f"{store.url}{r.path}?sig=secret-of-the-address"}, b""
                    return None if r.auth == BASIC else unauthorized('Basic realm="x"')
                with web.Server(front, upstream=registry) as f:
                    p = lab.imagefs(f"{f.name}/org/app", mnt := lab.folder("mnt"), "--cache-dir", "none", "--debug=all",
                                    f"--creds={USER}:{PASSWORD}", check=False)
                    if p.returncode == 0:
                        lab.imagefs("umount", mnt)
                    self.assertEqual(p.returncode, 5 if challenge else 0, p.err)
                    self.assertGreater(len(store.seen), 0)
                    self.assertEqual([r for r in store.seen if r.auth], [])
                    self.assertNotIn("secret-of-the-address", p.err)

    def test_addresses_of_foreign_layers_get_none(self):
        blob = lab.layer(lab.member("a", "content"))
        with web.Server(lambda r: (200, {}, blob)) as elsewhere:
            image = lab.Layout()
            image.image(blob)
            manifest = json.loads((image.path / "blobs/sha256" / image.entries[0]["digest"][7:]).read_text())
            manifest["layers"][0]["urls"] = [f"{elsewhere.url}/layer"]
            document = json.dumps(manifest).encode()
            kind = {"Content-Type": manifest["mediaType"], "Docker-Content-Digest": lab.sha256(document)}
            config = (image.path / "blobs/sha256" / manifest["config"]["digest"][7:]).read_bytes()

            def front(r):
                if r.auth != BASIC:
                    return unauthorized('Basic realm="x"')
                if "/manifests/" in r.path:
                    return 200, kind, document
                return (200, {}, config) if manifest["config"]["digest"] in r.path else (404, {}, b"")
            with web.Server(front) as f:
                self.works(f"{f.name}/org/app", f"--creds={USER}:{PASSWORD}")
                self.assertGreater(len(elsewhere.seen), 0)
                self.assertEqual([r for r in elsewhere.seen if r.auth or r.headers.get("Cookie")], [])

    def test_mirrors_get_none(self):
        with Gate(anonymous=False) as g, web.Server(lambda r: unauthorized('Basic realm="x"')) as greedy:
            conf = lab.folder("conf") / "registries.conf"
            conf.write_text(f'[[registry]]\nlocation = "{g.name}"\ninsecure = true\n'
                            f'[[registry.mirror]]\nlocation = "{greedy.name}"\ninsecure = true\n')
            auths = {"auths": {g.name: {"auth": BASIC[6:]}}}
            self.works(f"{g.name}/org/app", env=dict(self.config(auths), CONTAINERS_REGISTRIES_CONF=str(conf)))
            self.assertGreater(len(greedy.seen), 0)
            self.assertEqual([r for r in greedy.seen if r.auth], [])

    def test_no_password_over_plain_http(self):
        with web.Server(lambda r: None if r.auth else unauthorized('Basic realm="x"'), upstream=registry,
                        host="registry.test") as f:
            self.fails(5, ["https"], f"{f.name}/org/app", f"--creds={USER}:{PASSWORD}")
            self.assertEqual(f.seen, [])


class Secrets(Case):
    """No secret in what is said, in command lines, or in the cache."""

    def test_failing_and_working_logins(self):
        cache, said, d = lab.folder("cache"), "", lab.folder("bin")
        helper = d / "docker-credential-t"
        helper.write_text(f"#!/bin/sh\ncat /proc/$$/cmdline /proc/$PPID/cmdline >{d}/lines\ncat >/dev/null\n"
                          f'echo \'{{"ServerURL":"x","Username":"{USER}","Secret":"h3lper-secret"}}\'\n')
        helper.chmod(0o755)
        path = dict(PATH=f"{d}:{os.environ['PATH']}")
        with Gate(anonymous=False, refresh="r3fresh-good") as g:
            attempts = [
                (["--creds=user:wr0ng-secret"], {}), ([f"--creds={USER}:{PASSWORD}"], {}),
                ([], dict(path, **self.config({"credHelpers": {g.name: "t"}}))),
                ([], self.config({"auths": {g.name: {"identitytoken": "r3fresh-bad"}}})),
                ([], self.config({"auths": {g.name: {"identitytoken": "r3fresh-good"}}})),
                ([], self.config({"auths": {g.name: {"registrytoken": "r3gistry-secret"}}})),
                ([], self.config({"auths": {g.name: {"auth": base64.b64encode(b"user:f1le-secret").decode()}}})),
                ([], dict(DOCKER_AUTH_CONFIG=json.dumps({"auths": {g.name: {"auth": BASIC[6:]}}}))),
                ([], dict(DOCKER_AUTH_CONFIG='{"auths": {"x": {"auth": "br0ken-secret')),
            ]
            codes = []
            for options, env in attempts:
                mnt = lab.folder("mnt")
                p = lab.imagefs("--debug=all", f"--cache-dir={cache}", f"{g.name}/org/app", mnt, *options, env=env,
                                check=False)
                codes.append(p.returncode)
                said += p.err + p.out
                if p.returncode == 0:
                    said += lab.imagefs("stat", mnt).out
                    lab.imagefs("umount", mnt)
            self.assertEqual(codes, [4, 0, 4, 4, 0, 4, 4, 0, 4])
            secrets = ["wr0ng-secret", PASSWORD, "h3lper-secret", "r3fresh-bad", "r3fresh-good", "r3gistry-secret",
                       "f1le-secret", "br0ken-secret", *g.tokens, "t0ken-"]
        secrets += [base64.b64encode(f"user:{s}".encode()).decode() for s in secrets]
        places = {"stderr": said.encode(), "command lines": (d / "lines").read_bytes()}
        for f in pathlib.Path(cache).rglob("*"):
            if f.is_file():
                places[str(f)] = f.read_bytes()
        self.assertGreater(len(places), 3)
        for place, data in places.items():
            for s in secrets:
                self.assertNotIn(s.encode(), data, f"{s} in {place}")

    def test_command_line_of_the_daemon(self):
        with Gate(anonymous=False) as g:
            mnt = lab.folder("mnt")
            p = subprocess.Popen([lab.IMAGEFS, "-f", "--cache-dir=none", f"--creds={USER}:{PASSWORD}", f"{g.name}/org/big",
                                  str(mnt)])
            try:
                for _ in range(500):
                    if os.path.ismount(mnt):
                        break
                    time.sleep(0.01)
                self.assertEqual((mnt / "a").read_text(), "content")
                line = pathlib.Path(f"/proc/{p.pid}/cmdline").read_bytes()
                self.assertNotIn(PASSWORD.encode(), line)
                self.assertIn(b"org/big", line)
            finally:
                p.terminate()
                p.wait()
            with lab.mounted(f"{g.name}/org/big", "--cache-dir=none", "--creds", f"{USER}:{PASSWORD}") as mnt:
                (mnt / "a").read_text()
                lines = b"".join(f.read_bytes() for f in pathlib.Path("/proc").glob("[0-9]*/cmdline"))
                self.assertIn(b"org/big", lines)
                self.assertNotIn(PASSWORD.encode(), lines)


class Manners(Case):
    def test_one_request_when_all_is_known(self):
        with web.Server(upstream=registry) as f:
            cache = lab.folder("cache")
            image = f"{f.name}/org/big"
            with lab.mounted(image, "--cache-dir", cache) as mnt:
                (mnt / "f1").read_bytes()
            f.forget()
            with lab.mounted(image, "--cache-dir", cache) as mnt:
                (mnt / "f1").read_bytes()
            self.assertEqual([(r.method, r.path) for r in f.seen], [("HEAD", "/v2/org/big/manifests/latest")])
            f.forget()
            digest = big.entries[0]["digest"]
            with lab.mounted(f"{image}@{digest}", "--cache-dir", cache):
                pass
            with lab.mounted(image, "--cache-dir", cache, "--offline"):
                pass
            self.assertEqual(f.seen, [])

    def test_moved_tag(self):
        with web.Server(upstream=registry) as f:
            cache, image = lab.folder("cache"), f"{f.name}/org/moved"
            for text in ("one", "two"):
                registry.push(lab.Layout().image(lab.layer(lab.member("a", text))), "org/moved")
                with lab.mounted(image, "--cache-dir", cache) as mnt:
                    self.assertEqual((mnt / "a").read_text(), text)

    def test_who_asks(self):
        version = lab.imagefs("--version").out.split()[1]
        with Gate() as g:
            self.works(f"{g.name}/org/app")
            for r in g.front.seen + g.server.seen:
                self.assertEqual(r.headers["User-Agent"], f"imagefs/{version}")
                self.assertEqual(r.headers["Accept-Encoding"], "identity")

    def busy(self, times, headers):
        def answer(r):
            if "/manifests/" not in r.path or state["left"] == 0:
                return None
            state["left"] -= 1
            state["at"].append(time.monotonic())
            return 429, headers() if callable(headers) else headers, json.dumps(
                {"errors": [{"code": "TOOMANYREQUESTS", "message": "slow down"}]})
        state = dict(left=times, at=[])
        return web.Server(answer, upstream=registry), state

    def test_retry_after(self):
        for headers in ({"Retry-After": "1"},
                        lambda: {"Retry-After": email.utils.formatdate(time.time() + 2, usegmt=True)}):
            f, state = self.busy(1, headers)
            with f:
                self.works(f"{f.name}/org/app")
                again = [r for r in f.seen if "/manifests/" in r.path]
                self.assertGreaterEqual(len(again), 2)
                self.assertGreaterEqual(time.monotonic() - state["at"][0], 0.9)

    def test_rate_limit_is_named(self):
        f, state = self.busy(100, {"ratelimit-limit": "100;w=21600", "ratelimit-remaining": "0;w=21600", "Retry-After": "7200"})
        with f:
            said = self.fails(5, ["429", "100;w=21600", "7200", "log in"], f"{f.name}/org/app")
            self.assertEqual(said.count(f.name), 1)
            self.assertEqual(len(state["at"]), 1)

    def test_busy_registry_and_a_known_image(self):
        """what the name meant last time is better than nothing"""
        cache = lab.folder("cache")
        f, state = self.busy(0, {"Retry-After": "7200"})
        with f:
            with lab.mounted(f"{f.name}/org/app", "--cache-dir", cache):
                pass
            state["left"] = 100
            with lab.mounted(f"{f.name}/org/app", "--cache-dir", cache) as mnt:
                self.assertEqual((mnt / "a").read_text(), "content")


class Platforms(Case):
    INDEX = "application/vnd.oci.image.index.v1+json"

    def push(self, name, *kids, drop=()):
        layout = lab.Layout()
        entries = []
        for arch, variant, text in kids:
            d = layout.manifest([lab.layer(lab.member("which", text))], architecture=arch)
            if variant:
                d["platform"]["variant"] = variant
            if text in drop:
                del d["platform"]
            entries.append(d)
        layout.tag(layout.document(dict(schemaVersion=2, mediaType=self.INDEX, manifests=entries), self.INDEX))
        return registry.push(layout, name)

    def which(self, image, platform):
        with lab.mounted(image, f"--platform={platform}", "--cache-dir", "none") as mnt:
            return (mnt / "which").read_text()

    def test_variants(self):
        image = self.push("p/variants", ("arm", "v5", "arm5"), ("arm", "v7", "arm7"), ("arm64", "v8", "arm64"),
                          ("amd64", "v3", "amd64v3"), ("amd64", None, "amd64"), ("386", None, "386"))
        for platform, want in (("linux/arm/v7", "arm7"), ("linux/arm", "arm7"), ("linux/arm/v6", "arm5"), ("arm64", "arm64"),
                               ("linux/aarch64", "arm64"), ("linux/amd64", "amd64"), ("linux/amd64/v3", "amd64v3"),
                               ("linux/amd64/v2", "amd64"), ("linux/x86_64", "amd64"), ("linux/i386", "386")):
            self.assertEqual(self.which(image, platform), want, platform)
        self.fails(8, ["linux/arm/v7", "linux/386"], image, "--platform=linux/s390x")

    def test_fallbacks(self):
        image = self.push("p/fallbacks", ("arm", "v7", "arm7"), ("386", None, "386"))
        self.assertEqual(self.which(image, "linux/arm64"), "arm7")
        self.assertEqual(self.which(image, "linux/amd64"), "386")

    def test_entries_without_platform(self):
        image = self.push("p/without", ("s390x", None, "s390x"), ("amd64", None, "amd64"), drop=("s390x", "amd64"))
        self.assertEqual(self.which(image, "linux/amd64"), "amd64")
        self.assertEqual(self.which(image, "linux/s390x"), "s390x")

    def test_foreign_architecture(self):
        layout = lab.Layout().image(lab.layer(lab.member("a", "content")), architecture="s390x")
        image = registry.push(layout, "p/foreign", all=False)
        mnt = lab.folder("mnt")
        p = lab.imagefs(image, mnt)
        self.assertIn("linux/s390x", p.err)
        self.assertEqual((mnt / "a").read_text(), "content")
        lab.imagefs("umount", mnt)


class Speed(Case):
    def test_ranges_in_parallel(self):
        """a slow line: several connections fetch one layer, and it arrives in order"""
        data = os.urandom(LONG)
        registry.push(lab.Layout().image(lab.layer(lab.member("data", data), compress=None)), "org/long")
        with web.Server(upstream=registry, rate=4 << 20) as f:
            with lab.mounted(f"{f.name}/org/long", "--cache-dir", lab.folder("cache")) as mnt:
                self.assertEqual((mnt / "data").read_bytes(), data)
            ranges = [r for r in f.seen if r.range and "/blobs/" in r.path]
            self.assertGreaterEqual(len({r.connection for r in ranges}), 3)
            self.assertGreater(len(ranges), 8)
            starts = [tuple(map(int, r.range[6:].split("-"))) for r in ranges]
            self.assertEqual(len(set(starts)), len(starts))  # nothing is asked for twice

    def test_one_connection_on_a_fast_line(self):
        with web.Server(upstream=registry) as f:
            self.works(f"{f.name}/org/big")
            blobs = [r for r in f.seen if "/blobs/" in r.path and r.method == "GET"]
            self.assertLessEqual(len(blobs), 8)


if __name__ == "__main__":
    lab.main()
