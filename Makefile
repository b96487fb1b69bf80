# The commands of this project; `make help` lists them. Everything is installed into .venv and nowhere else
# (VENV=FOLDER: into another folder here).
# GNU make, POSIX sh.

.DEFAULT_GOAL := help
.NOTPARALLEL:
SHELL := /bin/sh

VENV ?= .venv
# The lock file that it follows: GPU=1 or LOCK=FILE chooses, what was installed last is remembered.
LOCK ?= $(if $(GPU),requirements-gpu.lock,$(shell cat $(VENV)/installed/name 2>/dev/null || echo requirements.lock))
# Further arguments: `make run ARGS="--env imagenet"`, `make test ARGS="tests/imagenet -x"`.
ARGS ?=
HOST ?= 127.0.0.1
UI_PORT ?= 5000
VIZ_PORT ?= 4141
DOCS_PORT ?= 8000
FUZZ_SECONDS ?= 300
KILLS ?= 50
# Half of the suite's time is waiting, for servers and for ranks that hang, so more than there are cores.
TEST_PROCESSES ?= 3
DATA_DOCS ?= data/sample/08_reporting/data_docs/index.html
TRACKING_URI ?= sqlite:///mlflow.db

# DVC's stages call `kedro` by name, so the environment's programs come first.
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

# Nothing reports home: Kedro, MLflow, DVC, Great Expectations.
export DO_NOT_TRACK := true
export KEDRO_DISABLE_TELEMETRY := 1
export MLFLOW_DISABLE_TELEMETRY := true
export DVC_NO_ANALYTICS := 1
export GX_ANALYTICS_ENABLED := false
# What libraries keep between runs lies inside the project: DVC's notes on files it has hashed, Matplotlib's font list.
export DVC_SITE_CACHE_DIR := $(CURDIR)/.dvc/tmp/site
export MPLCONFIGDIR := $(CURDIR)/$(VENV)/matplotlib

.PHONY: help setup preflight run repro data-demo test test-paddle26 rank-tests fuzz chaos screenshot lint format
# `docs` is a folder, too.
.PHONY: docs docs-serve notebook
.PHONY: promote rollback sync-runs ui viz lock clean distclean
.PHONY: package airflow-dag
.PHONY: sweep viz-build data-docs exp

help: ## list the commands
	@sed -n 's/^\([a-z0-9-]*\):[^#]*## /\1\t/p' Makefile | expand -t 16

setup: ## create .venv from the lock file and install the project (GPU=1: with paddlepaddle-gpu)
	@sh tools/setup.sh "$(LOCK)" "$(VENV)"

preflight: setup ## check what a run needs, and print what it would start: ARGS="--env imagenet"; starts nothing
	@$(VENV)/bin/kedro preflight $(ARGS)

run: setup ## kedro run: the whole chain, on the sample unless ARGS="--env imagenet" says otherwise
	@$(VENV)/bin/kedro run $(ARGS)

repro: setup ## dvc repro: the same chain, without the stages that nothing changed for
	@$(VENV)/bin/dvc repro $(ARGS) || { code=$$?; $(VENV)/bin/kedro data-doctor --quick >&2; exit $$code; }

data-demo: setup ## the README's walk-through of versioned data, every command, in a clone that is deleted again
	@sh tools/data_demo.sh

test: setup ## the whole test suite, quick tests first, with coverage, in TEST_PROCESSES (3)
	@$(VENV)/bin/pytest $(IN_PROCESSES) --cov --cov-report=term:skip-covered $(ARGS)

# A file's tests in one process, so that what its fixtures prepare is prepared once; files with quick tests first.
IN_PROCESSES = --numprocesses $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder

# What computes with Paddle; not again killing, several machines, and Kedro or the engine of PaddleClas around the ranks.
RANK_TESTS = tests/trainer tests/imaging $(addprefix tests/training/test_,resume.py training_process.py optimization.py)
test-paddle26: ## the tests of the ranks on paddlepaddle 2.6.2, in .venv-paddle26
	@$(MAKE) --no-print-directory rank-tests VENV=.venv-paddle26 LOCK=requirements-paddle26.lock

rank-tests: setup
	@$(VENV)/bin/pytest $(IN_PROCESSES) $(RANK_TESTS) $(ARGS)

fuzz: setup ## mutated images and list files, FUZZ_SECONDS (300) each, another seed each time
	@$(VENV)/bin/python tests/fuzzing.py images --seconds $(FUZZ_SECONDS) --keep fuzz-last-case $(ARGS)
	@$(VENV)/bin/python tests/fuzzing.py lists --seconds $(FUZZ_SECONDS) --keep fuzz-last-case $(ARGS)
	@rm -f fuzz-last-case

chaos: setup ## kill KILLS (50) trainings at random moments, resume each, compare with the unbroken one
	@.venv/bin/python tests/chaos.py --kills $(KILLS) $(ARGS)

