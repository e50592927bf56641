#!/usr/bin/env python3
"""What is installed: program, library, header, pkg-config file, manual page; a program of another project is built with it."""
import os
import pathlib
import subprocess
import unittest

import lab

PROGRAM = r"""
#include <imagefs.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
        struct imagefs_error err;
        struct imagefs_options options = {.size = sizeof options, .cache_dir = "none"};
        struct imagefs *im;
        if (argc != 3 || imagefs_open(argv[1], &options, &im, &err) < 0) {
                fprintf(stderr, "%d %s\n", err.code, err.message);
                return 1;
        }
        uint32_t ino;
        char text[100];
        ssize_t n = imagefs_resolve(im, argv[2], 1, &ino) == 0 ? imagefs_read(im, ino, text, sizeof text, 0, &err) : -1;
        if (n >= 0)
                fwrite(text, 1, (size_t)n, stdout);
        for (uint32_t i = 0; i < imagefs_dir_count(im, IMAGEFS_ROOT); i++) {
                struct imagefs_dirent d;
                if (imagefs_dir_entry(im, IMAGEFS_ROOT, i, &d) == 0)
                        printf("%.*s\n", (int)d.name_len, d.name);
        }
        char *config = imagefs_config(im);
        puts(config);
        free(config);
        imagefs_close(im);
        return n < 0;
}
"""


class Install(unittest.TestCase):
    def setUp(self):
        lab.need("cmake", "cc", "pkg-config")
        self.build = pathlib.Path(lab.IMAGEFS).parent
        if "san.so" in lab.run("ldd", lab.IMAGEFS).out:
            raise unittest.SkipTest("a sanitizer's library cannot be used by other programs")
        self.root = lab.folder("root")
        lab.run("cmake", "--install", self.build, "--prefix", "/usr", env=dict(os.environ, DESTDIR=str(self.root)))

    def one(self, pattern):
        found = list(self.root.glob(pattern))
        self.assertEqual(len(found), 1, f"{pattern}: {found}")
        return found[0]

    def test_all_is_there(self):
        program = self.one("usr/bin/imagefs")
        self.assertTrue(os.access(program, os.X_OK))
        self.assertRegex(lab.run(program, "--version").out, r"^imagefs \d+\.\d+\.\d+\n$")
        self.one("usr/include/imagefs.h")
        self.one("usr/share/man/man1/imagefs.1")
        self.one("usr/lib/**/libimagefs.so")
        self.assertEqual([], [str(p) for p in self.root.rglob("*.a")], "the folders' libraries are nobody else's")

    def test_the_library_exports_its_names_only(self):
        lab.need("nm")
        lines = lab.run("nm", "-D", "--defined-only", self.one("usr/lib/**/libimagefs.so")).out.splitlines()
        names = [line.split()[-1] for line in lines]
        self.assertIn("imagefs_open", names)
        self.assertEqual([], [n for n in names if not n.startswith("imagefs_")])

    def test_a_program_of_somebody_else(self):
        pc = self.one("usr/lib/**/libimagefs.pc")
        env = dict(os.environ, PKG_CONFIG_PATH=str(pc.parent), PKG_CONFIG_SYSROOT_DIR=str(self.root),
                   PKG_CONFIG_ALLOW_SYSTEM_CFLAGS="1", PKG_CONFIG_ALLOW_SYSTEM_LIBS="1")
        work = lab.folder("program")
        (work / "p.c").write_text(PROGRAM)
        flags = lab.run("pkg-config", "--cflags", "--libs", "libimagefs", env=env).out.split()
        lab.run("cc", "-std=c11", "-Wall", "-Werror", "-o", work / "p", work / "p.c", *flags)
        layout = lab.Layout().image(lab.layer(lab.member("etc"), lab.member("etc/motd", "hello\n"),
                                              lab.member("motd", type=b"2", linkname="etc/motd", mode=0o777)))
        libs = str(self.one("usr/lib/**/libimagefs.so").parent)
        p = lab.run(work / "p", f"oci:{layout.path}", "/motd", env=dict(os.environ, LD_LIBRARY_PATH=libs))
        lines = p.out.splitlines()
        self.assertEqual(lines[0], "hello")
        self.assertEqual(sorted(lines[1:3]), ["etc", "motd"])
        self.assertIn('"architecture"', lines[3])
        p = lab.run(work / "p", f"oci:{work}/none", "/motd", check=False, env=dict(os.environ, LD_LIBRARY_PATH=libs))
        self.assertEqual(p.returncode, 1)
        self.assertTrue(p.err.startswith("-2 "), p.err)

    def test_the_header_is_cplusplus_too(self):
        lab.need("c++")
        work = lab.folder("header")
        for name, text in (("a.cc", "#include <imagefs.h>\nint main() { return imagefs_open(\"x\", 0, 0, 0) == 1; }\n"),
                           ("a.c", "#include <imagefs.h>\nint main(void) { return 0; }\n")):
            (work / name).write_text(text)
            compiler = ["c++", "-std=c++11"] if name.endswith("cc") else ["cc", "-std=c99", "-pedantic"]
            lab.run(*compiler, "-Wall", "-Wextra", "-Werror", "-c", "-I", self.root / "usr/include", "-o", os.devnull, work / name)


if __name__ == "__main__":
    lab.main()
