#!/usr/bin/env python3
"""The store under stress: kill -9 at any moment, full and read-only disks, several processes, eviction under a live mount."""
import hashlib
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import threading
import time
import unittest

import faulty
import lab

SEED = int(os.environ.get("SEED", random.randrange(1 << 32)))


class Base(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.files, blobs = {}, []
        for seed, prefix in enumerate("ab"):
            blob, files = faulty.files_layer(12, 512 << 10, prefix=prefix, seed=30 + seed)
            cls.files.update(files)
            blobs.append(blob)
        cls.blobs = blobs
        cls.total = sum(map(len, blobs))
        cls.layout = lab.Layout().image(*blobs)
        cls.server = faulty.Faulty(cls.layout)

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    def setUp(self):
        self.server.reset()
        self.cache = lab.folder("cache")

    def mount(self, *options, cache=None, **kw):
        return lab.mounted(self.server.image, "--cache-dir", cache or self.cache, *options, env=faulty.QUICK, **kw)

    def all_right(self, mnt):
        for name, want in self.files.items():
            self.assertEqual((mnt / name).read_bytes(), want, name)

    def drop_pages(self, mnt):
        for name in self.files:
            fd = os.open(mnt / name, os.O_RDONLY)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(fd)


class Killed(Base):
    LIMIT_S, ROUNDS = 35, 60

    def test_at_any_moment(self):
        """first passes, reads and pulls die in the middle; whatever the store holds then is believed only if it is right"""
        print(f"SEED={SEED}", flush=True)
        rng = random.Random(SEED)
        end, rounds = time.monotonic() + self.LIMIT_S, 0
        while rounds < self.ROUNDS and time.monotonic() < end:
            rounds += 1
            what = rng.choice(["mount", "mount", "pull"])
            self.server.config(rate=rng.choice([0, 20 << 20, 60 << 20]))
            mnt = lab.folder("mnt")
            if what == "pull":
                words = [lab.IMAGEFS, "pull", self.server.image]
            else:
                words = [lab.IMAGEFS, "-f", self.server.image, str(mnt)]
            p = subprocess.Popen([*words, "--cache-dir", str(self.cache)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                 env=dict(os.environ, **faulty.QUICK))
            reader = None
            if what == "mount" and rng.random() < 0.6:
                reader = subprocess.Popen(["sh", "-c", 'until mountpoint -q "$0"; do :; done; cat "$0"/*/* >/dev/null', str(mnt)],
                                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(rng.random() * (0.8 if reader else 0.3))
            p.kill()
            said = p.communicate()[1]
            self.assertNotIn(b"bad", said)
            if reader:
                reader.kill()
                reader.wait()
            subprocess.run(["umount", "-l", str(mnt)], stderr=subprocess.DEVNULL)
            if rounds % 6 == 0:
                self.server.config(rate=0)
                lab.imagefs("cache", "verify", "-q", "--cache-dir", self.cache)
                with self.mount() as mnt:
                    self.all_right(mnt)
                if rng.random() < 0.7:
                    lab.imagefs("cache", "rm", "-q", *rng.choice([["--data"], ["--all"], ["--index"]]), "--cache-dir", self.cache)
        print(f"killed {rounds} times", flush=True)
        self.server.config(rate=0)
        lab.imagefs("pull", self.server.image, "--cache-dir", self.cache)
        lab.imagefs("cache", "verify", "--cache-dir", self.cache)
        with self.mount("--offline") as mnt:
            self.all_right(mnt)
        self.assertEqual(list((self.cache / "v1/tmp").iterdir()), [])
        self.assertGreater(rounds, 10)


class Disk(Base):
    def tmpfs(self, size):
        d = lab.folder("small")
        lab.run("mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "none", d)
        self.addCleanup(lab.run, "umount", "-l", d)
        return d

    def test_full(self):
        """one warning, and the mount goes on from the network"""
        for size in ("64k", "1m", "3m"):
            d = self.tmpfs(size)
            mnt = lab.folder("mnt")
            p = lab.imagefs(self.server.image, mnt, "--cache-dir", d, env=faulty.QUICK)
            try:
                self.assertEqual(len(p.err.splitlines()), 1, p.err)
                self.assertIn(str(d), p.err)
                self.all_right(mnt)
                self.assertEqual(lab.stat_of(mnt)["errors"], 0)
            finally:
                lab.imagefs("umount", mnt)
            lab.imagefs("cache", "verify", "--cache-dir", d)

    def test_full_during_reads(self):
        d = self.tmpfs("32m")
        with self.mount(cache=d):
            pass
        lab.imagefs("cache", "rm", "--data", "-q", "--cache-dir", d)
        with self.mount(cache=d) as mnt:
            names = list(self.files)
            self.assertEqual((mnt / names[0]).read_bytes(), self.files[names[0]])
            with open(d / "filler", "wb") as f:
                try:
                    while True:
                        f.write(bytes(65536))
                        f.flush()
                except OSError:
                    pass
            self.all_right(mnt)
            os.unlink(d / "filler")
            self.drop_pages(mnt)
            self.all_right(mnt)
            self.assertEqual(lab.stat_of(mnt)["errors"], 0)
        lab.imagefs("cache", "verify", "--cache-dir", d)

    def test_read_only(self):
        """what is there is used; what is not comes from the network, each time"""
        with self.mount():
            pass
        full = self.server.blob_bytes()
        lab.run("mount", "--bind", self.cache, self.cache)
        self.addCleanup(lab.run, "umount", "-l", self.cache)
        lab.run("mount", "-o", "remount,ro,bind", self.cache)
        self.server.reset()
        mnt = lab.folder("mnt")
        p = lab.imagefs(self.server.image, mnt, "--cache-dir", self.cache, env=faulty.QUICK)
        try:
            self.assertEqual(len(p.err.splitlines()), 1, p.err)
            self.all_right(mnt)
            self.assertEqual(self.server.blob_bytes(), 0, full)
        finally:
            lab.imagefs("umount", mnt)

    def test_read_only_and_empty(self):
        d = self.tmpfs("10m")
        lab.run("mount", "-o", "remount,ro", d)
        mnt = lab.folder("mnt")
        p = lab.imagefs(self.server.image, mnt, "--cache-dir", d, env=faulty.QUICK)
        try:
            self.assertEqual(len(p.err.splitlines()), 1, p.err)
            self.all_right(mnt)
        finally:
            lab.imagefs("umount", mnt)

    def test_no_cache(self):
        with self.mount(cache="none") as mnt:
            self.all_right(mnt)


class Together(Base):
    def start(self, mnt, **kw):
        return subprocess.Popen([lab.IMAGEFS, self.server.image, str(mnt), "--cache-dir", str(self.cache)],
                                stderr=subprocess.PIPE, env=dict(os.environ, **faulty.QUICK), **kw)

    def test_one_download_for_two(self):
        self.server.config(rate=8 << 20)
        places = [lab.folder("mnt") for _ in range(4)]
        jobs = [self.start(m) for m in places]
        for j in jobs:
            self.assertEqual((j.communicate()[1], j.returncode), (b"", 0))
        try:
            self.assertLess(self.server.blob_bytes(), self.total + (64 << 10))
            for m in places:
                self.all_right(m)
            self.assertLess(self.server.blob_bytes(), self.total + (64 << 10))
        finally:
            for m in places:
                lab.imagefs("umount", m)

    def test_the_first_dies_the_second_goes_on(self):
        """where the first had got to"""
        self.server.config(rate=1 << 20)
        one, two = lab.folder("mnt"), lab.folder("mnt")
        first = subprocess.Popen([lab.IMAGEFS, "-f", self.server.image, str(one), "--cache-dir", str(self.cache)],
                                 stderr=subprocess.DEVNULL)

        def partial():
            return sum(f.stat().st_size for f in (self.cache / "v1/partial").glob("*"))
        end = time.monotonic() + 30
        while partial() < self.total // 4 and time.monotonic() < end:
            time.sleep(0.02)
        second = self.start(two)
        time.sleep(0.2)
        first.kill()
        first.wait()
        had = partial()
        self.assertGreater(had, self.total // 4)
        self.server.config(rate=0)
        self.assertEqual((second.communicate()[1], second.returncode), (b"", 0))
        try:
            self.all_right(two)
            self.assertLess(lab.stat_of(two)["fetched_bytes"], self.total - had + (64 << 10))
        finally:
            lab.imagefs("umount", two)
        subprocess.run(["umount", "-l", str(one)], stderr=subprocess.DEVNULL)

    def test_two_readers_of_the_same_ranges(self):
        """mounts of different processes fetch into one store"""
        with self.mount():
            pass
        lab.imagefs("cache", "rm", "--data", "-q", "--cache-dir", self.cache)
        with self.mount() as one, self.mount() as two:
            self.all_right(one)
            self.server.quiet()
            before = self.server.blob_bytes()
            self.all_right(two)
            self.assertLess(self.server.blob_bytes() - before, 300 << 10)

    def test_evicted_under_a_live_mount(self):
        with self.mount("--memory", "1M") as mnt:
            stop = threading.Event()

            def evict():
                while not stop.wait(0.02):
                    lab.imagefs("cache", "gc", "-q", "--cache-size", "1", "--cache-dir", self.cache)
            t = threading.Thread(target=evict)
            t.start()
            try:
                for _ in range(3):
                    self.all_right(mnt)
                    self.drop_pages(mnt)
            finally:
                stop.set()
                t.join()
            lab.imagefs("cache", "rm", "-q", "--all", "--cache-dir", self.cache)
            self.drop_pages(mnt)
            self.all_right(mnt)
            shutil.rmtree(self.cache)
            self.drop_pages(mnt)
            self.all_right(mnt)
            s = lab.stat_of(mnt)
            self.assertEqual(s["errors"], 0)
            self.assertGreater(s["fetched_bytes"], self.total)


class Directory(Base):
    def modes(self, top):
        for p in [top, *top.rglob("*")]:
            yield p, p.lstat().st_mode & 0o7777

    def test_modes(self):
        os.umask(0)
        self.addCleanup(os.umask, 0o022)
        d = lab.folder() / "new/deep"
        with self.mount(cache=d) as mnt:
            self.all_right(mnt)
        for p, mode in self.modes(d):
            self.assertEqual(oct(mode), oct(0o700 if p.is_dir() else 0o600), p)

    def test_default_places(self):
        home = lab.folder("home")
        with self.cached_at(XDG_CACHE_HOME=str(home / "xdg")):
            self.assertTrue((home / "xdg/imagefs/v1/index/sha256").is_dir())

    def cached_at(self, **env):
        return lab.mounted(self.server.image, env=dict(faulty.QUICK, **env))

    def refused(self, *words):
        mnt = lab.folder("mnt")
        p = lab.imagefs(self.server.image, mnt, "--cache-dir", self.cache, check=False)
        self.assertEqual(p.returncode, 1, p.err)
        for word in words:
            self.assertIn(word, p.err)
        self.assertEqual(len(p.err.splitlines()), 1, p.err)

    def test_of_somebody_else(self):
        os.chown(self.cache, 12345, 12345)
        self.refused(str(self.cache))
        for command in ("ls", "gc", "verify"):
            self.assertEqual(lab.imagefs("cache", command, "--cache-dir", self.cache, check=False).returncode, 1)
        self.assertEqual(list(self.cache.iterdir()), [])

    def test_others_may_write(self):
        self.cache.chmod(0o777)
        self.refused(str(self.cache))

    def test_a_folder_in_it_of_somebody_else(self):
        with self.mount():
            pass
        os.chown(self.cache / "v1/index/sha256", 12345, 12345)
        self.refused("v1/index")

    def index(self):
        return self.cache / "v1/index/sha256" / lab.sha256(self.blobs[0])[7:]

    def test_an_index_of_a_newer_version(self):
        with self.mount():
            pass
        good = self.index().read_bytes()
        text = (lab.SOURCE / "docs/FORMAT.md").read_text()
        self.assertIn("version", text)
        newer = bytearray(good)
        newer[8:12] = (int.from_bytes(good[8:12], "little") + 1).to_bytes(4, "little")
        self.index().write_bytes(newer)
        mnt = lab.folder("mnt")
        p = lab.imagefs(self.server.image, mnt, "--cache-dir", self.cache, check=False)
        self.assertEqual(p.returncode, 8, p.err)
        self.assertIn("newer", p.err)
        self.assertEqual(self.index().read_bytes(), bytes(newer))
        lab.imagefs("cache", "verify", "--cache-dir", self.cache)
        self.assertEqual(self.index().read_bytes(), bytes(newer))

    def test_a_damaged_index(self):
        with self.mount():
            pass
        good = self.index().read_bytes()
        bad = bytearray(good)
        bad[len(bad) // 2] ^= 1
        self.index().write_bytes(bad)
        self.server.reset()
        mnt = lab.folder("mnt")
        p = lab.imagefs(self.server.image, mnt, "--cache-dir", self.cache)
        self.addCleanup(lab.imagefs, "umount", mnt)
        self.assertIn("made again", p.err)
        self.all_right(mnt)
        self.assertEqual(self.index().read_bytes(), good)
        self.assertEqual(self.index().with_suffix(".bad").read_bytes(), bytes(bad))
        self.assertEqual(self.server.blob_bytes(), 0)  # the blob is in the store

    def test_lost_indexes_are_made_from_the_store(self):
        """also offline; without the data that says what is missing"""
        with self.mount():
            pass
        for options in ([], ["--offline"]):
            lab.imagefs("cache", "rm", "--index", "-q", "--cache-dir", self.cache)
            self.server.reset()
            with self.mount(*options) as mnt:
                self.all_right(mnt)
                self.assertEqual(self.server.blob_bytes(), 0)
                self.assertEqual(lab.stat_of(mnt)["requests"], 0 if options else 1)
        lab.imagefs("cache", "rm", "--index", "--data", "-q", "--cache-dir", self.cache)
        mnt = lab.folder("mnt")
        p = lab.imagefs(self.server.image, mnt, "--cache-dir", self.cache, "--offline", check=False)
        self.assertEqual(p.returncode, 3, p.err)
        self.assertIn("offline", p.err)

    def test_another_layers_index(self):
        with self.mount():
            pass
        other = self.cache / "v1/index/sha256" / lab.sha256(self.blobs[1])[7:]
        shutil.copy(other, self.index())
        with self.mount() as mnt:
            self.all_right(mnt)

    def test_the_same_blob_gives_the_same_index(self):
        with self.mount():
            pass
        first = self.index().read_bytes()
        other = lab.folder("cache")
        with lab.mounted(f"oci:{self.layout.path}", "--cache-dir", other):
            pass
        self.assertEqual((other / "v1/index/sha256" / self.index().name).read_bytes(), first)


del Base
if __name__ == "__main__":
    lab.main()
