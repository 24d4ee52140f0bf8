#!/usr/bin/env bash
# Build csrc with fuzz/csrc.c under libFuzzer, AddressSanitizer and UBSan, and run it.
#
#   fuzz/csrc.sh [FOLDER [OPTIONS OF libFuzzer]]
#
# FOLDER (build/fuzz/csrc) gets the program, what is found, and kept inputs in `inputs`.  CSRC names
# another folder of sources than csrc.  Needs clang with its runtimes; ends with 77 without them.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../tools/lib.sh"

folder=${1:-$root/build/fuzz/csrc}
sources=${CSRC:-$root/csrc}
if [ $# -gt 0 ]; then shift; fi
mkdir -p "$folder/inputs"

# Without -O: clang takes minutes for the wide kernels when it optimises and sanitizes at once.
flags=(-std=gnu11 -Wall -Wextra -Werror -g -fno-sanitize-recover=all)
sanitize=address,undefined,fuzzer
missing="on Debian: apt-get install clang libclang-rt-dev"
absent() { say "$1, so csrc is not fuzzed; $missing"; exit 77; }
command -v clang >/dev/null || absent "clang is not installed"
echo 'int LLVMFuzzerTestOneInput(const char *p, long n) { return !p && n; }' |
    clang -x c - -fsanitize=$sanitize -o "$folder/probe" 2>/dev/null ||
    absent "clang has no libFuzzer or no sanitizers here"
rm "$folder/probe"

program=$folder/fuzz-csrc
clang "${flags[@]}" -fsanitize=$sanitize -I"$sources" "$sources"/*.c "$root/fuzz/csrc.c" -o "$program"
exec "$program" -max_len=64 -artifact_prefix="$folder/" "$@" "$folder/inputs"
