#!/usr/bin/env python3
"""Every #include "folder/..." of src/ may only name the folder itself or one below it, and every third-party header may be
included from one folder only. The order is the one of docs/ARCHITECTURE.md."""
import pathlib
import re
import sys

BELOW = {
    "base": [],
    "blob": ["base"],
    "layer": ["blob", "base"],
    "tree": ["layer", "blob", "base"],
    "source": ["blob", "base"],
    "image": ["tree", "layer", "source", "blob", "base"],
    "mount": ["image", "tree", "layer", "source", "blob", "base"],
    "cli": ["mount", "image", "tree", "layer", "source", "blob", "base"],
}
# header prefix -> the folder that may include it
OWNERS = {
    "openssl/": "base",
    "jansson.h": "base",
    "zlib.h": "layer",
    "zstd": "layer",
    "libdeflate.h": "layer",
    "curl/": "source",
    "fuse": "mount",
}

bad = 0
files = 0
for path in sorted(pathlib.Path("src").rglob("*.[ch]")):
    folder = path.parts[1]
    files += 1
    for number, line in enumerate(path.read_text().splitlines(), 1):
        m = re.match(r'\s*#\s*include\s+([<"])([^>"]+)', line)
        if not m:
            continue
        kind, name = m.groups()
        if kind == '"':
            target = name.split("/")[0]
            if name == "imagefs.h":
                ok = folder in ("image", "mount", "cli")
            else:
                ok = target == folder or target in BELOW[folder]
        else:
            ok = all(folder == owner for prefix, owner in OWNERS.items() if name.startswith(prefix))
        if not ok:
            print(f"{path}:{number}: {folder}/ must not include {name}")
            bad += 1
print(f"{files} files, {bad} includes against the order")
sys.exit(1 if bad or not files else 0)
