#!/usr/bin/env python3
"""Images at the edges: no layers, very many, empty ones, the same one twice; little memory, no cache; every compression."""
import hashlib
import os
import struct
import tarfile
import unittest
import zlib

import lab


class Odd(unittest.TestCase):
    def names(self, layout, *options):
        with lab.mounted(f"oci:{layout.path}", *options) as where:
            return sorted(os.listdir(where))

    def test_no_layers(self):
        self.assertEqual(self.names(lab.Layout().image()), [])

    def test_as_many_as_docker_takes(self):
        layers = [lab.layer(lab.member(f"f{i:03}", str(i)), lab.member("last", str(i))) for i in range(127)]
        with lab.mounted(f"oci:{lab.Layout().image(*layers).path}") as where:
            self.assertEqual(len(os.listdir(where)), 128)
            self.assertEqual((where / "last").read_text(), "126")
            self.assertEqual((where / "f000").read_text(), "0")

    def test_layers_of_nothing(self):
        layers = [lab.layer(), b"", lab.pack(b""), lab.layer(lab.member("a", "")), lab.layer(compress="none")]
        layout = lab.Layout().image(*layers)
        self.assertEqual(self.names(layout), ["a"])
        with lab.mounted(f"oci:{layout.path}") as where:
            self.assertEqual((where / "a").read_bytes(), b"")

    def test_one_layer_twice(self):
        a, b = lab.layer(lab.member("x", "a")), lab.layer(lab.member("x", "b"))
        with lab.mounted(f"oci:{lab.Layout().image(a, b, a).path}") as where:
            self.assertEqual((where / "x").read_text(), "a")

    def test_one_layer_twice_with_two_diff_ids(self):
        layout = lab.Layout()
        layer = lab.layer(lab.member("x", "a"))
        descriptor = layout.blob(layer, "application/vnd.oci.image.layer.v1.tar+gzip")
        diff_ids = [lab.sha256(lab.unpacked(layer)), lab.sha256(b"something else")]
        config = layout.document(dict(architecture="amd64", os="linux", rootfs=dict(type="layers", diff_ids=diff_ids)),
                                 "application/vnd.oci.image.config.v1+json")
        media_type = "application/vnd.oci.image.manifest.v1+json"
        manifest = dict(schemaVersion=2, mediaType=media_type, config=config, layers=[descriptor, descriptor])
        layout.tag(layout.document(manifest, media_type))
        p = lab.imagefs("inspect", f"oci:{layout.path}", check=False)
        self.assertEqual(p.returncode, 6, p.err)
        self.assertIn("layers 1 and 2 have one digest", p.err)

    def test_a_layer_of_more_than_4_gib(self):
        turn, turns = os.urandom(64 << 10) + bytes((16 << 20) - (64 << 10)), 272  # 4.25 GiB
        size = turns * len(turn) + 1000
        big, _ = lab.member("big", "")
        big.size = size
        after, text = lab.member("after", "what comes after")
        head, tail = big.tobuf(tarfile.GNU_FORMAT), b"e" * 1000 + bytes(24) + after.tobuf(tarfile.GNU_FORMAT) + text.ljust(1536, b"\0")
        blob, crc, diff_id, length = [b"\x1f\x8b\x08" + bytes(7)], 0, hashlib.sha256(), 0
        packed = {}
        for piece in (head, *[turn] * turns, tail):
            if piece not in packed:  # the same blocks again and again: each piece ends with a flush, and refers to itself only
                z = zlib.compressobj(1, zlib.DEFLATED, -15)
                packed[piece] = z.compress(piece) + z.flush(zlib.Z_SYNC_FLUSH)
            blob.append(packed[piece])
            crc, length = zlib.crc32(piece, crc), length + len(piece)
            diff_id.update(piece)
        blob.append(b"\x01\0\0\xff\xff" + struct.pack("<II", crc, length & 0xffffffff))
        layout = lab.Layout()
        descriptor = layout.blob(b"".join(blob), "application/vnd.oci.image.layer.v1.tar+gzip")
        config = layout.document(dict(architecture="amd64", os="linux",
                                      rootfs=dict(type="layers", diff_ids=["sha256:" + diff_id.hexdigest()])),
                                 "application/vnd.oci.image.config.v1+json")
        media_type = "application/vnd.oci.image.manifest.v1+json"
        layout.tag(layout.document(dict(schemaVersion=2, mediaType=media_type, config=config, layers=[descriptor]), media_type))
        with lab.mounted(f"oci:{layout.path}") as where:
            self.assertEqual((where / "after").read_text(), "what comes after")
            self.assertEqual((where / "big").stat().st_size, size)
            with open(where / "big", "rb") as f:
                for at in (0, len(turn) * 255 - 70000, (4 << 30) - 100, (4 << 30) + 5, len(turn) * 271 - 5):
                    f.seek(at)
                    n = min(100_000, turns * len(turn) - at)
                    self.assertTrue(f.read(n) == (turn + turn)[at % len(turn):][:n])
                f.seek(-1003, os.SEEK_END)
                self.assertEqual(f.read(), bytes(3) + b"e" * 1000)

    def test_every_compression_without_cache_and_memory(self):
        lab.need("zstd")
        files = {f"f{i}": os.urandom(100_000) + bytes(9 << 20) + os.urandom(100_000) for i in range(2)}
        members = [lab.member(name, data) for name, data in files.items()]
        plain = lab.layer(*members, compress="none")
        frames = b"".join(lab.pack(plain[at:at + (12 << 20)], "zstd") for at in range(0, len(plain), 12 << 20))
        for blob in (plain, lab.pack(plain, "gzip", 1), lab.pack(plain, "gzip", 9), lab.pack(plain, "zstd"), frames):
            layout = lab.Layout().image(blob)
            for options in (["--cache-dir=none"], ["--cache-dir=none", "--memory=1K"], ["--memory=1"], ["--memory=100T"]):
                with lab.mounted(f"oci:{layout.path}", *options) as where:
                    for name, data in reversed(files.items()):
                        with open(where / name, "rb") as f:
                            f.seek(-5000, os.SEEK_END)
                            self.assertTrue(f.read() == data[-5000:])
                            self.assertEqual(f.read(), b"")
                            f.seek(0)
                            self.assertTrue(f.read() == data)


if __name__ == "__main__":
    lab.main()
