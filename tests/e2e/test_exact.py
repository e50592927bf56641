#!/usr/bin/env python3
"""Each rule of what a mount shows, one by one: an image made for it, mounted, and looked at through the kernel.

The tests are named after the behaviours; most read as "these layers show this tree"."""
import base64
import gzip
import hashlib
import os
import shutil
import struct
import tarfile
import unittest

import lab
import trees
from lab import member

LINK, HARD, FIFO, CHR, BLK = tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE
USTAR, GNU = b"ustar\0" b"00", b"ustar  \0"
DAY = 1700000000


# ---- raw archives ----

def header(name, size=0, type=b"0", link=b"", magic=USTAR, prefix=b"", mode=b"0000644\0", uid=b"0000000\0", gid=b"0000000\0",
           size_field=None, mtime=b"14524711400\0"[:12], signed=False, extra=()):
    """One header block, with each field as bytes."""
    h = bytearray(512)
    for at, value in ((0, name), (100, mode), (108, uid), (116, gid), (124, size_field or b"%011o\0" % size), (136, mtime),
                      (156, type), (157, link), (257, magic), (345, prefix), *extra):
        h[at:at + len(value)] = value
    h[148:156] = b" " * 8
    total = sum(b - 256 if signed and b > 127 else b for b in h)
    h[148:156] = b"%06o\0 " % total
    return bytes(h)


def padded(data):
    return data + b"\0" * (-len(data) % 512)


def file(name, data=b"", **kw):
    return header(name, len(data), **kw) + padded(data)


def pax(records, type=b"x"):
    text = b""
    for key, value in records:
        body = b" " + key + b"=" + value + b"\n"
        n = len(body) + 1
        while len(b"%d" % n) + len(body) != n:
            n += 1
        text += b"%d" % n + body
    return file(b"PaxHeader", text, type=type)


def end(*pieces):
    return b"".join(pieces) + bytes(1024)


def d(name, **kw):
    return member(name, **kw)


def f(name, content="", **kw):
    return member(name, content, **kw)


def s(name, target, **kw):
    return member(name, type=LINK, linkname=target, **kw)


def h(name, target, **kw):
    return member(name, type=HARD, linkname=target, **kw)


def wh(name, **kw):
    head, slash, last = name.rpartition("/")
    return member(head + slash + ".wh." + last, "", **kw)


def opaque(name):
    return member((name + "/" if name else "") + ".wh..wh..opq", "")


class Shows(unittest.TestCase):
    maxDiff = 3000

    def mounted(self, *layers):
        """The tree of an image of these layers: bytes, or tuples of members."""
        blobs = [lab.layer(*l) if isinstance(l, tuple) else l if l[:2] == b"\x1f\x8b" else lab.pack(l) for l in layers]
        self.layout = lab.Layout().image(*blobs)
        with lab.mounted(f"oci:{self.layout.path}", "--cache-dir=none") as mnt:
            return trees.from_mount(mnt)

    def shows(self, layers, want):
        """The names are these and no others. Of each: None a directory, text a file with it, ("->", target) a symlink,
        a dictionary of attributes."""
        got = self.mounted(*layers)
        root = got.pop(".")
        self.assertEqual(sorted(got, key=os.fsencode), sorted((p for p in want if p != "."), key=os.fsencode))
        got["."] = root
        for path, spec in want.items():
            g = got[path]
            if spec is None:
                spec = dict(type="dir")
            elif isinstance(spec, tuple):
                spec = dict(type="lnk", target=spec[1])
            elif isinstance(spec, (str, bytes)):
                data = spec.encode() if isinstance(spec, str) else spec
                spec = dict(type="reg", size=len(data), sha256=hashlib.sha256(data).hexdigest())
            self.assertEqual({k: g.get(k) for k in spec}, spec, f"{path!r}")
        return got


# ---- the stream ----

