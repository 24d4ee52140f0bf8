# shellcheck shell=bash
# What the set-up scripts share.  Sourced, never run; every message goes to stderr.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
logs=$root/build/log

say() { printf '  %s\n' "$*" >&2; }

fail() {
    printf 'error: %s\n' "$1" >&2
    shift
    for line in "$@"; do printf '       %s\n' "$line" >&2; done
    exit 1
}

# Run a noisy command into build/log/NAME.log; show the end of the log only when it fails.
logged() {
    local name=$1 log=$logs/$1.log
    shift
    mkdir -p "$logs"
    printf '$ %s\n' "$*" >>"$log"
    if "$@" >>"$log" 2>&1 </dev/null; then return 0; fi
    printf 'error: this failed: %s\n       the end of build/log/%s.log:\n' "$*" "$name" >&2
    tail -n 25 "$log" | sed 's/^/       | /' >&2
    return 1
}

# The prefix that makes a command run as root: nothing for root, sudo where it asks nothing.
# False where system packages may not be installed.  NO_APT=1 forbids it.
as_root=()
may_install() {
    [ -z "${NO_APT:-}" ] && command -v apt-get >/dev/null || return 1
    if [ "$(id -u)" -eq 0 ]; then return 0; fi
    sudo -n true 2>/dev/null || return 1
    as_root=(sudo -n)
}

# Install Debian packages.  Call may_install first.
apt_install() {
    say "installing Debian packages: $*"
    local get=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive
        apt-get -q -o DPkg::Lock::Timeout=300)
    # An update that fails is no reason to stop yet: the package may be known already.
    logged apt "${get[@]}" update || true
    logged apt "${get[@]}" install -y --no-install-recommends "$@"
}

# Is $1 a CPython this project runs on (3.10 or later), beyond what a wrapper's name promises?
is_python() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 10) or sys.implementation.name != "cpython")' \
        >/dev/null 2>&1
}

# Can $1 make a virtual environment?  Debian's python3 alone cannot: it lacks ensurepip.
has_venv() { "$1" -c 'import ensurepip, venv' >/dev/null 2>&1; }

# A Python of version $1 (such as 3.12) that really starts: a wrapper on PATH may only say it does.
find_version() {
    local candidate
    for candidate in "$(command -v "python$1" || true)" \
        "${PYENV_ROOT:-${HOME:-}/.pyenv}"/versions/"$1".*/bin/python "/usr/bin/python$1" "/usr/local/bin/python$1"; do
        if [ -x "$candidate" ] && "$candidate" -c \
            'import sys; sys.exit("%d.%d" % sys.version_info[:2] != sys.argv[1])' "$1" \
            >/dev/null 2>&1; then
            echo "$candidate"
            return 0
        fi
    done
    return 1
}
