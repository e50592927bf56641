#!/usr/bin/env python3
"""A registry that misbehaves under a live mount: exact bytes, or EIO for that read only, and all is well afterwards."""
import contextlib
import errno
import os
import random
import subprocess
import threading
import time
import unittest

import faulty
import lab

SEED = int(os.environ.get("SEED", random.randrange(1 << 32)))


class Base(unittest.TestCase):
    config = {}

    @classmethod
    def setUpClass(cls):
        cls.blob, cls.files = faulty.files_layer(24, 512 << 10, seed=11)
        cls.layout = lab.Layout().image(cls.blob)
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
        self.server.config(**self.config)
        self.names = iter(self.files)

    def mount(self, *options):
        place = lab.mounted(self.server.image, "--cache-dir", self.cache, "--memory", "1M", *options, env=faulty.QUICK)
        mnt = self.enterContext(place)
        self.at_mount = lab.stat_of(mnt)
        self.server.quiet(0.05)
        return mnt

    def right(self, mnt, name=None):
        """a file that was not read yet, or this one, is exact"""
        name = name or next(self.names)
        self.assertEqual((mnt / name).read_bytes(), self.files[name], name)

    def eio(self, mnt, name=None):
        name = name or next(self.names)
        with self.assertRaises(OSError) as caught:
            (mnt / name).read_bytes()
        self.assertEqual(caught.exception.errno, errno.EIO)
        return name

    def blob_requests(self, status=None, port=None):
        return [r for r in self.server.requests("/blobs/", port) if r["method"] == "GET" and status in (None, r["status"])]


class Retried(Base):
    """What passes is retried, and the reader sees nothing of it."""

    def survives(self, *faults, config=None, times=1):
        mnt = self.mount()
        if config:
            self.server.config(**config)
        self.server.faults(*faults)
        for _ in range(times):
            self.right(mnt)
        s = lab.stat_of(mnt)
        self.assertEqual(s["errors"], 0)
        return mnt, s

    def test_5xx(self):
        for status in (500, 502, 503, 504):
            with self.subTest(status):
                _, s = self.survives(dict(path="/blobs/", kind="status", status=status, times=2))
                self.assertGreaterEqual(s["retries"], 2)
                self.assertEqual(len(self.blob_requests(status)), 2)

    def test_429_with_retry_after(self):
        began = time.monotonic()
        self.survives(dict(path="/blobs/", kind="status", status=429, headers={"Retry-After": "1"}))
        self.assertGreaterEqual(time.monotonic() - began, 1)
        self.assertEqual(len(self.blob_requests(429)), 1)

    def test_reset(self):
        _, s = self.survives(dict(path="/blobs/", kind="reset", times=2))
        self.assertGreaterEqual(s["retries"], 1)

    def test_cut_in_mid_body_is_resumed(self):
        mnt, s = self.survives(dict(path="/blobs/", kind="cut", after=70000))
        asked = self.blob_requests()
        self.assertEqual(asked[0]["bytes"], 70000)
        first = int(asked[0]["range"][6:].split("-")[0])
        self.assertIn(first + 70000, [int(r["range"][6:].split("-")[0]) for r in asked[1:]])

    def test_stall(self):
        self.survives(dict(path="/blobs/", kind="stall", after=50000, seconds=5))

    def test_short_206(self):
        self.survives(dict(path="/blobs/", kind="short", max=50000, times=0))
        self.assertGreater(len(self.blob_requests(206)), 2)

    def test_200_with_the_whole_body(self):
        """no ranges at all: one pass over the blob serves everybody, and the store has it all"""
        mnt, s = self.survives(config=dict(ranges=False), times=3)
        self.server.quiet()
        for name in self.files:
            self.right(mnt, name)
        self.assertLess(self.server.blob_bytes(), 2.1 * len(self.blob))

    def test_200_once(self):
        self.survives(dict(path="/blobs/", kind="noranges"), times=2)

    def test_wrong_bytes_once(self):
        self.survives(dict(path="/blobs/", kind="wrong", at=1000))

    def test_gzip_encoding_once(self):
        self.survives(dict(path="/blobs/", kind="gzip"))


class Tokens(Base):
    config = dict(auth="bearer")

    def test_tokens_expire(self):
        mnt = self.mount()
        for _ in range(4):
            self.server.expire()
            self.right(mnt)
        self.assertEqual(lab.stat_of(mnt)["errors"], 0)

    def test_one_new_token_for_all_threads(self):
        mnt = self.mount()
        before = len(self.server.requests("/token"))
        self.server.expire()
        names = list(self.files)[:16]
        wrong = []

        def read(name):
            if (mnt / name).read_bytes() != self.files[name]:
                wrong.append(name)
        threads = [threading.Thread(target=read, args=(n,)) for n in names]
        [t.start() for t in threads]
        [t.join() for t in threads]
        self.assertEqual(wrong, [])
        self.assertEqual(len(self.server.requests("/token")) - before, 1)

    def test_a_token_that_works_few_times(self):
        self.server.config(token_uses=2)
        mnt = self.mount()
        for _ in range(6):
            self.right(mnt)


