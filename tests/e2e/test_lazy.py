#!/usr/bin/env python3
"""Lazy for good: what a remount and reads after it ask of the registry, offline use, pull, and the cache command."""
import contextlib
import errno
import json
import os
import pty
import signal
import subprocess
import time
import unittest

import faulty
import lab

KEYS = {"image", "manifest_digest", "platform", "layers", "entries", "fetched_bytes", "store_bytes", "requests", "retries",
        "spans_inflated", "span_cache_hits", "memory_bytes", "errors"}
SPAN = 256 << 10  # inflated bytes of a span, about


class Remount(unittest.TestCase):
    """Indexes are there, data are not."""

    @classmethod
    def setUpClass(cls):
        cls.blob, cls.files = faulty.files_layer(64, 1 << 20)  # 64 MiB, in tar order
        small, more = faulty.files_layer(200, 3000, prefix="s", seed=2)
        cls.files.update(more)
        last = {"z/last": b"the end\n"}
        cls.blob = lab.layer(lab.member("f"), *(lab.member(n, c) for n, c in cls.files.items() if n[0] == "f"),
                             *(lab.member(n, c) for n, c in last.items()), level=1)
        cls.files.update(last)
        cls.layout = lab.Layout().image(cls.blob, small)
        cls.total = len(cls.blob) + len(small)
        cls.server = faulty.Faulty(cls.layout)
        cls.cache = lab.folder("cache")
        with lab.mounted(cls.server.image, "--cache-dir", cls.cache):
            pass

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    def setUp(self):
        lab.imagefs("cache", "rm", "--data", "-q", "--cache-dir", self.cache)
        self.server.reset()

    def mounted(self, *options, image=None):
        return lab.mounted(image or self.server.image, "--cache-dir", self.cache, *options, env=faulty.QUICK)

    def same(self, mnt, name):
        self.assertEqual((mnt / name).read_bytes(), self.files[name], name)

    def test_nothing_but_the_tag(self):
        with self.mounted() as mnt:
            asked = self.server.requests()
            self.assertEqual([(r["method"], "/manifests/latest" in r["path"]) for r in asked], [("HEAD", True)])
            os.listdir(mnt / "f")
            lab.run("find", mnt, "-ls")
            s = lab.stat_of(mnt)
            self.assertEqual((s["requests"], s["fetched_bytes"], s["spans_inflated"], s["errors"]), (1, 0, 0, 0))

    def test_a_small_file(self):
        with self.mounted() as mnt:
            self.same(mnt, "s/s0100")
            self.server.quiet()
            s = lab.stat_of(mnt)
            self.assertEqual(s["requests"], 2)
            self.assertLessEqual(s["spans_inflated"], 2)
            self.assertLess(s["fetched_bytes"], 2 * SPAN)
            self.assertEqual(s["fetched_bytes"], self.server.blob_bytes())
            self.same(mnt, "s/s0101")  # the same span
            self.assertEqual(len(self.server.requests()), 2)
            self.assertGreater(lab.stat_of(mnt)["span_cache_hits"], 0)

    def test_the_last_file_of_a_large_layer(self):
        with self.mounted() as mnt:
            self.same(mnt, "z/last")
            self.server.quiet()
            s = lab.stat_of(mnt)
            self.assertLessEqual(s["spans_inflated"], 2)
            self.assertLessEqual(s["requests"], 2)
            self.assertLess(s["fetched_bytes"], 2 * SPAN)

    def test_neighbours_come_together(self):
        """a file of five spans: its bytes and at most a span at each end, in few requests"""
        with self.mounted() as mnt:
            self.same(mnt, "f/f0030")
            self.server.quiet()
            s = lab.stat_of(mnt)
            self.assertLessEqual(s["spans_inflated"], 6)
            self.assertLessEqual(s["requests"], 1 + 3)
            self.assertLess(s["fetched_bytes"], (1 << 20) * 0.6 + 2 * SPAN)

    def test_several_ranges_in_flight(self):
        """two readers of a slow registry do not wait for each other; one pool of connections"""
        self.server.config(rate=400000)
        names = [f"f/f{i:04}" for i in (3, 23, 43, 63)]
        with self.mounted() as mnt:
            jobs = [subprocess.Popen(["sha256sum", str(mnt / n)], stdout=subprocess.PIPE) for n in names]
            got = [j.communicate()[0].split()[0].decode() for j in jobs]
            self.assertEqual(got, [lab.sha256(self.files[n])[7:] for n in names])
            asked = self.server.requests("/blobs/")
            self.assertLess(len({r["connection"] for r in asked}), len(asked))  # kept alive

    def test_all_of_it_then_no_registry(self):
        with self.mounted() as mnt:
            for name in self.files:
                self.same(mnt, name)
            self.server.quiet()
            self.assertLess(self.server.blob_bytes(), self.total * 1.05)
            self.assertEqual(lab.stat_of(mnt)["errors"], 0)
        # what no file needs (headers of directories, the archive's end) may be missing still
        lab.imagefs("pull", self.server.image, "--cache-dir", self.cache)
        self.assertLess(self.server.blob_bytes(), self.total * 1.05)
        digest = self.layout.entries[0]["digest"]
        self.server.stop()
        self.addCleanup(self.server.start)
        for image, options in ((self.server.image, ["--offline"]), (f"{self.server.name}/test/app@{digest}", [])):
            with self.mounted(*options, image=image) as mnt:
                for name in self.files:
                    self.same(mnt, name)
                s = lab.stat_of(mnt)
                self.assertEqual((s["requests"], s["fetched_bytes"], s["errors"]), (0, 0, 0))
                self.assertGreaterEqual(s["store_bytes"], self.total * 0.9)

    def test_reading_all_fills_the_store(self):
        """tar of the mount leaves the whole of each blob in the store"""
        with self.mounted() as mnt:
            lab.run("tar", "-C", mnt, "-cf", "/dev/null", "--checkpoint=100000", ".")  # tar does not read for /dev/null alone
            lab.run("sh", "-c", 'tar -C "$0" -cf - . | cat >/dev/null', mnt)
            self.server.quiet()
        self.server.reset()
        lab.imagefs("pull", self.server.image, "--cache-dir", self.cache)
        self.assertLess(self.server.blob_bytes(), 2 * SPAN)

    def test_read_ahead_stays_with_the_reader(self):
        """the first bytes of a file bring that file's beginning, not what lies around"""
        with self.mounted() as mnt:
            with open(mnt / "f/f0010", "rb") as f:
                f.read(10)
            self.server.quiet()
            self.assertLess(lab.stat_of(mnt)["fetched_bytes"], 3 * SPAN)


