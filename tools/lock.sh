#!/bin/sh
# Writes requirements*.lock from pyproject.toml: sh tools/lock.sh [--upgrade]
# Versions in the lock files are kept if pyproject.toml allows them, unless --upgrade selects the latest ones.
#
# requirements.lock, requirements-gpu.lock and requirements-paddle26.lock contain the packages for running the project,
# and differ in the versions of Paddle, NumPy and OpenCV. requirements-dev.lock adds the developer packages to any of
# them. All other versions come from one resolution, with one version per package for all Python versions.
# deploy/airflow/requirements.lock is independent of these. The files are for CPython on Linux on x86-64 and do not name
# an index.
set -eu

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
root=$(pwd)
# As in pyproject.toml.
platform="implementation_name == 'cpython' and platform_machine == 'x86_64'"
platform="$platform and platform_python_implementation == 'CPython' and sys_platform == 'linux'"

# compile OUTPUT INPUT [ARGUMENT...]
compile() {
    output=$1
    shift
    uv pip compile "$@" --output-file "$output" --python-version 3.11 --generate-hashes \
        --no-emit-index-url --no-emit-find-links --no-annotate --custom-compile-command "make lock" --quiet
}

# compile_run OUTPUT BOUND PYTHONS [ARGUMENT...]: run it in a folder with the pyproject.toml to compile. BOUND is the
# first Python version that the file does not support.
compile_run() {
    output=$1
    bound="python_full_version < '$2'"
    pythons=$3
    shift 3
    compile "$output" pyproject.toml --universal --fork-strategy fewest --group paddleclas \
        --extra remotes --extra setup --extra sweep --extra viz "$@"
    # Every entry repeats the environment of pyproject.toml. tools/setup.sh reads the first line.
    {
        printf '# For Python %s.\n' "$pythons"
        sed "/^# For Python /d; s/ ; $bound and $platform//; s/ and $platform//" "$output"
    } >"$folder/stripped"
    cp "$folder/stripped" "$output"
}

cat requirements.lock requirements-dev.lock >"$folder/all.lock"
compile_run "$folder/all.lock" 3.14 "3.11 3.12 3.13" --extra cpu --extra dev "$@"
sed -n 's/^\([^# ][^ ]*\).*/\1/p' "$folder/all.lock" >"$folder/versions"
grep -vE '^(paddlepaddle|numpy|opencv-python-headless)==' "$folder/versions" >"$folder/shared-versions"
compile_run requirements.lock 3.14 "3.11 3.12 3.13" --extra cpu --constraints "$folder/versions" "$@"

# Paddle 2.6.2 and NumPy 1.26 have no wheels for Python 3.13, and other packages require NumPy 2 there.
sed "s/python_version < '3.14'/python_version < '3.13'/" pyproject.toml >"$folder/pyproject.toml"
cp README.md "$folder"
cd "$folder"
for device in gpu paddle26; do
    compile_run "$root/requirements-$device.lock" 3.13 "3.11 3.12" --extra "$device" --constraints shared-versions "$@"
done
cd "$root"
compile deploy/airflow/requirements.lock deploy/airflow/requirements.in --python-platform linux "$@"

# Keep the entries of all.lock that are not in requirements.lock.
{
    sed -n '/^#/p' requirements.lock
    awk '/^#/ { next } /^[^ ]/ { keep = !($1 in run) } FNR == NR { if (/^[^ ]/) run[$1] = 1; next } keep' \
        requirements.lock "$folder/all.lock"
} >"$folder/dev.lock"
mv "$folder/dev.lock" requirements-dev.lock
