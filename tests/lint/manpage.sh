#!/bin/sh
# The manual page has no formatting errors.
command -v mandoc >/dev/null || { echo "skipped: mandoc is not installed"; exit 77; }
out=$(mandoc -T lint -W warning docs/imagefs.1)
[ -z "$out" ] || { echo "$out"; exit 1; }
