#!/usr/bin/env python3
"""What goes wrong for people: each is one line on stderr that says what failed, on what, and what to do, with its exit code;
nothing stays mounted and no temporary file is left."""
import json
import os
import pty
import select
import shutil
import signal
import subprocess
import time
import unittest

import lab


class Errors(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.registry = lab.Registry()
        cls.layout = lab.Layout().image(lab.layer(lab.member("a", "content")))
        cls.registry.push(cls.layout, "org/app")

    @classmethod
    def tearDownClass(cls):
        cls.registry.stop()

    def fails(self, code, words, *args, env=None, mnt=None):
        """imagefs ARGS fails with the code and says all the words, in one line; gives that line"""
        mnt = mnt or lab.folder("mnt")
        p = lab.imagefs(*args, mnt, check=False, env=env)
        self.assertEqual(p.returncode, code, p.err)
        lines = p.err.splitlines()
        self.assertEqual(len([x for x in lines if not x.startswith("Try ")]), 1, p.err)
        self.assertTrue(lines[0].startswith("imagefs: "), p.err)
        for word in words:
            self.assertIn(word, lines[0])
        self.assertLessEqual(lines[0].count(str(args[0])), 1, lines[0])
        self.assertFalse(os.path.ismount(mnt))
        left = [f for d in ("tmp",) for f in (lab.TMP / "cache/imagefs/v1" / d).glob("*")]
        self.assertEqual(left, [])
        return lines[0]

    def test_unknown_name(self):
        self.fails(3, [f"{self.registry.name}/org/none", "no such"], f"{self.registry.name}/org/none")

    def test_unknown_tag(self):
        self.fails(3, ["org/app", "none"], f"{self.registry.name}/org/app:none")

    def test_unknown_digest(self):
        self.fails(3, ["org/app"], f"{self.registry.name}/org/app@sha256:{'0' * 64}")

    def test_login_needed_and_given(self):
        with lab.Registry(auth={"user": "pass:word"}) as private:
            private.push(self.layout, "org/app", creds="user:pass:word")
            image = f"{private.name}/org/app"
            self.fails(4, [image, "docker login", "--authfile"], image)
            self.fails(4, [image], image, "--creds", "user:wrong")
            line = self.fails(4, [image], image, "--creds", "user:s3cr3t-value")
            self.assertNotIn("s3cr3t-value", line)
            with lab.mounted(image, "--creds", "user:pass:word") as mnt:
                self.assertEqual((mnt / "a").read_text(), "content")
            config = lab.folder()
            import base64
            auth = base64.b64encode(b"user:pass:word").decode()
            (config / "config.json").write_text(json.dumps({"auths": {private.name: {"auth": auth}}}))
            with lab.mounted(image, env=dict(DOCKER_CONFIG=str(config))) as mnt:
                self.assertEqual((mnt / "a").read_text(), "content")

    def test_server_down(self):
        port = lab.free_port()
        self.fails(5, [f"127.0.0.1:{port}/org/app:latest", "nobody answers"], f"127.0.0.1:{port}/org/app")

    def test_wrong_digest_of_a_layer(self):
        """the registry's copy of a layer was changed behind its back"""
        layout = lab.Layout().image(lab.layer(lab.member("x", os.urandom(100000))))
        self.registry.push(layout, "org/bad")
        digest = json.loads((layout.path / "blobs/sha256" / layout.entries[0]["digest"][7:]).read_text())["layers"][0]["digest"][7:]
        data = self.registry.dir / "data/docker/registry/v2/blobs/sha256" / digest[:2] / digest / "data"
        for at in (20, 50000, -3):
            good = data.read_bytes()
            bad = bytearray(good)
            bad[at] ^= 1
            data.write_bytes(bad)
            self.fails(6, [digest[:12]], f"{self.registry.name}/org/bad")
            data.write_bytes(good)
        with lab.mounted(f"{self.registry.name}/org/bad") as mnt:
            self.assertEqual((mnt / "x").stat().st_size, 100000)

    def test_wrong_digest_of_a_manifest(self):
        layout = lab.Layout().image(lab.layer(lab.member("x", "y")))
        digest = layout.entries[0]["digest"][7:]
        f = layout.path / "blobs/sha256" / digest
        f.write_text(f.read_text().replace("schemaVersion", "schemaversion"))
        self.fails(6, [digest[:12]], f"oci:{layout.path}")

    def test_not_an_image(self):
        layout = lab.Layout()
        config = layout.blob(b"{}", "application/vnd.cncf.helm.config.v1+json")
        media_type = "application/vnd.oci.image.manifest.v1+json"
        layout.tag(layout.document(dict(schemaVersion=2, mediaType=media_type, config=config, layers=[]), media_type))
        self.fails(8, ["not a container image"], f"oci:{layout.path}")

    def test_no_such_platform(self):
        layout = lab.Layout()
        kids = [layout.manifest([lab.layer(lab.member(a, "x"))], architecture=a) for a in ("s390x", "ppc64le")]
        media_type = "application/vnd.oci.image.index.v1+json"
        layout.tag(layout.document(dict(schemaVersion=2, mediaType=media_type, manifests=kids), media_type))
        self.fails(8, ["linux/s390x", "linux/ppc64le"], f"oci:{layout.path}", "--platform", "linux/arm64")

    def test_bad_references(self):
        self.fails(2, ["lower"], "Library/Alpine")
        self.fails(2, [], "name:")
        self.fails(2, [], "localhost/name@sha256:123")

    def test_mountpoint_missing(self):
        self.fails(7, ["/nowhere/at/all"], f"oci:{self.layout.path}", mnt="/nowhere/at/all")

    def test_mountpoint_is_a_file(self):
        f = lab.folder() / "f"
        f.write_text("")
        self.fails(7, [str(f), "directory"], f"oci:{self.layout.path}", mnt=f)

    def test_mountpoint_busy(self):
        with lab.mounted(f"oci:{self.layout.path}") as mnt:
            p = lab.imagefs(f"oci:{self.layout.path}", mnt, check=False)
            self.assertEqual(p.returncode, 7)
            self.assertIn(str(mnt), p.err)

    def test_mountpoint_not_empty(self):
        d = lab.folder()
        (d / "x").write_text("")
        self.fails(7, [str(d), "empty"], f"oci:{self.layout.path}", mnt=d)
        with lab.mounted(f"oci:{self.layout.path}", "-o", "nonempty", where=d):
            self.assertEqual((d / "a").read_text(), "content")

    def test_no_dev_fuse(self):
        cover = lab.folder() / "null"
        lab.run("mknod", cover, "c", "1", "3")
        os.unlink(cover)
        script = 'mount -t tmpfs none /dev && exec "$@"'
        mnt = lab.folder("mnt")
        p = lab.run("unshare", "--mount", "sh", "-c", script, "sh", lab.IMAGEFS, f"oci:{self.layout.path}", mnt, check=False)
        self.assertEqual(p.returncode, 7, p.err)
        self.assertIn("/dev/fuse", p.err)

    def test_usage(self):
        for args in ([], ["only-one"], ["a", "b", "c"], ["--nonsense", "a", "b"], ["a", "b", "-o", "nonsense_option"],
                     ["umount"], ["stat"], ["cache", "what"], ["a", "b", "--cache-size", "ten"]):
            p = lab.imagefs(*args, check=False)
            self.assertEqual(p.returncode, 2, (args, p.err))
        self.assertIn("IMAGE MOUNTPOINT", lab.imagefs("--help").out)
        self.assertIn("inspect", lab.imagefs("help", "inspect").out)
        self.assertRegex(lab.imagefs("--version").out, r"imagefs \d+\.\d+")

    def test_umount_of_what_is_no_mount(self):
        p = lab.imagefs("umount", lab.folder(), check=False)
        self.assertEqual(p.returncode, 7)
        p = lab.imagefs("stat", lab.folder(), check=False)
        self.assertEqual(p.returncode, 7)

    def test_foreign_cache_directory(self):
        d = lab.folder("cache")
        os.chown(d, 12345, 12345)
        self.fails(1, [str(d)], f"oci:{self.layout.path}", "--cache-dir", d)
        self.assertEqual(list(d.iterdir()), [])


class Terminal(unittest.TestCase):
    """The progress line is there on a terminal only, and Ctrl-C leaves nothing behind."""

    def slow_image(self):
        layout = lab.Layout().image(lab.layer(lab.member("big", os.urandom(40 << 20)), level=1))
        return f"oci:{layout.path}"

    def on_terminal(self, *args):
        parent, child = pty.openpty()
        p = subprocess.Popen([lab.IMAGEFS, *map(str, args)], stdin=subprocess.DEVNULL, stderr=child, start_new_session=True)
        os.close(child)
        seen = b""
        while True:
            ready, _, _ = select.select([parent], [], [], 30)
            try:
                piece = os.read(parent, 4096) if ready else b""
            except OSError:
                piece = b""
            if not piece:
                break
            seen += piece
        os.close(parent)
        return p.wait(30), seen.decode(errors="replace")

    def test_progress_line(self):
        mnt = lab.folder("mnt")
        image = self.slow_image()
        env_cache = lab.folder("c")
        code, seen = self.on_terminal(image, mnt, "--cache-dir", env_cache)
        self.assertEqual(code, 0, seen)
        lab.imagefs("umount", mnt)
        p = lab.imagefs(image, mnt, "--cache-dir", lab.folder("c"))
        self.assertEqual(p.err, "")
        lab.imagefs("umount", mnt)

    def test_interrupt(self):
        mnt = lab.folder("mnt")
        fifo = lab.folder() / "f"
        with lab.Registry() as registry:
            layout = lab.Layout().image(lab.layer(lab.member("big", os.urandom(30 << 20)), level=1))
            image = registry.push(layout, "org/big")
            os.kill(registry.process.pid, signal.SIGSTOP)  # it does not answer
            try:
                p = subprocess.Popen([lab.IMAGEFS, image, str(mnt)], stderr=subprocess.PIPE, start_new_session=True)
                time.sleep(0.5)
                p.send_signal(signal.SIGINT)
                self.assertNotEqual(p.wait(20), 0)
                p.stderr.close()
            finally:
                os.kill(registry.process.pid, signal.SIGCONT)
            self.assertFalse(os.path.ismount(mnt))
            with lab.mounted(image, where=mnt):
                self.assertEqual((mnt / "big").stat().st_size, 30 << 20)


if __name__ == "__main__":
    lab.main()
