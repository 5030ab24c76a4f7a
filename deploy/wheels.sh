#!/bin/sh
# Fills a folder with what a script unpacks from pinned wheels:
#
#     deploy/wheels.sh FOLDER REQUIREMENTS UNPACK [pip download's options]
#
# The wheels are downloaded with pip (hashes checked); nothing is installed into Python. UNPACK is called with a folder
# and the wheels. Does nothing when the folder already holds exactly this, as FOLDER/.unpacked tells. An interrupted run
# leaves the folder as it was. PYTHON names the interpreter (default python3).
set -eu

fail() {
    echo "wheels.sh: $*" >&2
    exit 1
}

[ $# -ge 3 ] || fail "usage: wheels.sh FOLDER REQUIREMENTS UNPACK [pip download's options]"
target=$1
requirements=$2
unpack=$3
shift 3
python=${PYTHON:-python3}

[ -r "$requirements" ] || fail "$requirements: cannot read the requirements file"

# The stamp is all that decides what is in the folder: a change of it reinstalls.
stamp=$( (cat "$requirements" "$unpack" && echo "$@") | sha256sum | cut -d' ' -f1)
installed() {
    [ "$(cat "$target/.unpacked" 2>/dev/null)" = "$stamp" ]
}
installed && exit 0

[ "$(uname -s)-$(uname -m)" = "Linux-x86_64" ] || fail "the pinned wheels are for Linux x86_64, this is $(uname -s) $(uname -m)"
command -v "$python" >/dev/null ||
    fail "$python not found: install Python 3 with pip (Debian, Ubuntu: apt install python3-pip), or set PYTHON"
"$python" -m pip --version >/dev/null 2>&1 ||
    fail "$python has no pip: install it (Debian, Ubuntu: apt install python3-pip), or set PYTHON to a Python 3 that has it"

parent=$(dirname "$target")
mkdir -p "$parent"
# Two runs at once: the second waits, then finds the work done.
exec 9>"$parent/.install-$(basename "$target").lock"
if command -v flock >/dev/null; then flock 9; fi
installed && exit 0

work=$(mktemp -d "$parent/.install.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM HUP

"$python" -m pip download --quiet --disable-pip-version-check --require-hashes --no-deps --only-binary=:all: \
    "$@" --dest "$work/wheels" -r "$requirements" ||
    fail "pip could not download $requirements (see above): check the network, or pip's index and proxy settings"
"$python" "$unpack" "$work/tree" "$work"/wheels/*.whl
echo "$stamp" >"$work/tree/.unpacked"

if [ -e "$target" ]; then mv "$target" "$work/old"; fi
mv "$work/tree" "$target"