class Dialects(Shows):
    def test_v7(self):
        self.shows([end(file(b"a", b"A", magic=b""), header(b"d/", type=b"\0", magic=b""), header(b"l", type=b"2", link=b"a", magic=b""))],
                   {"a": "A", "d": None, "l": ("->", "a")})

    def test_v7_has_no_prefix(self):
        self.shows([end(file(b"a", b"A", magic=b"", prefix=b"not/a/prefix"))], {"a": "A"})

    def test_ustar_prefix(self):
        self.shows([end(file(b"n", b"N", prefix=b"p" * 100 + b"/q"))], {"p" * 100: None, "p" * 100 + "/q": None, "p" * 100 + "/q/n": "N"})

    def test_star(self):
        """a prefix of 131 bytes, times behind it"""
        tail = ((345, b"q" * 131), (476, b"14524711400\0"), (488, b"14524711400\0"), (508, b"tar\0"))
        self.shows([end(file(b"n", b"N", extra=tail))], {"q" * 131: None, "q" * 131 + "/n": "N"})

    def test_pax_rules_the_header(self):
        records = [(b"path", b"real/name"), (b"size", b"5"), (b"uid", b"4000000000"), (b"gid", b"7"), (b"mtime", b"12.000000034")]
        self.shows([end(pax(records), header(b"short", size=0), padded(b"bytes"))],
                   {"real": None, "real/name": dict(size=5, uid=4000000000, gid=7, mtime_ns=12 * 10**9 + 34,
                                                    sha256=hashlib.sha256(b"bytes").hexdigest())})

    def test_pax_later_header_replaces_the_earlier(self):
        self.shows([end(pax([(b"path", b"one"), (b"uid", b"5")]), pax([(b"path", b"two")]), file(b"x", b"X"))], {"two": dict(uid=0)})

    def test_pax_empty_value_is_none(self):
        self.shows([end(pax([(b"path", b""), (b"uid", b"")]), file(b"x", b"X", uid=b"0000011\0"))], {"x": dict(uid=9)})

    def test_global_pax_headers_change_nothing(self):
        self.shows([end(pax([(b"path", b"all"), (b"uid", b"3"), (b"comment", b"0" * 40)], b"g"), file(b"x", b"X"), file(b"y", b"Y"))],
                   {"x": dict(uid=0), "y": "Y"})

    def test_gnu_long_name_and_link(self):
        name, link = b"n" * 150 + b"/" + b"m" * 150, b"t" * 300
        self.shows([end(file(b"././@LongLink", name + b"\0", type=b"L", magic=GNU), file(b"././@LongLink", link + b"\0", type=b"K", magic=GNU),
                        header(b"cut", type=b"2", link=b"cut", magic=GNU))],
                   {"n" * 150: None, name.decode(): ("->", link.decode())})

    def test_gnu_long_name_beats_pax(self):
        self.shows([end(file(b"././@LongLink", b"gnu\0", type=b"L", magic=GNU), pax([(b"path", b"pax")]), file(b"x", b"X"))], {"gnu": "X"})

    def test_gnu_magic_with_a_real_prefix(self):
        """as Go before 1.8 wrote it"""
        self.shows([end(file(b"n", b"N", magic=GNU, prefix=b"some/dir"))], {"some": None, "some/dir": None, "some/dir/n": "N"})

    def test_base256_numbers(self):
        def number(value, size):
            return bytes([0x80 if value >= 0 else 0xff]) + value.to_bytes(size - 1, "big", signed=True)
        self.shows([end(header(b"a", magic=GNU, uid=number(2**31, 8), gid=number(2**32 - 2, 8), size_field=number(3, 12), mtime=number(2**33, 12)),
                        padded(b"abc"), header(b"b", magic=GNU, mtime=number(-5, 12)))],
                   {"a": dict(uid=2**31, gid=2**32 - 2, size=3, mtime_ns=2**33 * 10**9), "b": dict(mtime_ns=-5 * 10**9)})

    def test_signed_checksum(self):
        self.shows([end(file(b"\xe9\xe8\xff", b"old", signed=True))], {"\udce9\udce8\udcff": "old"})

    def test_missing_end(self):
        self.shows([file(b"a", b"A") + file(b"b", b"B" * 512)], {"a": "A", "b": b"B" * 512})

    def test_missing_last_padding(self):
        self.shows([header(b"a", 3) + b"abc"], {"a": "abc"})

    def test_one_zero_block_ends_it(self):
        self.shows([file(b"a", b"A") + bytes(512)], {"a": "A"})

    def test_garbage_after_the_end(self):
        self.shows([end(file(b"a", b"A")) + b"garbage" * 300], {"a": "A"})

    def test_second_archive_behind_the_end_is_not_shown(self):
        self.shows([end(file(b"a", b"A")) + end(file(b"b", b"B"))], {"a": "A"})

    def test_empty_layers(self):
        self.shows([b"\x1f\x8b" and gzip.compress(b""), bytes(1024), (f("a", "A"),)], {"a": "A"})

    def test_contiguous_file(self):
        self.shows([end(file(b"a", b"A", type=b"7"))], {"a": "A"})

    def test_unknown_types_are_skipped_with_their_data(self):
        self.shows([end(file(b"v", b"label", type=b"V"), file(b"q", b"q" * 700, type=b"Q"), file(b"dump", b"list", type=b"D", magic=GNU),
                        file(b"a", b"A"))], {"a": "A"})

    def test_regular_type_with_a_slash_is_a_file(self):
        self.shows([end(file(b"a/", b"A"))], {"a": "A"})

    def test_links_and_devices_have_no_data(self):
        """whatever their size field says"""
        self.shows([end(file(b"a", b"A"), header(b"h", 512, type=b"1", link=b"a"), header(b"l", 700, type=b"2", link=b"a"),
                        header(b"d", 9, type=b"5"), file(b"z", b"Z"))],
                   {"a": "A", "h": "A", "l": ("->", "a"), "d": None, "z": "Z"})

    def test_compressions(self):
        tar = lab.layer(f("a", "A" * 100000), compress=None)
        for blob in (tar, lab.pack(tar), gzip.compress(tar[:3000]) + gzip.compress(tar[3000:]), lab.pack(tar, "zstd")):
            layout = lab.Layout().image(blob)
            with lab.mounted(f"oci:{layout.path}", "--cache-dir=none") as mnt:
                self.assertEqual((mnt / "a").read_text(), "A" * 100000)


