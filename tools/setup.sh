#!/bin/sh
# Installs the packages of a lock file and the project itself into .venv, unless they are already installed.
# Usage, from the project folder: sh tools/setup.sh requirements.lock [.venv [requirements-dev.lock]]
# PYTHON sets the interpreter. The default is the environment's own, otherwise the first of python3, python3.13,
# python3.12 and python3.11 whose version is in the first line of the lock file.
#
# The third argument adds the developer packages, which then stay in the environment: later calls without it install
# both lock files, so that `make run` and `make test` can alternate without reinstalling anything.
#
# The pip bundled with Python installs uv from the lock file, and uv installs everything else. uv's cache is outside the
# project folder.
#
# .venv/installed describes the environment: `lock`, `dev.lock` and `pyproject.toml` are copies of what was installed,
# `name` and `dev` are the paths of the lock files as given, `root` is the project folder (programs in .venv start by
# absolute path), and `touched` contains the lock files that an unfinished installation replaces or installs.
set -eu

lock=$1
venv=${2:-.venv}
state=$venv/installed
dev=${3:-}
if [ -z "$dev" ] && [ -e "$state/dev" ]; then
    dev=$(cat "$state/dev")
    [ -f "$dev" ] || dev=
fi
root=$(pwd -P)
# make puts .venv first in PATH, but the environment must be created by an interpreter outside it.
PATH=${PATH#"$root/$venv/bin:"}

say() { printf '%s\n' "$*"; }
fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

has_lock() { cmp -s "$lock" "$state/lock"; }
has_dev() { [ -z "$dev" ] || cmp -s "$dev" "$state/dev.lock"; }

# Checks whether the environment has the requested interpreter.
has_python() { [ -z "${PYTHON:-}" ] || [ "$(version_of "$PYTHON")" = "$(version_of "$venv/bin/python")" ]; }

is_current() {
    [ "$(cat "$state/root" 2>/dev/null)" = "$root" ] && has_python &&
        has_lock && has_dev && cmp -s pyproject.toml "$state/pyproject.toml"
}

# Prints the version of an interpreter, such as 3.12, or nothing if it does not start.
version_of() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || true; }

# Checks whether the lock file has packages for an interpreter's version.
is_served() { case " $pythons " in *" $(version_of "$1") "*) ;; *) return 1 ;; esac; }

find_python() {
    for candidate in ${PYTHON:+"$PYTHON"} python3 python3.13 python3.12 python3.11; do
        if is_served "$candidate"; then
            say "$candidate"
            return
        fi
        [ -z "${PYTHON:-}" ] || break
    done
    fail "$lock needs one of these Python versions: $pythons." \
        "${PYTHON:+$PYTHON is not one of them. }Install one (Debian 12: apt-get install python3.11-venv), or set its path: make setup PYTHON=/path/to/python3.12"
}

# Prints the missing Debian packages: Python's pip wheel, and a library that Paddle loads but does not include.
missing_packages() {
    "$python" -c 'import ensurepip, venv' >/dev/null 2>&1 || say "python$(version_of "$python")-venv"
    "$python" -c 'import ctypes; ctypes.CDLL("libgomp.so.1")' >/dev/null 2>&1 || say libgomp1
}

require_system_packages() {
    packages=$(missing_packages | tr '\n' ' ')
    packages=${packages% }
    [ -n "$packages" ] || return 0
    if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
        say "Installing system packages: $packages"
        # shellcheck disable=SC2086 # one word per package
        words=$(apt-get update -qq 2>&1 &&
            DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages 2>&1) ||
            fail "apt-get could not install $packages:
$words"
        packages=$(missing_packages | tr '\n' ' ')
        packages=${packages% }
    fi
    [ -z "$packages" ] || fail "system packages are missing. Run: sudo apt-get install -y $packages" \
        "(Fedora: sudo dnf install -y libgomp, and a Python with ensurepip)"
}

# Prints why the environment must be recreated, or nothing.
reason_to_create_again() {
    if [ ! -e "$venv" ]; then return; fi
    version=$(version_of "$venv/bin/python")
    if [ -z "$version" ]; then
        say "The interpreter of $venv no longer exists"
    elif [ -e "$state/root" ] && [ "$(cat "$state/root")" != "$root" ]; then
        say "The project folder has moved here from $(cat "$state/root")"
    elif ! is_served "$venv/bin/python"; then
        say "$venv has Python $version, but $lock needs one of: $pythons"
    elif [ -n "${PYTHON:-}" ] && [ "$(version_of "$PYTHON")" != "$version" ]; then
        say "$venv has Python $version, but PYTHON is $PYTHON"
    fi
}

