"""What the end-to-end tests share: a place of their own, images, registries, mounts, and a view of a tree to compare.

A test file is a unittest module that ends with `lab.main()`. It runs as root in its own mount and pid namespace, so that
mounts and daemons that a failing test leaves behind die with it; where that cannot be had it exits with 77 (skipped).
Nothing here talks to anything but 127.0.0.1.
"""
import base64
import contextlib
import ctypes
import gzip
import hashlib
import io
import json
import os
import pathlib
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tarfile
import tempfile
import time
import unittest
import urllib.error
import urllib.request

SOURCE = pathlib.Path(os.environ.get("SOURCE", pathlib.Path(__file__).resolve().parents[2]))
SHARED = pathlib.Path(os.environ.get("SHARED", SOURCE.parent / "shared"))
IMAGEFS = os.environ.get("IMAGEFS", str(SOURCE / "build/dev/imagefs"))
SKIPPED = 77

TMP = None  # made by main(): a directory that goes away at the end


# ---- the place ----

def main():
    """Runs the tests of the calling module in namespaces of their own."""
    if os.environ.get("LAB_INSIDE") != "1":
        _enter()
    global TMP
    TMP = pathlib.Path(tempfile.mkdtemp(prefix="imagefs-e2e-"))
    for name in list(os.environ):
        if name.startswith(("DOCKER_", "REGISTRY_", "CONTAINERS_", "XDG_")) or name.lower().endswith("_proxy"):
            del os.environ[name]
    home = TMP / "home"
    home.mkdir()
    os.environ.update(HOME=str(home), XDG_CACHE_HOME=str(TMP / "cache"), XDG_RUNTIME_DIR=str(TMP / "run"), LC_ALL="C.UTF-8")
    (TMP / "run").mkdir()
    program = unittest.main(module="__main__", exit=False, verbosity=2, warnings="ignore")
    result = program.result
    with contextlib.suppress(OSError):
        shutil.rmtree(TMP, ignore_errors=True)
    if not result.wasSuccessful():
        sys.exit(1)
    if result.testsRun == 0 or result.testsRun == len(result.skipped):
        sys.exit(SKIPPED)
    sys.exit(0)


def _enter():
    if os.geteuid() != 0:
        print("skipped: mounting in a namespace of its own needs root")
        sys.exit(SKIPPED)
    if not shutil.which("unshare") or not os.path.exists("/dev/fuse"):
        print("skipped: unshare or /dev/fuse is not there")
        sys.exit(SKIPPED)
    env = dict(os.environ, LAB_INSIDE="1")
    command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", sys.executable, *sys.argv]
    sys.exit(subprocess.run(command, env=env).returncode)


def need(*programs):
    """Skips the test when a program is not installed."""
    for p in programs:
        if not shutil.which(p):
            raise unittest.SkipTest(f"{p} is not installed")


def need_plain_build():
    """Skips a test of memory or time when the program is built with a sanitizer."""
    if "libasan" in run("ldd", IMAGEFS).out or "libtsan" in run("ldd", IMAGEFS).out:
        raise unittest.SkipTest("the program is built with a sanitizer")


def need_shared():
    if not (SHARED / "corpus/oracle.py").exists():
        raise unittest.SkipTest("no shared corpus here")


def folder(name="d"):
    return pathlib.Path(tempfile.mkdtemp(prefix=name + "-", dir=TMP))


