#!/bin/sh
# Puts the pinned OpenVINO runtime into a folder:
#
#     deploy/runtime/install.sh .runtime/openvino deploy/runtime/requirements.txt
#
# The wheels are downloaded with pip (hashes checked) and unpacked: the libraries, the C headers and
# the licences, in the layout of the wheel. Nothing is installed into Python, and no Python is needed
# afterwards. Does nothing when the folder already holds exactly this. An interrupted run leaves the
# folder as it was. PYTHON names the interpreter (default python3).
set -eu

fail() {
    echo "install.sh: $*" >&2
    exit 1
}

[ $# -eq 2 ] || fail "usage: install.sh FOLDER REQUIREMENTS"
target=$1
requirements=$2
here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python3}

[ -r "$requirements" ] || fail "$requirements: cannot read the requirements file"

# The stamp is the requirements and the scripts that unpacked them: a change of either reinstalls.
stamp=$(cat "$requirements" "$here/install.sh" "$here/unpack.py" | sha256sum | cut -d' ' -f1)
installed() {
    [ "$(cat "$target/.installed" 2>/dev/null)" = "$stamp" ]
}
installed && exit 0

[ "$(uname -s)-$(uname -m)" = "Linux-x86_64" ] ||
    fail "the pinned wheels are for Linux x86_64, this is $(uname -s) $(uname -m): point GENFN_OPENVINO_DIR at an OpenVINO of your own"
command -v "$python" >/dev/null ||
    fail "$python not found: install Python 3 with pip (Debian, Ubuntu: apt install python3-pip), or set PYTHON"
"$python" -m pip --version >/dev/null 2>&1 ||
    fail "$python has no pip: install it (Debian, Ubuntu: apt install python3-pip), or set PYTHON to a Python 3 that has it"

parent=$(dirname "$target")
mkdir -p "$parent"
# Two runs at once: the second waits, then finds the work done.
exec 9>"$parent/.install.lock"
if command -v flock >/dev/null; then flock 9; fi
installed && exit 0

work=$(mktemp -d "$parent/.install.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM HUP

"$python" -m pip download --quiet --disable-pip-version-check --require-hashes --no-deps \
    --only-binary=:all: --implementation cp --python-version 3.11 --abi cp311 --abi none \
    --platform manylinux2014_x86_64 --platform manylinux_2_28_x86_64 \
    --dest "$work/wheels" -r "$requirements" ||
    fail "pip could not download $requirements (see above): check the network, or pip's index and proxy settings"
"$python" "$here/unpack.py" "$work/tree" "$work"/wheels/*.whl
echo "$stamp" >"$work/tree/.installed"

if [ -e "$target" ]; then mv "$target" "$work/old"; fi
mv "$work/tree" "$target"
