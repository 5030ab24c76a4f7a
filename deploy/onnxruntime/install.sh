#!/bin/sh
# Puts the pinned ONNX Runtime for CPUs into a folder:
#
#     deploy/onnxruntime/install.sh .runtime/onnxruntime
#
# No wheel has the C header: bindings/onnxruntime/internal/capi/testdata says what its test compares with instead.
set -eu
[ $# -eq 1 ] || { echo "usage: install.sh FOLDER" >&2; exit 1; }
here=$(cd "$(dirname "$0")" && pwd)
exec "$here/../wheels.sh" "$1" "$here/requirements.txt" "$here/../unpack.py" \
    --platform manylinux_2_28_x86_64 --implementation cp --python-version 3.11 --abi cp311
