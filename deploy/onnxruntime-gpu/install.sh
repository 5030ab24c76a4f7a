#!/bin/sh
# Puts the pinned ONNX Runtime for NVIDIA's GPUs, with the libraries of CUDA that it needs, into a folder:
#
#     deploy/onnxruntime-gpu/install.sh .runtime/onnxruntime-gpu
set -eu
[ $# -eq 1 ] || { echo "usage: install.sh FOLDER" >&2; exit 1; }
here=$(cd "$(dirname "$0")" && pwd)
exec "$here/../wheels.sh" "$1" "$here/requirements.txt" "$here/../unpack.py" \
    --platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 --platform manylinux2014_x86_64 --platform manylinux2010_x86_64 \
    --platform manylinux1_x86_64 --implementation cp --python-version 3.11 --abi cp311 --abi none
