#!/usr/bin/env bash
# Build the sdist, from it the wheel, both into dist/, and check what is in them.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$root"

# setuptools would take over old files from build/lib into a new wheel.
rm -rf dist build/lib build/bdist.* ./*.egg-info
logged build .venv/bin/python -m build --outdir dist
logged build .venv/bin/twine check --strict dist/*
.venv/bin/python tools/check_dist.py dist
