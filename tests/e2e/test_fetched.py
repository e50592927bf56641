#!/usr/bin/env python3
"""What is fetched of an image of realistic size, counted: this machine's python3, its libraries, and busybox in a layer of
some 50 MB. docs/PERFORMANCE.md has the numbers of a whole Debian."""
import glob
import os
import pathlib
import re
import subprocess
import unittest

import faulty
import lab

MB = 1 << 20
LIBRARIES_MAX = 60 * MB  # of shared libraries that are there to make the layer large


def python_files():
    """paths without the first slash: python3 and what it needs, then other libraries"""
    if not os.path.islink("/lib") or not os.path.exists("/usr/bin/python3") or not os.path.exists("/lib64"):
        raise unittest.SkipTest("this is not a system whose /lib is a link to usr/lib, with a python3")
    program = os.path.realpath("/usr/bin/python3")
    version = re.search(r"[\d.]+$", program)
    if not version:
        raise unittest.SkipTest("python3 has no version in its name")
    needed = re.findall(r"(/\S+) \(0x", lab.run("ldd", program).out)
    folders = sorted({os.path.dirname(os.path.realpath(p)) for p in needed if "x86_64" in p or "lib/" in p})
    found = ["/bin", "/lib", "/lib64", "/usr/lib64", "/usr/bin/python3", program, lab.run("which", "busybox").out.strip()]
    found += [p for n in needed for p in (n, os.path.realpath(n))] + [f"/usr/lib/python{version[0]}"]
    total = 0
    for f in folders:
        for p in sorted(glob.glob(f + "/*.so.*")):
            size = 0 if os.path.islink(p) else os.path.getsize(p)
            if total + size < LIBRARIES_MAX:
                total += size
                found.append(p)
    unique = dict.fromkeys(re.sub(r"^/(bin|lib|sbin|lib64)/", r"usr/\1/", p).lstrip("/") for p in found)
    return [p for p in unique if os.path.lexists("/" + p)]


class Fetched(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        lab.need("busybox", "ldd", "gzip")
        names = lab.folder() / "names"
        names.write_text("\n".join(python_files()))
        tar = subprocess.Popen(["tar", "-C", "/", "-c", "-T", names, "--exclude=*.a", "--owner=0", "--group=0"],
                               stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        blob = subprocess.run(["gzip", "-4"], stdin=tar.stdout, stdout=subprocess.PIPE, check=True).stdout
        tar.wait()
        cls.layout = lab.Layout().image(blob)
        cls.size = len(blob)
        cls.server = faulty.Faulty(cls.layout)
        cls.cache = lab.folder("cache")
        with lab.mounted(cls.server.image, "--cache-dir", cls.cache) as mnt:
            p = lab.run("chroot", mnt, "/usr/bin/python3", "-c", "pass", check=False)
            if p.returncode != 0:
                raise unittest.SkipTest("python3 does not run from this machine's files alone: " + p.err[-200:])
        index = sum(f.stat().st_size for f in (cls.cache / "v1/index/sha256").iterdir())
        print(f"image {cls.size / MB:.1f} MiB, index {index / MB:.2f} MiB", flush=True)
        cls.index = index

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    def counted(self, what, *command):
        """imagefs stat after the command ran in a fresh mount with indexes only"""
        lab.imagefs("cache", "rm", "--data", "-q", "--cache-dir", self.cache)
        self.server.reset()
        with lab.mounted(self.server.image, "--cache-dir", self.cache) as mnt:
            if command:
                lab.run(*[str(mnt) if c == "MNT" else c for c in command])
            self.server.quiet()
            s = lab.stat_of(mnt)
        print(f"{what}: {s['requests']} requests, {s['fetched_bytes'] / 1e6:.2f} MB, {100 * s['fetched_bytes'] / self.size:.2f} % "
              f"of the image, {s['spans_inflated']} spans", flush=True)
        self.assertEqual(s["errors"], 0)
        return s

    def test_mount_only(self):
        s = self.counted("second mount")
        self.assertEqual((s["requests"], s["fetched_bytes"]), (1, 0))
        self.assertLess(self.index, 0.03 * self.size + (64 << 10))

    def test_names_only(self):
        s = self.counted("find -ls", "find", "MNT", "-ls")
        self.assertEqual((s["requests"], s["fetched_bytes"]), (1, 0))

    def test_shell(self):
        s = self.counted("sh -c true", "chroot", "MNT", "/usr/bin/busybox", "sh", "-c", "true")
        busybox = os.path.getsize(lab.run("which", "busybox").out.strip())
        self.assertLess(s["fetched_bytes"], busybox + MB)
        self.assertLess(s["requests"], 12)

    def test_python(self):
        s = self.counted("python3 -c pass", "chroot", "MNT", "/usr/bin/python3", "-c", "pass")
        self.assertLess(s["fetched_bytes"], 8e6)
        self.assertLess(s["requests"], 60)


if __name__ == "__main__":
    lab.main()
