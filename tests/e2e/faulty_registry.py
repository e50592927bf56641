#!/usr/bin/env python3
"""A registry that misbehaves on command, on loopback, for tests.

    faulty_registry.py --layout DIR [--repo NAME] [--tls CERT KEY] [--config JSON] [--ports REGISTRY STORAGE]

Serves the OCI layout DIR under the repository NAME (default test/app): tags are the ref.name annotations of its index.json,
blobs and manifests come by digest. Two ports of 127.0.0.1: the registry, and a storage server that blobs can be redirected
to. The first line on standard output is {"registry": PORT, "storage": PORT}. It ends when its standard input does.

With --tls a client may show the same certificate.

GET  /_control/counts   {"requests": [{method, path, query, range, auth, agent, accept, status, bytes, port, connection,
                        certificate}...], "paths": {path: n}}
POST /_control/faults   a list of faults replaces the present ones
POST /_control/config   sets some of: auth (null, "basic", "bearer"), realm, service, scope, user, password, token_life (s, what
                        is said), token_uses (a token works so often), token_delay (s), token_status, identity (refresh token for POST), public,
                        redirect (blobs come from storage), url_uses (a signed address works so often), expired_status,
                        ranges (false: whole bodies always), max_range (bytes of an answer at most), omit (headers left out),
                        rate (bytes a second of each connection)
POST /_control/reset    forgets counts, faults and tokens; the config goes back to what it was at the start
POST /_control/expire   all tokens and signed addresses so far are no longer good

A fault: {"path": regular expression, searched in the path, "method": "GET", "port": "registry"|"storage", "skip": pass over so
many requests, "times": hit so many (default: 1; 0: all), "chance": hit only this part of them (0 to 1, seeded), "kind": ...}
  status    status, headers, body                       an answer of that status
  reset     the connection is reset instead of an answer
  cut       after: body bytes before the connection is closed
  stall     after, seconds: the body stops there for so long, then the connection is closed
  wrong     at: offset in the sent body of a byte that is flipped
  noranges  200 and the whole body
  short     max: a 206 with at most so many bytes
  range     value: another Content-Range than the true one; "" leaves it out
  gzip      the body is sent with Content-Encoding: gzip
  redirect  location (default: the same address); {storage} stands for the storage server's origin
  chunked   no Content-Length, after (optional): properly ended after so many bytes
  headers   headers: more of them, the answer is right
"""
import argparse
import base64
import functools
import gzip
import hashlib
import http.server
import json
import os
import random
import re
import socket
import socketserver
import ssl
import struct
import sys
import threading
import time
import urllib.parse

START = {
    "auth": None, "realm": None, "service": "faulty", "scope": None, "user": "user", "password": "pass:word",
    "token_life": 300, "token_uses": 0, "token_delay": 0, "token_status": 0, "identity": None, "public": True, "redirect": False,
    "url_uses": 0, "expired_status": 403, "ranges": True, "max_range": 0, "omit": [], "rate": 0, "bearer_error": "invalid_token",
}
lock = threading.Lock()
dice = random.Random(1)
config, faults, log, tokens, addresses = dict(START), [], [], {}, {}
layout = repo = None
ports = {}


def documents():
    """reference -> (media type, bytes) of everything that can be asked for as a manifest"""
    found = {}
    index = json.load(open(os.path.join(layout, "index.json")))
    pending = [(d, d.get("annotations", {}).get("org.opencontainers.image.ref.name")) for d in index["manifests"]]
    while pending:
        d, tag = pending.pop()
        data = blob(d["digest"])
        if data is None:
            continue
        found[d["digest"]] = (d["mediaType"], data)
        if tag:
            found[tag] = found[d["digest"]]
        if "index" in d["mediaType"] or "list" in d["mediaType"]:
            pending += [(c, None) for c in json.loads(data)["manifests"]]
    return found


@functools.lru_cache(maxsize=16)
def blob(digest):
    alg, _, hexa = digest.partition(":")
    if not re.fullmatch(r"[a-z0-9]+", alg) or not re.fullmatch(r"[0-9a-f]+", hexa):
        return None
    try:
        with open(os.path.join(layout, "blobs", alg, hexa), "rb") as f:
            return f.read()
    except FileNotFoundError:
        return None


