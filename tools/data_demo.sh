#!/bin/sh
# Runs the README's walk-through of versioned data, command by command, in a clone of the project of its own.
# Usage, from the project folder: sh tools/data_demo.sh            the clone is deleted at the end
#                                 sh tools/data_demo.sh --print    prints the commands, as the tests run them
# `kedro`, `dvc` and `python` are the first on PATH: `make data-demo` has those of .venv.
set -eu

# All shell blocks of README.md between the two comments.
commands=$(awk '
    /^<!-- data-demo -->$/     { inside = 1 }
    /^<!-- \/data-demo -->$/   { inside = 0 }
    /^```$/                    { block = 0 }
    inside && block            { print }
    inside && /^```sh$/        { block = 1 }
' README.md)
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
# The clone's own code, and notes of DVC that go with it.
export PYTHONPATH="$clone/src" DVC_SITE_CACHE_DIR="$clone/.dvc/tmp/site"
printf '%s\n' "$commands" >"$clone/../commands.sh"
sh -eux "$clone/../commands.sh"
