# The project's commands; `make help` lists them. Packages are installed into .venv, or another folder of the project
# with VENV=FOLDER. Needs GNU make and a POSIX shell.

.DEFAULT_GOAL := help
.NOTPARALLEL:
SHELL := /bin/sh

VENV ?= .venv
# The lock file to install, set by GPU=1 or LOCK=FILE. The default is the one installed last.
LOCK ?= $(if $(GPU),requirements-gpu.lock,$(shell cat $(VENV)/installed/name 2>/dev/null || echo requirements.lock))
# Additional arguments, as in `make run ARGS="--env imagenet"`, `make test ARGS="tests/imagenet -x"`.
ARGS ?=
HOST ?= 127.0.0.1
UI_PORT ?= 5000
VIZ_PORT ?= 4141
DOCS_PORT ?= 8000
FUZZ_SECONDS ?= 300
KILLS ?= 50
# The suite spends half its time waiting for servers and hanging ranks, so use more processes than cores.
TEST_PROCESSES ?= 3
# Pages that `make report` and `make data-docs` open instead of those in the environment's workspace.
INDEX ?=
DATA_DOCS ?=

# DVC's stages call `kedro` by name, so the environment's programs come first.
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

# Without bytecode files, every process spends seconds compiling its imports. Container images often set this variable,
# but .venv outlives a single process.
unexport PYTHONDONTWRITEBYTECODE

# Turn off the telemetry of Kedro, MLflow, DVC and Great Expectations.
export DO_NOT_TRACK := true
export KEDRO_DISABLE_TELEMETRY := 1
export MLFLOW_DISABLE_TELEMETRY := true
export DVC_NO_ANALYTICS := 1
export GX_ANALYTICS_ENABLED := false
# Keep library caches inside the project: DVC's file hashes and Matplotlib's font list.
export DVC_SITE_CACHE_DIR := $(CURDIR)/.dvc/tmp/site
export MPLCONFIGDIR := $(CURDIR)/$(VENV)/matplotlib

.PHONY: help setup setup-dev preflight run adopt repro data-demo test test-slow test-all test-paddle26 rank-tests fuzz chaos screenshot lint format audit
# Phony, because `docs` is also a folder.
.PHONY: docs docs-outputs docs-serve notebook
.PHONY: promote rollback sync-runs ui viz lock clean distclean
.PHONY: package airflow-dag
.PHONY: sweep viz-build report data-docs exp experiment

help: ## lists the commands
	@sed -n 's/^\([a-z0-9-]*\):[^#]*## /\1\t/p' Makefile | expand -t 16

setup: ## creates .venv from the lock file and installs the project (GPU=1: with paddlepaddle-gpu)
	@sh tools/setup.sh "$(LOCK)" "$(VENV)"

setup-dev: ## runs setup and adds the packages that test, lint, docs and notebook need
	@sh tools/setup.sh "$(LOCK)" "$(VENV)" requirements-dev.lock

preflight: setup ## checks the requirements of a run and prints what it would start (ARGS="--env imagenet")
	@$(VENV)/bin/kedro preflight $(ARGS)

run: setup ## runs all pipelines (kedro run) on the sample, or on ImageNet with ARGS="--env imagenet"
	@$(VENV)/bin/kedro run $(ARGS)

adopt: setup ## writes an environment for training on your own images (DATA=/data/flowers ARGS="--recipe …")
	@test -n "$(DATA)" || { echo "set the folder of your images: make adopt DATA=/data/flowers" >&2; exit 1; }
	@$(VENV)/bin/kedro adopt "$(DATA)" $(ARGS)

repro: setup ## runs the stages whose data, parameters or code have changed (dvc repro)
	@$(VENV)/bin/dvc repro $(ARGS) || { code=$$?; $(VENV)/bin/kedro data-doctor --quick >&2; exit $$code; }

