# Two commands are enough: `make demo` and `make test`.  Everything is installed into .venv, from hash-pinned files.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: demo test lint bench format lock vibectl clients conformance fuzz clean help

help:
	@echo "make demo    stream two real answers through a gateway of your own"
	@echo "make test    run the tests"
	@echo "make lint    check style, types and the direction of imports"
	@echo "make bench   measure the gateway against nginx"
	@echo "make conformance   run the tests of every client against every provider, and write docs/conformance.md"
	@echo "make fuzz    send 10,000 generated conversations through all pairs of dialects"
	@echo "make lock    compile requirements/*.txt again"
	@echo "make vibectl install the tool that the gRPC door is tested with, into .venv-vibectl"
	@echo "make clients install the agents and libraries from npm that tests/clients runs, into .clients (2 GB)"

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit("Tollhouse needs Python 3.11 or newer; run make with PYTHON=python3.12, say.") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)

# What has to be compiled anew when it changes.
COMPILED := hatch_build.py src/tollhouse/policy/shared_memory/_quick.c

# Each stamp says which set of requirements the virtual environment holds.
$(VENV)/.demo: requirements/demo.txt pyproject.toml $(COMPILED) | $(BIN)/python
	@echo "Installing what the demonstration needs into $(VENV) (a minute on a fresh machine) ..."
	$(PIP) install --quiet --progress-bar on --require-hashes -r requirements/demo.txt
	$(PIP) install --quiet --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: requirements/dev.txt pyproject.toml $(COMPILED) | $(BIN)/python
	@echo "Installing what the tests need into $(VENV) ..."
	$(PIP) install --quiet --progress-bar on --require-hashes -r requirements/dev.txt
	$(PIP) install --quiet --no-deps --no-build-isolation -e .
	@touch $@ $(VENV)/.demo

demo: $(VENV)/.demo
	@$(BIN)/tollhouse demo $(if $(KEEP),--keep)

# In as many processes as there are cores, but not more than four: each may start servers of its own.  What proves the page of
# conformance as a whole runs in one.
test: $(VENV)/.dev
ifdef ARGS
	$(BIN)/python -m pytest $(ARGS)
else
	PYTHONHASHSEED=0 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --ignore tests/conformance
	$(BIN)/python -m pytest tests/conformance
endif

lint: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.dev
	$(BIN)/python -m bench.run $(ARGS)

conformance: $(VENV)/.dev
	$(BIN)/python -m tools.build_conformance

fuzz: $(VENV)/.dev
	TOLLHOUSE_FUZZ=10000 $(BIN)/python -m pytest -q tests/conformance/test_fuzz.py

# The files carry hashes and no addresses, so that they work with whatever index or mirror pip is set up for.
lock:
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header \
		pyproject.toml -o requirements/base.txt
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header \
		pyproject.toml requirements/build.in --extra demo -o requirements/demo.txt
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header \
		pyproject.toml requirements/build.in requirements/dev.in --extra demo --extra aiohttp --extra http2 --extra uvicorn \
		--extra postgres --extra valkey --extra export --extra grpc --extra llm --extra otel -o requirements/dev.txt

# It holds old releases of several libraries, so it needs an environment of its own; its tests are skipped without it.
vibectl: .venv-vibectl/bin/vibectl

.venv-vibectl/bin/vibectl:
	$(PYTHON) -m venv .venv-vibectl
	.venv-vibectl/bin/python -m pip --disable-pip-version-check install --quiet vibectl==0.11.6 llm-echo==0.5

# Exact versions, and no lock file: that would name the registry that npm is set up for.  Their own install scripts are not run.
clients: .clients/.installed

.clients/.installed: tests/clients/package.json
	mkdir -p .clients
	cp tests/clients/package.json .clients/
	cd .clients && npm install --ignore-scripts --no-package-lock --no-audit --no-fund --loglevel=error
	@touch $@

clean:
	rm -rf $(VENV) .venv-vibectl .clients .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache bench/bin dist
