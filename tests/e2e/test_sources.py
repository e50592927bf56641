#!/usr/bin/env python3
"""Images that come from no registry: layouts and archives, made by others' tools and by hand, show the same tree as the
registry's; archives are read in place."""
import gzip
import hashlib
import io
import json
import os
import pathlib
import shutil
import tarfile
import unittest

import lab
import trees
from lab import member

LAYERS = [
    (member("etc"), member("etc/name", "bottom\n"), member("data", b"0123456789" * 50000), member("gone", "x"), member("d"), member("d/old", "o")),
    (member("etc/name", "middle\n", mode=0o600), member("etc/.wh.nothing", ""), member(".wh.gone", ""), member("d/.wh..wh..opq", ""), member("d/new", "n")),
    (member("l", type=tarfile.SYMTYPE, linkname="etc/name"), member("h", type=tarfile.LNKTYPE, linkname="data")),
]


def skopeo(*args, check=True):
    return lab.run("skopeo", "--insecure-policy", *args, check=check)


def tar_of(files, compress=None):
    """An archive of {name: bytes, or a symlink's target as str}, in this order."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as t:
        for name, content in files.items():
            m = tarfile.TarInfo(name)
            if isinstance(content, str):
                m.type, m.linkname = tarfile.SYMTYPE, content
                t.addfile(m)
            else:
                m.size = len(content)
                t.addfile(m, io.BytesIO(content))
    return lab.pack(out.getvalue(), compress)


class Sources(unittest.TestCase):
    maxDiff = 3000

    @classmethod
    def setUpClass(cls):
        cls.dumper = trees.Dumper()
        cls.dir = lab.folder("sources")
        cls.blobs = [lab.layer(*l) for l in LAYERS]
        cls.layout = lab.Layout(cls.dir / "layout").image(*cls.blobs, name="one", config=dict(Cmd=["/x"]))
        cls.layout.image(lab.layer(member("other", "o")), name="two")
        cls.ref = f"oci:{cls.layout.path}:one"
        cls.tree = cls.dumper.tree(cls.ref)
        assert {"etc/name", "d/new", "l", "h"} < cls.tree.keys() and "gone" not in cls.tree

    @classmethod
    def tearDownClass(cls):
        assert cls.dumper.close() == 0

    def write(self, name, data):
        path = lab.folder() / name
        path.write_bytes(data)
        return path

    def same(self, reference):
        got = self.dumper.tree(reference)
        self.assertEqual(got, self.tree, reference)

    def fails(self, reference, code, *texts, cache=None):
        p = lab.imagefs(reference, lab.folder("mnt"), *([f"--cache-dir={cache}"] if cache else []), check=False)
        self.assertEqual(p.returncode, code, p.err)
        for text in texts:
            self.assertIn(text, p.err)
        self.assertEqual(len(p.err.splitlines()), 1, p.err)


class Layouts(Sources):
    def test_registry_shows_the_same(self):
        with lab.Registry() as registry:
            name = registry.push(self.layout, "test/one", "one")
            with lab.mounted(name, "--tls-verify=false") as mnt:
                got = trees.from_mount(mnt)
        with lab.mounted(self.ref) as mnt:
            self.assertEqual(got, trees.from_mount(mnt))

    def test_by_number(self):
        self.same(f"oci:{self.layout.path}:@0")
        self.assertIn("other", self.dumper.tree(f"oci:{self.layout.path}:@1"))

    def test_no_such_name_lists_those_there_are(self):
        self.fails(f"oci:{self.layout.path}:three", 3, "one", "two", "three")
        self.fails(f"oci:{self.layout.path}:@7", 3, "@7")

    def test_no_name_where_there_are_two(self):
        self.fails(f"oci:{self.layout.path}", 2, "one", "two")

    def test_no_name_where_there_is_one(self):
        layout = lab.Layout().image(*self.blobs, name="whatever:name/x")
        self.same(f"oci:{layout.path}")
        self.same(f"oci:{layout.path}:whatever:name/x")

    def test_nothing_there(self):
        self.fails(f"oci:{self.dir}/none", 3, "none")
        self.fails(f"oci:{self.dir}", 3, "oci-layout")
        self.fails("docker-archive:/no/such/file", 3, "/no/such/file")
        self.fails("./no/such", 3, "no/such")

    def test_missing_blob_is_named(self):
        layout = lab.Layout().image(*self.blobs)
        digest = lab.sha256(self.blobs[1])
        (layout.path / "blobs/sha256" / digest[7:]).unlink()
        self.fails(f"oci:{layout.path}", 3, digest[7:])

    def test_wrong_bytes_are_refused(self):
        layout = lab.Layout().image(*self.blobs)
        path = layout.path / "blobs/sha256" / lab.sha256(self.blobs[1])[7:]
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
        self.fails(f"oci:{layout.path}", 6, "layer 2", cache="none")
        index = json.loads((layout.path / "index.json").read_text())
        path = layout.path / "blobs/sha256" / index["manifests"][0]["digest"][7:]
        path.write_text(path.read_text().replace("linux", "Linux") + " ")
        self.fails(f"oci:{layout.path}", 6, cache="none")

    def test_blobs_that_are_symlinks_or_pipes(self):
        layout = lab.Layout().image(*self.blobs)
        path = layout.path / "blobs/sha256" / lab.sha256(self.blobs[0])[7:]
        path.rename(layout.path / "elsewhere")
        path.symlink_to("../../elsewhere")
        self.same(f"oci:{layout.path}")
        path.unlink()
        os.mkfifo(path)
        p = lab.imagefs(f"oci:{layout.path}", lab.folder("mnt"), check=False, timeout=20)
        self.assertNotEqual(p.returncode, 0)

    def test_nested_index_and_platforms(self):
        layout = lab.Layout()
        children = [layout.manifest([lab.layer(member("arm", "1"))], architecture="arm64"), layout.manifest(self.blobs),
                    dict(layout.document(dict(x=1), "application/vnd.in-toto+json"), platform=dict(architecture="unknown", os="unknown"))]
        kind = "application/vnd.oci.image.index.v1+json"
        layout.tag(layout.document(dict(schemaVersion=2, mediaType=kind, manifests=children), kind))
        got = self.dumper.tree(f"oci:{layout.path}")
        self.assertTrue("arm" in got or got == self.tree)
        info = lab.imagefs("inspect", "--json", "--platform", "linux/arm64", f"oci:{layout.path}").out
        self.assertEqual(json.loads(info)["platform"].split("/")[1], "arm64")
        self.fails_platform(layout)

    def fails_platform(self, layout):
        p = lab.imagefs("inspect", "--platform", "linux/s390x", f"oci:{layout.path}", check=False)
        self.assertEqual(p.returncode, 8, p.err)
        self.assertIn("amd64", p.err)

    def test_guessed(self):
        here = os.getcwd()
        try:
            layout = lab.Layout(lab.folder("guess") / "dir").image(*self.blobs)
            os.chdir(layout.path.parent)
            for name in ("./dir", str(layout.path), "dir"):
                with lab.mounted(name) as mnt:
                    self.assertEqual((mnt / "etc/name").read_text(), "middle\n", name)
        finally:
            os.chdir(here)


class OciArchives(Sources):
    def archive(self, compress=None, prefix="", last="index.json"):
        files = {str(p.relative_to(self.layout.path)): p.read_bytes() for p in sorted(self.layout.path.rglob("*")) if p.is_file()}
        files[last] = files.pop(last)
        return self.write("archive.tar", tar_of({prefix + k: v for k, v in files.items()}, compress))

    def test_plain_and_compressed(self):
        for compress in (None, "gzip", "zstd"):
            for prefix in ("", "./"):
                path = self.archive(compress, prefix)
                self.same(f"oci-archive:{path}:one")
                self.same(f"oci-archive:{path}:@0")

    def test_by_skopeo(self):
        lab.need("skopeo")
        path = lab.folder() / "skopeo.tar"
        skopeo("copy", "-q", self.ref, f"oci-archive:{path}:name")
        self.same(f"oci-archive:{path}")
        self.same(f"oci-archive:{path}:name")
        self.same(str(path))

    def test_errors(self):
        path = self.archive()
        self.fails(f"oci-archive:{path}:three", 3, "one", "two")
        cut = self.write("cut.tar", path.read_bytes()[:3000])
        self.fails(f"oci-archive:{cut}:one", 6)


class DockerArchives(Sources):
    def parts(self):
        layers = [lab.unpacked(b) for b in self.blobs]
        config = json.dumps(dict(architecture="amd64", os="linux", config={}, rootfs=dict(type="layers", diff_ids=[lab.sha256(l) for l in layers]))).encode()
        return layers, config

    def manifest(self, config, layers, tags=("docker.io/library/one:latest",)):
        return json.dumps([dict(Config=config, RepoTags=[t.removeprefix("docker.io/library/") for t in tags], Layers=layers)]).encode()

    def old(self, **more):
        """as docker save wrote it up to 24, a repeated layer as a symlink"""
        layers, config = self.parts()
        files, paths = {}, []
        for i, l in enumerate([*layers, layers[2]]):
            name = hashlib.sha256(b"id%d" % i).hexdigest()
            files.update({f"{name}/VERSION": b"1.0", f"{name}/json": b"{}"})
            files[f"{name}/layer.tar"] = l if i < 3 else f"../{paths[2]}"
            paths.append(f"{name}/layer.tar")
        doc = json.loads(config)
        doc["rootfs"]["diff_ids"].append(doc["rootfs"]["diff_ids"][2])
        config = json.dumps(doc).encode()
        name = hashlib.sha256(config).hexdigest() + ".json"
        files[name] = config
        files["manifest.json"] = self.manifest(name, paths)
        files["repositories"] = b'{"one":{"latest":"%s"}}' % paths[2].split("/")[0].encode()
        files.update(more)
        return files

    def test_old_layout_with_layer_symlinks(self):
        for compress in (None, "gzip"):
            path = self.write("old.tar", tar_of(self.old(), compress))
            for name in ("", ":one", ":one:latest", ":docker.io/library/one:latest", ":@0"):
                self.same_names(f"docker-archive:{path}{name}")
            self.same_names(str(path))

    def same_names(self, reference):
        got = self.dumper.tree(reference)
        for r in (*got.values(),):
            r.pop("layer")
        want = {p: {k: v for k, v in r.items() if k != "layer"} for p, r in self.tree.items()}
        self.assertEqual(got.keys(), want.keys())
        self.assertEqual(trees.differences(want, got), [])

    def test_links_that_go_round_or_out(self):
        layers, config = self.parts()
        for target in ("layer", "../../../../../etc/passwd", "/etc/passwd"):
            files = {"c.json": config, "layer": target, "manifest.json": self.manifest("c.json", ["layer", "layer", "layer"])}
            path = self.write("round.tar", tar_of(files))
            p = lab.imagefs(f"docker-archive:{path}", lab.folder("mnt"), check=False)
            self.assertIn(p.returncode, (1, 3, 6), p.err)
            self.assertNotIn("root:", p.err)

    def test_docker_25_hybrid(self):
        """also an OCI layout, whose index may know only the tag; layers are plain"""
        layers, config = self.parts()
        names = [f"blobs/sha256/{lab.sha256(l)[7:]}" for l in layers]
        files = dict(zip(names, layers))
        c = f"blobs/sha256/{lab.sha256(config)[7:]}"
        files[c] = config
        m = json.dumps(dict(schemaVersion=2, mediaType="application/vnd.oci.image.manifest.v1+json",
                            config=dict(mediaType="application/vnd.oci.image.config.v1+json", digest=lab.sha256(config), size=len(config)),
                            layers=[dict(mediaType="application/vnd.oci.image.layer.v1.tar", digest=lab.sha256(l), size=len(l)) for l in layers])).encode()
        files[f"blobs/sha256/{lab.sha256(m)[7:]}"] = m
        entry = dict(mediaType="application/vnd.oci.image.manifest.v1+json", digest=lab.sha256(m), size=len(m),
                     annotations={"io.containerd.image.name": "docker.io/library/one:latest", "org.opencontainers.image.ref.name": "latest"})
        files["index.json"] = json.dumps(dict(schemaVersion=2, manifests=[entry])).encode()
        files["manifest.json"] = self.manifest(c, names)
        files["oci-layout"] = b'{"imageLayoutVersion":"1.0.0"}'
        path = self.write("hybrid.tar", tar_of(files))
        for reference in (f"docker-archive:{path}", f"docker-archive:{path}:one", f"oci-archive:{path}", f"oci-archive:{path}:latest",
                          f"oci-archive:{path}:one", str(path)):
            self.same_names(reference)
        self.fails(f"docker-archive:{path}:two", 3, "one:latest")

    def test_compressed_layers_inside(self):
        """as kaniko, bazel and jib write; jib's keys are in lower case"""
        layers, config = self.parts()
        names = [f"{i}.tar.gz" for i in range(3)]
        for keys in (str, str.lower):
            doc = json.loads(self.manifest("config.json", names))
            files = {"config.json": config, **dict(zip(names, self.blobs)),
                     "./manifest.json": json.dumps([{keys(k): v for k, v in doc[0].items()}]).encode()}
            self.same_names(f"docker-archive:{self.write('kaniko.tar', tar_of(files))}")

    def test_by_skopeo(self):
        lab.need("skopeo")
        path = lab.folder() / "skopeo.tar"
        skopeo("copy", "-q", self.ref, f"docker-archive:{path}:one:v1")
        self.same_names(f"docker-archive:{path}")
        self.same_names(f"docker-archive:{path}:one:v1")
        self.same_names(str(path))
        packed = self.write("skopeo.tar.gz", gzip.compress(path.read_bytes(), 1))
        self.same_names(f"docker-archive:{packed}:one:v1")
        self.fails(f"docker-archive:{path}:one", 3, "one:v1")

    def test_by_podman(self):
        lab.need("podman", "skopeo")
        store = lab.folder("podman")
        podman = ["podman", "--root", f"{store}/root", "--runroot", f"{store}/run", "--storage-driver", "vfs"]
        if lab.run(*podman, "pull", "-q", self.ref, check=False).returncode:
            self.skipTest("podman does not run here")
        image = lab.run(*podman, "images", "-q").out.split()[0]
        for kind in ("docker-archive", "oci-archive"):
            path = store / f"{kind}.tar"
            lab.run(*podman, "save", "--format", kind, "-o", path, image)
            self.same_names(f"{kind}:{path}")

    def test_several_images(self):
        layers, config = self.parts()
        files = {"c.json": config, **{f"{i}.tar": l for i, l in enumerate(layers)}}
        one = json.loads(self.manifest("c.json", ["0.tar", "1.tar", "2.tar"]))
        files["manifest.json"] = json.dumps(one + [dict(Config="c.json", RepoTags=["b:1"], Layers=["0.tar", "1.tar", "2.tar"])]).encode()
        path = self.write("two.tar", tar_of(files))
        self.same_names(f"docker-archive:{path}:b:1")
        self.same_names(f"docker-archive:{path}:@1")
        self.fails(f"docker-archive:{path}", 2, "one:latest", "b:1")
        self.fails(f"docker-archive:{path}:c", 3, "one:latest", "b:1")

    def test_wrong_layer_is_refused(self):
        files = self.old()
        name = next(n for n in files if n.endswith("layer.tar"))
        files[name] = files[name].replace(b"bottom", b"BOTTOM")
        self.fails(f"docker-archive:{self.write('wrong.tar', tar_of(files))}", 6, "layer 1")


