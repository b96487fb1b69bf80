# The commands of this project; `make help` lists them. Everything is installed into .venv and nowhere else.
# GNU make, POSIX sh.

.DEFAULT_GOAL := help
.NOTPARALLEL:
SHELL := /bin/sh

# The lock file that .venv follows: GPU=1 or LOCK=FILE chooses, what was installed last is remembered.
LOCK ?= $(if $(GPU),requirements-gpu.lock,$(shell cat .venv/installed/name 2>/dev/null || echo requirements.lock))
# Further arguments: `make run ARGS="--env imagenet"`, `make test ARGS="tests/imagenet -x"`.
ARGS ?=
HOST ?= 127.0.0.1
UI_PORT ?= 5000
VIZ_PORT ?= 4141
FUZZ_SECONDS ?= 300
TRACKING_URI ?= sqlite:///mlflow.db

# DVC's stages call `kedro` by name, so the environment's programs come first.
export PATH := $(CURDIR)/.venv/bin:$(PATH)

# Nothing reports home: Kedro, MLflow, DVC, Great Expectations.
export DO_NOT_TRACK := true
export KEDRO_DISABLE_TELEMETRY := 1
export MLFLOW_DISABLE_TELEMETRY := true
export DVC_NO_ANALYTICS := 1
export GX_ANALYTICS_ENABLED := false
# What libraries keep between runs lies inside the project: DVC's notes on files it has hashed, Matplotlib's font list.
export DVC_SITE_CACHE_DIR := $(CURDIR)/.dvc/tmp/site
export MPLCONFIGDIR := $(CURDIR)/.venv/matplotlib

.PHONY: help setup run repro test fuzz lint format ui viz lock clean distclean

help: ## list the commands
	@sed -n 's/^\([a-z]*\):[^#]*## /\1\t/p' Makefile | expand -t 12

setup: ## create .venv from the lock file and install the project (GPU=1: with paddlepaddle-gpu)
	@sh tools/setup.sh "$(LOCK)"

run: setup ## kedro run: the whole chain, on the sample unless ARGS="--env imagenet" says otherwise
	@.venv/bin/kedro run $(ARGS)

repro: setup ## dvc repro: the same chain, without the stages that nothing changed for
	@.venv/bin/dvc repro $(ARGS)

test: setup ## the whole test suite, quick tests first, with coverage
	@.venv/bin/pytest --cov --cov-report=term:skip-covered $(ARGS)

fuzz: setup ## mutated images and list files, FUZZ_SECONDS (300) each, another seed each time
	@.venv/bin/python tests/fuzzing.py images --seconds $(FUZZ_SECONDS) --keep fuzz-last-case $(ARGS)
	@.venv/bin/python tests/fuzzing.py lists --seconds $(FUZZ_SECONDS) --keep fuzz-last-case $(ARGS)
	@rm -f fuzz-last-case

lint: setup ## ruff, mypy and the import contracts
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/lint-imports --no-logo

format: setup ## let ruff format and mend what it can
	.venv/bin/ruff format
	.venv/bin/ruff check --fix

ui: setup ## MLflow's page with all runs and models, on UI_PORT (5000)
	@echo "http://$(HOST):$(UI_PORT) shows $(TRACKING_URI); Ctrl-C ends it"
	@.venv/bin/mlflow ui --backend-store-uri "$(TRACKING_URI)" --host "$(HOST)" --port "$(UI_PORT)" --workers 1 $(ARGS)

viz: setup ## Kedro-Viz' picture of the pipelines, on VIZ_PORT (4141)
	@.venv/bin/kedro viz run --no-browser --host "$(HOST)" --port "$(VIZ_PORT)" $(ARGS)

# What stands in the lock files already stays as long as pyproject.toml allows it; ARGS=--upgrade takes the newest.
# Both are for Linux on x86_64, and name neither an index nor a folder of wheels: pip asks where this machine asks.
UV_COMPILE = uv pip compile pyproject.toml --extra viz --extra dev --python-version 3.11 --python-platform linux \
	--generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate --custom-compile-command "make lock" \
	--quiet $(ARGS)

lock: ## write requirements.lock and requirements-gpu.lock anew from pyproject.toml
	@command -v uv >/dev/null || { echo "uv is missing; run: make setup" >&2; exit 1; }
	$(UV_COMPILE) --extra cpu --output-file requirements.lock
	$(UV_COMPILE) --extra gpu --output-file requirements-gpu.lock

clean: ## delete caches and what runs on the sample wrote (data/sample, data/test)
	rm -rf data/sample data/test .viz .cache build dist .coverage .coverage.* htmlcov
	rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis src/*.egg-info
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## clean, and delete .venv; results of your own stay and are named
	rm -rf .venv
	@for kept in data/imagenet mlflow.db mlartifacts .dvc/cache; do \
		if [ -e "$$kept" ]; then echo "kept: $$kept (delete it by hand if nothing in it is worth keeping)"; fi; \
	done