class Sparse(Shows):
    SIZE = 1 << 20
    MAP = [(0, 512), (4096, 100), (700000, 1000)]
    STORED = b"1" * 512 + b"2" * 100 + b"3" * 1000

    def setUp(self):
        self.whole = bytearray(self.SIZE)
        at = 0
        for off, n in self.MAP:
            self.whole[off:off + n] = self.STORED[at:at + n]
            at += n

    def check(self, *pieces):
        got = self.shows([end(*pieces, file(b"after", b"A"))], {"f": bytes(self.whole), "after": "A"})
        return got

    def flat(self):
        return b",".join(b"%d,%d" % e for e in self.MAP)

    def test_old_gnu(self):
        entries = b"".join(b"%011o\0%011o\0" % e for e in self.MAP)
        self.check(file(b"f", self.STORED, type=b"S", magic=GNU, extra=((386, entries), (483, b"%011o\0" % self.SIZE))))

    def test_old_gnu_with_extension_blocks(self):
        self.MAP = [(i * 1024, 10) for i in range(60)]
        self.STORED = bytes(range(1, 61)) * 10
        self.setUp()
        entries = [b"%011o\0%011o\0" % e for e in self.MAP]
        first, rest = entries[:4], entries[4:]
        blocks = b""
        while rest:
            blocks += b"".join(rest[:21]).ljust(504, b"\0") + bytes([len(rest) > 21]) + bytes(7)
            rest = rest[21:]
        head = header(b"f", len(self.STORED), type=b"S", magic=GNU,
                      extra=((386, b"".join(first)), (482, b"\1"), (483, b"%011o\0" % self.SIZE)))
        self.check(head + blocks + padded(self.STORED))

    def test_pax_0_0(self):
        records = [(b"GNU.sparse.size", b"%d" % self.SIZE), (b"GNU.sparse.numblocks", b"%d" % len(self.MAP))]
        for off, n in self.MAP:
            records += [(b"GNU.sparse.offset", b"%d" % off), (b"GNU.sparse.numbytes", b"%d" % n)]
        self.check(pax(records), file(b"f", self.STORED))

    def test_pax_0_1(self):
        self.check(pax([(b"GNU.sparse.size", b"%d" % self.SIZE), (b"GNU.sparse.numblocks", b"%d" % len(self.MAP)),
                        (b"GNU.sparse.map", self.flat()), (b"GNU.sparse.name", b"f")]), file(b"GNUSparseFile.1/f", self.STORED))

    def test_pax_1_0(self):
        lines = padded(b"%d\n" % len(self.MAP) + b"".join(b"%d\n%d\n" % e for e in self.MAP))
        self.check(pax([(b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"), (b"GNU.sparse.name", b"f"),
                        (b"GNU.sparse.realsize", b"%d" % self.SIZE)]), file(b"GNUSparseFile.1/f", lines + self.STORED))

    def test_huge_hole(self):
        """eight times what the machine has: seek, read at the end, no space taken"""
        size = 1 << 46
        layer = lab.pack(end(pax([(b"GNU.sparse.size", b"%d" % size), (b"GNU.sparse.numblocks", b"1"), (b"GNU.sparse.map", b"%d,3" % (size - 3))]),
                             file(b"f", b"end")))
        layout = lab.Layout().image(layer)
        with lab.mounted(f"oci:{layout.path}", "--cache-dir=none") as mnt:
            st = os.stat(mnt / "f")
            self.assertEqual(st.st_size, size)
            self.assertLess(st.st_blocks, 100)
            with open(mnt / "f", "rb") as file_:
                self.assertEqual(file_.read(4096), bytes(4096))
                file_.seek(size // 2)
                self.assertEqual(file_.read(100), bytes(100))
                file_.seek(-5, 2)
                self.assertEqual(file_.read(), b"\0\0end")


class Attributes(Shows):
    def test_xattrs_of_any_bytes(self):
        value = b"\0\n=\xff" * 10
        records = [(b"SCHILY.xattr.user.any", value), (b"SCHILY.xattr.user.empty", b""), (b"SCHILY.xattr.user.\xff", b"name"),
                   (b"LIBARCHIVE.xattr.user.no", b"bm8="), (b"SCHILY.xattr.trusted.overlay.opaque", b"y"),
                   (b"SCHILY.xattr.security.selinux", b"label\0"), (b"SCHILY.xattr.user.overlay.opaque", b"y")]
        e = lambda b: base64.b64encode(b).decode()
        want = {"user.any": e(value), "user.empty": "", "user.\udcff": e(b"name"), "user.overlay.opaque": e(b"y")}
        self.shows([end(pax(records), file(b"f", b"F"), pax(records), header(b"d", type=b"5"), pax(records), header(b"l", type=b"2", link=b"f"))],
                   {"f": dict(xattrs=want), "d": dict(xattrs=want), "l": dict(xattrs=None)})

    def test_xattr_as_large_as_the_kernel_allows(self):
        value = os.urandom(65536)
        self.shows([end(pax([(b"SCHILY.xattr.user.big", value)]), file(b"f"))],
                   {"f": dict(xattrs={"user.big": base64.b64encode(value).decode()})})

    def test_file_capabilities(self):
        value = struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0)  # cap_net_raw=ep
        got = self.shows([end(pax([(b"SCHILY.xattr.security.capability", value)]), file(b"ping", b"P"))], {"ping": "P"})
        self.assertEqual(got["ping"]["xattrs"], {"security.capability": base64.b64encode(value).decode()})

    def test_posix_acls(self):
        acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *e) for e in (
            (1, 6, 2**32 - 1), (2, 7, 1234), (4, 4, 2**32 - 1), (16, 7, 2**32 - 1), (32, 0, 2**32 - 1)))
        got = self.shows([end(pax([(b"SCHILY.xattr.system.posix_acl_access", acl)]), file(b"f", b"F", mode=b"0000670\0"))], {"f": "F"})
        self.assertEqual(got["f"]["xattrs"], {"system.posix_acl_access": base64.b64encode(acl).decode()})
        if shutil.which("getfacl"):
            with lab.mounted(f"oci:{self.layout.path}", "--cache-dir=none") as mnt:
                self.assertIn("user:1234:rwx", lab.run("getfacl", "-n", "-p", mnt / "f").out)

    def test_modes(self):
        modes = (0, 0o4755, 0o2755, 0o1777, 0o7777, 0o100644)
        self.shows([tuple(f(f"f{m:o}", mode=m) for m in modes)], {f"f{m:o}": dict(mode="%04o" % (m & 0o7777)) for m in modes})

    def test_owners(self):
        self.shows([(f("a", uid=2**32 - 2, gid=2**32 - 2), s("l", "a", uid=5, gid=6), f("b", uname="daemon", gname="daemon"))],
                   {"a": dict(uid=2**32 - 2, gid=2**32 - 2), "l": dict(uid=5, gid=6), "b": dict(uid=0, gid=0)})

    def test_times(self):
        """nanoseconds, before 1970, far away"""
        times = {"ns": ("1700000000.123456789", 1700000000123456789), "digits": ("1.1234567899999", 1123456789), "old": ("-5", -5 * 10**9),
                 "fraction": ("-5.5", -5500000000), "far": ("100000000000", 10**20), "zero": ("0", 0)}
        self.shows([tuple(f(n, pax=dict(mtime=t)) for n, (t, _) in times.items())], {n: dict(mtime_ns=ns) for n, (_, ns) in times.items()})

    def test_devices(self):
        self.shows([(member("c", type=CHR, devmajor=1, devminor=3), member("b", type=BLK, devmajor=300, devminor=70000), member("p", type=FIFO))],
                   {"c": dict(type="chr", rdev=[1, 3]), "b": dict(type="blk", rdev=[300, 70000]), "p": dict(type="fifo")})

    def test_symlinks(self):
        """targets verbatim, up to the limit; without one: left out"""
        long = "x/" * 2040 + "y"
        self.shows([(s("abs", "/etc/passwd"), s("up", "../../.."), s("odd", "a//b/./c/"), s("long", long), s("bytes", "\udcff"), s("none", ""))],
                   {"abs": ("->", "/etc/passwd"), "up": ("->", "../../.."), "odd": ("->", "a//b/./c/"), "long": ("->", long), "bytes": ("->", "\udcff")})

    def test_root_entry(self):
        for name in (".", "./", "/"):
            self.shows([(d(name, mode=0o750, uid=3, gid=4), f("a"))], {".": dict(mode="0750", uid=3, gid=4, mtime_ns=DAY * 10**9), "a": ""})
        self.shows([(f("a"),)], {".": dict(mode="0755", uid=0, gid=0), "a": ""})
        self.shows([(f(".", "no directory"), f("a"))], {".": dict(mode="0755"), "a": ""})