class RootfsTars(Sources):
    def test_plain_and_compressed(self):
        files = [(member("./"), member("./etc"), member("./etc/name", "rootfs\n"), member("./bin", type=tarfile.SYMTYPE, linkname="usr/bin"))]
        data = lab.layer(*files[0], compress=None)
        for name, blob in (("rootfs.tar", data), ("rootfs.tar.gz", lab.pack(data)), ("rootfs.tar.zst", lab.pack(data, "zstd")), ("odd.name", data)):
            path = self.write(name, blob)
            with lab.mounted(str(path)) as mnt:
                self.assertEqual((mnt / "etc/name").read_text(), "rootfs\n")
                self.assertEqual(os.readlink(mnt / "bin"), "usr/bin")

    def test_real_one(self):
        path = lab.SHARED / "images/alpine-minirootfs-3.20.3-x86_64.tar.gz"
        if not path.exists():
            self.skipTest("no rootfs tar here")
        out = lab.folder("out")
        lab.run("tar", "-C", out, "--numeric-owner", "-xpf", path)
        with lab.mounted(str(path)) as mnt:
            self.assertEqual(lab.differences(lab.walk(out), lab.walk(mnt)), [])

    def test_what_is_no_archive(self):
        path = self.write("text", b"hello\n")
        self.fails(str(path), 6, str(path))
        self.fails(str(self.write("bz2.tar", b"BZh91AY&SY" + bytes(600))), 8, "bzip2")
        self.fails(str(self.dir), 2, "not an OCI layout")


