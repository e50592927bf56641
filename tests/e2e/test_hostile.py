#!/usr/bin/env python3
"""Images made to hurt, mounted as root: whatever they hold, and whatever looks at them, the daemon goes on, its memory is
bounded, and nothing outside of the mount is reached. With the sanitizers' build where there is one (IMAGEFS_ASAN, or
build/asan)."""
import contextlib
import errno
import gzip
import json
import os
import pathlib
import random
import shutil
import struct
import subprocess
import sys
import tarfile
import time
import unittest

import lab
import test_exact as make
import trees
from lab import member

ASAN = os.environ.get("IMAGEFS_ASAN") or str(lab.SOURCE / "build/asan/imagefs")
SANITIZED = os.path.exists(ASAN)
PROGRAM = ASAN if SANITIZED else lab.IMAGEFS
MB = 1 << 20
# what the sanitizers keep of freed memory is not the program's
MEMORY = 150 * MB if not SANITIZED else 900 * MB
SEED = int(os.environ.get("SEED", random.SystemRandom().randrange(1 << 32)))
ENV = dict(ASAN_OPTIONS="abort_on_error=0:exitcode=99:detect_leaks=1:quarantine_size_mb=16", UBSAN_OPTIONS="print_stacktrace=1")


class Hostile(unittest.TestCase):
    maxDiff = 2000

    @contextlib.contextmanager
    def served(self, image, *options):
        """The image on a directory, by a program in the foreground, which must end well."""
        mnt = lab.folder("mnt")
        log = open(lab.folder() / "stderr", "w+")
        p = subprocess.Popen([PROGRAM, "-f", "--cache-dir=none", *options, image, str(mnt)], stderr=log, stdin=subprocess.DEVNULL,
                             env=dict(os.environ, **ENV))
        try:
            end = time.monotonic() + 120
            while not os.path.ismount(mnt):
                if p.poll() is not None or time.monotonic() > end:
                    log.seek(0)
                    self.fail(f"not mounted: {log.read()[-2000:]}")
                time.sleep(0.02)
            yield mnt
            self.assertIsNone(p.poll(), "the daemon is gone")
            self.memory = lab.stat_of(mnt)["memory_bytes"]
            self.assertLess(self.memory, MEMORY)
        finally:
            lab.run("umount", mnt, check=False)
            try:
                code = p.wait(60)
            finally:
                p.kill()
            log.seek(0)
            text = log.read()
            self.assertNotIn("Sanitizer", text)
            self.assertNotIn("runtime error", text)
            self.assertEqual(code, 0, text[-3000:])

    def layout(self, *layers):
        return f"oci:{lab.Layout().image(*layers).path}"

    def roam(self, mnt, big=False):
        """everything that people run over a tree; what they say does not matter"""
        commands = [["find", ".", "-ls"], ["find", ".", "-exec", "stat", "{}", "+"], ["ls", "-lRa"], ["getfattr", "-R", "-d", "-m", "-", "."]]
        if not big:
            commands += [["tar", "-cf", "/dev/null", "--xattrs", "."], ["grep", "-r", "-s", "-l", "nothing such", "."],
                         ["find", ".", "-type", "f", "-exec", "cat", "{}", "+"], ["du", "-s", "."]]
        for c in commands:
            if shutil.which(c[0]):
                subprocess.run(c, cwd=mnt, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, timeout=300)
        subprocess.run(["tar", "-cf", "-", "."], cwd=mnt, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=300) if not big else None