class Names(Shows):
    def test_names_are_bytes(self):
        names = [b"\xff\xfe", b"new\nline", b" ", b"\x01\x7f", "é".encode(), "é".encode(), b"back\\slash", b"..a", b"...", b"-rf"]
        self.shows([end(*(file(n, n) for n in names))], {os.fsdecode(n): n for n in names})

    def test_limits_of_the_kernel(self):
        """255 bytes a component, 4095 a path; beyond: left out, nothing else is"""
        deep = "/".join(["d" * 200] * 20)
        layers = [(f("a" * 255, "A"), f("b" * 256, "B"), f("c/" + "b" * 256 + "/x"), f(deep + "/f", "deep"), f("y/" * 2048 + "z"), f("ok", "K"))]
        want = {"a" * 255: "A", "ok": "K"}
        layout = lab.Layout().image(lab.layer(*layers[0]))
        with lab.mounted(f"oci:{layout.path}", "--cache-dir=none") as mnt:
            self.assertEqual(set(os.listdir(mnt)), {*want, "d" * 200})
            at = os.open(mnt, os.O_PATH)  # longer than PATH_MAX from the host's root
            for part in deep.split("/"):
                at, old = os.open(part, os.O_PATH, dir_fd=at), at
                os.close(old)
            with open(os.open("f", os.O_RDONLY, dir_fd=at)) as file_:
                self.assertEqual(file_.read(), "deep")
            os.close(at)
        info = lab.json.loads(lab.imagefs("inspect", "--json", f"oci:{layout.path}").out)
        self.assertEqual(info["layers"][0]["left_out"]["dropped_names"], 3)

    def test_names_stay_inside(self):
        self.shows([end(file(b"../x", b"1"), file(b"/../../y", b"2"), file(b"a/../z", b"3"), file(b"/abs//./p", b"4"), file(b"..", b"5"), file(b"", b"6"))],
                   {"x": "1", "y": "2", "z": "3", "abs": None, "abs/p": "4"})

    def test_implied_parents(self):
        """0755 root, the time of the newest child; attributes of the layer below are inherited"""
        self.shows([(f("a/b/c", "C", mtime=5), f("a/d", "D", mtime=9))],
                   {"a": dict(type="dir", mode="0755", uid=0, gid=0, mtime_ns=9 * 10**9), "a/b": dict(mtime_ns=5 * 10**9), "a/b/c": "C", "a/d": "D"})
        self.shows([(d("a", mode=0o700, uid=7, mtime=3),), (f("a/n", "N"),)], {"a": dict(mode="0700", uid=7, mtime_ns=3 * 10**9), "a/n": "N"})

    def test_implied_then_explicit(self):
        self.shows([(f("a/b"), d("a", mode=0o711, uid=2))], {"a": dict(mode="0711", uid=2), "a/b": ""})

    def test_duplicates_last_wins(self):
        self.shows([(f("a", "first"), f("a", "last"), d("d", mode=0o700), f("d/x", "X"), d("d", mode=0o711), f("e/y"), f("e", "now a file"))],
                   {"a": "last", "d": dict(mode="0711"), "d/x": "X", "e": "now a file"})

    def test_type_changes_between_layers(self):
        self.shows([(f("fd"), d("df"), f("df/x"), d("dl"), f("dl/x"), s("ld", "dl"), f("fl"), f("y"))],
                   {"fd": "", "df": None, "df/x": "", "dl": None, "dl/x": "", "ld": ("->", "dl"), "fl": "", "y": ""})
        self.shows([(f("fd"), d("df"), f("df/x"), d("dl"), f("dl/x"), s("ld", "dl"), f("fl"), f("y")),
                    (d("fd"), f("df", "file"), s("dl", "t"), d("ld"), s("fl", "t"), f("y/c", "below a file"))],
                   {"fd": None, "df": "file", "dl": ("->", "t"), "ld": None, "fl": ("->", "t"), "y": None, "y/c": "below a file"})

    def test_upper_directory_rules_attributes(self):
        got = self.shows([(d("d", mode=0o700, uid=1, pax={"SCHILY.xattr.user.low": "1"}), f("d/a", "A")), (d("d", mode=0o711, uid=2),)],
                         {"d": dict(mode="0711", uid=2), "d/a": "A"})
        self.assertNotIn("xattrs", got["d"])


