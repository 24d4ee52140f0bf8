#!/usr/bin/env bash
# Have qemu-img here, the witness that many tests ask: install it with apt-get where that is allowed.
#
# Never fails: without qemu-img the tests that need it are skipped, and the end of the run says so
# (or they fail, under --require-qemu).
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

if command -v qemu-img >/dev/null && command -v qemu-io >/dev/null; then exit 0; fi
if ! may_install; then
    say "qemu-img is not here and may not be installed; to check against QEMU: apt-get install qemu-utils"
elif ! apt_install qemu-utils; then
    say "qemu-img could not be installed; the tests that need it cannot run"
fi
