#!/usr/bin/env bash
# Have here what the tests of the C part need: compilers, valgrind, emulators.
#
# Installs with apt-get only where CI is set, since these are 500 MB; never fails.  What is missing
# afterwards is skipped by the tests, or fails them under --require-native-tools.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$root"

packages=(gcc libc6-dev binutils clang libclang-rt-dev valgrind libc6-dbg qemu-user
    gcc-aarch64-linux-gnu libc6-dev-arm64-cross bochs bochsbios)
missing=()
for package in "${packages[@]}"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q ' installed' || missing+=("$package")
done

if [ ${#missing[@]} -eq 0 ]; then exit 0; fi
if [ -z "${CI:-}" ] || ! may_install; then
    say "not here, so some tests of the C part are skipped; to run them: apt-get install ${missing[*]}"
elif ! apt_install "${missing[@]}"; then
    say "these could not be installed, the tests of the C part that need them cannot run: ${missing[*]}"
fi
