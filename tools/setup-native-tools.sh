#!/usr/bin/env bash
# Have here what the tests of the C part ask: compilers, valgrind, other processors.
#
# Never fails: without one of them its tests are skipped, and the end of the run says so (or they
# fail, under --require-native-tools).
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

packages=()
needs() { command -v "$1" >/dev/null || packages+=("${@:2}"); }
needs gcc gcc libc6-dev
needs clang clang
needs valgrind valgrind
needs qemu-x86_64 qemu-user
needs aarch64-linux-gnu-gcc gcc-aarch64-linux-gnu libc6-dev-arm64-cross

if [ ${#packages[@]} -eq 0 ]; then exit 0; fi
if ! may_install; then
    say "not all tools for the tests of the C part are here: apt-get install ${packages[*]}"
elif ! apt_install "${packages[@]}"; then
    say "they could not be installed; the tests that need them cannot run"
fi
