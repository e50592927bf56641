#!/usr/bin/env python3
"""Random layered images, full of what is hard, against the shared oracle and against umoci.

SEED=N or SEED=any gives other images, CASES=N makes it longer; a case is reproduced with SEED and ONLY=its number. Most images are looked at
through e2e_dump; every so many is mounted as well, and must show the same through the kernel."""
import io
import os
import random
import shutil
import sys
import tarfile
import time
import unittest

import lab
import trees

SEED = os.environ.get("SEED", "1")  # the same every time, unless a person wants others: SEED=any
SEED = random.SystemRandom().randrange(1 << 32) if SEED == "any" else int(SEED)
CASES = int(os.environ.get("CASES", 3000))
ONLY = os.environ.get("ONLY")
SECONDS = float(os.environ.get("SECONDS", 35 if "CASES" not in os.environ else 1e9))  # then the run ends, whatever CASES says
MOUNT_EVERY = 60

PLAIN = ["a", "b", "c", "d"]
ODD = ["-x", " ", "new\nline", "\udcff\udcfe", "é", "日本", "x" * 100, "y" * 255, "'\"\\", "a.wh.", ".whx", "..."]


class Generator:
    """One image a call. calm: only what umoci and the oracle's default rules agree on."""

    def __init__(self, seed, calm=False):
        self.r = random.Random(seed)
        self.calm = calm

    def image(self):
        self.seen = []      # paths that some layer gave
        self.links = set()  # of them, symlinks
        self.leaves = set() # of them, no directories
        self.files = {}     # path -> (mode, uid, gid, mtime), to give a calm hard link its target's
        self.names = PLAIN + self.r.sample(ODD, 3)
        return [self.layer(i) for i in range(self.r.randint(1, 5))]

    def path(self, depth=3):
        r = self.r
        if self.seen and r.random() < 0.5:
            p = r.choice(self.seen)
            if r.random() < 0.4 and p.count("/") < 5:
                p += "/" + r.choice(self.names)
        else:
            p = "/".join(r.choice(self.names) for _ in range(r.randint(1, depth)))
        return p

    def below_leaf(self, p):
        parts = p.split("/")
        return any("/".join(parts[:i]) in self.leaves for i in range(1, len(parts)))

    def attributes(self, m):
        r = self.r
        m.mode = r.choice([0o644, 0o755, 0o600, 0o4755, 0o2750, 0o1777, 0, 0o7777])
        m.uid, m.gid = r.choice([0, 1000, 65534, 2097151]), r.choice([0, 100, 2097151])
        m.mtime = r.choice([0, 1, 1600000000, 2**31, 2**33 - 1])
        m.pax_headers = {}
        if self.format == tarfile.PAX_FORMAT:
            if r.random() < 0.2:
                m.pax_headers["mtime"] = r.choice(["1.5", "1700000000.123456789", "1700000000.1234567899", "5000000000"]
                                                  + ([] if self.calm else ["-1", "-5.5", "-0.25", "99999999999"]))
            if r.random() < 0.1:
                m.uid = r.choice([2**21, 2**31, 2**32 - 2])
        elif self.format == tarfile.GNU_FORMAT and r.random() < 0.1:
            m.uid, m.mtime = 2**31, 2**33 if self.calm else r.choice([2**35, -1, -1000])

    def xattrs(self, m):
        r = self.r
        if self.format != tarfile.PAX_FORMAT or r.random() > 0.15:
            return
        names = ["user.a", "user.b.c", "security.capability"]
        names += [] if self.calm else ["trusted.x", "security.selinux", "user.overlay.opaque"]
        for n in r.sample(names, r.randint(1, 3)):
            value = "\1\0\0\2" + "\0" * 16 if n == "security.capability" else r.choice(["v", "", "a=b\n=", "\0\1", "\udcff"])
            if self.calm and value in ("", "\udcff"):
                value = "v"  # umoci leaves out the empty one, and does not see other bytes than UTF-8
            m.pax_headers["SCHILY.xattr." + n] = value

    def layer(self, number):
        r = self.r
        self.format = r.choice([tarfile.PAX_FORMAT] * 3 + [tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
        out = io.BytesIO()
        made = set()
        with tarfile.open(fileobj=out, mode="w", format=self.format, encoding="utf-8", errors="surrogateescape") as t:
            for _ in range(r.randint(0, 12)):
                p = self.path()
                if self.calm and (p in made or self.below_leaf(p) or any(q.startswith(p + "/") for q in made)):
                    continue
                made.add(p)
                try:
                    self.member(t, p, number)
                except ValueError:
                    pass  # a name that ustar has no room for
            if number and r.random() < 0.6:
                self.whiteouts(t, made)
            self.end(t, out)
        data = out.getvalue()
        return self.cut_end(data)

    def end(self, t, out):
        """what comes after the last member is the same to every reader"""

    def cut_end(self, data):
        r = self.r.random()
        if r < 0.05:
            return data.rstrip(b"\0").ljust(-(-len(data.rstrip(b"\0")) // 512) * 512, b"\0") if data.strip(b"\0") else b""
        if r < 0.1:
            return data + b"garbage after the end"
        return data

    def spell(self, p):
        """the same path, as others write it"""
        if self.calm or self.r.random() < 0.7:
            return p
        return self.r.choice(["./" + p, "/" + p, p.replace("/", "//"), p.replace("/", "/./"), "../" + p, "zz/../" + p, "/../.." + "/" + p])

    def member(self, t, p, number):
        r = self.r
        kind = r.choices(["reg", "dir", "lnk", "hard", "fifo", "chr", "sparse", "root", "odd"], [30, 25, 14, 14, 3, 3, 3, 2, 2])[0]
        m = tarfile.TarInfo(self.spell(p))
        self.attributes(m)
        self.xattrs(m)
        data = b""
        if kind == "reg":
            m.type = r.choice([tarfile.REGTYPE] * 5 + [tarfile.AREGTYPE] + ([] if self.calm else [tarfile.CONTTYPE]))
            data = r.randbytes(r.choice([0, 1, 511, 512, 513, 5000]))
        elif kind == "dir":
            m.type = tarfile.DIRTYPE
        if self.calm and kind not in ("reg", "dir"):
            m.pax_headers = {k: v for k, v in m.pax_headers.items() if not k.startswith("SCHILY")}
        if kind in ("reg", "dir"):
            pass
        elif kind == "lnk":
            m.type, m.linkname = tarfile.SYMTYPE, self.target(p)
            self.links.add(p)
        elif kind == "hard":
            target = r.choice(self.seen) if self.seen and (self.calm or r.random() < 0.9) else "nowhere"
            if self.calm and (target not in self.files or self.files[target][0] != number):
                return
            m.type, m.linkname = tarfile.LNKTYPE, target if self.calm else self.spell(target)
            if self.calm:
                m.mode, m.uid, m.gid, m.mtime, m.pax_headers = self.files[target][1]
        elif kind == "fifo":
            m.type = tarfile.FIFOTYPE
        elif kind == "chr":
            m.type = r.choice([tarfile.CHRTYPE, tarfile.BLKTYPE])
            m.devmajor, m.devminor = r.choice([(1, 3), (8, 0), (4095, 2**20 - 1 if self.format != tarfile.USTAR_FORMAT else 7)]
                                              + ([] if self.calm else [(0, 0), (0, 0)]))
        elif kind == "sparse":
            if self.calm:
                return
            return self.sparse(t, m, p)
        elif kind == "root":
            if self.calm:
                return
            m.name, m.type = r.choice([".", "./", "/", "a/..", "../.."]), tarfile.DIRTYPE
        else:
            if self.calm:
                return
            m.name = "/".join(p.split("/")[:-1] + [r.choice([".wh..wh.plnk", ".wh..wh.aufs", ".wh.", ".wh..", ".wh..."])])
            m.type = r.choice([tarfile.REGTYPE, tarfile.DIRTYPE])
        m.size = len(data)
        t.addfile(m, io.BytesIO(data))
        if kind not in ("root", "odd"):
            self.seen.append(p)
            if kind != "lnk":
                self.links.discard(p)
            self.leaves.discard(p)
            if kind != "dir":
                self.leaves.add(p)
            if kind == "reg":
                self.files[p] = (number, (m.mode, m.uid, m.gid, m.mtime, m.pax_headers))
            else:
                self.files.pop(p, None)

    def target(self, p):
        r = self.r
        some = r.choice(self.seen) if self.seen else "a"
        up = "../" * p.count("/")
        return r.choice([some, "/" + some, up + some, up + "../../" + some, r.choice(PLAIN), ".", "..", "/", p.split("/")[-1],
                         "missing/../" + some, "t" * 300 if self.format != tarfile.USTAR_FORMAT else "t"])

    def sparse(self, t, m, p):
        """each of the four formats"""
        r = self.r
        pieces, at = [], 0
        for _ in range(r.randint(0, 6)):
            at += r.choice([0, 512, 4096, 100000])
            n = r.choice([1, 512, 700])
            pieces.append((at, n))
            at += n
        size = at + r.choice([0, 0, 4096])
        stored = r.randbytes(sum(n for _, n in pieces))
        m.type = tarfile.REGTYPE
        how = r.choice(["0.0", "0.1", "1.0"]) if self.format == tarfile.PAX_FORMAT else "old" if self.format == tarfile.GNU_FORMAT else None
        if not how:
            return
        if how == "old":
            m.size = len(stored)
            block = bytearray(m.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape"))
            extra = block[:-512]
            block = block[-512:]
            if pieces and pieces[-1][0] + pieces[-1][1] < size or not pieces:
                pieces.append((size, 0))  # GNU tar ends a map so
            entries = b"".join(b"%011o\0%011o\0" % e for e in pieces)
            block[156:157] = b"S"
            block[386:482] = entries[:96].ljust(96, b"\0")
            block[482] = len(entries) > 96
            block[483:495] = b"%011o\0" % size
            more = [entries[i:i + 504] for i in range(96, len(entries), 504)]
            block[148:156] = b" " * 8
            block[148:156] = b"%06o\0 " % sum(block)
            t.fileobj.write(bytes(extra) + bytes(block))
            t.offset += len(extra) + 512
            for i, e in enumerate(more):
                t.fileobj.write(e.ljust(504, b"\0") + bytes([i + 1 < len(more)]) + b"\0" * 7)
                t.offset += 512
            t.fileobj.write(stored + b"\0" * (-len(stored) % 512))
            t.offset += len(stored) + -len(stored) % 512
        else:
            m.pax_headers.update({"GNU.sparse.major": how[0], "GNU.sparse.minor": how[2]})
            flat = [str(v) for e in pieces for v in e]
            if how == "1.0":
                m.pax_headers.update({"GNU.sparse.name": m.name, "GNU.sparse.realsize": str(size)})
                m.name = "GNUSparseFile.0/x"
                head = "\n".join([str(len(pieces))] + flat).encode() + b"\n"
                stored = head + b"\0" * (-len(head) % 512) + stored
            elif not pieces:
                return
            else:
                m.pax_headers = {**m.pax_headers, "GNU.sparse.size": str(size), "GNU.sparse.numblocks": str(len(pieces)),
                                 "GNU.sparse.map": ",".join(flat)}
                m.pax_headers["GNU.sparse.major"], m.pax_headers["GNU.sparse.minor"] = "0", "1"
            m.size = len(stored)
            t.addfile(m, io.BytesIO(stored))
        self.seen.append(p)
        self.links.discard(p)
        self.files.pop(p, None)

    def whiteouts(self, t, made):
        r = self.r
        for _ in range(r.randint(1, 4)):
            p = self.path()
            head, _, last = p.rpartition("/")
            if self.calm and (self.below_leaf(p) or p in made or not last or any(q.startswith(p + "/") for q in made)):
                continue
            if r.random() < 0.3:
                if self.calm and p in self.links:
                    continue
                name = p + "/.wh..wh..opq" if r.random() < 0.9 else ".wh..wh..opq"
                if self.calm and (name.count("/") == 0 or p not in self.seen or p in self.files):
                    continue
            else:
                name = (head + "/" if head else "") + ".wh." + last
            if len(os.fsencode(name.rpartition("/")[2])) > 255:
                continue
            m = tarfile.TarInfo(self.spell(name))
            m.type = r.choice([tarfile.REGTYPE] * 4 + ([] if self.calm else [tarfile.DIRTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE]))
            m.linkname = "a" if m.type == tarfile.LNKTYPE else ""
            made.update([p, name])
            try:
                t.addfile(m)
            except ValueError:
                pass


def compress(data, r):
    k = r.random()
    if k < 0.3:
        return data
    if k < 0.97:
        return lab.pack(data, "gzip", r.choice([1, 6]))
    return lab.pack(data, "zstd", 3)


class Differential(unittest.TestCase):
    maxDiff = 4000

    @classmethod
    def setUpClass(cls):
        cls.dumper = trees.Dumper()
        print(f"SEED={SEED} CASES={CASES}", file=sys.stderr)

    @classmethod
    def tearDownClass(cls):
        assert cls.dumper.close() == 0, "e2e_dump failed at its end"

    def cases(self, count):
        end = time.monotonic() + SECONDS
        for i in [int(ONLY)] if ONLY else range(count):
            if time.monotonic() > end:
                print(f"{i} cases in {SECONDS:.0f} s", file=sys.stderr)
                return
            yield i

    def test_equals_the_oracle(self):
        trees.oracle()
        compared = ambiguous = 0
        for i in self.cases(CASES):
            g = Generator(SEED + i)
            layers = g.image()
            try:
                want = trees.oracle_tree(layers)
            except trees.Ambiguous:
                ambiguous += 1
                continue
            broken = [e for e in trees.oracle().errors if not e.startswith("symlink loop")]
            self.assertEqual(broken, [], f"case {i}: the generator wrote what Python does not read")
            layout = lab.Layout().image(*(compress(l, g.r) for l in layers))
            try:
                got = self.dumper.tree(f"oci:{layout.path}")
                self.assertEqual(trees.differences(want, got), [], f"SEED={SEED} ONLY={i}: {layout.path}")
                if compared % MOUNT_EVERY == 0:
                    with lab.mounted(f"oci:{layout.path}", "--cache-dir=none") as mnt:
                        self.mounted_equal(got, trees.from_mount(mnt), i)
            except trees.Refused as e:
                self.fail(f"SEED={SEED} ONLY={i}: refused: {e}")
            if not ONLY:
                shutil.rmtree(layout.path)
            compared += 1
        print(f"compared {compared}, ambiguous {ambiguous}", file=sys.stderr)
        self.assertGreater(compared, ambiguous)

    def mounted_equal(self, tree, mounted, i):
        """the kernel shows what the tree says, numbers of inodes and links too"""
        self.assertEqual(tree.keys(), mounted.keys())
        for path, g in mounted.items():
            for key, value in g.items():
                self.assertEqual(tree[path].get(key), value, f"SEED={SEED} ONLY={i}: {path!r}: {key}")

    def test_equals_umoci(self):
        lab.need("umoci")
        for i in self.cases(max(CASES // 40, 10)):
            g = Generator(SEED + (1 << 33) + i, calm=True)
            layers = g.image()
            layout = lab.Layout().image(*(lab.pack(l) for l in layers))
            bundle = lab.folder("umoci")
            p = lab.run("umoci", "unpack", "--image", f"{layout.path}:latest", bundle / "b", check=False)
            self.assertEqual(p.returncode, 0, f"SEED={SEED} ONLY={i}: {layout.path}: {p.err}")
            want = trees.from_mount(bundle / "b/rootfs")
            got = self.dumper.tree(f"oci:{layout.path}")
            for path, r in got.items():
                if r["type"] == "dir" and path in want:
                    want[path]["mtime_ns"] = r["mtime_ns"]  # of what umoci made or changed itself
                    if r.get("implicit"):
                        want[path].update(mode=r["mode"], gid=r["gid"])  # which a setgid parent passes on
            self.assertEqual(trees.differences(want, got), [], f"SEED={SEED} ONLY={i}: {layout.path}")
            if not ONLY:
                shutil.rmtree(layout.path)
                shutil.rmtree(bundle)


if __name__ == "__main__":
    lab.main()
