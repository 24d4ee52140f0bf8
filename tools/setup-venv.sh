#!/usr/bin/env bash
# Make .venv ready for one purpose and install this package into it, in editable form.
#
#   tools/setup-venv.sh run     the package and what it needs to run
#   tools/setup-venv.sh test    and what the tests need
#   tools/setup-venv.sh dev     and ruff, mypy, build, and what `docs` has
#   tools/setup-venv.sh docs    what `run` needs, and Sphinx and Jupyter for the documents
#   tools/setup-venv.sh bench   what `run` needs, and what the benchmarks compare with
#   tools/setup-venv.sh fuzz    what `run` needs, and atheris
#   tools/setup-venv.sh mutate  what `test` needs but browsers, and cosmic-ray
#
# Does nothing, and needs no network, when that was done before and nothing it rests on changed.
# The C kernels are compiled with it, as QCOW2CRYPT_NATIVE says (see setup.py).  All purposes but
# `run` have a compiler installed where that is allowed; none needs one.
# PYTHON=... chooses the interpreter.  NO_APT=1 forbids the use of apt-get.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$root"

purpose=${1:?run, test, dev, docs, bench, fuzz or mutate}
venv=.venv

# ---------------------------------------------------------------------------- which interpreter

choose_python() {
    if [ -n "${PYTHON:-}" ]; then
        is_python "$PYTHON" || fail "PYTHON=$PYTHON is not a CPython 3.10 or later"
        echo "$PYTHON"
        return
    fi
    local candidates=() candidate version
    is_python python3 && candidates+=(python3)
    for version in 3.14 3.13 3.12 3.11 3.10; do
        candidate=$(find_version "$version") && candidates+=("$candidate")
    done
    for candidate in "${candidates[@]}"; do
        if has_venv "$candidate"; then echo "$candidate"; return; fi
    done
    if [ ${#candidates[@]} -gt 0 ]; then echo "${candidates[0]}"; return; fi
    may_install || fail "no CPython 3.10 or later was found" \
        "install one (Debian: apt-get install python3 python3-venv), or name it: make PYTHON=/path/to/python ..."
    apt_install python3 python3-venv >&2
    is_python /usr/bin/python3 || fail "the python3 of this system is older than 3.10" \
        "name a newer one: make PYTHON=/path/to/python ..."
    echo /usr/bin/python3
}

# What an environment rests on: its place, and which interpreter was asked for.
venv_key() { echo "$root ${PYTHON:-any}"; }

# What an installation rests on: the parts of pyproject.toml that pip reads, setup.py, and all that
# is compiled and compiles.
install_key() {
    { sed -n '/^\[build-system\]/,/^\[tool\.ruff\]/p' pyproject.toml; cat setup.py
      "$venv/bin/python" -VV
      cat csrc/*.py csrc/*.[ch]; echo "${QCOW2CRYPT_NATIVE:-auto}"
      "${CC:-cc}" --version 2>/dev/null || true; } | sha256sum | cut -d' ' -f1
}

# ------------------------------------------------------------------------------ the environment

if [ "$(cat "$venv/.made-for" 2>/dev/null)" != "$(venv_key)" ] || ! is_python "$venv/bin/python"; then
    python=$(choose_python)
    if ! has_venv "$python"; then
        package=python$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv
        may_install || fail "$python cannot make a virtual environment: ensurepip is missing" \
            "on Debian: apt-get install $package; or name another: make PYTHON=/path/to/python ..."
        apt_install "$package"
        has_venv "$python" || fail "$python still has no ensurepip after installing $package" \
            "name another Python: make PYTHON=/path/to/python ..."
    fi
    say "making $venv with $("$python" -V 2>&1) ($(command -v "$python"))"
    rm -rf "$venv"
    logged venv "$python" -m venv "$venv"
    venv_key >"$venv/.made-for"
fi

# --------------------------------------------------------------------------------- the compiler

if [ "$purpose" != run ] && [ "${QCOW2CRYPT_NATIVE:-auto}" != off ]; then
    missing=()
    command -v "${CC:-cc}" >/dev/null || missing+=(gcc libc6-dev)
    headers=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
    [ -e "$headers/Python.h" ] || missing+=("lib$(basename "$headers")-dev")
    if [ ${#missing[@]} -gt 0 ] && may_install; then
        apt_install "${missing[@]}" || say "they could not be installed"
    fi
fi

# --------------------------------------------------------------------------------- the packages

key=$(install_key)
case $purpose in
    run) target=. covers="run test dev docs bench" ;;
    test) target=".[test,browser]" covers="test dev" ;;
    dev) target=".[dev]" covers="dev" ;;
    docs) target=".[docs]" covers="docs dev" ;;
    bench) target=".[bench]" covers="bench" ;;
    fuzz) target=".[fuzz]" covers="fuzz" ;;
    mutate) target=".[mutate]" covers="mutate" ;;
    *) fail "the purpose is run, test, dev, docs, bench, fuzz or mutate, not '$purpose'" ;;
esac
for done in $covers; do
    if [ "$(cat "$venv/.installed-$done" 2>/dev/null)" = "$key" ]; then exit 0; fi
done
what=(--editable "$target")
for done in run test dev docs bench fuzz mutate; do
    # The package is there, built from what lies here: only what else this purpose needs.
    if [ "$(cat "$venv/.installed-$done" 2>/dev/null)" = "$key" ]; then what=("qcow2crypt${target#.}"); fi
done
say "installing qcow2crypt and what it needs ($purpose)"
logged pip "$venv/bin/python" -m pip install --verbose --disable-pip-version-check "${what[@]}" ||
    fail "the packages could not be installed" "is the network up?  The whole log: build/log/pip.log"
echo "$key" >"$venv/.installed-$purpose"
if ! "$venv/bin/python" -c 'import qcow2crypt._native' 2>/dev/null; then
    say "the C kernels were not compiled (is there a C compiler?  build/log/pip.log says more):" \
        "all works, but slower"
fi
