"""What images show, as dictionaries {path: record} in the shape of the shared oracle's, and their comparison.

Two ways lead to such a dictionary: Dumper asks the program e2e_dump (no mount, so thousands of images a minute), and
from_mount() looks at a mounted one. expected() reads a listing of the shared corpus."""
import base64
import hashlib
import importlib.util
import json
import os
import pathlib
import re
import stat
import subprocess
import unittest

import lab

DUMP = os.environ.get("DUMP", str(pathlib.Path(lab.IMAGEFS).parent / "tests/e2e_dump"))
FIELDS = {"path", "type", "mode", "uid", "gid", "mtime_ns", "size", "sha256", "target", "rdev", "xattrs", "hl", "implicit"}


class Refused(Exception):
    """An image that would not open; code is an errno."""

    def __init__(self, message, code):
        super().__init__(message)
        self.code = code


class Dumper:
    """e2e_dump, kept running."""

    def __init__(self, hash_max=64 << 20):
        if not os.path.exists(DUMP):
            raise unittest.SkipTest("e2e_dump is not built")
        self.process = subprocess.Popen([DUMP, str(hash_max)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        return self.process.wait()

    def tree(self, reference):
        """{path: record}; Refused."""
        self.process.stdin.write(os.fsencode(str(reference)) + b"\n")
        self.process.stdin.flush()
        found = []
        while line := self.process.stdout.readline():
            r = json.loads(line)
            if "error" in r:
                raise Refused(r["error"], r["code"])
            if "end" in r:
                return self._check(reference, found, r)
            found.append(r)
        raise AssertionError(f"{reference}: e2e_dump ended with {self.process.wait()}")

    @staticmethod
    def _check(reference, found, end):
        """what holds in every tree: link counts, one record a name, numbers"""
        names, dirs = {}, {}
        for r in found:
            r["path"] = text(r["path"])
            names.setdefault(r["ino"], []).append(r["path"])
            parent = r["path"].rpartition("/")[0] or "."
            if r["type"] == "dir" and r["path"] != ".":
                dirs[parent] = dirs.get(parent, 0) + 1
        tree = {r["path"]: r for r in found}
        assert len(tree) == len(found), f"{reference}: a name twice"
        assert end["names"] == len(found) - 1 and end["inodes"] == len(names), f"{reference}: numbers of names {end}"
        for r in found:
            want = 2 + dirs.get(r["path"], 0) if r["type"] == "dir" else len(names[r["ino"]])
            assert r["nlink"] == want, f"{reference}: {r['path']!r}: {r['nlink']} links, not {want}"
            assert 0 < r["ino"] <= end["inodes"], f"{reference}: {r['path']!r}: inode {r['ino']}"
            if r["layer"] < 0:
                r["implicit"] = True
            if len(names[r["ino"]]) > 1:
                r["hl"] = min(names[r["ino"]], key=os.fsencode)
            s, ns = r.pop("mtime")
            r["mtime_ns"] = s * 10**9 + ns
            if "target" in r:
                r["target"] = text(r["target"])
            if r["type"] == "lnk":
                del r["mode"]
            if "xattrs" in r:
                r["xattrs"] = {text(k): base64.b64encode(v.encode("latin-1")).decode() for k, v in r["xattrs"].items()}
        return tree


def text(s):
    """bytes that were written as Latin-1, as Python and the oracle write names"""
    return s.encode("latin-1").decode("utf-8", "surrogateescape")


def from_mount(top, hash_max=64 << 20):
    """The same for a directory tree, through the kernel."""
    top = os.fsencode(str(top))
    tree, inodes = {}, {}
    types = {stat.S_IFREG: "reg", stat.S_IFDIR: "dir", stat.S_IFLNK: "lnk", stat.S_IFCHR: "chr", stat.S_IFBLK: "blk",
             stat.S_IFIFO: "fifo", stat.S_IFSOCK: "sock"}

    def visit(full, rel):
        st = os.lstat(full)
        r = dict(path=os.fsdecode(rel), type=types[stat.S_IFMT(st.st_mode)], uid=st.st_uid, gid=st.st_gid,
                 mtime_ns=st.st_mtime_ns, ino=st.st_ino, nlink=st.st_nlink)
        if r["type"] != "lnk":
            r["mode"] = "%04o" % stat.S_IMODE(st.st_mode)
        if r["type"] == "reg":
            r["size"] = st.st_size
            r["sha256"] = None
            if st.st_size <= hash_max:
                with open(full, "rb") as f:
                    r["sha256"] = lab._digest(f)
        if r["type"] == "lnk":
            r["target"] = os.fsdecode(os.readlink(full))
        if r["type"] in ("chr", "blk"):
            r["rdev"] = [os.major(st.st_rdev), os.minor(st.st_rdev)]
        x = {n: base64.b64encode(os.getxattr(full, n, follow_symlinks=False)).decode()
             for n in os.listxattr(full, follow_symlinks=False)}
        if x:
            r["xattrs"] = x
        if r["type"] != "dir":
            inodes.setdefault(st.st_ino, []).append(r)
        tree[r["path"]] = r
        if r["type"] == "dir":
            for name in os.listdir(full):
                visit(full + b"/" + name, name if rel == b"." else rel + b"/" + name)

    visit(top, b".")
    for group in inodes.values():
        if len(group) > 1:
            first = min((r["path"] for r in group), key=os.fsencode)
            for r in group:
                r["hl"] = first
    return tree


def expected(path):
    """A listing of the shared corpus."""
    with open(path) as f:
        return {r["path"]: r for r in map(json.loads, f)}


def differences(want, got, ignore=()):
    """Lines that say where two trees differ. A directory that no entry names has type and path only, 0755 and root's."""
    lines = []
    for path in sorted(set(want) | set(got), key=os.fsencode):
        if path not in got or path not in want:
            r = got.get(path) or want.get(path)
            lines.append(f"{'unexpected' if path in got else 'missing'}: {path!r} ({r['type']})")
            continue
        w, g = want[path], got[path]
        keys = (set(w) | set(g)) & FIELDS - set(ignore) - {"implicit"}
        if w.get("implicit") or g.get("implicit"):
            keys = {"type"}
            w = dict(w, mode=w.get("mode", "0755"), uid=w.get("uid", 0), gid=w.get("gid", 0))
            keys |= {"mode", "uid", "gid"} - set(ignore)
        for key in sorted(keys):
            if w.get(key) != g.get(key):
                lines.append(f"{path!r}: {key}: want {w.get(key)!r}, got {g.get(key)!r}")
    return lines


class Ambiguous(Exception):
    """The order of whiteouts and other entries decides, which the oracle does not look at."""


_oracle = None


def oracle():
    """The shared oracle as a module. Skips the test where it is not there."""
    global _oracle
    if not _oracle:
        lab.need_shared()
        spec = importlib.util.spec_from_file_location("oracle", lab.SHARED / "corpus/oracle.py")
        _oracle = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(_oracle)
        _oracle.skip_xattr = re.compile(r"trusted\.|security\.selinux$")  # what the tar reader leaves out
        _oracle.err = lambda message: _oracle.errors.append(message)      # kept, not printed
    return _oracle


class Options:
    parents, max_hash, global_pax, plain = "replace", 64 << 20, "ignore", False


def oracle_tree(layers):
    """What the oracle expects of layers (their bytes, bottom first), with the differences that the project documents:

    - a hard-link entry's metadata go to the inode; its attributes, if it has any, too
    - a character device 0:0 leaves nothing behind, like a whiteout
    - unknown types, dump directories, empty symlink targets, user.* attributes of all but files and directories are left out
    - an opaque marker makes its directory; a whiteout below a lower layer's symlink makes a directory of that
    """
    o = oracle()

    class Stacked(o.Tree):
        def hide(self, parts, members):
            """the lower directory of a whiteout; symlinks on the way give way"""
            d = self.root
            for i, c in enumerate(parts, 1):
                n = d.kids.get(c)
                if n is not None and n.t == "lnk":
                    if any(m.type == b"1" or o.comps(m.name)[:i] == parts[:i] and not o.comps(m.name)[-1].startswith(".wh.")
                           for m in members if o.comps(m.name)):
                        raise Ambiguous
                    v = o.Node("dir", n.layer)
                    v.implicit = True
                    d.kids[c] = n = v
                if n is None or n.t != "dir":
                    return None
                d = n
            return d

        def check_link(self, link):
            """a whiteout of the same layer must not lead through it"""
            for parts in self.marked if link.t == "lnk" else ():
                d = self.root
                for c in parts:
                    d = d.kids.get(c) if d.kids else None
                    if d is link:
                        raise Ambiguous
                    if d is None:
                        break

        def apply(self, tf, layer):
            members = [m for m in o.members(tf) if self.wanted(m)]
            if any(m.islnk() and o.comps(m.name) == o.comps(m.linkname) for m in members):
                raise Ambiguous  # a link to itself: whether its target is still there depends on the order
            self.marked = []
            # a link to what a whiteout of the same layer hides: whether it is still there depends on the order
            before = {m.linkname for m in members if m.islnk() and self.lookup(o.comps(m.linkname)) is not None}
            for m in members:
                p = o.comps(m.name)
                if not p or not p[-1].startswith(o.WH) or any(c.startswith(".wh..wh.") for c in p[:-1]):
                    continue
                marker = p[-1] == o.OPQ
                if not marker and (p[-1].startswith(".wh..wh.") or p[-1] in (".wh.", ".wh..", ".wh...")):
                    continue
                self.marked.append(p[:-1])
                d = self.hide(p[:-1], members)
                if d is None:
                    continue
                if marker:
                    d.kids.clear()
                else:
                    d.kids.pop(p[-1][4:], None)
            self.before = before
            real = []
            for m in members:
                p = o.comps(m.name)
                if p and p[-1] == o.OPQ:
                    stand_in = o.tarfile.TarInfo("/".join(p[:-1] + ["\0opaque"]))
                    real.append(stand_in)
                elif p and p[-1].startswith(o.WH) and not p[-1].startswith(".wh..wh."):
                    continue
                else:
                    real.append(m)
            for m in real:
                self.one(tf, m, layer)

        def one(self, tf, m, layer):
            k, p = o.kind(m), o.comps(m.name)
            if k is None or any(c.startswith(".wh..wh.") for c in p):
                return
            if not p:
                if k == "dir":
                    self.setmeta(self.root, m)
                    self.root.implicit = False
                return
            if p[-1] == "\0opaque":
                self.walkdir(p[:-1], True, layer)
                return
            if k == "hard":
                tp = o.comps(m.linkname)
                n = self.lookup(tp)
                if n is None and m.linkname in self.before:
                    raise Ambiguous
                if n is None or n.t == "dir":
                    return
                target_dir = self.walkdir(tp[:-1], False, 0)
                d = self.walkdir(p[:-1], True, layer)
                if d is None:
                    return
                if tp[-1] == p[-1] and target_dir is d:
                    return  # itself
                d.kids[p[-1]] = n
                self.check_link(n)
                xa = n.xa
                self.setmeta(n, m)
                n.xa = n.xa if n.t == "reg" and n.xa else xa
                return
            d = self.walkdir(p[:-1], True, layer)
            if d is None:
                return
            old = d.kids.get(p[-1])
            if k == "dir" and old is not None and old.t == "dir":
                self.setmeta(old, m)
                old.implicit, old.layer = False, layer
                return
            if k == "chr" and m.devmajor == m.devminor == 0:
                d.kids.pop(p[-1], None)
                return
            d.kids[p[-1]] = self.node(tf, m, k, layer)
            self.check_link(d.kids[p[-1]])
            if k not in ("reg", "dir"):
                d.kids[p[-1]].xa = {n: v for n, v in d.kids[p[-1]].xa.items() if not n.startswith("user.")}

        def wanted(self, m):
            if m.type not in (b"0", b"\0", b"1", b"2", b"3", b"4", b"5", b"6", b"7", b"S"):
                return False
            if m.type == b"2" and not m.linkname:
                return False
            p = o.comps(m.name)
            return all(len(o.enc(c)) <= 255 for c in p) and len(o.enc("/".join(p))) <= 4095

    t = Stacked(Options)
    o.errors.clear()
    import io
    tree = {}
    for i, data in enumerate(layers, 1):
        tf = o.open_tar(io.BytesIO(data), Options)
        if tf is not None:
            t.apply(tf, i)
        tree = {r["path"]: r for r in t.dump()}
        if any(len(o.enc(c)) > 255 for path in tree for c in path.split("/")):
            raise Ambiguous  # made along a symlink; no file system has such a name
    return tree
