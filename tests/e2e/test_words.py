#!/usr/bin/env python3
"""What the command line says when it is used wrongly: the right word, once, and the right exit code."""
import unittest

import lab


class Words(unittest.TestCase):
    def fails(self, code, *args, words="", absent=None):
        p = lab.imagefs(*args, check=False, cwd=lab.folder("cwd"))
        self.assertEqual(p.returncode, code, p.err)
        self.assertTrue(p.err.startswith("imagefs: "), p.err)
        self.assertIn(words, p.err)
        if absent:
            self.assertNotIn(absent, p.err)
        return p.err

    def test_options(self):
        self.fails(2, "-vz", "a", "b", words="imagefs: -z: no such option")
        self.fails(2, "--bogus", "a", "b", words="--bogus: no such option")
        self.fails(2, "-vo", words="-o: an argument is missing")
        self.fails(2, "--memory", words="--memory: an argument is missing")
        self.fails(2, "inspect", "--json=yes", "a", words="--json=yes: that option takes no argument")
        self.fails(2, "--memory=ten", "a", "b", words="a size is meant")
        self.fails(2, "--json", "a", "b", words="not an option of mount")
        self.fails(2, words="an image and a mountpoint")

    def test_local_files_are_named_once(self):
        work = lab.folder()
        (work / "text").write_text("no archive, this " * 100)
        for reference, code in ((f"oci:{work}/text", 3), (f"oci:{work}/none", 3), (f"{work}/text", 6),
                                (f"oci-archive:{work}/none", 3), (f"docker-archive:{work}/text", 6)):
            said = self.fails(code, "inspect", reference)
            self.assertEqual(said.count(str(work)), 1, said)

    def test_no_cache_to_look_after(self):
        where = lab.folder("cwd")
        p = lab.imagefs("cache", "ls", "--cache-dir=none", check=False, cwd=where)
        self.assertEqual(p.returncode, 2, p.err)
        self.assertEqual(list(where.iterdir()), [])

    def test_every_option_is_in_the_manual(self):
        text = (lab.SOURCE / "docs/imagefs.1").read_text()
        for command in ("mount", "umount", "pull", "inspect", "stat", "cache"):
            for line in lab.imagefs("help", command).out.splitlines():
                word = next((w for w in line.split() if w.startswith("--")), None)
                if word and line.startswith("  "):
                    name = word.lstrip("-").split("=")[0].rstrip("[,")
                    self.assertIn(name.replace("-", "\\-"), text.replace("-", "\\-"), command)


if __name__ == "__main__":
    lab.main()
