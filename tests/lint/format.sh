#!/bin/sh
# Every C file is formatted as .clang-format says.
command -v clang-format >/dev/null || { echo "skipped: clang-format is not installed"; exit 77; }
find src include tests -name '*.[ch]' | xargs clang-format --dry-run -Werror
