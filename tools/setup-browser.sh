#!/usr/bin/env bash
# Have Chromium here, in which the page of `explain --html` is looked at: install it with apt-get
# where that is allowed.
#
# Never fails: without it the tests that need it are skipped, and the end of the run says so (or they
# fail, under QCOW2CRYPT_REQUIRE_BROWSER=1).
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

for name in chromium chromium-browser google-chrome; do
    if command -v "$name" >/dev/null; then exit 0; fi
done
if ! may_install; then
    say "Chromium is not here and may not be installed; to look at the page: apt-get install chromium"
elif ! apt_install chromium; then
    say "Chromium could not be installed; the tests that need it cannot run"
fi
