#!/bin/sh
# Puts the pinned headers of NVML into a folder:
#
#     deploy/nvml/install.sh .runtime/nvml
set -eu
here=$(cd "$(dirname "$0")" && pwd)
exec "$here/../wheels.sh" "$1" "$here/requirements.txt" "$here/unpack.py" --platform manylinux2014_x86_64