require_environment() {
    reason=$(reason_to_create_again)
    if [ -e "$venv/bin/python" ] && [ -z "$reason" ]; then return; fi
    python=$(find_python)
    require_system_packages
    if [ -n "$reason" ]; then
        say "$reason: creating $venv again"
        rm -rf "$venv"
    fi
    # ensurepip would take up most of the installation time.
    "$python" -m venv --without-pip "$venv" || fail "$python -m venv $venv failed"
}

# Prints the names of the packages in lock files.
names() { sed -n 's/^\([A-Za-z0-9][A-Za-z0-9._-]*\)==.*/\1/p' "$@" | sort -u; }

# Prints the entries of the lock file for packages that match an extended regular expression.
entries() { awk -v names="^($1)==" '/^[^ #]/ { keep = $0 ~ names } keep' "$lock"; }

# Unpacks the pip that ensurepip would install; Debian keeps its wheel in another folder.
unpack_pip() {
    "$venv/bin/python" - "$state/pip" <<'END'
import ensurepip, pathlib, sys, sysconfig, zipfile

folders = [sysconfig.get_config_var("WHEEL_PKG_DIR"), pathlib.Path(ensurepip.__file__).parent / "_bundled"]
wheels = [wheel for folder in folders if folder for wheel in sorted(pathlib.Path(folder).glob("pip-*.whl"))]
zipfile.ZipFile(wheels[0]).extractall(sys.argv[1])
END
}

run_pip() { PYTHONPATH=$root/$state/pip "$venv/bin/python" -m pip --disable-pip-version-check "$@"; }

# Installs uv, and makes it use pip's configuration.
install_uv() {
    if [ -n "$reinstall" ] || ! "$venv/bin/python" -c 'import pip' >/dev/null 2>&1; then
        unpack_pip || fail "Python has no pip wheel for ensurepip" \
            "(Debian: apt-get install python$(version_of "$venv/bin/python")-venv)"
    fi
    entries uv >"$state/uv.lock"
    version=$(sed -n 's/^uv==\([^ ]*\).*/\1/p' "$state/uv.lock")
    [ -n "$version" ] || fail "$lock does not contain uv; update it: make lock"
    case $("$venv/bin/uv" --version 2>/dev/null) in
        "uv $version" | "uv $version "*) ;;
        *)
            run_pip --no-input install -qq --progress-bar off --no-compile --force-reinstall --no-deps \
                --require-hashes -r "$state/uv.lock" ||
                fail "pip could not install uv (its message is above); fix the cause and run make setup again"
            ;;
    esac
    rm "$state/uv.lock"
    options=$(run_pip config list) ||
        fail "pip could not read its configuration (its message is above); fix the cause and run make setup again"
    rm -rf "$state/pip"
    settings=$(printf '%s\n' "$options" | "$venv/bin/python" tools/uv_settings.py)
    eval "$settings"
    if ! cache=$("$venv/bin/uv" cache dir 2>/dev/null) || ! mkdir -p "$cache" 2>/dev/null || [ ! -w "$cache" ]; then
        export UV_NO_CACHE=1
    fi
}

run_uv() {
    command=$1
    shift
    "$venv/bin/uv" pip "$command" --quiet --python "$venv/bin/python" "$@"
}

# Prints a line every 10 seconds. uv's own progress bar would also list all packages. uv unpacks each downloaded package
# into a folder of its cache.
show_progress() {
    downloaded() { find "${cache:-/nowhere}/archive-v0" -mindepth 1 -maxdepth 1 2>/dev/null | wc -l; }
    before=$(downloaded)
    seconds=0
    while sleep 10 && kill -0 "$$" 2>/dev/null; do
        seconds=$((seconds + 10))
        count=$(($(downloaded) - before))
        if [ "$count" -gt 0 ]; then say "  $seconds s: $count packages downloaded"; else say "  $seconds s"; fi
    done
}

install_packages() {
    show_progress &
    progress=$!
    # shellcheck disable=SC2086 # no_index is an option or empty
    if ! run_uv install $no_index --no-deps --no-build-isolation "$@"; then
        kill "$progress" 2>/dev/null || true
        fail "uv could not install the packages (its message is above); fix the cause and run make setup again"
    fi
    kill "$progress" 2>/dev/null || true
    wait "$progress" 2>/dev/null || true
}

