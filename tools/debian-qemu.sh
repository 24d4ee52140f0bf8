#!/usr/bin/env bash
# Fetch the qemu-img, qemu-io and qemu-nbd of other releases of Debian, each into a folder of its own.
#
#   tools/debian-qemu.sh FOLDER SUITE [SUITE ...]        # such as: build/qemu bullseye trixie sid
#
# Nothing is installed and no root is needed: the packages, checked by apt as always, are unpacked
# beside the programs with all libraries that they need.  Needs Debian, apt and the network.
# `qcow2crypt difftest --versions FOLDER` compares what is there.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

[ $# -ge 2 ] || fail "a folder and at least one release are needed: $0 build/qemu bullseye trixie"
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
[ -e "$keyring" ] || fail "$keyring is missing, so nothing could be checked" \
    "on Debian and Ubuntu: apt-get install debian-archive-keyring"
mkdir -p "$1"
folder=$(cd "$1" && pwd)
shift
library=lib/$(uname -m)-linux-gnu

for suite in "$@"; do
    place=$folder/$suite
    [ ! -e "$place" ] || fail "$place is there already: remove it to have it made again"
    work=$(mktemp -d "$folder/.making-XXXXXX")
    trap 'rm -rf "$work"' EXIT
    mkdir -p "$work"/apt/{state/lists/partial,cache/archives/partial} "$work/made/files"
    : >"$work/apt/state/status"
    echo "deb [signed-by=$keyring] http://deb.debian.org/debian $suite main" >"$work/apt/sources"
    get=(
        apt-get -q -o "Dir::State=$work/apt/state" -o "Dir::State::status=$work/apt/state/status"
        -o "Dir::Cache=$work/apt/cache" -o "Dir::Etc::sourcelist=$work/apt/sources"
        -o Dir::Etc::sourceparts=/nonexistent -o Debug::NoLocking=true -o APT::Sandbox::User=
    )
    say "fetching qemu-utils of Debian $suite"
    logged debian-qemu "${get[@]}" update
    logged debian-qemu "${get[@]}" -y --no-install-recommends --download-only install qemu-utils
    for package in "$work"/apt/cache/archives/*.deb; do dpkg-deb -x "$package" "$work/made/files"; done
    # The loader of that release, by its file: the links to it lead out of the folder.
    loader=$(find "$work/made/files" -name 'ld-*.so*' -path "*$library*" -type f | head -n 1)
    [ -n "$loader" ] || fail "no loader was found in the packages of $suite for $(uname -m)"
    files=$place/files
    for program in qemu-img qemu-io qemu-nbd; do
        cat >"$work/made/$program" <<END
#!/bin/sh
exec "$place${loader#"$work/made"}" --library-path "$files/$library:$files/usr/$library" \\
    "$files/usr/bin/$program" "\$@"
END
        chmod +x "$work/made/$program"
    done
    mv "$work/made" "$place"
    rm -rf "$work"
    "$place/qemu-img" --version | head -n 1
done