class Stat(unittest.TestCase):
    def test_keys_and_xattrs(self):
        a = lab.layer(lab.member("a", "A"), lab.member("b", "B"))
        b = lab.layer(lab.member("b", "new"), lab.member("d"))
        layout = lab.Layout().image(a, b)
        with lab.mounted(f"oci:{layout.path}") as mnt:
            s = lab.stat_of(mnt)
            self.assertEqual(KEYS - set(s), set())
            self.assertEqual((s["layers"], s["platform"]), (2, "linux/amd64"))
            self.assertEqual(s["manifest_digest"], layout.entries[0]["digest"])
            for name, blob, index in (("a", a, b"0"), ("b", b, b"1"), ("d", b, b"1")):
                self.assertEqual(os.getxattr(mnt / name, "user.imagefs.layer").decode(), lab.sha256(blob))
                self.assertEqual(os.getxattr(mnt / name, "user.imagefs.layer_index"), index)
                self.assertEqual(os.listxattr(mnt / name), [])
            human = lab.imagefs("stat", mnt).out
            for key in KEYS:
                self.assertIn(key, human)


class Offline(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.layout = lab.Layout().image(lab.layer(lab.member("a", "content")))
        cls.digest = cls.layout.entries[0]["digest"]
        cls.server = faulty.Faulty(cls.layout)

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    def setUp(self):
        self.cache = lab.folder("cache")
        self.options = ["--cache-dir", self.cache]

    def seen(self):
        with lab.mounted(self.server.image, *self.options):
            pass
        self.server.reset()

    def test_the_registry_is_down(self):
        self.seen()
        self.server.stop()
        self.addCleanup(self.server.start)
        mnt = lab.folder("mnt")
        p = lab.imagefs(self.server.image, mnt, *self.options, env=faulty.QUICK)
        self.addCleanup(lab.imagefs, "umount", mnt)
        self.assertEqual(len(p.err.splitlines()), 1, p.err)
        self.assertIn("used instead: what the name meant on 20", p.err)
        self.assertEqual((mnt / "a").read_text(), "content")

    def test_at_once(self):
        self.seen()
        mnt = lab.folder("mnt")
        p = lab.imagefs(self.server.image, mnt, "--offline", *self.options)
        self.addCleanup(lab.imagefs, "umount", mnt)
        self.assertEqual(p.err, "")
        self.assertEqual((mnt / "a").read_text(), "content")
        self.assertEqual(lab.stat_of(mnt)["requests"], 0)
        self.assertEqual(self.server.requests(), [])

    def test_a_digest_asks_nothing(self):
        self.seen()
        with lab.mounted(f"{self.server.name}/test/app@{self.digest}", *self.options) as mnt:
            self.assertEqual((mnt / "a").read_text(), "content")
        with lab.mounted(f"{self.server.name}/test/app:latest@{self.digest}", *self.options) as mnt:
            self.assertEqual((mnt / "a").read_text(), "content")
        self.assertEqual(self.server.requests(), [])

    def test_never_seen(self):
        mnt = lab.folder("mnt")
        p = lab.imagefs(self.server.image, mnt, "--offline", *self.options, check=False)
        self.assertEqual(p.returncode, 3, p.err)
        self.assertIn("offline", p.err)
        self.server.stop()
        self.addCleanup(self.server.start)
        p = lab.imagefs(self.server.image, mnt, *self.options, check=False, env=faulty.QUICK)
        self.assertEqual(p.returncode, 5, p.err)
        self.assertIn(self.server.name, p.err)
        self.assertEqual(len(p.err.splitlines()), 1, p.err)

    def test_data_missing_offline(self):
        """a read says EIO, at once; online again in a new mount it works"""
        self.seen()
        lab.imagefs("cache", "rm", "--data", "-q", *self.options)
        with lab.mounted(self.server.image, "--offline", *self.options) as mnt:
            with self.assertRaises(OSError) as caught:
                (mnt / "a").read_text()
            self.assertEqual(caught.exception.errno, errno.EIO)
            self.assertGreaterEqual(lab.stat_of(mnt)["errors"], 1)  # the kernel asks again for the page
        with lab.mounted(self.server.image, *self.options) as mnt:
            self.assertEqual((mnt / "a").read_text(), "content")

    def test_the_tag_moves(self):
        self.seen()
        before = list(self.layout.entries)
        self.addCleanup(lambda: (setattr(self.layout, "entries", before), self.layout.write_index()))
        self.layout.tag(self.layout.manifest([lab.layer(lab.member("a", "newer"))]))
        with lab.mounted(self.server.image, *self.options) as mnt:
            self.assertEqual((mnt / "a").read_text(), "newer")
        with lab.mounted(self.server.image, "--offline", *self.options) as mnt:
            self.assertEqual((mnt / "a").read_text(), "newer")
        with lab.mounted(f"{self.server.name}/test/app@{self.digest}", *self.options) as mnt:
            self.assertEqual((mnt / "a").read_text(), "content")


class Pull(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.blob, cls.files = faulty.files_layer(16, 1 << 20, seed=7)
        cls.layout = lab.Layout().image(cls.blob)
        cls.server = faulty.Faulty(cls.layout)

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    def setUp(self):
        self.server.reset()
        self.cache = lab.folder("cache")

    def partial(self):
        return sum(f.stat().st_size for f in (self.cache / "v1/partial").glob("*"))

    def start_slowly(self):
        self.server.config(rate=2000000)
        p = subprocess.Popen([lab.IMAGEFS, "pull", self.server.image, "--cache-dir", str(self.cache)],
                             env=dict(os.environ, **faulty.QUICK), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
        end = time.monotonic() + 30
        while self.partial() < len(self.blob) // 3 and time.monotonic() < end:
            time.sleep(0.02)
        return p

    def complete(self):
        with lab.mounted(self.server.image, "--offline", "--cache-dir", self.cache) as mnt:
            for name, want in self.files.items():
                self.assertEqual((mnt / name).read_bytes(), want)

    def test_killed_in_the_middle(self):
        p = self.start_slowly()
        p.kill()
        p.communicate()
        had = self.partial()
        self.assertGreater(had, len(self.blob) // 4)
        self.server.reset()
        p = lab.imagefs("pull", self.server.image, "--cache-dir", self.cache)
        self.assertIn(self.layout.entries[0]["digest"], p.out)
        self.assertLessEqual(self.server.blob_bytes(), len(self.blob) - had + 2000)
        self.complete()

    def test_the_registry_dies_in_the_middle(self):
        p = self.start_slowly()
        self.server.stop()
        err = p.communicate()[1].decode()
        self.server.start()
        self.assertEqual(p.returncode, 5, err)
        self.assertEqual(len(err.splitlines()), 1, err)
        had = self.partial()
        self.assertGreater(had, len(self.blob) // 4)
        lab.imagefs("pull", self.server.image, "--cache-dir", self.cache)
        self.assertLessEqual(self.server.blob_bytes(), len(self.blob) - had + 2000)
        self.complete()

    def test_interrupted(self):
        p = self.start_slowly()
        p.send_signal(signal.SIGINT)
        p.communicate(timeout=20)
        self.assertNotEqual(p.returncode, 0)
        lab.imagefs("pull", self.server.image, "--cache-dir", self.cache)
        self.complete()

    def test_after_reads_only_the_rest(self):
        with lab.mounted(self.server.image, "--cache-dir", self.cache):
            pass
        lab.imagefs("cache", "rm", "--data", "-q", "--cache-dir", self.cache)
        with lab.mounted(self.server.image, "--cache-dir", self.cache) as mnt:
            for name in list(self.files)[:8]:
                (mnt / name).read_bytes()
            self.server.quiet()
            fetched = lab.stat_of(mnt)["fetched_bytes"]
        self.server.reset()
        lab.imagefs("pull", self.server.image, "--cache-dir", self.cache)
        self.assertLess(self.server.blob_bytes(), len(self.blob) - fetched + SPAN)
        self.complete()
        self.server.reset()
        lab.imagefs("pull", self.server.image, "--cache-dir", self.cache)
        self.assertEqual(self.server.blob_bytes(), 0)

    def test_progress(self):
        """a terminal is told how far it is, also when only data are fetched; and nothing of it stays there"""
        lab.imagefs("pull", self.server.image, "--cache-dir", self.cache)
        lab.imagefs("cache", "rm", "--data", "-q", "--cache-dir", self.cache)
        self.server.config(rate=2000000)
        parent, child = pty.openpty()
        p = subprocess.Popen([lab.IMAGEFS, "pull", self.server.image, "--cache-dir", str(self.cache)], stderr=child,
                             stdout=subprocess.DEVNULL)
        os.close(child)
        seen = b""
        with contextlib.suppress(OSError):  # the end of a terminal
            while piece := os.read(parent, 4096):
                seen += piece
        os.close(parent)
        self.assertEqual(p.wait(30), 0)
        self.assertRegex(seen.decode(), rf"layers 0/1, [\d.]+ of {len(self.blob) / 1e6:.1f} MB")
        self.assertTrue(seen.endswith(b"\r\x1b[K"), seen[-50:])

    def test_several_and_one_fails(self):
        p = lab.imagefs("pull", f"{self.server.name}/test/app:none", self.server.image, "--cache-dir", self.cache, check=False)
        self.assertEqual(p.returncode, 3, p.err)
        self.assertIn(self.layout.entries[0]["digest"], p.out)


class Cache(unittest.TestCase):
    """imagefs cache ls|rm|gc|verify"""

    @classmethod
    def setUpClass(cls):
        cls.blobs = [faulty.files_layer(4, 1 << 20, prefix=p, seed=i)[0] for i, p in enumerate("abc")]
        cls.layout = lab.Layout()
        for name, blob in zip("abc", cls.blobs):
            cls.layout.image(blob, name=name)
        cls.names = [lab.sha256(b)[7:] for b in cls.blobs]
        cls.server = faulty.Faulty(cls.layout)
        cls.image = f"{cls.server.name}/test/app"

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    def setUp(self):
        self.dir = lab.folder("cache")
        for name in "abc":
            with lab.mounted(f"{self.image}:{name}", "--cache-dir", self.dir):
                pass

    def cache(self, *args, check=True):
        return lab.imagefs("cache", *args, "--cache-dir", self.dir, check=check)

    def json(self, *args, check=True):
        return json.loads(self.cache(*args, "--json", check=check).out)

    def kinds(self):
        found = {}
        for item in self.json("ls")["items"]:
            found.setdefault(item["kind"], {})[item["digest"]] = item
        return found

    def test_ls(self):
        listing = self.json("ls")
        self.assertEqual(listing["dir"], str(self.dir))
        kinds = self.kinds()
        self.assertEqual(set(kinds["index"]), set(self.names))
        self.assertEqual(set(kinds["blob"]), set(self.names))
        for blob, name in zip(self.blobs, self.names):
            self.assertEqual(kinds["blob"][name]["size"], len(blob))
            self.assertGreaterEqual(kinds["blob"][name]["bytes"], len(blob) * 0.95)
            self.assertLess(abs(kinds["blob"][name]["used"] - time.time()), 300)
        human = self.cache("ls").out
        for name in self.names:
            self.assertIn(name, human)
        self.assertIn(str(self.dir), human)
        du = int(lab.run("du", "-sB1", self.dir).out.split()[0])
        self.assertLess(abs(du - listing["bytes"]), 400000)

    def test_rm(self):
        freed = self.json("rm", "--data", self.names[0])["freed_bytes"]
        self.assertGreater(freed, len(self.blobs[0]) * 0.95)
        self.assertEqual(set(self.kinds()["blob"]), set(self.names[1:]))
        self.assertEqual(set(self.kinds()["index"]), set(self.names))
        self.cache("rm", "sha256:" + self.names[1])
        self.assertEqual(set(self.kinds()["index"]), {self.names[0], self.names[2]})
        self.assertEqual(self.cache("rm", check=False).returncode, 2)
        self.assertEqual(self.cache("rm", "zz", check=False).returncode, 2)
        self.assertIn("MB freed", self.cache("rm", "--all").out)
        self.assertEqual(self.json("ls")["items"], [])

    def test_gc_drops_what_was_used_longest_ago(self):
        now = time.time()
        for age, name in zip((50, 500, 5), self.names):
            for f in (self.dir / "v1/blobs/sha256").glob(name + "*"):
                os.utime(f, (now - age, now - age))
        self.cache("gc", "--cache-size", "6M")
        kinds = self.kinds()
        self.assertEqual(set(kinds["blob"]), {self.names[0], self.names[2]})
        self.assertEqual(set(kinds["index"]), set(self.names))  # kept longest
        self.assertGreater(self.json("gc", "--cache-size", "1")["freed_bytes"], 0)
        self.assertEqual(self.kinds().get("blob", {}), {})
        self.assertEqual(self.json("gc")["freed_bytes"], 0)

    def test_use_counts(self):
        """a mount that reads a blob makes it recent"""
        now = time.time()
        for age, name in zip((500, 50, 60), self.names):
            for f in (self.dir / "v1/blobs/sha256").glob(name + "*"):
                os.utime(f, (now - age, now - age))
        with lab.mounted(f"{self.image}:a", "--cache-dir", self.dir) as mnt:
            (mnt / "a/a0000").read_bytes()
        self.cache("gc", "--cache-size", "3M")
        self.assertEqual(set(self.kinds()["blob"]), {self.names[0]})

    def test_a_bound_holds_while_mounting(self):
        d = lab.folder("cache")
        for name in "abc":
            with lab.mounted(f"{self.image}:{name}", "--cache-dir", d, "--cache-size", "3M") as mnt:
                for f in (mnt / name).iterdir():
                    f.read_bytes()
        listing = json.loads(lab.imagefs("cache", "ls", "--json", "--cache-dir", d).out)
        self.assertLess(sum(i["bytes"] for i in listing["items"] if i["kind"] == "blob"), 4 << 20)

    def test_verify(self):
        v = self.json("verify")
        self.assertEqual((v["indexes"], v["bad_docs"], v["bad_indexes"], v["bad_chunks"]), (3, 0, 0, 0))
        self.assertGreaterEqual(v["chunk_bytes"], sum(map(len, self.blobs)) * 0.99)
        self.assertRegex(self.cache("verify").out, r"\b0 bad")
        f = self.dir / "v1/blobs/sha256" / self.names[1]
        data = bytearray(f.read_bytes())
        data[len(data) // 2] ^= 1
        f.write_bytes(data)
        p = self.cache("verify", "--json", check=False)
        self.assertEqual(p.returncode, 6)
        self.assertEqual(json.loads(p.out)["bad_chunks"], 1)
        self.assertEqual(self.cache("verify").returncode, 0)  # it was forgotten
        for place, key in (("docs", "bad_docs"), ("index", "bad_indexes")):
            victim = sorted((self.dir / "v1" / place / "sha256").glob("*" * 1))[0]
            data = bytearray(victim.read_bytes())
            data[len(data) // 2] ^= 1
            victim.chmod(0o600)
            victim.write_bytes(data)
            p = self.cache("verify", "--json", check=False)
            self.assertEqual((p.returncode, json.loads(p.out)[key]), (6, 1), place)
        with lab.mounted(f"{self.image}:b", "--cache-dir", self.dir) as mnt:
            self.assertEqual(len((mnt / "b/b0001").read_bytes()), 1 << 20)


if __name__ == "__main__":
    lab.main()