data-demo: setup ## runs the tutorial on versioned data in a temporary clone
	@sh tools/data_demo.sh

test: setup-dev ## runs the quick tests and one run of all pipelines in TEST_PROCESSES (3) processes
	@$(VENV)/bin/pytest $(IN_PROCESSES) -m "not slow or chain" $(ARGS)

test-slow: setup-dev ## runs the tests that `make test` skips, except the exhaustive ones
	@$(VENV)/bin/pytest $(IN_PROCESSES) -m "slow and not chain and not exhaustive" $(ARGS)

test-all: setup-dev ## runs all tests and measures their coverage
	@$(VENV)/bin/pytest $(IN_PROCESSES) --cov --cov-report=term:skip-covered $(ARGS)

# Run all tests of a file in one process, to set up its fixtures only once.
IN_PROCESSES = --numprocesses $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder

# The tests that compute with Paddle: all quick ones and exact resume.
RANK_TESTS = tests/trainer tests/imaging tests/training/test_resume.py tests/training/test_virtual_ranks.py
test-paddle26: ## runs the tests of the ranks with paddlepaddle 2.6.2 in .venv-paddle26
	@$(MAKE) --no-print-directory rank-tests VENV=.venv-paddle26 LOCK=requirements-paddle26.lock

rank-tests: setup-dev
	@$(VENV)/bin/pytest $(IN_PROCESSES) $(RANK_TESTS) $(ARGS)

fuzz: setup-dev ## tests with mutated images and list files for FUZZ_SECONDS (300) each, with a new seed
	@$(VENV)/bin/python tests/fuzzing.py images --seconds $(FUZZ_SECONDS) --keep fuzz-last-case $(ARGS)
	@$(VENV)/bin/python tests/fuzzing.py lists --seconds $(FUZZ_SECONDS) --keep fuzz-last-case $(ARGS)
	@for format in JPEG PNG BMP WEBP GIF TIFF; do \
		$(VENV)/bin/python tests/fuzzing.py $$format --seconds $(FUZZ_SECONDS) --keep fuzz-last-case $(ARGS) || exit; \
	done
	@rm -f fuzz-last-case

chaos: setup-dev ## kills KILLS (50) training runs at random moments, resumes each and compares it with an uninterrupted run
	@.venv/bin/python tests/chaos.py --kills $(KILLS) $(ARGS)

screenshot: setup-dev ## takes the README's screenshot of the report from the last `make run` on the sample
	@$(VENV)/bin/python tests/reporting/browser.py data/sample/08_reporting/evaluation_report.html docs/images/report.png

lint: setup-dev ## runs ruff, mypy and the import contract checks
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-logo

audit: setup-dev ## lists known vulnerabilities of the locked packages (asks osv.dev)
	@$(VENV)/bin/python tools/audit.py requirements.lock requirements-gpu.lock requirements-dev.lock

format: setup-dev ## formats the code and fixes lint errors with ruff
	$(VENV)/bin/ruff format
	$(VENV)/bin/ruff check --fix

sweep: setup ## starts or continues a hyperparameter sweep (ARGS="--show": only shows the trials so far)
	@$(VENV)/bin/kedro sweep $(ARGS)

promote: setup ## makes VERSION of the registered model the champion (ARGS="--env imagenet --despite-gate --why …")
	@$(VENV)/bin/kedro promote $(ARGS) $(VERSION)

rollback: setup ## restores the previous champion
	@$(VENV)/bin/kedro rollback $(ARGS)

sync-runs: setup ## uploads results that could not reach MLflow, and ends runs that were killed
	@$(VENV)/bin/kedro sync-runs $(ARGS)

package: setup ## builds a wheel and a configuration archive in dist/ (see docs/deployment.md)
	@$(VENV)/bin/kedro package

airflow-dag: setup-dev ## generates the DAGs in deploy/airflow with kedro-airflow
	@for env in local imagenet; do $(VENV)/bin/kedro airflow create --env $$env --target-dir deploy/airflow/dags \
		--jinja-file deploy/airflow/dag.py.j2 || exit 1; done

