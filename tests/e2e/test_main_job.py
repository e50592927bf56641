#!/usr/bin/env python3
"""The main job as a person does it: mount a real image of a real registry, look, chroot, tar, unmount."""
import os
import pathlib
import shutil
import signal
import stat
import subprocess
import tarfile
import time
import unittest

import lab


class MainJob(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.registry = lab.Registry()
        cls.layout = lab.alpine_layout()
        cls.registry.push(cls.layout, "library/alpine")
        cls.env = lab.registries_conf(docker_io=cls.registry.name)

    @classmethod
    def tearDownClass(cls):
        cls.registry.stop()

    def test_headline_command(self):
        """`imagefs library/alpine:latest MNT`, unchanged, through a mirror; chroot; tar"""
        with lab.mounted("library/alpine:latest", env=self.env) as mnt:
            self.assertIn("ID=", (mnt / "etc/os-release").read_text())
            out = lab.run("chroot", mnt, "/bin/sh", "-c", "echo in $(ls / | wc -l); cat /etc/os-release").out
            self.assertIn("in ", out)
            archive = lab.folder() / "out.tar.gz"
            lab.run("tar", "-C", mnt, "-czf", archive, ".")
            with tarfile.open(archive) as t:
                self.assertIn("./bin/busybox", t.getnames())

    def test_equals_what_umoci_unpacks(self):
        lab.need("umoci")
        bundle = lab.folder()
        lab.run("skopeo", "--insecure-policy", "copy", "-q", f"oci:{self.layout.path}:latest", f"oci:{bundle}/one:latest")
        lab.run("umoci", "unpack", "--image", f"{bundle}/one:latest", f"{bundle}/b")
        with lab.mounted(f"{self.registry.name}/library/alpine") as mnt:
            self.assertEqual(lab.differences(lab.walk(bundle / "b/rootfs"), lab.walk(mnt)), [])

    def test_podman_imports_its_tar(self):
        lab.need("podman")
        store = lab.folder("podman")
        podman = ["podman", "--root", f"{store}/root", "--runroot", f"{store}/run", "--storage-driver", "vfs"]
        with lab.mounted("library/alpine:latest", env=self.env) as mnt:
            lab.run("tar", "-C", mnt, "-cf", store / "out.tar", ".")
        p = lab.run(*podman, "import", store / "out.tar", "again:1", check=False)
        if p.returncode and "out.tar" not in p.err and "import" not in p.err:
            self.skipTest("podman does not run here: " + p.err.strip()[-200:])
        self.assertEqual(p.returncode, 0, p.err)
        self.assertIn("again", lab.run(*podman, "images").out)

    def test_docker_imports_its_tar(self):
        lab.need("dockerd", "docker")
        store = lab.folder("docker")
        sock = f"unix://{store}/s"
        log = open(store / "log", "wb")
        daemon = subprocess.Popen(
            ["dockerd", "--bridge=none", "--iptables=false", "--data-root", f"{store}/data", "--exec-root", f"{store}/exec",
             "--pidfile", f"{store}/pid", "-H", sock], stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        try:
            for _ in range(150):
                if daemon.poll() is not None or lab.run("docker", "-H", sock, "info", check=False).returncode == 0:
                    break
                time.sleep(0.1)
            if lab.run("docker", "-H", sock, "info", check=False).returncode != 0:
                self.skipTest("dockerd does not start here: " + (store / "log").read_text(errors="replace")[-300:])
            with lab.mounted("library/alpine:latest", env=self.env) as mnt:
                lab.run("tar", "-C", mnt, "-czf", store / "out.tar.gz", ".")
            lab.run("docker", "-H", sock, "import", store / "out.tar.gz", "again:1")
            self.assertIn("again", lab.run("docker", "-H", sock, "images").out)
        finally:
            daemon.terminate()
            try:
                daemon.wait(20)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()

    def test_programs_run_and_are_mapped(self):
        """exec and mmap from the mount, more than one program at once"""
        with lab.mounted("library/alpine:latest", env=self.env) as mnt:
            jobs = [subprocess.Popen(["chroot", str(mnt), "/bin/sh", "-c", "for i in 1 2 3; do /bin/busybox sha256sum /bin/busybox; done"],
                                     stdout=subprocess.PIPE) for _ in range(4)]
            sums = {line.split()[0] for j in jobs for line in j.communicate()[0].splitlines()}
            self.assertEqual(len(sums), 1)

    def test_other_users_may_read(self):
        with lab.mounted("library/alpine:latest", env=self.env) as mnt:
            os.chmod(lab.TMP, 0o755)
            os.chmod(mnt.parent, 0o755)
            out = lab.run("setpriv", "--reuid=12345", "--clear-groups", "cat", mnt / "etc/os-release").out
            self.assertIn("ID=", out)
            p = lab.run("setpriv", "--reuid=12345", "--clear-groups", "ls", mnt / "root", check=False)
            self.assertNotEqual(p.returncode, 0)

    def test_read_only_as_the_kernel_expects(self):
        import errno
        with lab.mounted("library/alpine:latest", env=self.env) as mnt:
            for change in (lambda: open(mnt / "new", "w"), lambda: os.unlink(mnt / "etc/os-release"),
                           lambda: os.mkdir(mnt / "d"), lambda: os.chmod(mnt / "etc", 0o700),
                           lambda: os.rename(mnt / "etc", mnt / "x"), lambda: open(mnt / "etc/os-release", "r+"),
                           lambda: os.symlink("a", mnt / "l"), lambda: os.setxattr(mnt / "etc", "user.a", b"b")):
                with self.assertRaises(OSError) as caught:
                    change()
                self.assertEqual(caught.exception.errno, errno.EROFS)

    def test_mount_options(self):
        def options(where):
            for line in open("/proc/self/mountinfo"):
                if f" {where} " in line:
                    return set(line.split()[5].split(","))
        with lab.mounted("library/alpine:latest", env=self.env) as mnt:
            self.assertTrue({"ro", "nosuid", "nodev"} <= options(mnt))
        with lab.mounted("library/alpine:latest", "-o", "suid,dev,noexec", env=self.env) as mnt:
            got = options(mnt)
            self.assertIn("noexec", got)
            self.assertFalse({"nosuid", "nodev"} & got)

    def test_df_makes_sense(self):
        with lab.mounted("library/alpine:latest", env=self.env) as mnt:
            v = os.statvfs(mnt)
            self.assertGreater(v.f_blocks, 0)
            self.assertEqual(v.f_bavail, 0)
            self.assertGreater(v.f_files, 100)

    def test_fstab(self):
        """mount(8) with type fuse.imagefs, as from /etc/fstab"""
        lab.need("mount.fuse3")
        mnt = lab.folder("mnt")
        bin_dir = lab.folder("bin")
        shutil.copy(lab.IMAGEFS, bin_dir / "imagefs")
        lab.run("mount", "--bind", bin_dir, "/usr/local/sbin")  # where the helper of mount(8) looks; in our namespace only
        self.addCleanup(lab.run, "umount", "--lazy", "/usr/local/sbin")
        lab.run("mount", "-t", "fuse.imagefs", "-o", "ro,nofail,_netdev", f"oci:{self.layout.path}", mnt)
        self.assertIn("ID=", (mnt / "etc/os-release").read_text())
        lab.run("umount", mnt)

    def foreground(self, *args):
        mnt = lab.folder("mnt")
        p = subprocess.Popen([lab.IMAGEFS, "-f", *args, "library/alpine:latest", str(mnt)], env=dict(os.environ, **self.env),
                             stderr=subprocess.PIPE)
        for _ in range(200):
            if os.path.ismount(mnt):
                return p, mnt
            time.sleep(0.02)
        self.fail("not mounted")

    def test_signals_end_it_cleanly(self):
        for sig in (signal.SIGTERM, signal.SIGINT):
            p, mnt = self.foreground()
            p.send_signal(sig)
            self.assertEqual(p.wait(20), 0)
            self.assertFalse(os.path.ismount(mnt))

    def test_umount_ends_the_daemon(self):
        for how in (["umount"], ["fusermount3", "-u"], [lab.IMAGEFS, "umount"]):
            p, mnt = self.foreground()
            lab.run(*how, mnt)
            self.assertEqual(p.wait(20), 0)

    def test_second_mount_asks_only_for_the_tag(self):
        with lab.mounted("library/alpine:latest", env=self.env):
            pass
        with lab.mounted("library/alpine:latest", env=self.env) as mnt:
            (mnt / "etc/os-release").read_text()
            s = lab.stat_of(mnt)
        self.assertLessEqual(s["requests"], 1)
        self.assertEqual(s["fetched_bytes"], 0)

    def test_platform(self):
        if not (lab.SHARED / "images").exists():
            self.skipTest("no image for two platforms here")
        with lab.mounted("library/alpine:latest", "--platform", "linux/arm64", env=self.env) as mnt:
            self.assertEqual((mnt / "bin/busybox").read_bytes()[18], 0xb7)  # EM_AARCH64


class PlainUser(unittest.TestCase):
    def test_through_fusermount(self):
        lab.need("fusermount3", "setpriv")
        os.chmod("/dev/fuse", 0o666)  # as udev sets it
        os.chmod(lab.TMP, 0o755)
        layout = lab.Layout().image(lab.layer(lab.member("a", "content"), lab.member("d"), lab.member("d/b", "b")))
        place = lab.folder("user")
        for name in ("mnt", "home"):
            (place / name).mkdir()
        lab.run("chown", "-R", "12345:12345", place)
        os.chmod(layout.path, 0o755)
        user = ["setpriv", "--reuid=12345", "--regid=12345", "--clear-groups", "env", f"HOME={place}/home", f"XDG_CACHE_HOME={place}/home/c"]
        with open("/etc/passwd") as f:
            if ":12345:" not in f.read():
                lab.run("mount", "--bind", "/etc/passwd", "/etc/passwd")
                fake = lab.folder() / "passwd"
                fake.write_text(pathlib.Path("/etc/passwd").read_text() + "tester:x:12345:12345::/:/bin/sh\n")
                lab.run("mount", "--bind", fake, "/etc/passwd")
        p = lab.run(*user, lab.IMAGEFS, f"oci:{layout.path}", place / "mnt", check=False)
        self.assertEqual(p.returncode, 0, p.err)
        self.assertIn("user_allow_other", p.err)
        self.assertEqual(lab.run(*user, "cat", place / "mnt/a").out, "content")
        with self.assertRaises(OSError):
            os.listdir(place / "mnt")
        lab.run(*user, lab.IMAGEFS, "umount", place / "mnt")


if __name__ == "__main__":
    lab.main()
