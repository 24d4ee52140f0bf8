#!/usr/bin/env bash
# Build the sdist, from it the wheel, both into one folder, and check what is in them.
#
#   tools/build-dist.sh [FOLDER]    dist/ if none is named
#
# QCOW2CRYPT_NATIVE says, as in setup.py, whether the wheel must have compiled kernels.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$root"

folder=${1:-dist}
case ${QCOW2CRYPT_NATIVE:-auto} in
    require) kind=native ;;
    off) kind=pure ;;
    *) kind=any ;;
esac
# setuptools would take over old files from build/lib into a new wheel.
rm -rf "$folder" build/lib build/lib.* build/temp.* build/bdist.* ./*.egg-info
logged build .venv/bin/python -m build --outdir "$folder"
logged build .venv/bin/twine check --strict "$folder"/*
.venv/bin/python tools/check_dist.py "$folder" "$kind"