class SymlinkedParents(Shows):
    def test_of_the_same_layer_are_followed(self):
        self.shows([(d("real"), s("l", "real"), f("l/x", "X"), s("abs", "/real/sub"), f("abs/y", "Y"), s("up", "../../real"), f("up/z", "Z"))],
                   {"real": None, "l": ("->", "real"), "real/x": "X", "abs": ("->", "/real/sub"), "real/sub": None, "real/sub/y": "Y",
                    "up": ("->", "../../real"), "real/z": "Z"})

    def test_of_a_lower_layer_become_directories(self):
        """as under docker run"""
        self.shows([(d("real"), f("real/old", "old"), s("l", "real")), (f("l/new", "new"),)],
                   {"real": None, "real/old": "old", "l": dict(type="dir", mode="0755"), "l/new": "new"})

    def test_whiteout_below_one_of_a_lower_layer(self):
        self.shows([(d("real"), f("real/f", "F"), s("l", "real")), (wh("l/f"),)], {"real": None, "real/f": "F", "l": None})

    def test_last_component_is_never_followed(self):
        self.shows([(d("real"), f("real/f"), s("l", "real")), (d("l"),)], {"real": None, "real/f": "", "l": None})
        self.shows([(d("real"), s("l", "real"), f("l", "file"))], {"real": None, "l": "file"})

    def test_loops_leave_entries_out(self):
        self.shows([(s("a", "b"), s("b", "a"), f("a/x", "X"), f("ok", "K"))], {"a": ("->", "b"), "b": ("->", "a"), "ok": "K"})


