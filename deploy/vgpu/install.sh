#!/bin/sh
# Puts the parts of the virtual Intel GPU into a folder, without the layer, which native/vgpu compiles into it:
#
#     deploy/vgpu/install.sh .runtime/vgpu
#
# The OpenCL loader in Intel's wheel loads the layer. The Khronos headers, with which a test compares bindings/opencl,
# are copied from the system, else from Debian's package opencl-c-headers.
set -eu

fail() {
    echo "install.sh: $*" >&2
    exit 1
}

[ $# -eq 1 ] || fail "usage: install.sh FOLDER"
target=$1
here=$(cd "$(dirname "$0")" && pwd)
"$here/../wheels.sh" "$target" "$here/requirements.txt" "$here/../unpack.py" --platform manylinux_2_28_x86_64
[ -e "$target/include/CL" ] && exit 0

work=$(mktemp -d "$(dirname "$target")/.install.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM HUP

headers=/usr/include/CL
if [ ! -e $headers/cl_ext.h ]; then
    command -v apt-get >/dev/null || fail "the OpenCL headers (CL/cl.h, CL/cl_ext.h) are needed: install your system's package of them"
    (
        cd "$work"
        apt-get download -qq opencl-c-headers >/dev/null 2>&1 ||
            { apt-get update -qq >/dev/null 2>&1 && apt-get download -qq opencl-c-headers; }
    ) || fail "apt-get could not download opencl-c-headers: install it, or the OpenCL headers of your system"
    dpkg-deb -x "$work"/opencl-c-headers_*.deb "$work/headers"
    headers=$work/headers/usr/include/CL
fi
mkdir -p "$target/include" "$work/CL"
cp "$headers"/*.h "$work/CL/"
mv "$work/CL" "$target/include/CL"
