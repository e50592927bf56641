"""Servers of the tests' own, in threads of the test: fronts before a registry that see and change what passes, token servers,
proxies; and nginx. Certificates made by openssl."""
import contextlib
import copy
import http.client
import http.server
import ipaddress
import select
import socket
import ssl
import subprocess
import threading
import time
import urllib.parse

import lab


class Request:
    """What a server saw."""

    def __init__(self, h, body):
        self.method, self.target, self.headers, self.body = h.command, h.path, h.headers, body
        u = urllib.parse.urlsplit(h.path)
        self.path, self.query = u.path, urllib.parse.parse_qs(u.query)
        self.form = urllib.parse.parse_qs(body.decode("latin-1")) if h.command == "POST" else {}
        self.auth = h.headers.get("Authorization", "")
        self.range = h.headers.get("Range")
        self.connection = h.client_address[1]
        self.status = 0

    def __repr__(self):
        return f"{self.method} {self.target} {self.auth.split(' ')[0]} {self.range or ''} -> {self.status}"


def with_auth(request, auth):
    """The same request with another Authorization."""
    request = copy.copy(request)
    request.auth = auth
    return request


class Server:
    """A server on a port of 127.0.0.1. answer(request) gives (status, headers, body), or None: then the request goes on to
    upstream (a lab.Registry or another Server). rate: bytes a second of one connection. drop: request headers that are not passed on.
    seen: all requests so far."""

    def __init__(self, answer=None, upstream=None, tls=None, client_ca=None, host="127.0.0.1", bind="127.0.0.1", rate=0,
                 drop=()):
        self.answer, self.upstream, self.rate, self.drop = answer, upstream, rate, {d.lower() for d in drop}
        self.seen, self.lock = [], threading.Lock()
        kind = type("Http", (http.server.ThreadingHTTPServer,), dict(
            daemon_threads=True, address_family=socket.AF_INET6 if ":" in bind else socket.AF_INET, request_queue_size=64))
        kind.handle_error = lambda *_: None
        self.http = kind((bind, 0), type("Handler", (_Handler,), dict(front=self)))
        self.context = None
        if tls:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(*tls)
            if client_ca:
                self.context.load_verify_locations(client_ca)
                self.context.verify_mode = ssl.CERT_REQUIRED
        self.port = self.http.server_address[1]
        self.name = f"{host}:{self.port}"
        self.url = ("https://" if tls else "http://") + self.name
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs=dict(poll_interval=0.02), daemon=True)
        self.thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.http.shutdown()
        self.http.server_close()

    def forget(self):
        with self.lock:
            self.seen.clear()

    def count(self, method=None, path=""):
        with self.lock:
            return sum(1 for r in self.seen if path in r.target and method in (None, r.method))


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    front = None

    def log_message(self, *args):
        pass

    def setup(self):
        if self.front.context:
            self.request.settimeout(20)
            first = self.request.recv(1, socket.MSG_PEEK)
            if first and first != b"\x16":
                self.request.close()
                raise ConnectionError("no TLS")
            self.request = self.front.context.wrap_socket(self.request, server_side=True, do_handshake_on_connect=False)
            try:
                self.request.do_handshake()
            except ssl.SSLError:
                raw = socket.socket(fileno=self.request.detach())  # so that the alert arrives before a reset does
                raw.settimeout(5)
                with contextlib.suppress(OSError), raw:
                    raw.shutdown(socket.SHUT_WR)
                    while raw.recv(4096):
                        pass
                raise ConnectionError("no handshake") from None
        super().setup()

    def handle(self):
        with contextlib.suppress(ConnectionError, ssl.SSLError, socket.timeout, ValueError):
            super().handle()

    def one(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        r = Request(self, body)
        with self.front.lock:
            self.front.seen.append(r)
        given = self.front.answer(r) if self.front.answer else None
        if given is None and self.command == "CONNECT":
            return self.tunnel()
        if given is None and self.front.upstream:
            return self.forward(r, self.front.upstream.name.rsplit(":", 1)[1], self.path)
        if given is None and self.path.startswith("http://"):
            u = urllib.parse.urlsplit(self.path)
            return self.forward(r, u.port or 80, u._replace(scheme="", netloc="").geturl())
        status, headers, data = given if given else (404, {}, b"")
        self.reply(r, status, list(headers.items()), data)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_CONNECT = one

    def reply(self, r, status, headers, data):
        data = data.encode() if isinstance(data, str) else data
        r.status = status
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        if not any(name.lower() == "content-length" for name, _ in headers):
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.pour(data)

    def pour(self, data):
        step = self.front.rate // 50 or len(data) or 1
        for i in range(0, len(data), step):
            self.wfile.write(data[i:i + step])
            if self.front.rate:
                time.sleep(0.02)

    def forward(self, r, port, target):
        up = http.client.HTTPConnection("127.0.0.1", int(port), timeout=30)
        left_out = self.front.drop | {"connection", "proxy-connection", "proxy-authorization"}
        up.putrequest(self.command, target, skip_accept_encoding=True, skip_host=True)
        for name, value in self.headers.items():
            if name.lower() not in left_out:
                up.putheader(name, value)
        up.endheaders(r.body or None)
        a = up.getresponse()
        data = a.read()
        self.reply(r, a.status, [(k, v) for k, v in a.getheaders() if k.lower() not in ("connection", "transfer-encoding")],
                   data)
        up.close()

    def tunnel(self):
        with socket.create_connection(("127.0.0.1", int(self.path.rsplit(":", 1)[1]))) as up:
            self.send_response(200)
            self.end_headers()
            pair = {up: self.connection, self.connection: up}
            while True:
                for s in select.select(list(pair), [], [], 20)[0] or [None]:
                    data = s.recv(65536) if s else b""
                    if not data:
                        self.close_connection = True
                        return
                    pair[s].sendall(data)


# ---- certificates ----

class Authority:
    """A certificate authority in a folder of its own."""

    def __init__(self):
        lab.need("openssl")
        self.dir = lab.folder("ca")
        self.ca = self.dir / "ca.crt"
        lab.run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                "-subj", "/CN=tests authority", "-keyout", self.dir / "ca.key", "-out", self.ca)

    def issue(self, name, *hosts, days=2):
        """(certificate, key) for host names and addresses; without any: a client's"""
        cert, key, more = self.dir / f"{name}.crt", self.dir / f"{name}.key", self.dir / f"{name}.ext"
        names = ",".join(("IP:" if _is_address(h) else "DNS:") + h for h in hosts)
        more.write_text((f"subjectAltName={names}\n" if hosts else "extendedKeyUsage=clientAuth\n"))
        lab.run("openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}",
                "-keyout", key, "-out", self.dir / f"{name}.csr")
        lab.run("openssl", "x509", "-req", "-in", self.dir / f"{name}.csr", "-CA", self.ca, "-CAkey", self.dir / "ca.key",
                "-CAcreateserial", "-days", str(days), "-extfile", more, "-out", cert)
        return cert, key


