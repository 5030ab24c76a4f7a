#!/bin/sh
# Puts the pinned OpenVINO runtime into a folder:
#
#     deploy/runtime/install.sh .runtime/openvino deploy/runtime/requirements.txt
#
# The libraries, the C headers and the licences, in the layout of the wheel; no Python is needed afterwards.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
if [ "$(uname -s)-$(uname -m)" != "Linux-x86_64" ]; then
    echo "install.sh: the pinned wheels are for Linux x86_64, this is $(uname -s) $(uname -m): point GENFN_OPENVINO_DIR at an OpenVINO of your own" >&2
    exit 1
fi
exec "$here/../wheels.sh" "$1" "$2" "$here/unpack.py" --implementation cp --python-version 3.11 --abi cp311 --abi none \
    --platform manylinux2014_x86_64 --platform manylinux_2_28_x86_64
