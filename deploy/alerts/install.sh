#!/bin/sh
# Puts promtool, the checker of Prometheus' rules, into a folder, without root and without installing Prometheus:
#
#     deploy/alerts/install.sh .runtime/promtool
#
# It is the system's, if it has one, else that of Debian's package prometheus.
set -eu

fail() {
    echo "install.sh: $*" >&2
    exit 1
}

[ $# -eq 1 ] || fail "usage: install.sh FOLDER"
target=$1
mkdir -p "$target"
if found=$(command -v promtool); then
    ln -sf "$found" "$target/promtool"
    exit 0
fi
command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null ||
    fail "promtool is needed: install your system's package of Prometheus"

work=$(mktemp -d "$(dirname "$target")/.install.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM HUP
(
    cd "$work"
    apt-get download -qq prometheus >/dev/null 2>&1 ||
        { apt-get update -qq >/dev/null 2>&1 && apt-get download -qq prometheus; }
) || fail "apt-get could not download prometheus: install it, or the package of your system that has promtool"
dpkg-deb -x "$work"/prometheus_*.deb "$work/tree"
mv "$work/tree/usr/bin/promtool" "$target/promtool"