def use(table, key, limit):
    """Is the key good? Counts its uses."""
    with lock:
        if key not in table:
            return False
        table[key] += 1
        return limit == 0 or table[key] <= limit


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "faulty"
    disable_nagle_algorithm = True

    def log_message(self, *args):
        pass

    def handle(self):
        first = self.connection.recv(1, socket.MSG_PEEK) if self.server.context is None else b""
        if first == b"\x16":
            return  # a TLS hello at a port that does not speak it
        try:
            super().handle()
        except (ConnectionError, ssl.SSLError, socket.timeout):
            self.close_connection = True

    def setup(self):
        if self.server.context:
            self.request.settimeout(10)
            try:
                self.request = self.server.context.wrap_socket(self.request, server_side=True)
            except (OSError, ssl.SSLError):
                self.request.close()
                raise
            self.request.settimeout(None)
        super().setup()

    # ---- answers

    def fault(self, path):
        with lock:
            for f in faults:
                if f.get("method") not in (None, self.command) or f.get("port", self.server.name) != self.server.name:
                    continue
                if not re.search(f.get("path", ""), path) or f.get("left", 1) <= 0:
                    continue
                if f.get("skip", 0) > 0:
                    f["skip"] -= 1
                    continue
                if "chance" in f and dice.random() >= f["chance"]:
                    continue
                if f.get("times", 1) > 0:
                    f["left"] = f.get("left", f.get("times", 1)) - 1
                return f
        return {}

    def note(self, status, sent):
        self.entry.update(status=status, bytes=sent)

    def answer(self, status, body=b"", headers=(), fault=None, full=None):
        """full: what Content-Length says when body is cut"""
        fault = fault or {}
        kind = fault.get("kind")
        headers = dict(headers)
        if kind == "headers":
            headers.update(fault["headers"])
        if kind == "gzip":
            body = gzip.compress(body)
            headers["Content-Encoding"] = "gzip"
        if kind == "wrong" and body:
            body = bytearray(body)
            body[fault.get("at", 0) % len(body)] ^= 0x40
        after = fault.get("after", len(body))
        if kind == "chunked":
            headers["Transfer-Encoding"] = "chunked"
        else:
            headers["Content-Length"] = str(len(body) if full is None else full)
        for name in config["omit"]:
            headers.pop(name, None)
        with lock:
            self.note(status, min(after, len(body)))
        self.send_response(status)
        for name, value in headers.items():
            for one in value if isinstance(value, list) else [value]:
                self.send_header(name, one)
        self.end_headers()
        if self.command == "HEAD":
            return
        if kind == "chunked":
            body = bytes(body[:after])
            for i in range(0, len(body), 30000):
                part = body[i:i + 30000]
                self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
            self.wfile.write(b"0\r\n\r\n")
            return
        if kind in ("cut", "stall"):
            self.wfile.write(body[:after])
            self.wfile.flush()
            if kind == "stall":
                time.sleep(fault.get("seconds", 5))
            self.close_connection = True
            return
        step = config["rate"] // 20 or len(body) or 1
        for i in range(0, len(body), step):
            self.wfile.write(body[i:i + step])
            if config["rate"]:
                time.sleep(0.05)

    def error(self, status, code, message, headers=()):
        body = json.dumps({"errors": [{"code": code, "message": message}]}).encode()
        self.answer(status, body, {"Content-Type": "application/json", **dict(headers)})

    def content(self, body, headers, fault):
        """a body, or the range of it that was asked for"""
        wanted = self.headers.get("Range")
        kind = fault.get("kind")
        if not wanted or kind == "noranges" or not config["ranges"]:
            return self.answer(200, body, headers, fault)
        m = re.fullmatch(r"bytes=(\d+)-(\d*)", wanted)
        if not m or int(m[1]) >= len(body):
            return self.error(416, "RANGE_INVALID", "no such range")
        first, last = int(m[1]), min(int(m[2]) if m[2] else len(body) - 1, len(body) - 1)
        limit = fault.get("max", config["max_range"]) if kind == "short" or config["max_range"] else 0
        if limit:
            last = min(last, first + limit - 1)
        value = f"bytes {first}-{last}/{len(body)}"
        if kind == "range":
            value = fault["value"]
        headers = dict(headers)
        if value:
            headers["Content-Range"] = value
        return self.answer(206, body[first:last + 1], headers, fault)

    # ---- requests

    def do_GET(self):
        u = urllib.parse.urlsplit(self.path)
        auth = self.headers.get("Authorization", "")
        if u.path.startswith("/_control/"):
            return self.control(u.path)
        self.entry = dict(method=self.command, path=u.path, query=u.query, range=self.headers.get("Range"),
                          auth=auth.split(" ")[0].lower(), status=0, bytes=0, port=self.server.name,
                          agent=self.headers.get("User-Agent"), accept=self.headers.get("Accept"),
                          connection=id(self.connection), certificate="")
        if self.server.context and self.connection.getpeercert(True):
            self.entry["certificate"] = hashlib.sha256(self.connection.getpeercert(True)).hexdigest()
        with lock:
            log.append(self.entry)
        length = int(self.headers.get("Content-Length") or 0)
        self.form = dict(urllib.parse.parse_qsl(self.rfile.read(length).decode())) if length else {}
        self.query = urllib.parse.parse_qs(u.query)
        fault = self.fault(u.path)
        kind = fault.get("kind")
        if kind == "status":
            return self.answer(fault["status"], fault.get("body", "").encode(), fault.get("headers", {}))
        if kind == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            self.connection.close()
            return None
        if kind == "redirect":
            location = fault.get("location", self.path).replace("{storage}", ports["storage_origin"])
            return self.answer(fault.get("status", 307), b"", {"Location": location})
        if self.server.name == "storage":
            return self.storage(u.path, fault)
        if u.path == "/token":
            return self.token(fault)
        return self.registry(u.path, fault)

    do_HEAD = do_POST = do_GET

    def storage(self, path, fault):
        if self.headers.get("Authorization"):
            return self.answer(400, b"<Error>Only one auth mechanism allowed</Error>")
        if not use(addresses, self.query.get("sig", [""])[0], config["url_uses"]):
            return self.answer(config["expired_status"], b"<Error>ExpiredToken</Error>")
        data = blob(path.rpartition("/")[2])
        if data is None:
            return self.answer(404, b"<Error>NoSuchKey</Error>")
        return self.content(data, {"Content-Type": "application/octet-stream"}, fault)

    def basic(self):
        text = base64.b64encode(f"{config['user']}:{config['password']}".encode()).decode()
        return self.headers.get("Authorization") == "Basic " + text

    def token(self, fault):
        time.sleep(config["token_delay"])
        if config["token_status"]:
            return self.answer(config["token_status"], b"{}")
        named = self.basic()
        if self.command == "POST":
            named = (config["identity"] and self.form.get("refresh_token") == config["identity"]) or (
                self.form.get("username") == config["user"] and self.form.get("password") == config["password"])
            if not named:
                return self.answer(401, b"{}")
        elif self.headers.get("Authorization") and not named:
            return self.answer(401, b"{}")
        name = "t" + base64.urlsafe_b64encode(os.urandom(12)).decode()
        scopes = self.query.get("scope", []) + self.form.get("scope", "").split()
        if (named or config["public"]) and f"repository:{repo}:pull" in scopes:
            with lock:
                tokens[name] = 0
        answer = {config.get("token_key", "token"): name, "expires_in": config["token_life"]}
        return self.answer(200, json.dumps(answer).encode(), {"Content-Type": "application/json"}, fault)

    def allowed(self):
        if config["auth"] == "basic":
            return self.basic()
        if config["auth"] == "bearer":
            kind, _, name = self.headers.get("Authorization", "").partition(" ")
            return kind == "Bearer" and use(tokens, name, config["token_uses"])
        return True

    def challenge(self):
        if config["auth"] == "basic":
            return 'Basic realm="faulty"'
        realm = config["realm"] or ports["registry_origin"] + "/token"
        scope = config["scope"] or f"repository:{repo}:pull"
        text = f'Bearer realm="{realm}",service="{config["service"]}",scope="{scope}"'
        if self.headers.get("Authorization") and config["bearer_error"]:
            text += f',error="{config["bearer_error"]}"'
        return text

    def registry(self, path, fault):
        if not self.allowed():
            return self.error(401, "UNAUTHORIZED", "authentication required", {"WWW-Authenticate": self.challenge()})
        m = re.fullmatch(r"/v2/(.+)/(manifests|blobs)/([^/]+)", path)
        if not m:
            return self.answer(200 if path == "/v2/" else 404, b"{}")
        if m[1] != repo:
            return self.error(404, "NAME_UNKNOWN", "repository name not known to registry")
        if m[2] == "manifests":
            kind, data = documents().get(m[3], (None, None))
            if data is None:
                return self.error(404, "MANIFEST_UNKNOWN", "manifest unknown")
            digest = "sha256:" + hashlib.sha256(data).hexdigest()
            return self.answer(200, data, {"Content-Type": kind, "Docker-Content-Digest": digest}, fault)
        data = blob(m[3])
        if data is None:
            return self.error(404, "BLOB_UNKNOWN", "blob unknown to registry")
        if config["redirect"]:
            sig = base64.urlsafe_b64encode(os.urandom(9)).decode()
            with lock:
                addresses[sig] = 0
            return self.answer(307, b"", {"Location": f"{ports['storage_origin']}/data/{m[3]}?sig={sig}"})
        return self.content(data, {"Content-Type": "application/octet-stream", "Docker-Content-Digest": m[3]}, fault)

    def control(self, path):
        global faults
        self.entry = {}
        length = int(self.headers.get("Content-Length") or 0)
        text = self.rfile.read(length).decode() if length else ""
        with lock:
            if path == "/_control/faults":
                faults = json.loads(text)
            elif path == "/_control/config":
                config.update(json.loads(text))
            elif path == "/_control/expire":
                tokens.clear()
                addresses.clear()
            elif path == "/_control/reset":
                faults = []
                log.clear()
                tokens.clear()
                addresses.clear()
                config.clear()
                config.update(START)
            paths = {}
            for e in log:
                paths[e["path"]] = paths.get(e["path"], 0) + 1
            body = json.dumps({"requests": log, "paths": paths}).encode() if path.endswith("/counts") else b"{}"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, name, context, port):
        self.name, self.context = name, context
        super().__init__(("127.0.0.1", port), Handler)

    def handle_error(self, request, client_address):
        kind = sys.exc_info()[0]
        if not issubclass(kind, (OSError, ssl.SSLError)):
            super().handle_error(request, client_address)


def main():
    global layout, repo
    p = argparse.ArgumentParser(description="see the head of this file")
    p.add_argument("--layout", required=True)
    p.add_argument("--repo", default="test/app")
    p.add_argument("--tls", nargs=2, metavar=("CERT", "KEY"))
    p.add_argument("--config", default="{}")
    p.add_argument("--ports", nargs=2, type=int, default=(0, 0), help="0: any that is free")
    args = p.parse_args()
    layout, repo = args.layout, args.repo
    START.update(json.loads(args.config))
    config.update(START)
    context = None
    if args.tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*args.tls)
        context.load_verify_locations(args.tls[0])
        context.verify_mode = ssl.CERT_OPTIONAL
    scheme = "https" if context else "http"
    for name, port in zip(("registry", "storage"), args.ports):
        server = Server(name, context, port)
        ports[name] = server.server_address[1]
        ports[name + "_origin"] = f"{scheme}://127.0.0.1:{ports[name]}"
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()
    print(json.dumps({"registry": ports["registry"], "storage": ports["storage"]}), flush=True)
    sys.stdin.buffer.read()


if __name__ == "__main__":
    main()
