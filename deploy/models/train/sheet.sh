#!/usr/bin/env bash
# Draws ../emoji/sheet.png from pictures that genfn makes: a server, and one `genfn generate` for each prompt, with
# the seeds 1, 2, ... Needs `make build runtime` and a Python with Pillow (PYTHON, default python3).
set -euo pipefail
cd "$(dirname "$0")"
root=$(cd ../../.. && pwd)
work=$(mktemp -d)
export GENFN_CACHE_DIR=$work/cache GENFN_OPENVINO_DIR=${GENFN_OPENVINO_DIR:-$root/.runtime/openvino}
port=$((20000 + RANDOM % 10000))
"$root/bin/genfn" up --port "$port" --store-dir "$work/store" --models "$root/deploy/models" --log-level warn &
server=$!
trap 'kill "$server"; wait "$server"; rm -rf "$work"' EXIT
seed=0
while read -r prompt; do
    seed=$((seed + 1))
    "$root/bin/genfn" generate --nats "nats://127.0.0.1:$port" --wait 60s --quiet --prompt "$prompt" --seed "$seed" --out "$work/$seed.png" </dev/null
done <prompts.txt
"${PYTHON:-python3}" sheet.py --pictures "$work" --out ../emoji/sheet.png
