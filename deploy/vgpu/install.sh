#!/bin/sh
# Puts the parts of the virtual Intel GPU into a folder, without the layer, which native/vgpu compiles into it:
#
#     deploy/vgpu/install.sh .runtime/vgpu
#
# The wheels are downloaded with pip (hashes checked) and unpacked; nothing is installed into Python. The OpenCL
# loader in Intel's wheel loads the layer. The Khronos headers, with which a test compares bindings/opencl, are copied
# from the system, else from Debian's package opencl-c-headers. Does nothing when the folder already holds exactly
# this. An interrupted run leaves the folder as it was. PYTHON names the interpreter (default python3).
set -eu

fail() {
    echo "install.sh: $*" >&2
    exit 1
}

[ $# -eq 1 ] || fail "usage: install.sh FOLDER"
target=$1
here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python3}

stamp=$(cat "$here/requirements.txt" "$here/install.sh" "$here/unpack.py" | sha256sum | cut -d' ' -f1)
installed() {
    [ "$(cat "$target/.unpacked" 2>/dev/null)" = "$stamp" ]
}
installed && exit 0

[ "$(uname -s)-$(uname -m)" = "Linux-x86_64" ] || fail "the pinned wheels are for Linux x86_64, this is $(uname -s) $(uname -m)"
"$python" -m pip --version >/dev/null 2>&1 ||
    fail "$python has no pip: install it (Debian, Ubuntu: apt install python3-pip), or set PYTHON to a Python 3 that has it"

parent=$(dirname "$target")
mkdir -p "$parent"
# Two runs at once: the second waits, then finds the work done.
exec 9>"$parent/.install-vgpu.lock"
if command -v flock >/dev/null; then flock 9; fi
installed && exit 0

work=$(mktemp -d "$parent/.install-vgpu.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM HUP

"$python" -m pip download --quiet --disable-pip-version-check --require-hashes --no-deps --only-binary=:all: \
    --platform manylinux_2_28_x86_64 --dest "$work/wheels" -r "$here/requirements.txt" ||
    fail "pip could not download $here/requirements.txt (see above): check the network, or pip's index and proxy settings"
"$python" "$here/unpack.py" "$work/tree" "$work"/wheels/*.whl
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
mkdir -p "$work/tree/include/CL"
cp "$headers"/*.h "$work/tree/include/CL/"
echo "$stamp" >"$work/tree/.unpacked"

if [ -e "$target" ]; then mv "$target" "$work/old"; fi
mv "$work/tree" "$target"
