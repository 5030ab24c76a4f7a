#!/bin/sh
# Makes a Python environment of the harness's peers:
#
#     bench/peers/install.sh .runtime/peers bench/peers/requirements.txt
#     bench/peers/install.sh .runtime/sdcpp bench/peers/requirements-build.txt bench/peers/requirements-sdcpp.txt
#
# Installs one file of requirements after the other; packages that are built use what is installed before them. Does
# nothing when the folder was made from exactly these. PYTHON names the interpreter (default python3; CPython 3.10 to
# 3.14 with venv and pip).
set -eu

fail() {
    echo "install.sh: $*" >&2
    exit 1
}

[ $# -ge 2 ] || fail "usage: install.sh FOLDER REQUIREMENTS..."
target=$1
shift
python=${PYTHON:-python3}

stamp=$(cat "$@" "$0" | sha256sum | cut -d' ' -f1)
[ "$(cat "$target/.installed" 2>/dev/null)" = "$stamp" ] && exit 0

command -v "$python" >/dev/null || fail "$python not found: install Python 3 with venv and pip, or set PYTHON"
rm -rf "$target"
"$python" -m venv "$target" || fail "$python has no venv module (Debian, Ubuntu: apt install python3-venv)"
for requirements in "$@"; do
    "$target/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes --no-build-isolation \
        --only-binary=:all: -r "$requirements" ||
        fail "pip could not install $requirements (see above): check the network and that Python is 3.10 to 3.14"
done
echo "$stamp" >"$target/.installed"