class SignedAddresses(Base):
    config = dict(auth="bearer", redirect=True)

    def test_they_expire(self):
        mnt = self.mount()
        self.right(mnt)
        for status in (401, 403, 400):
            self.server.config(expired_status=status)
            self.server.expire()
            self.right(mnt)
        self.assertEqual(lab.stat_of(mnt)["errors"], 0)

    def test_once_back_to_the_registry(self):
        mnt = self.mount()
        self.right(mnt)
        before = len(self.blob_requests(port="registry"))
        self.server.config(url_uses=1)
        names = [next(self.names) for _ in range(4)]
        for name in names:
            self.right(mnt, name)
        storage = self.blob_requests(port="storage")
        self.assertLess(len([r for r in storage if r["status"] == 403]), len(storage) / 2 + 2)
        self.assertGreater(len(self.blob_requests(port="registry")), before)

    def test_credentials_stay(self):
        mnt = self.mount()
        self.right(mnt)
        for r in self.server.requests(port="storage"):
            self.assertEqual(r["auth"], "")


class Fails(Base):
    """What does not pass is EIO for that read, and only as long as it lasts."""

    def fails(self, *faults):
        mnt = self.mount()
        self.server.faults(*faults)
        name = self.eio(mnt)
        self.assertGreater(lab.stat_of(mnt)["errors"], 0)
        self.assertLess(len(self.server.requests("/blobs/")), 60)  # bounded
        self.server.faults()
        self.right(mnt, name)
        self.right(mnt)

    def test_5xx(self):
        self.fails(dict(path="/blobs/", kind="status", status=503, times=0))

    def test_404(self):
        self.fails(dict(path="/blobs/", kind="status", status=404, times=0))

    def test_403(self):
        self.fails(dict(path="/blobs/", kind="status", status=403, times=0))

    def test_429_that_asks_for_an_hour(self):
        self.fails(dict(path="/blobs/", kind="status", status=429, headers={"Retry-After": "3600"}, times=0))

    def test_reset(self):
        self.fails(dict(path="/blobs/", kind="reset", times=0))

    def test_cut_with_nothing(self):
        self.fails(dict(path="/blobs/", kind="cut", after=0, times=0))

    def test_stall(self):
        self.fails(dict(path="/blobs/", kind="stall", after=0, seconds=3, times=0))

    def test_wrong_bytes(self):
        self.fails(dict(path="/blobs/", kind="wrong", at=1000, times=0))

    def test_wrong_content_range(self):
        self.fails(dict(path="/blobs/", kind="range", value="bytes 0-99/100", times=0))

    def test_416(self):
        self.fails(dict(path="/blobs/", kind="status", status=416, times=0))

    def test_gzip_encoding(self):
        self.fails(dict(path="/blobs/", kind="gzip", times=0))

    def test_redirect_loop(self):
        self.fails(dict(path="/blobs/", kind="redirect", times=0))

    def test_makes_no_sense_once(self):
        """such an answer is not asked for again, but the next read is right"""
        mnt = self.mount()
        for fault in [dict(kind="status", status=416), *(dict(kind="range", value=v) for v in ("bytes 0-99/100", "bytes 5-1/9", "x", ""))]:
            self.server.faults(dict(fault, path="/blobs/"))
            name = next(self.names)
            with contextlib.suppress(OSError):  # the kernel may have asked again by itself
                self.right(mnt, name)
            self.server.faults()
            self.right(mnt, name)

    def test_the_server_is_gone_and_comes_back(self):
        mnt = self.mount()
        self.right(mnt)
        self.server.stop()
        try:
            name = self.eio(mnt)
            self.right(mnt, list(self.files)[0])  # what was fetched stays readable
            os.listdir(mnt)
        finally:
            self.server.start()
        self.right(mnt, name)

    def test_others_go_on(self):
        """one file's range fails again and again; what else is read meanwhile is right"""
        mnt = self.mount()
        victim = list(self.files)[20]
        self.right(mnt, list(self.files)[3])
        self.server.faults(dict(path="/blobs/", kind="wrong", at=500, times=0))
        self.eio(mnt, victim)
        self.right(mnt, list(self.files)[3])
        self.server.faults()
        self.right(mnt, victim)

    def test_umount_does_not_wait_for_a_dead_server(self):
        mnt = self.mount()
        self.server.faults(dict(path="/blobs/", kind="stall", after=0, seconds=60, times=0))
        p = subprocess.Popen(["cat", str(mnt / next(self.names))], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(0.3)
        lab.imagefs("umount", "--lazy", mnt)
        self.assertNotEqual(p.wait(30), 0)
        self.server.faults()
        lab.imagefs(self.server.image, mnt, "--cache-dir", self.cache)  # for the end of the with block


class Soak(Base):
    READS, THREADS, LIMIT_S = 20000, 16, 45

    def random_fault(self, rng):
        kind = rng.choice(["status", "status", "reset", "cut", "wrong", "short", "range", "gzip", "noranges", "redirect", "chunked",
                           "stall"])
        f = dict(path="/blobs/", kind=kind, times=rng.randrange(1, 40), skip=rng.randrange(3), port=rng.choice(["registry", "storage"]))
        if kind == "status":
            f.update(status=rng.choice([400, 401, 403, 404, 416, 429, 500, 502, 503, 504]), headers={"Retry-After": "0"})
        if kind in ("cut", "chunked"):
            f.update(after=rng.randrange(200000))
        if kind == "stall":
            f.update(after=rng.randrange(2000), seconds=1.5, times=2)
        if kind == "wrong":
            f.update(at=rng.randrange(1 << 20))
        if kind == "short":
            f.update(max=rng.randrange(1, 100000))
        if kind == "range":
            f.update(value=rng.choice(["", "bytes 0-1/2", "x"]))
        return f

    def misbehave(self, rng, stop):
        while not stop.wait(rng.random() * 0.1):
            if rng.random() < 0.2:
                self.server.expire()
            faults = [self.random_fault(rng) for _ in range(rng.randrange(6))]
            if faults and rng.random() < 0.4:
                faults[0]["times"] = 0  # until the next ones come
            self.server.faults(*faults)

    def empty_the_store(self, stop):
        while not stop.wait(0.05):  # so that there is always something to fetch
            lab.imagefs("cache", "rm", "--data", "-q", "--cache-dir", self.cache)

    def read_some(self, mnt, rng, left, bad, counts, end):
        while time.monotonic() < end:
            with self.lock:
                if left[0] <= 0:
                    return
                left[0] -= 1
            name = rng.choice(list(self.files))
            want = self.files[name]
            off = rng.randrange(len(want))
            n = rng.randrange(1, 70000)
            try:
                fd = os.open(mnt / name, os.O_RDONLY)
                try:
                    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
                    got = os.pread(fd, n, off)
                    while len(got) < min(n, len(want) - off):  # a page behind these failed: is it told?
                        more = os.pread(fd, n - len(got), off + len(got))
                        if not more:
                            break
                        got += more
                finally:
                    os.close(fd)
            except OSError as e:
                counts[e.errno] = counts.get(e.errno, 0) + 1
                continue
            counts[0] = counts.get(0, 0) + 1
            if got != want[off:off + n]:
                bad.append((name, off, n, len(got)))

    def test_random_faults(self):
        print(f"SEED={SEED}", flush=True)
        rng = random.Random(SEED)
        self.lock = threading.Lock()
        self.server.config(auth="bearer", redirect=True)
        mnt = self.mount()
        left, bad, counts, stop = [self.READS], [], {}, threading.Event()
        end = time.monotonic() + self.LIMIT_S
        trouble = threading.Thread(target=self.misbehave, args=(random.Random(SEED + 1), stop))
        readers = [threading.Thread(target=self.read_some, args=(mnt, random.Random(SEED + 2 + i), left, bad, counts, end))
                   for i in range(self.THREADS)]
        emptying = threading.Thread(target=self.empty_the_store, args=(stop,))
        [t.start() for t in [trouble, emptying, *readers]]
        [t.join() for t in readers]
        stop.set()
        trouble.join()
        emptying.join()
        self.server.faults()
        s = lab.stat_of(mnt)
        strange = [r for r in self.server.requests("/blobs/") if r["status"] not in (200, 206, 307, 401)]
        print(f"reads {counts}, {len(strange)} strange answers, requests {s['requests']}, retries {s['retries']}, errors {s['errors']}", flush=True)
        self.assertEqual(bad, [])
        self.assertEqual(set(counts) - {0, errno.EIO}, set())
        self.assertGreater(counts[0], self.READS // 20)
        self.assertGreater(len(strange), 0)
        lab.imagefs("cache", "rm", "--data", "-q", "--cache-dir", self.cache)
        for name in self.files:
            self.right(mnt, name)


del Base  # has no tests of its own
if __name__ == "__main__":
    lab.main()