class HardLinks(Shows):
    def same(self, got, *paths):
        self.assertEqual(len({got[p]["ino"] for p in paths}), 1, paths)
        for p in paths:
            self.assertEqual(got[p]["nlink"], len(paths), p)

    def test_within_a_layer(self):
        self.same(self.shows([(f("a", "A"), h("d/b", "a"), h("c", "/./d//b"))], {"a": "A", "d": None, "d/b": "A", "c": "A"}), "a", "d/b", "c")

    def test_across_layers(self):
        self.same(self.shows([(f("a", "A"),), (h("b", "a"),), (h("c", "b"),)], {"a": "A", "b": "A", "c": "A"}), "a", "b", "c")

    def test_to_a_symlink_is_another_name_of_it(self):
        self.same(self.shows([(s("l", "t"), h("m", "l"))], {"l": ("->", "t"), "m": ("->", "t")}), "l", "m")

    def test_through_symlinked_parents(self):
        self.same(self.shows([(f("d/a", "A"), s("l", "d"), h("b", "l/a"))], {"d": None, "d/a": "A", "l": ("->", "d"), "b": "A"}), "d/a", "b")

    def test_one_name_replaced_in_the_layer(self):
        got = self.shows([(f("a", "old"), h("b", "a"), f("a", "new"))], {"a": "new", "b": "old"})
        self.assertEqual([got[p]["nlink"] for p in "ab"], [1, 1])

    def test_one_name_replaced_above(self):
        self.shows([(f("a", "old"), h("b", "a"), h("c", "a")), (f("a", "new"),), (wh("b"),)], {"a": "new", "c": dict(nlink=1, size=3)})

    def test_metadata_of_the_link_go_to_the_inode(self):
        self.shows([(f("a", "A", mode=0o600), h("b", "a", mode=0o640, uid=5, mtime=7))],
                   {"a": dict(mode="0640", uid=5, mtime_ns=7 * 10**9), "b": dict(mode="0640")})

    def test_without_a_target_are_left_out(self):
        """forward, to itself, to a directory"""
        self.shows([(h("fwd", "later"), f("later", "L"), h("self", "self"), d("d"), h("dir", "d"), h("root", "/"))], {"later": "L", "d": None})


