#!/bin/sh
# Checks training on this machine's GPUs in about five minutes: sh tools/gpu_check.sh [--device cpu] [--help]
# Prints a table, and writes build/gpu_check.json, which you can attach to an issue. Needs `make setup GPU=1`, no network.
set -eu
cd "$(dirname "$0")/.."
exec .venv/bin/python -W ignore tools/gpu_check.py "$@"