# Hide Python warnings about these servers' own code.
ui viz: export PYTHONWARNINGS = ignore
# Kedro-Viz stores an id for Kedro's telemetry in the user's settings, even if telemetry is off.
viz viz-build: export XDG_CONFIG_HOME = $(CURDIR)/$(VENV)/config
# Kedro-Viz shows each stage as a box that opens when you click it.
viz viz-build: export RESNET50_PIPELINE_GROUPS_BY_STAGE = 1

ui: setup ## shows all runs and models of an environment in MLflow, on UI_PORT (5000) (ARGS="--env test")
	@$(VENV)/bin/kedro ui --host "$(HOST)" --port "$(UI_PORT)" $(ARGS)

viz: setup ## starts Kedro-Viz, the graph of the pipelines, on VIZ_PORT (4141)
	@$(VENV)/bin/kedro viz run --no-browser --host "$(HOST)" --port "$(VIZ_PORT)" $(ARGS)

docs: setup-dev ## builds the pages in docs/ as a site in site/, which works offline
	@NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict $(ARGS)
	@echo "site/index.html"

docs-outputs: setup-dev ## runs the commands whose output the pages show and the sample, and updates the pages
	@$(VENV)/bin/python tools/docs_outputs.py
	@$(VENV)/bin/python tools/pipeline_picture.py docs/images/pipeline.svg

docs-serve: setup-dev ## serves the site on DOCS_PORT (8000) and rebuilds it when pages change
	@NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs serve --strict --dev-addr "$(HOST):$(DOCS_PORT)" $(ARGS)

notebook: setup-dev ## executes notebooks/explore.ipynb on the results of the last `make run` on the sample
	@$(VENV)/bin/python tools/run_notebook.py notebooks/explore.ipynb data/sample/08_reporting/explore.ipynb

viz-build: setup ## writes Kedro-Viz as static files to build/viz
	@$(VENV)/bin/python tools/viz_site.py build/viz

report: setup ## opens the index page of the last run, which links to all of its results (ARGS="--env imagenet")
	@$(VENV)/bin/python tools/open_page.py index $(if $(INDEX),--file "$(INDEX)") $(ARGS)

data-docs: setup ## opens the Data Docs of the last run in a browser, or prints their path (ARGS="--env imagenet")
	@$(VENV)/bin/python tools/open_page.py data-docs $(if $(DATA_DOCS),--file "$(DATA_DOCS)") $(ARGS)

experiment: setup ## runs dvc exp run unless it would delete untracked files (ARGS="--set-param …")
	@$(VENV)/bin/kedro data-doctor --unsaved
	@$(VENV)/bin/dvc exp run $(ARGS)

exp: setup ## shows DVC's experiments as a table and writes their curves to build/experiments (ARGS="--env imagenet")
	@$(VENV)/bin/python tools/experiments.py $(ARGS)

lock: ## writes all requirements*.lock files from pyproject.toml (ARGS=--upgrade: with the latest versions)
	@command -v uv >/dev/null || { echo "uv is missing; run: make setup" >&2; exit 1; }
	@sh tools/lock.sh $(ARGS)

# Keep data/*/01_raw, because users may have added images there.
clean: ## deletes caches and all results in data/sample and data/test, but keeps the images in their 01_raw
	rm -rf data/sample/0[2-9]_* data/test/0[2-9]_* .viz .cache build dist site .coverage .coverage.* htmlcov
	rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis src/*.egg-info
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## runs clean and deletes .venv, but keeps and lists your other results
	rm -rf .venv .venv-paddle26
	@for kept in data/sample data/test data/dvc data/imagenet mlflow.db mlartifacts .dvc/cache; do \
		if [ -e "$$kept" ]; then echo "kept: $$kept"; fi; \
	done
