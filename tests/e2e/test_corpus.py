#!/usr/bin/env python3
"""Every archive and image of the shared corpus shows what its listing says, or is refused where Go refuses it.

Each archive is made the only layer of an image. Where the listing and what we document differ, the difference is
listed here, with its reason."""
import errno
import json
import os
import pathlib
import subprocess
import sys
import unittest
import zlib

import lab
import trees

CORPUS = lab.SHARED / "corpus"

# where a listing's rules and ours are not agreed on: the differences, and why
EXCEPTIONS = {
    # an opaque marker makes its directory, as with every engine but one
    "07-wh-in-nonexistent-dir": ["unexpected: 'no2' (dir)"],
    # a parent that is a lower layer's symlink becomes a directory, as under docker run; the listings follow it
    "10-parent-symlink-lower": ["'lib': type: want 'lnk', got 'dir'", "unexpected: 'lib/foo' (reg)", "missing: 'usr/lib/foo' (reg)"],
    "b19-whiteoutsymlinkpath": ["unexpected: 'etc/whitedout' (reg)", "'localetc': type: want 'lnk', got 'dir'"],
}

# images with a listing that we refuse, with what
REFUSED = {
    # its config has another size than the manifest says, which the listing does not look at
    "aufs-docker-v2-manifest": (errno.EBADMSG, "has 536 bytes, but its descriptor says 525"),
    # the layer is a squashfs, the listing empty
    "overlayfs-docker-v2-manifest": (errno.EOPNOTSUPP, "is not a file system layer"),
}

# what Go refuses and we read
TAKEN = {
    "tar-libarchive/test_compat_plexus_archiver_tar.tar",  # ends with one zero block, behind which something follows
}
UNSUPPORTED = (".bz2", ".xz", ".Z")  # no image holds such a layer


