#!/bin/sh
# Puts the pinned CUDA runtime library, NVRTC and NVML's header of one line into a folder; no driver, no toolkit:
#
#     deploy/cuda/install.sh .runtime/cuda13 deploy/cuda/requirements-13.txt
set -eu
here=$(cd "$(dirname "$0")" && pwd)
exec "$here/../wheels.sh" "$1" "$2" "$here/../unpack.py" --platform manylinux2014_x86_64 --platform manylinux2010_x86_64
