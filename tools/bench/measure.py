"""The comparisons of tools/bench/run."""
import contextlib
import json
import os
import pathlib
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import images
import lab

LINES = [(1000, 2), (200, 20)]  # Mbit/s, and ms for a round trip
TREE_WORK = [
    ("find", "find . >/dev/null"),
    ("find -ls", "find . -ls >/dev/null"),
    ("du", "du -s . >/dev/null"),
    ("tar", "tar cf - . | cat >/dev/null"),
    ("grep -r", "grep -rs 'in no file at all' . >/dev/null || true"),
    ("python start", "chroot . /usr/bin/python3 -c 'import asyncio, json, ssl'"),
]
BUSYBOX_WORK = [w for w in TREE_WORK if w[0] != "python start"] + [("busybox start", "chroot . /bin/busybox true")]


def spent():
    u = resource.getrusage(resource.RUSAGE_CHILDREN)
    return u.ru_utime + u.ru_stime


def drop_caches():
    os.sync()
    pathlib.Path("/proc/sys/vm/drop_caches").write_text("3")


class Series:
    """Figures of one thing, measured again and again."""

    def __init__(self):
        self.wall, self.cpu = [], []

    def add(self, wall, cpu):
        self.wall.append(wall)
        self.cpu.append(cpu)


def fmt(seconds):
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.2f} s"


class Table:
    """Rows: what, who, median, minimum, CPU, ratio of imagefs' median to this one's."""

    def __init__(self, title):
        self.title, self.rows = title, []

    def compare(self, what, series, us="imagefs"):
        mine = statistics.median(series[us].wall)
        for who, s in series.items():
            ratio = "" if who == us else f"{mine / statistics.median(s.wall):.2f}"
            self.rows.append([what, who, fmt(statistics.median(s.wall)), fmt(min(s.wall)),
                              fmt(statistics.median(s.cpu)) if any(s.cpu) else "", ratio])

    def show(self):
        print(f"\n### {self.title}\n")
        print("| work | with | median | least | CPU | imagefs / this |\n|---|---|---|---|---|---|")
        for row in self.rows:
            print("| " + " | ".join(row) + " |")
        sys.stdout.flush()