class Mounts(Hostile):
    def test_nothing_outside_is_reached(self):
        secret = lab.folder("secret") / "secret"
        secret.write_text("do not show")
        up = "../" * 40
        layer = lab.layer(
            member(up + "escaped", "inside"), member("/" + up + "etc/passwd", "not yours"), member("a", type=tarfile.SYMTYPE, linkname="/"),
            member("a/b", "through a link"), member("up", type=tarfile.SYMTYPE, linkname=up + str(secret.parent)[1:]), member("up/planted", "x"),
            member("h1", type=tarfile.LNKTYPE, linkname=up + str(secret)[1:]), member("h2", type=tarfile.LNKTYPE, linkname=str(secret)),
            member("mem", type=tarfile.CHRTYPE, devmajor=1, devminor=1, mode=0o666), member("null", type=tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666),
            member("disk", type=tarfile.BLKTYPE, devmajor=8, devminor=0, mode=0o666), member("su", "#!/bin/sh\nid -u\n", mode=0o6755),
            member("proc", type=tarfile.SYMTYPE, linkname="/proc/self/root"), member("proc/x", "y"))
        with self.served(self.layout(layer)) as mnt:
            self.roam(mnt)
            self.assertEqual((mnt / "escaped").read_text(), "inside")
            self.assertEqual((mnt / "etc/passwd").read_text(), "not yours")
            self.assertEqual((mnt / "b").read_text(), "through a link")
            self.assertFalse((mnt / "h1").exists() or (mnt / "h2").exists())
            self.assertEqual(os.listdir(secret.parent), ["secret"])
            self.assertEqual(sorted(os.listdir(mnt / str(secret.parent)[1:])), ["planted"])
            for device in ("mem", "null", "disk"):
                with self.assertRaises(PermissionError):
                    open(mnt / device, "rb")
            for path, _, names in os.walk(mnt):
                for name in names:
                    st = os.lstat(os.path.join(path, name))
                    self.assertNotEqual((st.st_dev, st.st_ino), (os.stat(secret).st_dev, os.stat(secret).st_ino))
            out = lab.run("setpriv", "--reuid=12345", "--clear-groups", mnt / "su", check=False)
            self.assertNotEqual(out.out.strip(), "0")

    def test_a_chroot_stays_inside(self):
        lab.need("busybox", "chroot")
        outside = lab.folder("outside") / "name"
        outside.write_text("outside")
        layer = lab.layer(member("bin/busybox", pathlib.Path(shutil.which("busybox")).read_bytes(), mode=0o755),
                          member("l", type=tarfile.SYMTYPE, linkname="../" * 30 + str(outside)[1:]), member("m", type=tarfile.SYMTYPE, linkname=str(outside)))
        with self.served(self.layout(layer)) as mnt:
            for name in ("/l", "/m", "../../../../.." + str(outside)):
                p = lab.run("chroot", mnt, "/bin/busybox", "cat", name, check=False)
                self.assertNotEqual(p.returncode, 0)

    def test_deep_directories(self):
        path = "d/" * 2040
        with self.served(self.layout(lab.layer(member(path[:4000] + "f", "deep"), member("e", type=tarfile.SYMTYPE, linkname="d/d"), member("e/" + "d/" * 1900 + "g", "g")))) as mnt:
            self.roam(mnt)

    def test_depth_has_a_ceiling(self):
        """links make paths longer than names can be"""
        links = [member("d/" * 1000 + "e")] + [member("l0", type=tarfile.SYMTYPE, linkname="d/" * 1000)]
        links += [member(f"l0/{'x/' * 1000}y"), member("l1", type=tarfile.SYMTYPE, linkname="l0/" + "x/" * 1000), member(f"l1/{'z/' * 1000}y", "far")]
        p = lab.imagefs(self.layout(lab.layer(*links)), lab.folder("mnt"), check=False)
        self.assertEqual(p.returncode, 6, p.err)
        self.assertIn("2048", p.err)

    def test_crowded_directory(self):
        count = 100000 if not SANITIZED else 30000
        data = make.end(b"".join(make.header(b"d/%07d" % i) for i in range(count)))
        with self.served(self.layout(lab.pack(data, level=1))) as mnt:
            self.assertEqual(len(os.listdir(mnt / "d")), count)
            self.assertEqual(lab.run("find", mnt, "-name", "0000007").out.count("\n"), 1)

    def test_huge_files_that_are_holes(self):
        pieces = []
        for i, size in enumerate((1 << 40, 1 << 62, (1 << 63) - (1 << 20))):
            pieces += [make.pax([(b"GNU.sparse.size", b"%d" % size), (b"GNU.sparse.numblocks", b"1"), (b"GNU.sparse.map", b"0,1")]), make.file(b"f%d" % i, b"x")]
        with self.served(self.layout(lab.pack(make.end(*pieces)))) as mnt:
            self.roam(mnt, big=True)
            for name in ("f0", "f1", "f2"):
                with open(mnt / name, "rb") as f:
                    f.seek(-10, 2)
                    self.assertEqual(f.read(100), bytes(10))
                    f.seek(0)
                    self.assertEqual(f.read(2), b"x\0")

    def test_odd_names_and_links(self):
        r = random.Random(SEED)
        members = []
        for i in range(2000):
            name = bytes(r.choice(b"\x01\n\r\x1b[31m*?'\"\\ -~\xff\xc0") for _ in range(r.randint(1, 60))).replace(b"/", b"")
            members.append(make.file(b"n/" + name, b"x", mode=b"%07o\0" % r.getrandbits(12)))
        members += [make.header(b"loop/l%d" % i, type=b"2", link=b"l%d" % ((i + 1) % 50)) for i in range(50)]
        members += [make.header(b"self", type=b"2", link=b"self/self"), make.header(b"dot", type=b"2", link=b"."), make.header(b"root", type=b"2", link=b"/")]
        with self.served(self.layout(lab.pack(make.end(*members)))) as mnt:
            self.roam(mnt)

    def test_bomb_of_gzip(self):
        size = (1024 if not SANITIZED else 256) * MB
        path = lab.folder() / "layer"
        with open(path, "wb") as out:
            p = subprocess.Popen(["gzip", "-1"], stdin=subprocess.PIPE, stdout=out)
            p.stdin.write(make.header(b"zeros", size))
            for _ in range(size // MB):
                p.stdin.write(bytes(MB))
            p.stdin.write(bytes(1024))
            p.stdin.close()
            self.assertEqual(p.wait(), 0)
        with self.served(str(path)) as mnt:
            self.assertEqual(os.stat(mnt / "zeros").st_size, size)
            self.assertEqual(lab.run("sh", "-c", f"cat {mnt}/zeros | tr -d '\\0' | wc -c").out.strip(), "0")

    def test_bomb_of_zstd_is_refused(self):
        lab.need("zstd")
        path = lab.folder() / "layer"
        with open(path, "wb") as out:
            p = subprocess.Popen(["zstd", "-q", "-c"], stdin=subprocess.PIPE, stdout=out)
            p.stdin.write(make.header(b"zeros", 1100 * MB))
            for _ in range(1100):
                p.stdin.write(bytes(MB))
            p.stdin.close()
            self.assertEqual(p.wait(), 0)
        before = shutil.disk_usage(lab.TMP).free
        p = lab.imagefs("--cache-dir=none", str(path), lab.folder("mnt"), check=False)
        self.assertEqual(p.returncode, 6, p.err)
        self.assertIn("2048 times", p.err)
        self.assertLess(before - shutil.disk_usage(lab.TMP).free, 1000 * MB)

    def test_bomb_of_attributes(self):
        """a megabyte of attributes an entry, in a small layer: memory is bounded by what is shown"""
        value = b"v" * 60000
        records = make.pax([(b"SCHILY.xattr.user.%d" % i, value) for i in range(15)])
        layer = lab.pack(make.end(*(records + make.file(b"f%d" % i, b"") for i in range(100))))
        self.assertLess(len(layer), 2 * MB)
        with self.served(self.layout(layer)) as mnt:
            self.roam(mnt)

    def test_bomb_of_empty_gzip_members(self):
        path = lab.folder() / "layer"
        path.write_bytes(gzip.compress(b"", mtime=0) * 200000 + lab.layer(member("a", "A")))
        with self.served(str(path)) as mnt:
            self.assertEqual((mnt / "a").read_text(), "A")

    def test_bomb_of_layers(self):
        layers = [lab.layer(member(f"f{i}", "x"), member("d/.wh..wh..opq", "")) for i in range(300)]
        with self.served(self.layout(*layers)) as mnt:
            self.assertEqual(len(os.listdir(mnt)), 301)
        p = lab.imagefs(self.layout(*[layers[0]] * 1025), lab.folder("mnt"), check=False)
        self.assertEqual(p.returncode, 6, p.err)
        self.assertIn("1024", p.err)

    def test_bomb_of_symlinked_paths(self):
        """each entry walks forty links, each of them long"""
        links = [member("d/" * 500 + "e")]
        links += [member(f"l{i}", type=tarfile.SYMTYPE, linkname=("d/" * 500 + "../" * 500) * 2 + f"l{i - 1}" if i else "d") for i in range(38)]
        entries = [member(f"l37/f{i}", "") for i in range(2000)]
        start = time.monotonic()
        p = lab.imagefs(self.layout(lab.layer(*links, *entries)), mnt := lab.folder("mnt"), check=False)
        if p.returncode == 0:
            lab.imagefs("umount", mnt)
        else:
            self.assertEqual(p.returncode, 6, p.err)
        print(f"{time.monotonic() - start:.1f} s", file=sys.stderr)


class Malformed(Hostile):
    """Archives broken in every place: each opens or is refused, and the program never fails."""

    @classmethod
    def setUpClass(cls):
        dump = pathlib.Path(ASAN).parent / "tests/e2e_dump"
        if SANITIZED and dump.exists():
            trees.DUMP = str(dump)
        os.environ.update(ENV)
        cls.dumper = trees.Dumper(hash_max=4 << 20)
        cls.codes = {}

    @classmethod
    def tearDownClass(cls):
        code = cls.dumper.close()
        print(f"SEED={SEED}", cls.codes, file=sys.stderr)
        assert code == 0, f"e2e_dump ended with {code}"

    def whole(self):
        e = b"".join(b"%011o\0%011o\0" % p for p in ((0, 512), (4096, 100)))
        return [make.header(b"d/", type=b"5"), make.file(b"d/f", b"content" * 200), make.header(b"l", type=b"2", link=b"d/f"),
                make.header(b"h", type=b"1", link=b"d/f"), make.file(b"././@LongLink", b"n" * 300 + b"\0", type=b"L", magic=make.GNU), make.file(b"x", b"X"),
                make.pax([(b"path", b"p/a/x"), (b"mtime", b"1.5"), (b"SCHILY.xattr.user.a", b"b"), (b"size", b"3")]), make.file(b"y", b"yyy"),
                make.pax([(b"comment", b"c")], b"g"),
                make.file(b"s", b"1" * 612, type=b"S", magic=make.GNU, extra=((386, e), (483, b"%011o\0" % 8192))),
                make.pax([(b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"), (b"GNU.sparse.name", b"s1"), (b"GNU.sparse.realsize", b"9000")]),
                make.file(b"GNUSparseFile/s1", make.padded(b"2\n0\n10\n8000\n5\n") + b"0123456789abcde"),
                make.header(b"c", type=b"3", extra=((329, b"0000001\0"), (337, b"0000003\0"))), make.header(b".wh.gone"), bytes(1024)]

    def try_one(self, data):
        layout = lab.Layout().image(data if data[:2] != b"\x1f\x8b" else data + b"")
        try:
            self.dumper.tree(f"oci:{layout.path}")
            code = 0
        except trees.Refused as e:
            code = e.code
            self.assertIn(code, (errno.EBADMSG, errno.EFBIG, errno.EOPNOTSUPP), str(e))
        self.codes[code] = self.codes.get(code, 0) + 1
        shutil.rmtree(layout.path)

    def test_truncated_everywhere(self):
        data = b"".join(self.whole())
        for cut in [*range(0, len(data), 512), *range(1, len(data), 391)]:
            self.try_one(data[:cut])

    def test_truncated_gzip(self):
        data = lab.pack(b"".join(self.whole()))
        for cut in range(1, len(data), 7):
            layout = lab.Layout()
            with contextlib.suppress(Exception):
                d = layout.blob(data[:cut], "application/vnd.oci.image.layer.v1.tar+gzip")
                self.try_blob(layout, d)

    def try_blob(self, layout, descriptor):
        config = layout.document(dict(architecture="amd64", os="linux", rootfs=dict(type="layers", diff_ids=[lab.sha256(b"?")])),
                                 "application/vnd.oci.image.config.v1+json")
        kind = "application/vnd.oci.image.manifest.v1+json"
        layout.tag(layout.document(dict(schemaVersion=2, mediaType=kind, config=config, layers=[descriptor]), kind))
        with self.assertRaises(trees.Refused) as caught:
            self.dumper.tree(f"oci:{layout.path}")
        self.assertEqual(caught.exception.code, errno.EBADMSG, str(caught.exception))
        shutil.rmtree(layout.path)

    FIELDS = {"name": (0, 100), "mode": (100, 8), "uid": (108, 8), "gid": (116, 8), "size": (124, 12), "mtime": (136, 12), "type": (156, 1), "link": (157, 100),
              "magic": (257, 8), "major": (329, 8), "prefix": (345, 155), "map": (386, 96), "more": (482, 1), "real": (483, 12)}

    def test_every_field_of_every_header(self):
        """each replaced by nonsense, with the checksum mended"""
        r = random.Random(SEED)
        pieces = self.whole()
        for i, piece in enumerate(pieces[:-1]):
            for at, size in self.FIELDS.values():
                for value in (b"\xff" * size, b"\x80" + b"\0" * (size - 1), b"\x80" + b"\x7f" * (size - 1), b"9" * size, b"7" * size, bytes(size),
                              b"../" * size, b".wh." * size, r.randbytes(size)):
                    if SANITIZED and r.random() < 0.5:
                        continue  # half as many, it is slow
                    h = bytearray(piece[:512])
                    h[at:at + size] = value[:size]
                    h[148:156] = b" " * 8
                    h[148:156] = b"%06o\0 " % sum(h)
                    self.try_one(b"".join(pieces[:i]) + bytes(h) + piece[512:] + b"".join(pieces[i + 1:]))

    def test_claims_of_size(self):
        for size in (b"77777777777\0", b"\x80" + (2**62).to_bytes(11, "big"), b"\x80" + (2**63 - 1).to_bytes(11, "big"), b"\x80" + b"\x7f" * 11):
            for kind in b"0", b"x", b"g", b"L", b"K", b"S", b"V", b"Q":
                self.try_one(make.header(b"big", type=kind, size_field=size, magic=make.GNU) + bytes(5120))

    def test_random_damage(self):
        r = random.Random(SEED)
        data = b"".join(self.whole())
        for _ in range(300):
            d = bytearray(data)
            for _ in range(r.randint(1, 8)):
                d[r.randrange(len(d))] = r.getrandbits(8)
            if r.random() < 0.5:
                at = r.randrange(0, len(d), 512)
                del d[at:at + 512 * r.randint(1, 4)]
            for at in range(0, len(d) - 511, 512):  # what looks like a header gets a right checksum
                if d[at + 257:at + 262] == b"ustar":
                    d[at + 148:at + 156] = b" " * 8
                    d[at + 148:at + 156] = b"%06o\0 " % sum(d[at:at + 512])
            self.try_one(bytes(d))


if __name__ == "__main__":
    lab.main()
