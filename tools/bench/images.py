"""Images to measure with, made from Debian packages and kept as OCI layouts in a work directory.

tiny    busybox: one layer, some hundred names, 1 MB
medium  three layers: debootstrap's minbase; python3, numpy and git over it; removals (whiteouts, an opaque directory) and
        some changed files. About 400 MB before compression
large   medium and one layer of compilers, headers and libraries more: 110,000 files, 3 GB in all

A layer is what apt-get left in the upper directory of an overlay; overlayfs' marks of removal become the names that
the OCI specification gives them. Compressed by gzip -6, as most layers that registries hold.
"""
import json
import os
import pathlib
import shutil
import stat
import subprocess
import sys
import tarfile

import lab

SUITE = os.environ.get("BENCH_SUITE", "bookworm")
MIRROR = os.environ.get("BENCH_MIRROR", "http://deb.debian.org/debian")
MEDIUM = "python3 python3-numpy git"
LARGE = ("gcc g++ golang-go default-jdk-headless linux-headers-amd64 python3-django python3-scipy python3-sympy nodejs npm "
         "clang-14 libboost1.74-dev rustc")


def sh(script, **kw):
    subprocess.run(["bash", "-euc", script], check=True, stdin=subprocess.DEVNULL, stdout=sys.stderr, **kw)


def layout_of(work, name):
    """The image's layout, made now if it is not there yet."""
    path = pathlib.Path(work) / "images" / name
    if not (path / "index.json").exists():
        fresh = path.with_name(name + ".new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        dict(tiny=_tiny, medium=_medium, large=_large)[name](pathlib.Path(work), fresh)
        fresh.rename(path)
    layout = lab.Layout.__new__(lab.Layout)
    layout.path = path
    return layout


def layers_of(layout):
    """[(path of the blob, compressed size)] of the image, lowest first."""
    entry = json.loads((layout.path / "index.json").read_text())["manifests"][0]
    blobs = layout.path / "blobs/sha256"
    manifest = json.loads((blobs / entry["digest"][7:]).read_text())
    return [(blobs / d["digest"][7:], d["size"]) for d in manifest["layers"]]


def _tiny(work, path):
    lab.Layout(path).image(lab.busybox_layer(), config=dict(Cmd=["/bin/sh"], Env=["PATH=/bin"]))


def _medium(work, path):
    lab.Layout(path).image(*(_layer(work, n).read_bytes() for n in ("base", "python", "changes")))


def _large(work, path):
    lab.Layout(path).image(*(_layer(work, n).read_bytes() for n in ("base", "python", "changes", "tools")))


# ---- layers ----

ORDER = ["base", "python", "changes", "tools"]
STEPS = {
    "python": "apt-get -qq update; DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "
              f"{MEDIUM} >/dev/null; apt-get clean",
    "changes": "rm -rf /var/lib/apt/lists/* /usr/share/doc /usr/share/man /var/cache/debconf/*; mkdir /usr/share/doc; "
               "echo bench > /usr/share/doc/README; rm /usr/lib/python3/dist-packages/numpy/LICENSE.txt || true; "
               "touch /etc/passwd; mkdir -p /srv/app; cp -a /usr/lib/python3.*/json /srv/app/",
    "tools": "apt-get -qq update; DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "
             f"{LARGE} >/dev/null; apt-get clean",
}


def _layer(work, name):
    """The compressed layer's file."""
    done = work / "layers" / (name + ".tar.gz")
    if done.exists():
        return done
    tree = work / "layers" / name
    print(f"making layer {name}", file=sys.stderr)
    tree.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(tree, ignore_errors=True)
    if name == "base":
        sh(f"debootstrap --variant=minbase {SUITE} {tree} {MIRROR} >/dev/null; umount {tree}/proc {tree}/sys 2>/dev/null || true; rm -rf {tree}/var/cache/apt/archives/*.deb "
           f"{tree}/var/cache/apt/*.bin {tree}/dev/* && mknod -m 666 {tree}/dev/null c 1 3")
    else:
        below = ORDER[:ORDER.index(name)]
        for b in below:
            _layer(work, b)
        _step(tree, [tree.parent / b for b in reversed(below)], STEPS[name])
    raw = done.with_suffix("")
    _write(tree, raw)
    sh(f"gzip -6nf {raw}")
    return done


def _step(upper, lowers, script):
    """Runs a script in a chroot over the lower directories (highest first); its changes stay in `upper`."""
    work, root = upper.with_name(upper.name + ".work"), upper.with_name(upper.name + ".root")
    for d in (upper, work, root):
        d.mkdir(exist_ok=True)
    options = f"lowerdir={':'.join(map(str, lowers))},upperdir={upper},workdir={work}"
    policy = root / "usr/sbin/policy-rc.d"
    sh(f"mount -t overlay overlay -o {options} {root}; cp /etc/resolv.conf {root}/etc/resolv.conf; "
       f"mount -t proc proc {root}/proc; printf '#!/bin/sh\\nexit 101\\n' > {policy}; chmod +x {policy}")
    try:
        sh(f"chroot {root} /bin/sh -ec '{script}'; rm {policy}")
    finally:
        sh(f"umount {root}/proc; umount {root}; rm -rf {work}; rmdir {root}")


def _write(tree, path):
    """A layer's tar of an overlay's upper directory."""
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as out:
        for top, dirs, files in os.walk(tree):
            dirs.sort()
            rel = os.path.relpath(top, tree)
            rel = "" if rel == "." else rel + "/"
            if rel and _opaque(top):
                out.addfile(tarfile.TarInfo(rel + ".wh..wh..opq"))
            for name in sorted(dirs + files):
                full = os.path.join(top, name)
                st = os.lstat(full)
                if stat.S_ISCHR(st.st_mode) and st.st_rdev == 0:
                    out.addfile(tarfile.TarInfo(f"{rel}.wh.{name}"))
                elif not stat.S_ISSOCK(st.st_mode):
                    out.add(full, arcname=rel + name, recursive=False)


def _opaque(path):
    try:
        return os.getxattr(path, "trusted.overlay.opaque") == b"y"
    except OSError:
        return False