class Bench:
    def __init__(self, a, name, layout):
        self.a, self.name, self.layout = a, name, layout
        self.layers = images.layers_of(layout)
        self.work = pathlib.Path(a.work)
        self.tmp = lab.TMP = pathlib.Path(tempfile.mkdtemp(prefix="run-", dir=self.work))
        self.cache, self.mnt = self.tmp / "cache", self.tmp / "mnt"
        self.mnt.mkdir()
        os.environ["HOME"] = str(self.tmp)

    def run(self):
        a, parts = self.a, self.a.only.split(",")
        try:
            with lab.Registry() as registry:
                self.ref = registry.push(self.layout, f"bench/{self.name}")
                self.port = registry.port
                total = sum(size for _, size in self.layers)
                print(f"## {self.name}: {len(self.layers)} layers, {total / 1e6:.1f} MB compressed; "
                      f"{os.cpu_count()} processors; {a.rounds} rounds")
                for part in ("mount", "lines", "size", "tree", "reads"):
                    if part in parts:
                        getattr(self, part)()
        finally:
            with contextlib.suppress(Exception):
                self.umount()
            subprocess.run(["umount", "-R", *map(str, self.tmp.glob("podman/overlay"))], stderr=subprocess.DEVNULL)
            shutil.rmtree(self.tmp, ignore_errors=True)

    # ---- imagefs ----

    def daemon(self):
        """Process id of the one daemon in our pid namespace."""
        for d in pathlib.Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if os.readlink(d / "exe") == self.a.imagefs:
                    return int(d.name)
        return None

    def imagefs(self, ref=None, fresh=True):
        """Mounts; (seconds, CPU seconds of all processes until it can be used)."""
        if fresh:
            shutil.rmtree(self.cache, ignore_errors=True)
        cpu, start = spent(), time.monotonic()
        subprocess.run([self.a.imagefs, ref or self.ref, str(self.mnt), "-q", "--cache-dir", str(self.cache)], check=True)
        wall = time.monotonic() - start
        stat = pathlib.Path(f"/proc/{self.daemon()}/stat").read_text().rsplit(")", 1)[1].split()
        ticks = sum(map(int, stat[11:15]))
        return wall, spent() - cpu + ticks / os.sysconf("SC_CLK_TCK")

    def umount(self):
        for _ in range(100):
            pid = self.daemon()
            if not pid:
                return
            subprocess.run([self.a.imagefs, "umount", str(self.mnt)], stderr=subprocess.DEVNULL)
            time.sleep(0.05)

    # ---- the others ----

    def timed(self, script, cwd=None):
        cpu, start = spent(), time.monotonic()
        subprocess.run(["bash", "-euc", script], check=True, cwd=cwd, stdout=subprocess.DEVNULL)
        return time.monotonic() - start, spent() - cpu

    def urls(self, port):
        return [f"http://127.0.0.1:{port}/v2/bench/{self.name}/blobs/sha256:{blob.name}" for blob, _ in self.layers]

    def curl(self, port):
        return self.timed("curl -sfZ " + " ".join(f"-o /dev/null {u}" for u in self.urls(port)) + " 2>/dev/null")

    def pipes(self, port, blob_hash="", tar_hash=""):
        return self.timed("".join(f"(set -o pipefail; curl -sf {u} {blob_hash}| igzip -dc - {tar_hash}| tar t >/dev/null) & "
                                  for u in self.urls(port)) + "wait")

    def hashing_pipes(self, port):
        """The same, with the two hashes that an image's layer must have."""
        tee = "| tee >(openssl sha256 >/dev/null) "
        return self.pipes(port, tee, tee)

    def podman(self, port):
        p = f"podman --root {self.tmp}/podman --runroot {self.tmp}/podrun --storage-driver overlay"
        ref = f"127.0.0.1:{port}/bench/{self.name}:latest"
        try:
            return self.timed(f"{p} pull -q --tls-verify=false {ref}; {p} image mount {ref}")
        finally:
            subprocess.run(f"{p} image umount -af; {p} rmi -af", shell=True, stdout=subprocess.DEVNULL)

    def umoci(self, port):
        where = self.tmp / "umoci"
        try:
            return self.timed(f"mkdir {where}; skopeo --insecure-policy copy -q --src-tls-verify=false "
                              f"docker://127.0.0.1:{port}/bench/{self.name}:latest oci:{where}/oci:latest; "
                              f"umoci unpack --image {where}/oci:latest {where}/bundle")
        finally:
            shutil.rmtree(where, ignore_errors=True)

    # ---- parts ----

    def first_mounts(self, table, what, port, others):
        series = {name: Series() for name in ["imagefs", *others]}
        ref = f"127.0.0.1:{port}/bench/{self.name}:latest"
        for i in range(self.a.rounds):
            for who in series:
                if who in ("podman pull, image mount", "skopeo copy, umoci unpack") and i >= 3:
                    continue
                os.sync()
                if who == "imagefs":
                    series[who].add(*self.imagefs(ref))
                    self.umount()
                else:
                    series[who].add(*others[who](port))
        table.compare(what, series)

    def mount(self):
        others = {"curl alone": self.curl, "curl \\| igzip \\| tar t": self.pipes,
                  "the same, with both sha256": self.hashing_pipes, "podman pull, image mount": self.podman,
                  "skopeo copy, umoci unpack": self.umoci}
        if self.a.quick:
            del others["skopeo copy, umoci unpack"]
        self.curl(self.port)  # the registry's files come into memory
        table = Table("First mount")
        self.first_mounts(table, "loopback", self.port, others)
        table.show()

    def lines(self):
        table = Table("First mount over slow lines")
        for mbit, ms in LINES:
            command = [self.a.slowlink, str(mbit), str(ms / 2), str(self.port)]
            with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as p:
                port = int(p.stdout.readline())
                others = {"curl alone": self.curl}
                if not self.a.quick:
                    others["podman pull, image mount"] = self.podman
                self.first_mounts(table, f"{mbit} Mbit/s, {ms} ms", port, others)
                p.stdin.close()
        table.show()

    def extracted(self):
        """The same tree on disk."""
        where = self.tmp / "disk"
        if not where.exists():
            subprocess.run(["umoci", "unpack", "--image", f"{self.layout.path}:latest", str(where)], check=True,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return where / "rootfs"

    def ensure_mounted(self):
        if not self.daemon():
            self.imagefs(fresh=not self.cache.exists())

    def tree(self):
        works = BUSYBOX_WORK if self.name == "tiny" else TREE_WORK
        disk = self.extracted()
        cold, warm = Table("The tree, nothing in memory (data in the store)"), Table("The tree, warm")
        for what, script in works:
            series = {"imagefs": Series(), "extracted, ext4": Series()}
            for _ in range(min(self.a.rounds, 5)):
                for who, s in series.items():
                    if who == "imagefs":
                        self.umount()
                        self.ensure_mounted()
                    drop_caches()
                    s.add(*self.timed(script, self.mnt if who == "imagefs" else disk))
            cold.compare(what, series)
        for what, script in works:
            series = {"imagefs": Series(), "extracted, ext4": Series()}
            self.ensure_mounted()
            times = 1
            for i in range(self.a.rounds + 1):
                for who, s in series.items():
                    where = self.mnt if who == "imagefs" else disk
                    took = [self.timed(script, where) for _ in range(times)]
                    if i:  # the mean of several, if it is short
                        s.add(*(sum(t) / times for t in zip(*took)))
                if not i:
                    times = max(1, int(0.3 / self.timed(script, disk)[0]))
            warm.compare(what, series)
        cold.show()
        warm.show()

    def reads(self):
        print("\n### Random reads of 4 KiB (2000, each of a page that is not in memory)\n")
        print("| store | with | p50 | p99 | most |\n|---|---|---|---|---|")
        disk = self.extracted()
        places = random_places(disk, 2000)
        for store in ("on disk", "in memory"):
            for who in ("imagefs", "extracted, ext4"):
                if who == "imagefs":
                    self.umount()
                    self.ensure_mounted()
                elif store == "in memory":
                    continue
                drop_caches()
                if store == "in memory":
                    subprocess.run(["find", str(self.cache), "-type", "f", "-exec", "cat", "{}", "+"], stdout=subprocess.DEVNULL)
                took = sorted(read_places(self.mnt if who == "imagefs" else disk, places))
                p = [took[len(took) // 2], took[len(took) * 99 // 100], took[-1]]
                print(f"| {store} | {who} | " + " | ".join(f"{t * 1000:.2f} ms" for t in p) + " |", flush=True)

    def size(self):
        self.umount()
        self.imagefs()
        files, names = 1, 0
        for _, dirs, plain in os.walk(self.mnt):
            files += len(dirs) + len(plain)
            names += sum(map(len, dirs)) + sum(map(len, plain))
        self.umount()
        self.imagefs(fresh=False)
        fresh = memory(self.daemon())
        subprocess.run("tar cf - . | cat >/dev/null", shell=True, cwd=self.mnt)
        read = memory(self.daemon())
        index = sum(f.stat().st_size for f in self.cache.rglob("*") if f.is_file() and "index" in str(f.relative_to(self.cache)))
        total = sum(size for _, size in self.layers)
        print("\n### Size\n\n| what | is |\n|---|---|")
        print(f"| indexes | {index / 1e6:.2f} MB, {100 * index / total:.2f} % of the compressed layers |")
        print(f"| files, bytes of their names | {files}, {names} |")
        print(f"| memory of the daemon, mounted | {fresh[0]:.1f} MB, with mapped files {fresh[1]:.1f} MB |")
        print(f"| memory of the daemon, after the whole tree was read | {read[0]:.1f} MB, with mapped files {read[1]:.1f} MB; "
              f"the most it ever had {read[2]:.1f} MB |", flush=True)


def memory(pid):
    """(anonymous, resident, most ever resident), MB."""
    lines = dict(line.split(":", 1) for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines())
    return [int(lines[k].split()[0]) * 1024 / 1e6 for k in ("RssAnon", "VmRSS", "VmHWM")]


def random_places(top, count):
    """[(path, offset)], each byte of the tree as likely as any."""
    files = []
    for d, _, names in os.walk(top):
        for n in names:
            full = os.path.join(d, n)
            if os.path.isfile(full) and not os.path.islink(full) and os.lstat(full).st_size:
                files.append((os.path.relpath(full, top), os.lstat(full).st_size))
    files.sort()
    r = random.Random(1)
    chosen = r.choices(files, weights=[size for _, size in files], k=count)
    return [(path, r.randrange(size) & ~4095) for path, size in chosen]


def read_places(top, places):
    took = []
    for path, off in places:
        fd = os.open(os.path.join(top, path), os.O_RDONLY)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
        start = time.perf_counter()
        os.pread(fd, 4096, off)
        took.append(time.perf_counter() - start)
        os.close(fd)
    return took