def unpacked(data):
    """What a layer's decoder gives of it, whatever follows."""
    if data[:2] == b"\x1f\x8b":
        out = b""
        while data[:2] == b"\x1f\x8b":
            d = zlib.decompressobj(31)
            try:
                out += d.decompress(data)
            except zlib.error:
                break
            data = d.unused_data
        return out
    if data[:4] == b"\x28\xb5\x2f\xfd" or data[1:4] == b"\x2a\x4d\x18":  # or a frame to skip
        return subprocess.run(["zstd", "-dqc"], input=data, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
    return data


class Corpus(unittest.TestCase):
    maxDiff = 3000

    @classmethod
    def setUpClass(cls):
        lab.need_shared()
        cls.dumper = trees.Dumper(hash_max=1 << 30 if os.environ.get("LONG") else 64 << 20)
        cls.rows = {}
        lines = (CORPUS / "index.tsv").read_text().splitlines()
        for line in lines[1:]:
            row = dict(zip(lines[0].split("\t"), line.split("\t")))
            cls.rows[row["file"]] = row

    @classmethod
    def tearDownClass(cls):
        assert cls.dumper.close() == 0, "e2e_dump failed at its end"

    def image_of(self, path):
        """An image of this one layer, which need not be a good one."""
        data = path.read_bytes()
        plain = unpacked(data)
        layout = lab.Layout()
        kind = "+gzip" if data[:2] == b"\x1f\x8b" else "+zstd" if data[:4] == b"\x28\xb5\x2f\xfd" else ""
        config = dict(architecture="amd64", os="linux", rootfs=dict(type="layers", diff_ids=[lab.sha256(plain)]))
        m = dict(schemaVersion=2, mediaType="application/vnd.oci.image.manifest.v1+json",
                 config=layout.document(config, "application/vnd.oci.image.config.v1+json"),
                 layers=[layout.blob(data, "application/vnd.oci.image.layer.v1.tar" + kind)])
        return f"oci:{layout.tag(layout.document(m, m['mediaType'])).path}"

    def show(self, path):
        return self.dumper.tree(self.image_of(path))

    def listed(self, want, got, name):
        lines = trees.differences(want, got)
        # larger than is hashed here
        lines = [l for l in lines if not (": sha256: " in l and l.endswith("got None"))]
        self.assertEqual(lines, EXCEPTIONS.get(name, []), name)

    def test_archives_equal_their_listings(self):
        count = 0
        for listing in sorted((CORPUS / "expect").iterdir()):
            name = listing.name.removesuffix(".jsonl").replace("__", "/")
            path = CORPUS / "data" / name
            with self.subTest(archive=name):
                if name.endswith(UNSUPPORTED):
                    with self.assertRaises(trees.Refused) as caught:
                        self.show(path)
                    self.assertEqual(caught.exception.code, errno.EOPNOTSUPP)
                    continue
                try:
                    self.listed(trees.expected(listing), self.show(path), name)
                except trees.Refused as e:
                    self.fail(f"{name}: {e}")
                count += 1
        print(f"{count} archives equal their listings", file=sys.stderr)
        self.assertGreater(count, 200)

    def test_what_go_refuses_is_refused(self):
        """and named in a way that a person understands"""
        count = 0
        for name, row in self.rows.items():
            if not row["cls"].startswith("malformed") or name.endswith(UNSUPPORTED):
                continue
            with self.subTest(archive=name):
                try:
                    self.show(CORPUS / "data" / name)
                except trees.Refused as e:
                    self.assertIn(e.code, (errno.EBADMSG, errno.EFBIG), str(e))
                    self.assertRegex(str(e), r"layer 1 \(sha256:[0-9a-f]{64}\): ")
                    count += 1
                else:
                    self.assertIn(name, TAKEN, f"{name}: taken, but Go says {row['cls']}")
        print(f"{count} archives refused", file=sys.stderr)
        self.assertGreater(count, 10)

    def test_exit_code_of_a_malformed_layer(self):
        name = next(n for n, row in self.rows.items() if row["cls"].startswith("malformed") and n.endswith("bad-cksum.tar"))
        p = lab.imagefs(self.image_of(CORPUS / "data" / name), lab.folder("mnt"), check=False)
        self.assertEqual(p.returncode, 6, p.err)
        self.assertIn("bad checksum", p.err)

    def test_broken_gzip_is_refused(self):
        for name, row in self.rows.items():
            if row["cls"].startswith("gz:broken"):
                with self.subTest(archive=name), self.assertRaises(trees.Refused) as caught:
                    self.show(CORPUS / "data" / name)
                self.assertEqual(caught.exception.code, errno.EBADMSG)

    def test_disputed_archives_do_not_hurt(self):
        for name, row in self.rows.items():
            if row["cls"] == "disputed" and not name.endswith(UNSUPPORTED):
                with self.subTest(archive=name):
                    try:
                        self.show(CORPUS / "data" / name)
                    except trees.Refused as e:
                        self.assertIn(e.code, (errno.EBADMSG, errno.EFBIG))

    def images(self, folder, expect, prefix=""):
        for listing in sorted((CORPUS / expect).iterdir()):
            name = listing.name.removesuffix(".jsonl").removeprefix(prefix)
            with self.subTest(image=name):
                try:
                    got = self.dumper.tree(f"oci:{CORPUS / folder / name}")
                except trees.Refused as e:
                    code, text = REFUSED.get(name, (0, "nothing: it should open"))
                    self.assertEqual(e.code, code, str(e))
                    self.assertIn(text, str(e))
                    continue
                self.assertNotIn(name, REFUSED)
                self.listed(trees.expected(listing), got, name)

    def test_edge_images_equal_their_listings(self):
        self.images("edge", "edge-expect")

    def test_published_images_equal_their_listings(self):
        self.images("data/oci-sylabs", "expect-images", "sylabs-")

    def test_layouts_open_or_say_why_not(self):
        for index in sorted((CORPUS / "data").rglob("index.json")):
            with self.subTest(layout=str(index.parent)):
                try:
                    self.dumper.tree(f"oci:{index.parent}")
                except trees.Refused as e:
                    self.assertIn(e.code, (errno.EBADMSG, errno.ENOENT, errno.EOPNOTSUPP, errno.EINVAL), str(e))
                    self.assertIn(str(index.parent), str(e))

    def test_docker_archives_open_or_say_why_not(self):
        """and name the images when there are several"""
        refused = {"content.tar": "has no manifest.json", "no_manifest.tar": "has no manifest.json", "null_manifest.tar": "manifest.json",
                   "valid-oci.tar": "has no manifest.json", "test_bundle.tar": "test_image_2, test_image_1",
                   "test_link.tar": "bazel/v1/tarball:test_image_1, bazel/v1/tarball:test_image_3"}
        for name in self.rows:
            if name.startswith(("oci-ggcr/v1/tarball", "oci-stereoscope", "tar-dotnet/tar/misc/")) and name.endswith(".tar"):
                with self.subTest(archive=name):
                    file = f"docker-archive:{CORPUS / 'data' / name}"
                    base = os.path.basename(name)
                    if base not in refused:
                        self.dumper.tree(file)
                        continue
                    with self.assertRaises(trees.Refused) as caught:
                        self.dumper.tree(file)
                    self.assertIn(refused[base], str(caught.exception))
        bundle = f"docker-archive:{CORPUS / 'data/oci-ggcr/v1/tarball/testdata/test_bundle.tar'}"
        self.assertEqual(self.dumper.tree(bundle + ":test_image_2").keys(), self.dumper.tree(bundle + ":@0").keys())


if __name__ == "__main__":
    lab.main()
