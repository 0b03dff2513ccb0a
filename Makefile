PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PEERS := .venv-peers
SOCKJS_CLIENT := $(VENV)/npm/node_modules/sockjs-client/dist/sockjs.min.js
MULTIPLEX_CLIENT := $(VENV)/npm/node_modules/websocket-multiplex/multiplex_client.js
VERSIONS := 3.10 3.11 3.12 3.13
OLDEST_AIOHTTP := 3.14.4
# tests wait more than they compute
WORKERS ?= 3

.PHONY: help demo cluster test soak fuzz bench bench-peers lint format matrix clean
.DELETE_ON_ERROR:

help: ## list the targets; ARGS="..." is passed on
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 13

demo: $(VENV)/demo $(SOCKJS_CLIENT) ## the chat page, on http://127.0.0.1:8080/
	$(BIN)/python -m examples.chat $(ARGS)

cluster: $(VENV)/cluster $(SOCKJS_CLIENT) ## the same on three nodes, behind haproxy, with Redis between them
	$(BIN)/python -m examples.cluster $(ARGS)

test: $(VENV)/test $(SOCKJS_CLIENT) $(MULTIPLEX_CLIENT) ## all tests that this machine can run, with coverage
	$(BIN)/python -m pytest --numprocesses=$(WORKERS) --cov --cov-report=term $(ARGS)

soak: $(VENV)/soak ## ten minutes of all that clients do, with a report; ARGS="--seconds 60"
	$(BIN)/python -m tests.soak --output soak $(ARGS)

fuzz: $(VENV)/fuzz ## each parser with FUZZ_SECONDS=600 of inputs; ARGS="TARGET..."
	$(BIN)/python -m tests.fuzz $(ARGS)

bench: $(VENV)/bench ## sockjs-aio beside other servers, into docs/performance.md; ARGS="--list"
	$(BIN)/python -m benchmarks --write $(ARGS)

bench-peers: ## install those other servers for bench, each in a place of its own
	$(PYTHON) -m venv $(PEERS)/tornado
	$(PEERS)/tornado/bin/python -m pip install --quiet --disable-pip-version-check sockjs-tornado==1.0.7
	$(PYTHON) -m venv $(PEERS)/aiolibs
	$(PEERS)/aiolibs/bin/python -m pip install --quiet --disable-pip-version-check sockjs==0.13.0
	@if command -v npm >/dev/null; then \
		npm install --silent --no-audit --no-fund --prefix $(PEERS)/node sockjs@0.3.24; \
	else \
		echo "npm is not installed: bench runs without sockjs-node"; \
	fi

lint: $(VENV)/lint ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/lint ## format and auto-fix
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Each Python that is found; uvloop with the newest, the oldest aiohttp with the oldest of them.
MATRIX_TEST = $(VENV)-$*/bin/python -m pytest -q --numprocesses=$(WORKERS) -m 'not browser and not haproxy' $(ARGS)
# a ResourceWarning that is an error keeps uvloop from closing what it warns of, and then it waits for ever
UVLOOP = --loop uvloop -W default::ResourceWarning
MATRIX_PIP = $(VENV)-$*/bin/python -m pip install --quiet --disable-pip-version-check

matrix: ## the tests on every Python that is found, on uvloop, on the oldest aiohttp
	@for version in $(VERSIONS); do \
		if python$$version -c '' 2>/dev/null; then \
			$(MAKE) --no-print-directory matrix-$$version || exit 1; \
		else \
			echo "== Python $$version: not found"; \
		fi; \
	done

matrix-%:
	@test -x $(VENV)-$*/bin/python || python$* -m venv $(VENV)-$*
	@$(MATRIX_PIP) --upgrade aiohttp -e '.[test]'
	@echo "== Python $*"
	@$(MATRIX_TEST)
	@if [ $* = $(lastword $(VERSIONS)) ]; then echo "== Python $*, uvloop"; $(MATRIX_TEST) $(UVLOOP); fi
	@if [ $* = $(firstword $(VERSIONS)) ]; then \
		echo "== Python $*, aiohttp $(OLDEST_AIOHTTP)"; \
		$(MATRIX_PIP) aiohttp==$(OLDEST_AIOHTTP) && $(MATRIX_TEST); \
	fi

clean: ## delete everything generated
	rm -rf $(VENV) $(VENV)-* soak build dist *.egg-info .coverage* coverage.xml htmlcov .mypy_cache .ruff_cache .pytest_cache .hypothesis .fuzz
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/demo: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

$(VENV)/cluster: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[redis]'
	@touch $@

$(VENV)/test: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test]'
	@touch $@

$(VENV)/soak: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test,soak]'
	@touch $@

$(VENV)/fuzz: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test,fuzz]'
	@touch $@

$(VENV)/bench: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[bench,speedups]'
	@touch $@

$(VENV)/lint: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test,lint]'
	@touch $@

# The browser's half, where npm exists; pages load it from its CDN otherwise.
$(SOCKJS_CLIENT): | $(BIN)/python
	@if command -v npm >/dev/null; then \
		npm install --silent --no-audit --no-fund --prefix $(VENV)/npm sockjs-client@1.6.1; \
	else \
		echo "npm is not installed: pages will load sockjs-client from its CDN"; \
	fi

$(MULTIPLEX_CLIENT): | $(SOCKJS_CLIENT)
	@if command -v npm >/dev/null; then \
		npm install --silent --no-audit --no-fund --prefix $(VENV)/npm websocket-multiplex@0.1.0; \
	fi
