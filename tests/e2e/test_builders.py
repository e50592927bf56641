#!/usr/bin/env python3
"""Images that real builders make, in a real registry, mounted, and compared with what umoci unpacks of the same image."""
import base64
import os
import pathlib
import shutil
import stat
import unittest

import lab


def copy_program(root, name):
    """A program of this machine with the libraries that it needs, into a tree: glibc, its loader, the way they are linked."""
    path = pathlib.Path(os.path.realpath(shutil.which(name)))
    wanted = [path]
    for line in lab.run("ldd", path).out.splitlines():
        for word in line.split():
            if word.startswith("/"):
                wanted.append(pathlib.Path(word))
    for f in wanted:
        to = root / str(f).lstrip("/")
        to.parent.mkdir(parents=True, exist_ok=True)
        if not to.exists():
            shutil.copy2(os.path.realpath(f), to)
    link = root / "bin" / name
    link.parent.mkdir(parents=True, exist_ok=True)
    if not link.exists():
        link.symlink_to("/" + str(path).lstrip("/"))


def fill(root):
    """What real images have: programs, links of both kinds, odd modes, attributes, devices."""
    for program in ("bash", "ls", "cat", "sha256sum"):
        copy_program(root, program)
    (root / "etc").mkdir(exist_ok=True)
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/bash\n")
    (root / "dir/deep/deeper").mkdir(parents=True)
    for i in range(20):
        (root / f"dir/deep/deeper/f{i}").write_bytes(os.urandom(i * 1000))
    os.link(root / "dir/deep/deeper/f5", root / "dir/hard")
    os.symlink("../nowhere", root / "dir/dangling")
    (root / "setuid").write_text("x")
    os.chmod(root / "setuid", 0o6755)
    os.mkdir(root / "tmp")
    os.chmod(root / "tmp", 0o1777)
    os.chown(root / "dir/deep/deeper/f3", 1234, 56789)
    os.mkfifo(root / "fifo")
    os.mknod(root / "zero", stat.S_IFCHR | 0o666, os.makedev(1, 5))
    os.utime(root / "etc/passwd", ns=(1, 1234567890123456789))
    cap = base64.b64decode("AQAAAgAgAAAAAAAAAAAAAAAAAAA=")  # cap_net_raw=ep
    os.setxattr(root / "bin/../setuid", "security.capability", cap)
    with open(root / "holes", "wb") as f:
        f.seek(3 << 20)
        f.write(b"end")


def change(root):
    """What a second layer does: remove, replace by another kind, add to what is there."""
    os.unlink(root / "dir/deep/deeper/f7")
    os.unlink(root / "dir/hard")
    os.unlink(root / "fifo")
    os.mkdir(root / "fifo")
    (root / "fifo/inside").write_text("a directory now")
    shutil.rmtree(root / "tmp")
    (root / "tmp").write_text("a file now")
    (root / "dir/deep/new").write_text("new")
    (root / "etc/passwd").write_text("root:x:0:0::/:/bin/bash\n")


class Umoci(unittest.TestCase):
    def test_two_layers(self):
        lab.need("umoci", "skopeo")
        place = lab.folder("umoci")
        image = f"{place}/oci:latest"
        lab.run("umoci", "init", "--layout", place / "oci")
        lab.run("umoci", "new", "--image", image)
        for step in (fill, change):
            bundle = place / step.__name__
            lab.run("umoci", "unpack", "--image", image, bundle)
            step(bundle / "rootfs")
            lab.run("umoci", "repack", "--image", image, bundle)
        lab.run("umoci", "config", "--image", image, "--config.entrypoint", "/bin/bash")
        lab.run("umoci", "unpack", "--image", image, place / "want")
        with lab.Registry() as registry:
            lab.run("skopeo", "--insecure-policy", "copy", "-q", "--dest-tls-verify=false", f"oci:{image}",
                    f"docker://{registry.name}/org/app:1")
            with lab.mounted(f"{registry.name}/org/app:1", "-o", "dev,suid") as mnt:
                self.assertEqual(lab.differences(lab.walk(place / "want/rootfs"), lab.walk(mnt)), [])
                out = lab.run("chroot", mnt, "/bin/bash", "-c", "ls / && sha256sum /bin/bash && read x < /etc/passwd && echo $x").out
                self.assertIn("root:x:0:0::/:/bin/bash", out)
                self.assertLess((mnt / "holes").stat().st_blocks * 512, 4 << 20)
                self.assertEqual((mnt / "zero").open("rb").read(4), b"\0\0\0\0")
            inspect = lab.imagefs("inspect", f"{registry.name}/org/app:1").out
            self.assertIn("/bin/bash", inspect)


class Buildah(unittest.TestCase):
    def test_from_scratch(self):
        lab.need("buildah", "umoci", "skopeo")
        place = lab.folder("buildah")
        (place / "root").mkdir()
        fill(place / "root")
        os.unlink(place / "root/zero")  # buildah's copy leaves devices out
        os.unlink(place / "root/fifo")
        buildah = ["buildah", "--root", f"{place}/s", "--runroot", f"{place}/r", "--storage-driver", "vfs"]
        p = lab.run(*buildah, "from", "scratch", check=False)
        if p.returncode:
            self.skipTest("buildah does not run here: " + p.err.strip()[-200:])
        container = p.out.strip()
        lab.run(*buildah, "copy", container, place / "root", "/")
        lab.run(*buildah, "config", "--entrypoint", '["/bin/bash"]', container)
        with lab.Registry() as registry:
            for format in ("oci", "docker"):
                name = f"{registry.name}/org/{format}:1"
                lab.run(*buildah, "commit", "--format", format, "--tls-verify=false", container, f"docker://{name}")
                lab.run("skopeo", "--insecure-policy", "copy", "-q", "--src-tls-verify=false", "--format", "oci", f"docker://{name}",
                        f"oci:{place}/oci-{format}:1")
                lab.run("umoci", "unpack", "--image", f"{place}/oci-{format}:1", place / f"want-{format}")
                with lab.mounted(name) as mnt:
                    want, got = lab.walk(place / f"want-{format}/rootfs"), lab.walk(mnt)
                    del want[b"."]["mtime"], got[b"."]["mtime"]  # the layer has no entry for the root: anyone's guess
                    self.assertEqual(lab.differences(want, got), [])
                    self.assertIn("bin", lab.run("chroot", mnt, "/bin/bash", "-c", "ls /").out)


if __name__ == "__main__":
    lab.main()
