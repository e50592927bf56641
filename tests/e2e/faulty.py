"""The scripted registry of faulty_registry.py as a Python object, and images for it."""
import binascii
import json
import pathlib
import random
import subprocess
import sys
import time
import urllib.request

import lab

# Retries as always, but without the waiting: what a reader sees is the same, sooner.
QUICK = dict(IMAGEFS_HTTP_TIMES="connect=2000,stall=1000,backoff=5,retry_after=3000,deadline=8000,tries=4")


class Faulty:
    """Serves a lab.Layout; config and faults as faulty_registry.py describes them."""

    def __init__(self, layout, repo="test/app", **config):
        self.layout, self.repo, self.start_config = layout, repo, config
        self.process, self.ports = None, (0, 0)
        self.start()

    def start(self):
        """Starts it, at the same ports as before if it ran already."""
        script = pathlib.Path(__file__).parent / "faulty_registry.py"
        self.process = subprocess.Popen(
            [sys.executable, str(script), "--layout", str(self.layout.path), "--repo", self.repo, "--config",
             json.dumps(self.start_config), "--ports", *map(str, self.ports)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        said = json.loads(self.process.stdout.readline())
        self.ports = (said["registry"], said["storage"])
        self.name = f"127.0.0.1:{self.ports[0]}"
        self.image = f"{self.name}/{self.repo}:latest"

    def stop(self):
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process.stdin.close()
            self.process.stdout.close()
            self.process = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def control(self, what, body=None):
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(f"http://{self.name}/_control/{what}", data, timeout=20) as f:
            return json.load(f)

    def faults(self, *faults):
        self.control("faults", list(faults))

    def config(self, **config):
        self.control("config", config)

    def expire(self):
        self.control("expire", {})

    def reset(self):
        self.control("reset", {})

    def requests(self, part="", port=None):
        """What was asked since the last reset with this in the path."""
        return [r for r in self.control("counts")["requests"] if part in r["path"] and port in (None, r["port"])]

    def blob_bytes(self):
        """Bytes of blobs that were sent since the last reset."""
        return sum(r["bytes"] for r in self.requests("/blobs/") if r["method"] == "GET")

    def quiet(self, seconds=0.3):
        """Waits until nothing was asked for a while: read-ahead may still be under way."""
        before = -1
        while (now := len(self.requests())) != before:
            before = now
            time.sleep(seconds)


def content(seed, size):
    """size bytes that gzip makes about half as long"""
    return binascii.hexlify(random.Random(seed).randbytes((size + 1) // 2))[:size]


def files_layer(count, size, prefix="f", seed=1, level=1):
    """A layer of `count` files of `size` bytes in a folder, and {path: content}."""
    files = {f"{prefix}/{prefix}{i:04}": content(seed * 100000 + i, size) for i in range(count)}
    return lab.layer(lab.member(prefix), *(lab.member(n, c) for n, c in files.items()), level=level), files


def daemon_of(where):
    """The process that serves a mount: whoever has it as its last argument."""
    for p in pathlib.Path("/proc").iterdir():
        if p.name.isdigit():
            try:
                words = (p / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if words[0].endswith(b"imagefs") and str(where).encode() in words and b"umount" not in words:
                return int(p.name)
    raise AssertionError(f"no daemon of {where}")
