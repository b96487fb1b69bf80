#!/bin/sh
# Makes .venv hold what a lock file says and the project itself; does nothing where it does already.
# Usage, from the project folder: sh tools/setup.sh requirements.lock [.venv]
# PYTHON names the interpreter to use; without it python3.11 and python3 are tried.
#
# installed/ in it remembers what it holds: `lock` and `pyproject.toml` are copies of what was installed,
# `name` is the lock's path as given, `root` the project folder (programs in .venv start by absolute path),
# `touched` the packages of every lock that an unfinished installation has begun since.
set -eu

lock=$1
venv=${2:-.venv}
state=$venv/installed
root=$(pwd -P)
# make puts its programs first; an environment is made by an interpreter from outside it.
PATH=${PATH#"$root/$venv/bin:"}

say() { printf '%s\n' "$*"; }
fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

is_current() {
    [ "$(cat "$state/root" 2>/dev/null)" = "$root" ] &&
        cmp -s "$lock" "$state/lock" && cmp -s pyproject.toml "$state/pyproject.toml"
}

is_python_3_11() { "$1" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' >/dev/null 2>&1; }

find_python() {
    for candidate in ${PYTHON:+"$PYTHON"} python3.11 python3; do
        if is_python_3_11 "$candidate"; then
            say "$candidate"
            return
        fi
    done
    fail "Python 3.11 is needed (paddleclas 2.6.0 pins a numpy without wheels for later ones), and neither" \
        "python3.11 nor python3 is one. Install it (Debian 12: apt-get install python3.11-venv), or name one:" \
        "make setup PYTHON=/path/to/python3.11"
}

# Prints the Debian packages that are missing; wheels bring their own copies of everything else.
missing_packages() {
    "$python" -c 'import ensurepip, venv' >/dev/null 2>&1 || say python3.11-venv
    for pair in libGL.so.1=libgl1 libgthread-2.0.so.0=libglib2.0-0 libgomp.so.1=libgomp1; do
        "$python" -c 'import ctypes, sys; ctypes.CDLL(sys.argv[1])' "${pair%=*}" >/dev/null 2>&1 || say "${pair#*=}"
    done
}

require_system_packages() {
    packages=$(missing_packages | tr '\n' ' ')
    packages=${packages% }
    [ -n "$packages" ] || return 0
    if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
        say "Installing system packages: $packages"
        # shellcheck disable=SC2086 # one word a package
        words=$(apt-get update -qq 2>&1 &&
            DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages 2>&1) ||
            fail "apt-get could not install $packages:
$words"
        packages=$(missing_packages | tr '\n' ' ')
        [ -z "$packages" ] || fail "$packages installed, but $python still does not find what they bring"
    elif command -v apt-get >/dev/null; then
        fail "system packages are missing (OpenCV and Paddle load their libraries). Run:" \
            "sudo apt-get install -y $packages"
    elif command -v dnf >/dev/null; then
        fail "libraries are missing: libGL.so.1, libgthread-2.0.so.0 or libgomp.so.1 (OpenCV and Paddle load them)." \
            "Run: sudo dnf install -y mesa-libGL glib2 libgomp"
    else
        fail "install what Debian calls $packages: libGL.so.1, libgthread-2.0.so.0, libgomp.so.1, Python's ensurepip"
    fi
}

require_environment() {
    if [ -e "$venv" ] && ! "$venv/bin/python" -c '' >/dev/null 2>&1; then
        say "The interpreter of $venv is gone: creating $venv anew"
        rm -rf "$venv"
    elif [ -e "$state/root" ] && [ "$(cat "$state/root")" != "$root" ]; then
        say "The project folder has moved here from $(cat "$state/root"): creating $venv anew"
        rm -rf "$venv"
    fi
    if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
        "$python" -m venv "$venv" || fail "$python -m venv $venv did not work"
    fi
    is_python_3_11 "$venv/bin/python" || fail "$venv is not a Python 3.11 environment; delete it and run make setup again"
}

names() { sed -n 's/^\([A-Za-z0-9][A-Za-z0-9._-]*\)==.*/\1/p' "$1" | sort -u; }

pip_install() {
    "$venv/bin/python" -m pip --no-input --disable-pip-version-check install -qq --progress-bar off "$@" ||
        fail "pip could not install what $lock names (its words are above); once that is mended: make setup"
}

# Packages that an earlier lock brought and this one does not: paddlepaddle and paddlepaddle-gpu share their files.
remove_packages_of_earlier_locks() {
    names "$state/touched" >"$state/earlier"
    names "$lock" >"$state/wanted"
    outdated=$(comm -23 "$state/earlier" "$state/wanted" | tr '\n' ' ')
    rm "$state/earlier" "$state/wanted"
    if [ -n "$outdated" ]; then
        # shellcheck disable=SC2086 # one word a package
        "$venv/bin/python" -m pip --disable-pip-version-check uninstall --quiet --yes $outdated
    fi
}

install_lock() {
    if [ -e "$state/lock" ]; then mv "$state/lock" "$state/touched"; else touch "$state/touched"; fi
    remove_packages_of_earlier_locks
    cat "$lock" >>"$state/touched"
    say "Installing $(names "$lock" | wc -l | tr -d ' ') packages of $lock into $venv: some 2 GB, a few minutes"
    # Source packages are built by the setuptools of the lock, not by one that pip would fetch unpinned.
    awk '/^[^ #]/ { keep = /^(setuptools|wheel)==/ } keep' "$lock" >"$state/build.lock"
    if [ -s "$state/build.lock" ]; then pip_install --require-hashes -r "$state/build.lock"; fi
    # The lock is complete, so pip need not resolve. Where it does, it takes the newest release of a package that
    # another asks for with an extra (`coverage[toml]`), and refuses it because the lock has an older one.
    pip_install --require-hashes --no-deps --no-build-isolation --use-pep517 -r "$lock"
    "$venv/bin/python" -m pip --disable-pip-version-check check >"$state/check" ||
        fail "$lock is not complete: $(cat "$state/check"); write it anew: make lock"
    rm "$state/check"
    cp "$lock" "$state/lock"
    printf '%s\n' "$lock" >"$state/name"
    rm -f "$state/touched" "$state/build.lock"
}

[ -f "$lock" ] || fail "$lock does not exist; requirements.lock and requirements-gpu.lock do"
if is_current; then
    exit 0
fi
python=$(find_python)
require_system_packages
require_environment
mkdir -p "$state"
printf '%s\n' "$root" >"$state/root"
rm -f "$state/pyproject.toml"
if ! cmp -s "$lock" "$state/lock"; then
    install_lock
fi
pip_install --no-deps --no-build-isolation --editable .
cp pyproject.toml "$state/pyproject.toml"
say "Ready: $venv ($("$venv/bin/python" --version), $lock)"