screenshot: setup ## the README's picture anew, of the report of the last `make run` on the sample
	@$(VENV)/bin/python tests/reporting/browser.py data/sample/08_reporting/evaluation_report.html docs/images/report.png

lint: setup ## ruff, mypy and the import contracts
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-logo

format: setup ## let ruff format and mend what it can
	$(VENV)/bin/ruff format
	$(VENV)/bin/ruff check --fix

sweep: setup ## try hyper-parameters, a training each, or go on with it (ARGS="--show": the trials so far)
	@$(VENV)/bin/kedro sweep $(ARGS)

promote: setup ## make VERSION of the registered model its champion (ARGS="--env imagenet --despite-gate --why …")
	@$(VENV)/bin/kedro promote $(ARGS) $(VERSION)

rollback: setup ## make the champion before the present one the champion again
	@$(VENV)/bin/kedro rollback $(ARGS)

sync-runs: setup ## tell MLflow what runs without it, or killed ones, could not tell it
	@$(VENV)/bin/kedro sync-runs $(ARGS)

package: setup ## a wheel, and an archive of the configuration, in dist/: docs/deployment.md
	@$(VENV)/bin/kedro package

airflow-dag: setup ## write the DAGs of deploy/airflow anew, with kedro-airflow
	@for env in local imagenet; do $(VENV)/bin/kedro airflow create --env $$env --target-dir deploy/airflow/dags \
		--jinja-file deploy/airflow/dag.py.j2 || exit 1; done

# Servers of others: what Python warns their authors of.
ui viz: export PYTHONWARNINGS = ignore

ui: setup ## MLflow's page with all runs and models, on UI_PORT (5000)
	@echo "http://$(HOST):$(UI_PORT) shows $(TRACKING_URI); Ctrl-C ends it"
	@$(VENV)/bin/mlflow ui --backend-store-uri "$(TRACKING_URI)" --host "$(HOST)" --port "$(UI_PORT)" --workers 1 $(ARGS)

viz: setup ## Kedro-Viz' picture of the pipelines, on VIZ_PORT (4141)
	@$(VENV)/bin/kedro viz run --no-browser --host "$(HOST)" --port "$(VIZ_PORT)" $(ARGS)

docs: setup ## the pages of docs/ as a site in site/, to be opened from there; nothing in it needs a network
	@NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict $(ARGS)
	@echo "site/index.html"

docs-serve: setup ## the same while pages are written, on DOCS_PORT (8000)
	@NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs serve --strict --dev-addr "$(HOST):$(DOCS_PORT)" $(ARGS)

notebook: setup ## execute notebooks/explore.ipynb on the last `make run` on the sample
	@$(VENV)/bin/python tools/run_notebook.py notebooks/explore.ipynb data/sample/08_reporting/explore.ipynb

viz-build: setup ## the same picture as a folder of files for any web server, build/viz
	@$(VENV)/bin/python tools/viz_site.py build/viz

data-docs: setup ## open what was found about the data; print where that is, where there is no browser
	@$(VENV)/bin/python tools/open_page.py "$(DATA_DOCS)"

exp: setup ## DVC's experiments as a table, and their curves as a page, build/dvc_plots
	@$(VENV)/bin/dvc exp show --only-changed --no-pager $(ARGS)
	@$(VENV)/bin/dvc plots show --out build/dvc_plots

# What stands in the lock files already stays as long as pyproject.toml allows it; ARGS=--upgrade takes the newest.
# All are for Linux on x86_64, and name neither an index nor a folder of wheels: pip asks where this machine asks.
UV_LOCK = uv pip compile --python-version 3.11 --python-platform linux --generate-hashes --no-emit-index-url \
	--no-emit-find-links --no-annotate --custom-compile-command "make lock" --quiet
UV_COMPILE = $(UV_LOCK) pyproject.toml --extra viz --extra dev $(ARGS)

lock: ## write all requirements*.lock anew from pyproject.toml
	@command -v uv >/dev/null || { echo "uv is missing; run: make setup" >&2; exit 1; }
	$(UV_COMPILE) --extra cpu --output-file requirements.lock
	$(UV_COMPILE) --extra gpu --output-file requirements-gpu.lock
	$(UV_COMPILE) --extra paddle26 --output-file requirements-paddle26.lock
	cd deploy/airflow && $(UV_LOCK) requirements.in --output-file requirements.lock $(ARGS)

clean: ## delete caches and what runs on the sample wrote (data/sample, data/test)
	rm -rf data/sample data/test .viz .cache build dist site .coverage .coverage.* htmlcov
	rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis src/*.egg-info
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## clean, and delete .venv; results of your own stay and are named
	rm -rf .venv .venv-paddle26
	@for kept in data/imagenet mlflow.db mlartifacts .dvc/cache; do \
		if [ -e "$$kept" ]; then echo "kept: $$kept (delete it by hand if nothing in it is worth keeping)"; fi; \
	done