# Removes packages of an earlier lock file that are not in the current ones. This matters because paddlepaddle and
# paddlepaddle-gpu share files.
remove_packages_of_earlier_locks() {
    names "$state/touched" >"$state/earlier"
    names "$lock" ${dev:+"$dev"} >"$state/wanted"
    outdated=$(comm -23 "$state/earlier" "$state/wanted" | tr '\n' ' ')
    rm "$state/earlier" "$state/wanted"
    if [ -n "$outdated" ]; then
        # shellcheck disable=SC2086 # one word per package
        run_uv uninstall $outdated
    fi
}

# Moves the content of an installed lock file to `touched`.
touch_installed() {
    [ ! -e "$state/$1" ] || cat "$state/$1" >>"$state/touched"
    rm -f "$state/$1"
}

# Installs the lock files that have changed. Packages of unchanged ones stay, even if the user has replaced some.
install_locks() {
    set --
    if ! has_lock; then set -- "$lock"; fi
    if ! has_dev; then set -- "$@" "$dev"; fi
    [ "$#" -gt 0 ] || return 0
    touch "$state/touched"
    if ! has_lock; then touch_installed lock; fi
    if ! has_dev; then touch_installed dev.lock; fi
    remove_packages_of_earlier_locks
    cat "$@" >>"$state/touched"
    say "Installing $(names "$@" | wc -l | tr -d ' ') packages of $* into $venv." \
        "Downloading them takes a few minutes, unless uv has them in its cache."
    # Source packages are built by the setuptools of the lock file, so it is installed before them.
    entries 'setuptools|wheel' >"$state/tools.lock"
    if [ -s "$state/tools.lock" ]; then install_packages $reinstall --require-hashes -r "$state/tools.lock"; fi
    rm "$state/tools.lock"
    for file in "$@"; do
        # The lock files are complete, so uv does not resolve versions, and new releases have no effect.
        install_packages $reinstall --require-hashes -r "$file"
    done
}

# Python runs the line in this file at every start, so these settings apply to every program in .venv, even without
# make. They turn off telemetry, and keep Matplotlib's font list and DVC's file hashes in the project folder. Variables
# set by the user are kept.
write_settings() {
    packages=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    cat >"$packages/resnet50_pipeline_settings.pth" <<'END'
import os, sys; os.environ.update({"DO_NOT_TRACK": "true", "KEDRO_DISABLE_TELEMETRY": "1", "MLFLOW_DISABLE_TELEMETRY": "true", "DVC_NO_ANALYTICS": "1", "GX_ANALYTICS_ENABLED": "false", "MPLCONFIGDIR": os.path.join(sys.prefix, "matplotlib"), "DVC_SITE_CACHE_DIR": os.path.join(os.path.dirname(sys.prefix), ".dvc", "tmp", "site")} | dict(os.environ))
END
}

[ -f "$lock" ] || fail "$lock does not exist; requirements.lock and requirements-gpu.lock do"
pythons=$(sed -n 's/^# For Python \(.*\)\.$/\1/p' "$lock")
pythons=${pythons:-3.11 3.12 3.13}
[ -z "$dev" ] || [ -f "$dev" ] || fail "$dev does not exist"
if is_current; then
    exit 0
fi
require_environment
mkdir -p "$state"
printf '%s\n' "$root" >"$state/root"
rm -f "$state/pyproject.toml"
# An interrupted installation may have left packages that are incomplete but look installed.
reinstall=
if [ -e "$state/touched" ]; then reinstall=--reinstall; fi
install_uv
install_locks
install_packages --editable .
write_settings
if entries 'nvidia-.*-cu11' | grep -q .; then
    "$venv/bin/python" -m resnet50_pipeline.trainer.probes.cuda_libraries ||
        fail "the CUDA libraries could not be linked into Paddle (the message is above)"
fi
# Uses the metadata in pyproject.toml.
problems=$(run_uv check 2>&1) ||
    fail "$lock${dev:+ and $dev} are not complete: $problems; update them: make lock"
cp "$lock" "$state/lock"
printf '%s\n' "$lock" >"$state/name"
if [ -n "$dev" ]; then
    cp "$dev" "$state/dev.lock"
    printf '%s\n' "$dev" >"$state/dev"
fi
rm -f "$state/touched"
cp pyproject.toml "$state/pyproject.toml"
say "Ready: $venv ($("$venv/bin/python" --version), $lock${dev:+, $dev})"
