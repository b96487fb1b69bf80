#!/bin/sh
# Runs the commands of docs/tutorial-versioned-data.md in a temporary clone of the project.
# Usage, from the project folder: sh tools/data_demo.sh            runs the commands, then deletes the clone
#                                 sh tools/data_demo.sh --print    prints the commands
# `kedro`, `dvc` and `python` come from PATH; `make data-demo` puts .venv first.
set -eu

# Extract all shell blocks between the two data-demo comments.
commands=$(awk '
    /^<!-- data-demo -->$/     { inside = 1 }
    /^<!-- \/data-demo -->$/   { inside = 0 }
    /^```$/                    { block = 0 }
    inside && block            { print }
    inside && /^```sh$/        { block = 1 }
' docs/tutorial-versioned-data.md)
if [ "${1:-}" = --print ]; then
    printf '%s\n' "$commands"
    exit 0
fi

clone=$(mktemp -d)/resnet50-pipeline
trap 'rm -rf "${clone%/*}"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
git clone --quiet . "$clone"
cd "$clone"
git config user.name "${GIT_AUTHOR_NAME:-data-demo}"
git config user.email "${GIT_AUTHOR_EMAIL:-data-demo@localhost}"
# Use the clone's code, and keep DVC's site cache in the clone, to be deleted with it.
export PYTHONPATH="$clone/src" DVC_SITE_CACHE_DIR="$clone/.dvc/tmp/site"
printf '%s\n' "$commands" >"$clone/../commands.sh"
sh -eux "$clone/../commands.sh"