class Whiteouts(Shows):
    def test_hides_lower_only_in_every_order(self):
        low = (f("a", "low"), d("d"), f("d/x"), f("keep", "K"))
        self.shows([low, (wh("a"), wh("d"))], {"keep": "K"})
        self.shows([low, (wh("a"), f("a", "new"))], {"a": "new", "d": None, "d/x": "", "keep": "K"})
        self.shows([low, (f("a", "new"), wh("a"))], {"a": "new", "d": None, "d/x": "", "keep": "K"})

    def test_with_a_directory_of_the_name_is_opaque_in_every_order(self):
        low = (d("d", mode=0o700), f("d/old"), d("d/sub"), f("d/sub/old"))
        want = {"d": None, "d/new": "N"}
        self.shows([low, (wh("d"), d("d"), f("d/new", "N"))], want)
        self.shows([low, (d("d"), wh("d"), f("d/new", "N"))], want)
        self.shows([low, (d("d"), f("d/new", "N"), wh("d"))], want)
        self.shows([low, (wh("d"), f("d/new", "N"))], {"d": dict(mode="0755"), "d/new": "N"})

    def test_opaque_in_every_order(self):
        low = (d("d", mode=0o700), f("d/old"), d("d/sub"), f("d/sub/old"))
        for upper in ((opaque("d"), f("d/new", "N")), (f("d/new", "N"), opaque("d")), (d("d", mode=0o700), f("d/new", "N"), opaque("d"))):
            self.shows([low, upper], {"d": dict(mode="0700"), "d/new": "N"})
        self.shows([low, (opaque("d"),)], {"d": None})

    def test_opaque_keeps_its_own_layer(self):
        self.shows([(f("a/old"),), (f("a/b/c/foo", "F"), opaque("a"))], {"a": None, "a/b": None, "a/b/c": None, "a/b/c/foo": "F"})

    def test_opaque_root(self):
        self.shows([(f("a"), d("d"), f("d/x")), (opaque(""), f("new", "N"))], {"new": "N"})
        self.shows([(f("a"), d("d"), f("d/x")), (f("new", "N"), f("d/y", "Y"), opaque(""))], {"new": "N", "d": None, "d/y": "Y"})

    def test_opaque_directory_that_is_nowhere(self):
        self.shows([(f("a", "A"),), (opaque("d/e"),)], {"a": "A", "d": None, "d/e": dict(type="dir", mode="0755")})

    def test_any_type_counts(self):
        """also as a hard link, a directory, with content"""
        low = tuple(f(n) for n in "abcde")
        self.shows([low, (h(".wh.a", "e"), d(".wh.b"), s(".wh.c", "e"), f(".wh.d", "content"))], {"e": ""})
        self.shows([low, (h(".wh.a", "nowhere"), member(".wh.b", type=CHR), member(".wh.c", type=FIFO))], {"d": "", "e": ""})

    def test_of_nothing(self):
        """nor are its parents made"""
        self.shows([(f("a", "A"),), (wh("b"), wh("no/such/dir"), wh("a/x"))], {"a": "A"})

    def test_then_another_below(self):
        self.shows([(d("foo"), f("foo/bar"), f("a")), (wh("foo"), wh("foo/bar"))], {"a": ""})

    def test_in_the_bottom_layer(self):
        self.shows([(wh("a"), f("a", "A"), opaque("d"))], {"a": "A", "d": None})

    def test_without_a_name(self):
        self.shows([(f("a", "A"),), (f(".wh."), f(".wh.."), f(".wh..."), f("b", "B"))], {"a": "A", "b": "B"})

    def test_aufs_leftovers(self):
        self.shows([(f("a", "A"), d(".wh..wh.plnk"), f(".wh..wh.plnk/1.2", "P"), f(".wh..wh.aufs"), d(".wh..wh.orph"), f("d/.wh..wh.x"))], {"a": "A"})

    def test_prefix_counts_in_the_last_component_only(self):
        self.shows([(f("q", "Q"),), (f(".wh.q/x", "X"),)], {"q": "Q", ".wh.q": None, ".wh.q/x": "X"})

    def test_character_device_0_0_hides(self):
        """the whiteout of overlay file systems, in images of broken exporters"""
        self.shows([(f("a", "A"), d("d"), f("d/x"), f("k", "K")), (member("a", type=CHR), member("d", type=CHR), member("new", type=CHR))], {"k": "K"})

    def test_same_layer_twice(self):
        layer = lab.layer(f("a", "A"), wh("b"))
        self.shows([layer, (f("b", "B"),), layer], {"a": "A"})


