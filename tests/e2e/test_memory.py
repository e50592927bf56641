#!/usr/bin/env python3
"""Memory stays bounded: 150,000 files, 32 parallel readers, a small --memory."""
import hashlib
import os
import pathlib
import subprocess
import threading
import unittest
import zlib

import faulty
import lab

FILES, FOLDERS = 150_000, 300
BIG, BIG_LEN = 48, 1 << 20
MB = 1 << 20


def header(name, size, kind=b"0"):
    """one ustar header; tarfile takes ten times as long"""
    head = b"%-100b%07o\0%07o\0%07o\0%011o\0%011o\0        %b%100bustar\00000" % (
        name.encode().ljust(100, b"\0"), 0o755 if kind == b"5" else 0o644, 0, 0, size, 1700000000, kind, bytes(100))
    head = head.ljust(512, b"\0")
    return head[:148] + b"%06o\0 " % sum(head) + head[156:]


def image():
    """(layer, {name: sha256} of the big files, bytes of all names)"""
    parts, big, names = [], {}, 0
    for d in range(FOLDERS):
        parts.append(header(f"d{d:03}/", 0, b"5"))
        for i in range(FILES // FOLDERS):
            name = f"some-file-name-{d:03}-{i:05}.txt"
            names += len(name)
            parts.append(header(f"d{d:03}/{name}", 0))
    parts.append(header("big/", 0, b"5"))
    for i in range(BIG):
        data = faulty.content(i, BIG_LEN)
        big[f"big/{i:02}"] = hashlib.sha256(data).hexdigest()
        parts += [header(f"big/{i:02}", len(data)), data]
    parts.append(bytes(1024))
    deflate = zlib.compressobj(1, zlib.DEFLATED, 31)
    return b"".join([deflate.compress(p) for p in parts] + [deflate.flush()]), big, names


def memory_of(pid):
    """{VmHWM: ..., RssAnon: ...} in bytes"""
    found = {}
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        words = line.split()
        if words[0].startswith(("Vm", "Rss")):
            found[words[0][:-1]] = int(words[1]) << 10
    return found


class Memory(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        lab.need_plain_build()
        blob, cls.big, cls.names = image()
        cls.layout = lab.Layout().image(blob)
        cls.cache = lab.folder("cache")
        cls.idle = 40 * MB + 100 * FILES + cls.names

    def mount(self, *options):
        return lab.mounted(f"oci:{self.layout.path}", "--cache-dir", self.cache, *options)

    def say(self, what, mnt):
        m = memory_of(faulty.daemon_of(mnt))
        s = lab.stat_of(mnt)
        print(f"{what}: memory_bytes {s['memory_bytes'] / MB:.1f} MiB, " + ", ".join(
            f"{k} {v / MB:.1f}" for k, v in m.items() if k in ("VmHWM", "VmRSS", "RssAnon", "RssFile")), flush=True)
        return m, s

    def test_idle(self):
        """100 bytes and the name for each file, and 40 MB"""
        for what in ("first mount", "second mount"):
            with self.mount() as mnt:
                m, s = self.say(what, mnt)
                self.assertGreater(s["entries"], FILES)
                self.assertLessEqual(s["memory_bytes"], self.idle)
        self.assertLessEqual(m["VmHWM"], self.idle + 100 * FILES)  # while the tree is made

    def read_big(self, mnt, wrong, rounds):
        for name in rounds:
            h = hashlib.sha256()
            fd = os.open(mnt / name, os.O_RDONLY)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            while piece := os.read(fd, 256 << 10):
                h.update(piece)
            os.close(fd)
            if h.hexdigest() != self.big[name]:
                wrong.append(name)

    def test_32_readers(self):
        memory = 16 * MB
        with self.mount("--memory", "16M") as mnt:
            lab.run("find", mnt, "-size", "+100k")  # every entry is looked at
            before, _ = self.say("all looked up", mnt)
            self.assertLessEqual(before["VmRSS"], self.idle)
            names, wrong, rounds = list(self.big), [], []
            for _ in range(2):
                threads = [threading.Thread(target=self.read_big, args=(mnt, wrong, [names[(i * 7 + k * 5) % BIG] for k in range(6)]))
                           for i in range(32)]
                [t.start() for t in threads]
                [t.join() for t in threads]
                after, s = self.say("32 readers", mnt)
                rounds.append(after["RssAnon"])
            self.assertEqual(wrong, [])
            self.assertLessEqual(after["VmHWM"], self.idle + memory + 100 * FILES)
            self.assertLessEqual(after["RssAnon"] - before["RssAnon"], memory + 24 * MB)
            self.assertLessEqual(s["span_cache_bytes"], memory)
            self.assertLess(rounds[1] - rounds[0], 8 * MB)  # it does not grow with time

    def test_descriptors_and_threads(self):
        """neither grows with files or readers"""
        with self.mount() as mnt:
            pid = faulty.daemon_of(mnt)
            wrong = []
            threads = [threading.Thread(target=self.read_big, args=(mnt, wrong, list(self.big)[i:i + 1])) for i in range(32)]
            [t.start() for t in threads]
            [t.join() for t in threads]
            self.assertEqual(wrong, [])
            self.assertLess(len(os.listdir(f"/proc/{pid}/fd")), 64)
            self.assertLess(len(os.listdir(f"/proc/{pid}/task")), 32)


if __name__ == "__main__":
    lab.main()