def run(*args, check=True, **kw):
    """A program's completed process, output as text; a failure shows what it said."""
    kw.setdefault("stdin", subprocess.DEVNULL)
    p = subprocess.run([str(a) for a in args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, **kw)
    p.out, p.err = p.stdout.decode(errors="replace"), p.stderr.decode(errors="replace")
    if check and p.returncode != 0:
        raise AssertionError(f"{' '.join(str(a) for a in args)}: exit {p.returncode}\n{p.out}\n{p.err}")
    return p


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


# ---- imagefs ----

def imagefs(*args, check=True, env=None, timeout=120, **kw):
    return run(IMAGEFS, *args, check=check, env=dict(os.environ, **(env or {})), timeout=timeout, **kw)


@contextlib.contextmanager
def mounted(image, *options, env=None, where=None):
    """The image on a directory, for a with block."""
    where = where or folder("mnt")
    imagefs(image, where, *options, env=env)
    try:
        yield where
    finally:
        for _ in range(50):
            p = imagefs("umount", where, check=False)
            if p.returncode == 0:
                break
            time.sleep(0.1)
        else:
            raise AssertionError(f"umount: {p.err}")


def stat_of(where):
    """imagefs stat as a dictionary."""
    return json.loads(imagefs("stat", "--json", where).out)


# ---- layers and images ----

def member(name, content=None, type=None, **kw):
    """(TarInfo, content) for layer(): a file with content, else a directory, else what type and kw say."""
    m = tarfile.TarInfo(name)
    m.type = type or (tarfile.DIRTYPE if content is None else tarfile.REGTYPE)
    m.mode = kw.pop("mode", 0o755 if m.type == tarfile.DIRTYPE else 0o644)
    m.mtime = kw.pop("mtime", 1700000000)
    m.pax_headers = kw.pop("pax", {})
    for k, v in kw.items():
        setattr(m, k, v)
    data = content.encode() if isinstance(content, str) else content or b""
    m.size = len(data) if m.type == tarfile.REGTYPE else 0
    return m, data


def layer(*members, format=tarfile.PAX_FORMAT, compress="gzip", level=6):
    """Bytes of a layer made of member()s."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format) as t:
        for m, data in members:
            t.addfile(m, io.BytesIO(data) if m.size else None)
    return pack(out.getvalue(), compress, level)


def pack(data, compress="gzip", level=6):
    if compress == "gzip":
        return gzip.compress(data, level, mtime=0)
    if compress == "zstd":
        return subprocess.run(["zstd", "-qc", f"-{level}"], input=data, stdout=subprocess.PIPE, check=True).stdout
    return data


def unpacked(blob):
    if blob[:2] == b"\x1f\x8b":
        return gzip.decompress(blob)
    if blob[:4] == b"\x28\xb5\x2f\xfd":
        return subprocess.run(["zstd", "-dqc"], input=blob, stdout=subprocess.PIPE, check=True).stdout
    return blob


def sha256(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Layout:
    """An OCI layout directory under construction."""

    def __init__(self, path=None):
        self.path = pathlib.Path(path or folder("oci"))
        (self.path / "blobs/sha256").mkdir(parents=True, exist_ok=True)
        (self.path / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
        self.entries = []
        self.write_index()

    def write_index(self):
        doc = dict(schemaVersion=2, mediaType="application/vnd.oci.image.index.v1+json", manifests=self.entries)
        (self.path / "index.json").write_text(json.dumps(doc))

    def blob(self, data, media_type, **more):
        d = sha256(data)
        (self.path / "blobs/sha256" / d[7:]).write_bytes(data)
        return dict(mediaType=media_type, digest=d, size=len(data), **more)

    def document(self, doc, media_type, **more):
        return self.blob(json.dumps(doc).encode(), media_type, **more)

    def manifest(self, layers, architecture="amd64", config=None, os_="linux", **more):
        """Adds blobs, config and manifest of an image; gives the manifest's descriptor."""
        descriptors, diff_ids = [], []
        for blob in layers:
            kind = "+gzip" if blob[:2] == b"\x1f\x8b" else "+zstd" if blob[:4] == b"\x28\xb5\x2f\xfd" else ""
            descriptors.append(self.blob(blob, "application/vnd.oci.image.layer.v1.tar" + kind))
            diff_ids.append(sha256(unpacked(blob)))
        doc = dict(architecture=architecture, os=os_, config=config or {}, rootfs=dict(type="layers", diff_ids=diff_ids))
        c = self.document(doc, "application/vnd.oci.image.config.v1+json")
        media_type = "application/vnd.oci.image.manifest.v1+json"
        m = dict(schemaVersion=2, mediaType=media_type, config=c, layers=descriptors)
        return self.document(m, media_type, platform=dict(architecture=architecture, os=os_), **more)

    def tag(self, descriptor, name="latest"):
        self.entries = [e for e in self.entries if e["annotations"]["org.opencontainers.image.ref.name"] != name]
        self.entries.append(dict(descriptor, annotations={"org.opencontainers.image.ref.name": name}))
        self.write_index()
        return self

    def image(self, *layers, name="latest", **kw):
        return self.tag(self.manifest(layers, **kw), name)


def alpine_layout():
    """A real library/alpine: the publisher's own archives where they are, else busybox from Debian's package."""
    layout = Layout()
    archive = SHARED / "images/alpine-minirootfs-3.20.3-x86_64.tar.gz"
    if not archive.exists():
        return layout.image(busybox_layer(), config=dict(Cmd=["/bin/sh"]))
    children = []
    for arch, machine, more in (("amd64", "x86_64", {}), ("arm64", "aarch64", {"variant": "v8"})):
        blob = (SHARED / f"images/alpine-minirootfs-3.20.3-{machine}.tar.gz").read_bytes()
        child = layout.manifest([blob], architecture=arch, config=dict(Cmd=["/bin/sh"], Env=["PATH=/usr/bin:/bin"]))
        child["platform"].update(more)
        children.append(child)
    media_type = "application/vnd.oci.image.index.v1+json"
    return layout.tag(layout.document(dict(schemaVersion=2, mediaType=media_type, manifests=children), media_type))


def busybox_layer():
    need("busybox")
    busybox = pathlib.Path(shutil.which("busybox")).read_bytes()
    names = run("busybox", "--list").out.split()
    links = [member(f"bin/{n}", type=tarfile.SYMTYPE, linkname="busybox", mode=0o777) for n in names if n != "busybox"]
    return layer(member("./"), member("bin"), member("bin/busybox", busybox, mode=0o755), *links, member("etc"),
                 member("etc/os-release", "ID=busybox\n"), member("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n"),
                 member("root", mode=0o700), member("tmp", mode=0o1777), member("dev"), member("proc"))


# ---- registries ----

class Registry:
    """Debian's docker-registry on a port of 127.0.0.1. auth: {user: password}; proxy: URL of another one; tls: (cert, key)."""

    def __init__(self, auth=None, proxy=None, tls=None, host="127.0.0.1"):
        need("docker-registry")
        self.dir = folder("registry")
        self.port = free_port()
        self.name = f"{host}:{self.port}"
        scheme = "https" if tls else "http"
        config = dict(version=0.1, log=dict(level="error", accesslog=dict(disabled=True)),
                      storage=dict(filesystem=dict(rootdirectory=str(self.dir / "data")), delete=dict(enabled=True)),
                      http=dict(addr=f"127.0.0.1:{self.port}"))
        if tls:
            config["http"]["tls"] = dict(certificate=str(tls[0]), key=str(tls[1]))
        if proxy:
            config["proxy"] = dict(remoteurl=proxy)
        if auth:
            need("htpasswd")
            lines = [run("htpasswd", "-nbB", u, p).out.strip() for u, p in auth.items()]
            (self.dir / "htpasswd").write_text("\n".join(lines) + "\n")
            config["auth"] = dict(htpasswd=dict(realm="tests", path=str(self.dir / "htpasswd")))
        (self.dir / "config.yml").write_text(json.dumps(config))  # JSON is YAML
        self.url = f"{scheme}://{self.name}"
        self.process = None
        self.start()

    def start(self):
        log = open(self.dir / "log", "ab")
        self.process = subprocess.Popen(["docker-registry", "serve", str(self.dir / "config.yml")], stdout=log, stderr=log,
                                        stdin=subprocess.DEVNULL)
        wait_port(self.port, self.process)

    def stop(self):
        if self.process:
            self.process.terminate()
            self.process.wait()
            self.process = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def push(self, layout, name, tag="latest", creds=None, all=True):
        need("skopeo")
        args = ["skopeo", "--insecure-policy", "copy", "-q", "--dest-tls-verify=false"]
        args += ["--all"] if all else []
        args += ["--dest-creds", creds] if creds else []
        run(*args, f"oci:{layout.path}:{tag}", f"docker://{self.name}/{name}:{tag}")
        return f"{self.name}/{name}:{tag}"


def wait_port(port, process=None, seconds=20):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if process and process.poll() is not None:
            raise AssertionError(f"the server ended with {process.returncode}")
        with socket.socket() as s:
            if s.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise AssertionError(f"nothing listens on port {port}")


def registries_conf(**prefixes):
    """Environment in which references of a prefix (docker_io for docker.io) come from a mirror."""
    text = ""
    for prefix, location in prefixes.items():
        text += f'[[registry]]\nprefix = "{prefix.replace("_", ".")}"\nlocation = "{prefix.replace("_", ".")}"\n'
        text += f'[[registry.mirror]]\nlocation = "{location}"\ninsecure = true\n'
    path = folder("conf") / "registries.conf"
    path.write_text(text)
    return dict(CONTAINERS_REGISTRIES_CONF=str(path))


# ---- comparing trees ----

def _digest(f):
    h = hashlib.sha256()
    while piece := f.read(1 << 20):
        h.update(piece)
    return h.hexdigest()


def walk(top, content=True):
    """{path: attributes} of a tree, everything that a mount can get wrong: type, mode, owner, times, size, links, content,
    extended attributes, and which names are the same file."""
    top = os.fsencode(str(top))
    found, inodes = {}, {}

    def visit(full, rel):
        st = os.lstat(full)
        kind = stat.S_IFMT(st.st_mode)
        a = dict(mode=oct(st.st_mode), uid=st.st_uid, gid=st.st_gid, mtime=st.st_mtime_ns)
        if kind == stat.S_IFREG:
            a["size"] = st.st_size
            if content:
                with open(full, "rb") as f:
                    a["sha256"] = _digest(f)
        if kind == stat.S_IFLNK:
            a["target"] = os.readlink(full)
        if kind in (stat.S_IFCHR, stat.S_IFBLK):
            a["rdev"] = (os.major(st.st_rdev), os.minor(st.st_rdev))
        names = os.listxattr(full, follow_symlinks=False)
        a["xattrs"] = {n: base64.b64encode(os.getxattr(full, n, follow_symlinks=False)).decode() for n in sorted(names)}
        if kind != stat.S_IFDIR and st.st_nlink > 1:
            inodes.setdefault(st.st_ino, []).append(rel)
        found[rel] = a
        if kind == stat.S_IFDIR:
            for name in sorted(os.listdir(full)):
                visit(full + b"/" + name, name if rel == b"." else rel + b"/" + name)

    visit(top, b".")
    for names in inodes.values():
        for name in names:
            found[name]["same"] = sorted(names)
    return found


def differences(want, got, ignore=()):
    """Lines that say where two walks differ."""
    lines = []
    for path in sorted(set(want) | set(got)):
        if path not in got:
            lines.append(f"missing: {path!r}")
        elif path not in want:
            lines.append(f"unexpected: {path!r}")
        else:
            for key in sorted(set(want[path]) | set(got[path])):
                if key not in ignore and want[path].get(key) != got[path].get(key):
                    lines.append(f"{path!r}: {key}: want {want[path].get(key)}, got {got[path].get(key)}")
    return lines


def oracle(*args, check=True):
    """The shared oracle's output, lines of JSON."""
    need_shared()
    p = run(sys.executable, SHARED / "corpus/oracle.py", *args, check=False)
    if check and p.returncode not in (0, 2):
        raise AssertionError(p.err)
    return p
