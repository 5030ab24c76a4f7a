#!/bin/sh
# Makes the Python environment of the harness's peers:
#
#     bench/peers/install.sh .runtime/peers
#
# Does nothing when the folder was made from exactly these requirements. PYTHON names the interpreter (default
# python3; CPython 3.10 to 3.14 with venv and pip).
set -eu

fail() {
    echo "install.sh: $*" >&2
    exit 1
}

[ $# -eq 1 ] || fail "usage: install.sh FOLDER"
target=$1
here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python3}

stamp=$(cat "$here/requirements.txt" "$here/install.sh" | sha256sum | cut -d' ' -f1)
[ "$(cat "$target/.installed" 2>/dev/null)" = "$stamp" ] && exit 0

command -v "$python" >/dev/null || fail "$python not found: install Python 3 with venv and pip, or set PYTHON"
rm -rf "$target"
"$python" -m venv "$target" || fail "$python has no venv module (Debian, Ubuntu: apt install python3-venv)"
"$target/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary=:all: \
    -r "$here/requirements.txt" ||
    fail "pip could not install $here/requirements.txt (see above): check the network and that Python is 3.10 to 3.14"
echo "$stamp" >"$target/.installed"
