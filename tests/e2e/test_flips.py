#!/usr/bin/env python3
"""One byte is flipped anywhere: in what the registry sends, in the store's blob, its map, the index, a document, a name. A
reader gets exact bytes or EIO, and damaged files of the cache are made again."""
import errno
import os
import random
import shutil
import subprocess
import unittest

import faulty
import lab

SEED = int(os.environ.get("SEED", random.randrange(1 << 32)))
POSITIONS = 24  # of each kind; a mount each


class Flips(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        print(f"SEED={SEED}", flush=True)
        cls.blob, cls.files = faulty.files_layer(12, 200000, seed=3)
        members = [lab.member("x"), lab.member("x/link", type=b"2", linkname="../f/f0003"),
                   lab.member("x/attr", "a", pax={"SCHILY.xattr.user.one": "two"})]
        cls.layout = lab.Layout().image(cls.blob, lab.layer(*members))
        cls.server = faulty.Faulty(cls.layout)
        cls.cache = lab.folder("cache")
        lab.imagefs("pull", cls.server.image, "--cache-dir", cls.cache)
        with lab.mounted(cls.server.image, "--cache-dir", cls.cache) as mnt:
            cls.tree = lab.walk(mnt)
        cls.good = lab.folder("good")
        shutil.copytree(cls.cache, cls.good, dirs_exist_ok=True)

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    def setUp(self):
        self.server.reset()
        self.rng = random.Random(f"{SEED} {self.id()}")

    def restore(self):
        shutil.rmtree(self.cache / "v1")
        shutil.copytree(self.good / "v1", self.cache / "v1")

    def flip(self, path, at=None):
        data = bytearray(path.read_bytes())
        at = self.rng.randrange(len(data)) if at is None else at
        bit = 1 << self.rng.randrange(8)
        data[at] ^= bit
        with open(path, "r+b") as f:
            f.write(data)
        return f"{path.name} byte {at} of {len(data)} bit {bit}"

    def exact_or_eio(self, mnt, note):
        failures = 0
        for name, want in self.files.items():
            try:
                got = (mnt / name).read_bytes()
            except OSError as e:
                self.assertEqual(e.errno, errno.EIO, note)
                failures += 1
                continue
            self.assertEqual(got, want, note)
        return failures

    def mount(self, *options):
        return lab.mounted(self.server.image, "--cache-dir", self.cache, *options, env=faulty.QUICK)

    def chosen(self, place, suffix=""):
        names = [p for p in (self.cache / "v1" / place).rglob("*") if p.is_file() and p.suffix == suffix and p.stat().st_size]
        return self.rng.choice(sorted(names))

    def test_the_stores_blob_online(self):
        """fetched again: not even an error"""
        with self.mount() as mnt:
            pass
        for _ in range(POSITIONS // 3):
            self.restore()
            note = [self.flip(self.chosen("blobs")) for _ in range(5)]
            with self.mount() as mnt:
                self.assertEqual(lab.differences(self.tree, lab.walk(mnt)), [], note)

    def test_the_stores_blob_offline(self):
        """EIO for the span, everything else is right"""
        failures = 0
        big = self.cache / "v1/blobs/sha256" / lab.sha256(self.blob)[7:]
        for _ in range(POSITIONS // 3):
            self.restore()
            note = self.flip(big)
            with self.mount("--offline") as mnt:
                failures += self.exact_or_eio(mnt, note)
        self.assertGreater(failures, 0)

    def test_under_a_live_mount(self):
        """the store's file is damaged while it is in use"""
        big = self.cache / "v1/blobs/sha256" / lab.sha256(self.blob)[7:]
        self.restore()
        with self.mount("--memory", "1M") as mnt:
            for _ in range(POSITIONS):
                note = self.flip(big)
                lab.run("sh", "-c", "echo 3 > /proc/sys/vm/drop_caches", check=False)
                self.assertEqual(self.exact_or_eio(mnt, note), 0, note)

    def test_the_map(self):
        for _ in range(POSITIONS // 2):
            self.restore()
            note = self.flip(self.chosen("blobs", ".map"))
            with self.mount() as mnt:
                self.assertEqual(lab.differences(self.tree, lab.walk(mnt)), [], note)

    def test_a_map_that_claims_too_much(self):
        """everything is called present, but the blob is a hole"""
        self.restore()
        blob = self.cache / "v1/blobs/sha256" / lab.sha256(self.blob)[7:]
        os.truncate(blob, 0)
        os.truncate(blob, len(self.blob))
        with self.mount() as mnt:
            self.assertEqual(lab.differences(self.tree, lab.walk(mnt)), [])

    def test_the_index(self):
        """set aside with one warning and made again; the tree is the same"""
        for i in range(POSITIONS):
            self.restore()
            victim = self.chosen("index")
            good = victim.read_bytes()
            note = self.flip(victim, at=i if i < 8 else None)
            mnt = lab.folder("mnt")
            p = lab.imagefs(self.server.image, mnt, "--cache-dir", self.cache, check=False)
            if p.returncode != 0:  # the version is a newer one
                self.assertEqual(p.returncode, 8, (note, p.err))
                self.assertIn("newer", p.err)
                continue
            try:
                self.assertEqual(len(p.err.splitlines()), 1, (note, p.err))
                self.assertIn("made again", p.err)
                self.assertEqual(lab.differences(self.tree, lab.walk(mnt)), [], note)
            finally:
                lab.imagefs("umount", mnt)
            self.assertEqual(victim.read_bytes(), good, note)

    def test_cut_files(self):
        """truncated and empty ones, and others of the right name"""
        for place in ("index", "docs", "blobs", "names"):
            for keep in (0, 1, 100, -1):
                self.restore()
                victim = self.chosen(place)
                size = victim.stat().st_size
                os.truncate(victim, min(keep, size) if keep >= 0 else size + keep)
                with self.mount() as mnt:
                    self.assertEqual(lab.differences(self.tree, lab.walk(mnt)), [], (victim, keep))

    def test_documents_and_names(self):
        for place in ("docs", "names"):
            for _ in range(POSITIONS // 2):
                self.restore()
                note = self.flip(self.chosen(place))
                with self.mount() as mnt:
                    self.assertEqual(lab.differences(self.tree, lab.walk(mnt), ()), [], note)
                self.restore()
                self.flip(self.chosen(place))
                mnt = lab.folder("mnt")
                p = lab.imagefs(self.server.image, mnt, "--cache-dir", self.cache, "--offline", check=False)
                if p.returncode == 0:  # the seconds of a name, not its digest
                    self.assertEqual(lab.differences(self.tree, lab.walk(mnt)), [], note)
                    lab.imagefs("umount", mnt)
                else:
                    self.assertEqual(p.returncode, 3, p.err)

    def test_what_the_registry_sends(self):
        """a flipped byte in each range: never a wrong byte; afterwards all is well"""
        for _ in range(POSITIONS):
            self.restore()
            lab.imagefs("cache", "rm", "--data", "-q", "--cache-dir", self.cache)
            with self.mount() as mnt:
                self.server.faults(dict(path="/blobs/", kind="wrong", at=self.rng.randrange(300000), times=0))
                self.exact_or_eio(mnt, "sent")
                self.server.faults()
                self.assertEqual(self.exact_or_eio(mnt, "sent"), 0)

    def test_while_the_index_is_made(self):
        """the first pass, too: refused, nothing is published, the next try is clean"""
        for _ in range(POSITIONS // 2):
            shutil.rmtree(self.cache / "v1")
            self.server.faults(dict(path="/blobs/", kind="wrong", at=self.rng.randrange(1 << 20), times=0))
            mnt = lab.folder("mnt")
            p = lab.imagefs(self.server.image, mnt, "--cache-dir", self.cache, check=False, env=faulty.QUICK)
            self.assertEqual(p.returncode, 6, p.err)
            self.assertEqual(list((self.cache / "v1/index/sha256").iterdir()), [])
            self.server.faults()
            with self.mount() as mnt:
                self.assertEqual(lab.differences(self.tree, lab.walk(mnt)), [])


if __name__ == "__main__":
    lab.main()