class Inodes(Shows):
    LAYERS = ((d("d"), f("d/a", "A"), h("d/b", "d/a"), d("d/e"), s("l", "d")), (f("z"), d("d/f"), wh("d/b")))

    def test_numbers_are_stable_across_mounts(self):
        layout = lab.Layout().image(*(lab.layer(*l) for l in self.LAYERS))
        seen = []
        for _ in range(3):
            with lab.mounted(f"oci:{layout.path}") as mnt:
                seen.append({p: r["ino"] for p, r in trees.from_mount(mnt).items()})
        self.assertEqual(seen[0], seen[1])
        self.assertEqual(seen[0], seen[2])
        self.assertEqual(len(set(seen[0].values())), len(seen[0]))
        self.assertEqual(seen[0]["."], 1)

    def test_numbers_in_readdir_are_those_of_stat(self):
        layout = lab.Layout().image(*(lab.layer(*l) for l in self.LAYERS))
        with lab.mounted(f"oci:{layout.path}") as mnt:
            for top, _, _ in os.walk(mnt):
                for e in os.scandir(top):
                    self.assertEqual(e.inode(), e.stat(follow_symlinks=False).st_ino, e.path)
                self.assertEqual(os.stat(top + "/.").st_ino, os.stat(top).st_ino)
            self.assertEqual(os.stat(mnt / "d/..").st_ino, os.stat(mnt).st_ino)

    def test_link_counts(self):
        got = self.shows(self.LAYERS, {"d": None, "d/a": "A", "d/e": None, "l": ("->", "d"), "z": "", "d/f": None})
        self.assertEqual({p: r["nlink"] for p, r in got.items()}, {".": 3, "d": 4, "d/a": 1, "d/e": 2, "d/f": 2, "l": 1, "z": 1})

    def test_find_and_tar_believe_them(self):
        layout = lab.Layout().image(lab.layer(*(f(f"d{i}/s{j}/f", "x") for i in range(20) for j in range(3)), f("h1", "H"), h("h2", "h1")))
        with lab.mounted(f"oci:{layout.path}") as mnt:
            self.assertEqual(len(lab.run("find", mnt, "-type", "f").out.split()), 62)
            archive = lab.folder() / "out.tar"
            lab.run("tar", "-C", mnt, "-cf", archive, ".")
            with tarfile.open(archive) as t:
                self.assertEqual(sorted(m.name for m in t if m.islnk()), ["./h2"])


class Notes(unittest.TestCase):
    """What is skipped or repaired is said once a layer, with counts."""

    def setUp(self):
        bad = end(file(b"q", b"Q", type=b"Q"), file(b"n" * 90, type=b"L", magic=GNU), file(b"././@LongLink", b"n" * 300 + b"\0", type=b"L", magic=GNU),
                  file(b"x", b"X"), header(b"nolink", type=b"2"), pax([(b"SCHILY.xattr.trusted.a", b"1"), (b"SCHILY.xattr.security.selinux", b"2")]),
                  file(b"a", b"A")) + b"garbage"
        self.layout = lab.Layout().image(lab.pack(bad), lab.layer(f("b", "B"), s("l", "d")), lab.layer(f("l/x"), h("h", "none"), f(".wh.")))
        self.ref = f"oci:{self.layout.path}"

    def test_verbose_says_it_once_a_layer(self):
        mnt = lab.folder("mnt")
        p = lab.imagefs("-v", self.ref, mnt)
        lab.imagefs("umount", mnt)
        lines = [l for l in p.err.splitlines() if "layer 1" in l]
        self.assertEqual(len(lines), 1, p.err)
        for text in ("1 entries with names", "1 of unknown types", "1 empty links", "2 extended attributes", "bytes after the archive's end"):
            self.assertIn(text, lines[0])
        self.assertNotIn("layer 2", p.err)
        for text in ("1 directories in place of", "1 hard links without a target", "1 whiteouts that mean nothing"):
            self.assertIn(text, p.err)

    def test_quiet_says_nothing(self):
        mnt = lab.folder("mnt")
        self.assertEqual(lab.imagefs(self.ref, mnt).err, "")
        lab.imagefs("umount", mnt)

    def test_inspect_json(self):
        info = lab.json.loads(lab.imagefs("inspect", "--json", self.ref).out)
        left = info["layers"][0]["left_out"]
        self.assertEqual((left["dropped_names"], left["dropped_types"], left["dropped_links"], left["dropped_xattrs"], left["trailing_garbage"]),
                         (1, 1, 1, 2, True))
        self.assertEqual((info["replaced_parents"], info["dropped_hard_links"], info["odd_whiteouts"]), (1, 1, 1))
        self.assertEqual(sum(v for v in info["layers"][1]["left_out"].values()), 0)

    def test_inspect_human(self):
        out = lab.imagefs("inspect", self.ref).out
        for text in ("1 entries with names", "1 of unknown types", "1 empty links", "2 extended attributes", "bytes after the archive's end",
                     "1 directories in place of a lower layer's symlink", "1 hard links without a target", "1 whiteouts that mean nothing"):
            self.assertIn(text, out)


if __name__ == "__main__":
    lab.main()