def _is_address(host):
    with contextlib.suppress(ValueError):
        return bool(ipaddress.ip_address(host))
    return False


# ---- nginx ----

@contextlib.contextmanager
def nginx(http, *ports):
    """nginx with these lines in its http block; what it listens on: ports. Gives its folder."""
    lab.need("nginx")
    d = lab.folder("nginx")
    temp = "".join(f"{n}_temp_path {d}/{n};\n" for n in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    (d / "conf").write_text(f"daemon off; worker_processes 1; pid {d}/pid; error_log {d}/log info; user root;\n"
                            f"events {{}}\nhttp {{ access_log {d}/access; {temp}\n{http}\n}}\n")
    p = subprocess.Popen(["nginx", "-e", str(d / "log"), "-c", str(d / "conf")], stdin=subprocess.DEVNULL)
    try:
        for port in ports:
            lab.wait_port(port, p)
        yield d
    finally:
        p.terminate()
        p.wait()


# ---- names ----

def hosts(*names):
    """Gives 127.0.0.1 these names, in the test's own mount namespace: hosts to which loopback's rules do not apply."""
    f = lab.folder("hosts") / "hosts"
    f.write_text("127.0.0.1 localhost\n::1 localhost ip6-localhost\n" + "".join(f"127.0.0.1 {n}\n" for n in names))
    f.chmod(0o644)
    lab.run("mount", "--bind", f, "/etc/hosts")