class InPlace(Sources):
    def test_archives_are_not_unpacked(self):
        """a mount of a plain archive leaves an index in the cache, not its layers; nothing in /tmp"""
        size = 8 << 20
        layer = lab.layer(member("big", os.urandom(size)), compress=None)
        config = json.dumps(dict(architecture="amd64", os="linux", rootfs=dict(type="layers", diff_ids=[lab.sha256(layer)]))).encode()
        files = {"c.json": config, "l.tar": layer, "manifest.json": json.dumps([dict(Config="c.json", RepoTags=None, Layers=["l.tar"])]).encode()}
        for compress in (None, "gzip"):
            path = self.write("a.tar", tar_of(files, compress))
            cache, tmp = lab.folder("cache"), lab.folder("tmp")
            with lab.mounted(f"docker-archive:{path}", f"--cache-dir={cache}", env=dict(TMPDIR=str(tmp))) as mnt:
                self.assertEqual(hashlib.sha256((mnt / "big").read_bytes()).hexdigest(), hashlib.sha256(layer[512:512 + size]).hexdigest())
                used = sum(p.stat().st_blocks * 512 for p in cache.rglob("*") if p.is_file())
                self.assertEqual(list(tmp.iterdir()), [])
                self.assertLess(used, size // 4, f"{compress}: {used} bytes in the cache")

    def test_archive_that_goes_away_is_an_error_and_no_crash(self):
        layer = lab.layer(member("a", os.urandom(3 << 20)))
        layout = lab.Layout().image(layer)
        with lab.mounted(f"oci:{layout.path}", "--cache-dir=none", "--memory=1M") as mnt:
            with open(layout.path / "blobs/sha256" / lab.sha256(layer)[7:], "r+b") as f:
                f.truncate(1000)
            with self.assertRaises(OSError):
                (mnt / "a").read_bytes()
            self.assertEqual(os.listdir(mnt), ["a"])
            self.assertGreater(lab.stat_of(mnt)["errors"], 0)


if __name__ == "__main__":
    lab.main()
