#!/bin/sh
# Puts the parts of the virtual Intel GPU into a folder and builds the layer there:
#
#     deploy/vgpu/install.sh .runtime/vgpu
#
# Intel's OpenCL runtime for CPUs comes from pinned wheels (downloaded with pip, hashes checked, unpacked; no Python
# afterwards). The OpenCL headers come from the system, else from Debian's package opencl-c-headers, which is unpacked
# beside them and not installed. Does nothing when the folder already holds exactly this, except build the layer anew.
# PYTHON and CC name the programs.
set -eu

fail() {
    echo "vgpu/install.sh: $*" >&2
    exit 1
}

[ $# -eq 1 ] || fail "usage: install.sh FOLDER"
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
target=$(cd "$1" && pwd)
python=${PYTHON:-python3}

[ "$(uname -s)-$(uname -m)" = "Linux-x86_64" ] || fail "the virtual GPU is for Linux x86_64, this is $(uname -s) $(uname -m)"
"$python" -m pip --version >/dev/null 2>&1 || fail "$python with pip is needed (Debian, Ubuntu: apt install python3-pip), or set PYTHON"

stamp=$(cat "$here/requirements.txt" "$here/install.sh" | sha256sum | cut -d' ' -f1)
if [ "$(cat "$target/.parts" 2>/dev/null)" != "$stamp" ]; then
    work=$(mktemp -d "$target/.install.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    trap 'exit 130' INT TERM HUP
    "$python" -m pip download --quiet --disable-pip-version-check --require-hashes --no-deps --only-binary=:all: \
        --platform manylinux_2_28_x86_64 --dest "$work/wheels" -r "$here/requirements.txt" ||
        fail "pip could not download $here/requirements.txt (see above)"
    mkdir "$work/lib" "$work/licences"
    "$python" - "$work" <<'PY'
import os, shutil, sys, zipfile

work = sys.argv[1]
for wheel in sorted(os.listdir(work + "/wheels")):
    with zipfile.ZipFile(work + "/wheels/" + wheel) as archive:
        for name in archive.namelist():
            base = os.path.basename(name)
            if ".data/data/lib/" in name and base and name.count("/") == 3:
                folder = "lib"
            elif ".dist-info/" in name and base and "licen" in name.lower():
                folder, base = "licences", wheel.split("-")[0] + "-" + base
            else:
                continue
            with archive.open(name) as source, open(f"{work}/{folder}/{base}", "wb") as to:
                shutil.copyfileobj(source, to)
PY
    for need in libintelocl.so libOpenCL.so.1 libtbb.so.12 libsvml.so; do
        [ -e "$work/lib/$need" ] || fail "the wheels hold no $need"
    done
    if [ ! -e /usr/include/CL/cl_layer.h ]; then
        command -v apt-get >/dev/null ||
            fail "the OpenCL headers with CL/cl_layer.h are needed: install your system's package of them"
        (
            cd "$work"
            apt-get download -qq opencl-c-headers >/dev/null 2>&1 ||
                { apt-get update -qq >/dev/null 2>&1 && apt-get download -qq opencl-c-headers; }
        ) || fail "apt-get could not download opencl-c-headers: install it, or the OpenCL headers of your system"
        dpkg-deb -x "$work"/opencl-c-headers_*.deb "$work/headers"
        mkdir "$work/include"
        mv "$work/headers/usr/include/CL" "$work/include/CL"
    fi
    mkdir "$work/vendors"
    echo "$target/lib/libintelocl.so" >"$work/vendors/intel.icd"
    for part in lib licences vendors include; do
        rm -rf "${target:?}/$part"
        [ ! -e "$work/$part" ] || mv "$work/$part" "$target/$part"
    done
    echo "$stamp" >"$target/.parts"
fi
${MAKE:-make} --no-print-directory -C "$here/../../native/vgpu" TARGET="$target" CC="${CC:-gcc}"
touch "$target/.installed"
