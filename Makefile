PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PEERS := .venv-peers
# of Debian, whose packages of Go libraries are kept there
GO_PACKAGES := /usr/share/gocode
AUTOBAHN := $(VENV)-autobahn/bin/wstest
SOCKJS_CLIENT := $(VENV)/npm/node_modules/sockjs-client/dist/sockjs.min.js
MULTIPLEX_CLIENT := $(VENV)/npm/node_modules/websocket-multiplex/multiplex_client.js
TYPESCRIPT := $(VENV)/npm/node_modules/typescript/bin/tsc
# 3.14 only where it is found: the last of these is tested on uvloop
VERSIONS := 3.10 3.11 3.12 3.13 $(shell python3.14 -c 'print(3.14)' 2>/dev/null)
OLDEST_AIOHTTP := 3.14.4
# tests wait more than they compute
WORKERS ?= 6
# Tests and what they start are compiled once, whatever the environment says: there are many processes.
export PYTHONDONTWRITEBYTECODE =
# What is installed is compiled when it is used: most of it never is.
PIP_OPTIONS = --quiet --disable-pip-version-check --no-compile
PIP_INSTALL = -m pip install $(PIP_OPTIONS)

.PHONY: help demo cluster test quick coverage axes soak fuzz autobahn bench bench-peers lint style types format matrix clean
.DELETE_ON_ERROR:
.PRECIOUS: $(VENV)-%/test

help: ## list the targets; ARGS="..." is passed on
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 13

demo: $(VENV)/demo $(SOCKJS_CLIENT) ## the chat page, on http://127.0.0.1:8080/
	$(BIN)/python -m examples.chat $(ARGS)

cluster: $(VENV)/cluster $(SOCKJS_CLIENT) ## the same on three nodes, behind haproxy, with Redis between them
	$(BIN)/python -m examples.cluster $(ARGS)

# CI's own: tests.second_look
RUNNER = pytest
PYTEST = -m $(RUNNER) --numprocesses=$(WORKERS) --dist=worksteal

test: $(VENV)/test $(SOCKJS_CLIENT) $(MULTIPLEX_CLIENT) $(TYPESCRIPT) ## all tests that this machine can run
	$(BIN)/python $(PYTEST) $(ARGS)

# these wait for little, and each worker collects all of them
quick: WORKERS = 4
quick: $(VENV)/test ## the tests that need no other programs, in less than a minute
	$(BIN)/python $(PYTEST) -q --only quick $(ARGS)

coverage: $(VENV)/test $(SOCKJS_CLIENT) $(MULTIPLEX_CLIENT) $(TYPESCRIPT) ## all tests, with coverage
	$(BIN)/python $(PYTEST) --cov --cov-report=term $(ARGS)

# Other surroundings, each for the tests that it may change; see tests/axes.py.
# 0: in one process, which collects few tests and has nobody to report to; for `make --jobs`
AXIS_WORKERS ?= $(WORKERS)
AXIS = -m $(RUNNER) --numprocesses=$(AXIS_WORKERS) --dist=worksteal -q $(ARGS)
ALL_KINDS = tests/test_lifecycle.py tests/transports
OVER_TLS = tests/test_websocket_disconnects.py tests/test_slow_readers.py tests/test_shutdown.py \
	tests/test_drain.py tests/test_direct_handshakes.py
# these wait longest: `make --jobs` has them run beside the others
PEERS_OVER_TLS = tests/test_dead_peers.py tests/nodes/test_traffic.py
WITH_EAGER_TASKS = tests/test_contexts.py tests/test_close_info.py tests/test_aiolibs.py \
	tests/test_tornado.py tests/brokers/test_contract.py
WITHOUT_EXTENSIONS = tests/hostile/test_websocket.py tests/hostile/test_websocket_compression.py \
	tests/hostile/test_direct_handshakes.py
BEHIND_A_PROXY = tests/test_client_connections.py tests/test_authorize.py tests/test_drain.py

IN_THE_LANE = tests/test_websocket_disconnects.py tests/test_slow_readers.py tests/test_shutdown.py tests/test_drain.py \
	tests/test_deliveries.py tests/hostile/test_http_bodies.py tests/hostile/test_http_heads.py \
	tests/hostile/test_left_behind.py tests/hostile/test_websocket_handshake.py

HANDING_OVER = $(addprefix tests/workers/,test_relay.py test_relay_ends.py test_owner.py test_passport.py \
	test_new_transport.py test_told.py)

HANDING_OVER_LANES = $(addprefix tests/workers/,test_relay.py test_owner.py test_handover.py test_handover_refused.py)

# the longest first
AXES = tls tls-peers lane no-lane debug no-extensions middleware proxy workers
# Python 3.12 has them first
EAGER ?= 3.12 3.13

axes: $(AXES:%=axis-%) $(EAGER:%=eager-%) ## the tests over TLS, with eager tasks, in debug mode ... each for those that it may change

# both install into the same place
ifneq ($(filter matrix,$(MAKECMDGOALS)),)
$(addprefix eager-,$(filter $(VERSIONS),$(EAGER))): eager-%: | matrix-%
endif

axis-tls: $(VENV)/test
	@echo "== over TLS"
	@$(BIN)/python $(AXIS) --tls $(ALL_KINDS) $(OVER_TLS)

axis-tls-peers: $(VENV)/test
	@echo "== over TLS: dead peers and nodes"
	@$(BIN)/python $(AXIS) --tls $(PEERS_OVER_TLS)

axis-proxy: $(VENV)/test
	@echo "== behind a proxy that shares its connections between clients"
	@$(BIN)/python $(AXIS) --proxy sharing tests/test_lifecycle.py $(BEHIND_A_PROXY)

axis-lane: $(VENV)/test
	@echo "== the direct lane, from the first byte of each connection on"
	@$(BIN)/python $(AXIS) --lane on $(ALL_KINDS) $(IN_THE_LANE)

axis-no-lane: $(VENV)/test
	@echo "== no direct lane"
	@$(BIN)/python $(AXIS) --lane off $(ALL_KINDS) tests/test_deliveries.py

axis-workers: $(VENV)/test
	@echo "== workers that hand connections over"
	@$(BIN)/python $(AXIS) --workers handing-over $(HANDING_OVER)
	@echo "== the same, with direct lanes from the first byte of each connection on"
	@$(BIN)/python $(AXIS) --lane on --workers handing-over $(HANDING_OVER_LANES)

axis-middleware: $(VENV)/test
	@echo "== behind a middleware that replaces responses"
	@$(BIN)/python $(AXIS) --middleware replacing $(ALL_KINDS) tests/test_deliveries.py

axis-debug: $(VENV)/test
	@echo "== asyncio's debug mode"
	@$(BIN)/python $(AXIS) --loop debug $(ALL_KINDS) tests/test_races.py

axis-no-extensions: $(VENV)/test
	@echo "== aiohttp without C extensions"
	@AIOHTTP_NO_EXTENSIONS=1 $(BIN)/python $(AXIS) $(ALL_KINDS) $(WITHOUT_EXTENSIONS)

eager-%:
	@if python$* -c '' 2>/dev/null; then \
		$(MAKE) --no-print-directory $(VENV)-$*/test && \
		echo "== Python $*, eager tasks" && \
		$(VENV)-$*/bin/python $(AXIS) --loop eager $(ALL_KINDS) $(WITH_EAGER_TASKS); \
	else \
		echo "== eager tasks: Python $* not found"; \
	fi

$(VENV)-%/test: pyproject.toml | $(BIN)/python
	@test -x $(VENV)-$*/bin/python || python$* -m venv --without-pip $(VENV)-$*
	@$(MATRIX_PIP) --upgrade aiohttp -e '.[test]'
	@touch $@

soak: $(VENV)/soak ## ten minutes of all that clients do, with a report; ARGS="--seconds 60"
	$(BIN)/python -m tests.soak --output soak $(ARGS)

fuzz: $(VENV)/fuzz ## each parser with FUZZ_SECONDS=600 of inputs; ARGS="TARGET..."
	$(BIN)/python -m tests.fuzz $(ARGS)

autobahn: $(AUTOBAHN) ## Autobahn's test suite for WebSockets, where Python 2.7 is found; ARGS="--short"
	@if [ -x $(AUTOBAHN) ]; then $(BIN)/python -m tests.autobahn $(AUTOBAHN) $(ARGS) $(SHORT); fi

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
	@if command -v go >/dev/null && [ -d $(GO_PACKAGES)/src/github.com/igm/sockjs-go/v3 ]; then \
		GO111MODULE=off GOPATH=$(GO_PACKAGES) go build -o $(PEERS)/go/server benchmarks/servers/go_server.go; \
	else \
		echo "bench runs without sockjs-go: on Debian, install golang-go and golang-github-igm-sockjs-go-dev"; \
	fi

lint: style types ## ruff, mypy, and pyright on what applications can see

style: $(VENV)/lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/lint
	$(BIN)/mypy
	PATH="$(CURDIR)/$(BIN):$$PATH" PYTHONPATH=. pyright --verifytypes sockjs_aio --ignoreexternal \
		> $(VENV)/types || { cat $(VENV)/types; exit 1; }

format: $(VENV)/lint ## format and auto-fix
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Each Python that is found; uvloop with the newest, the oldest aiohttp with the oldest of them.
# Stalls are measured once, by `make test`: its figures are those of one version of Python.
MATRIX_TEST = $(VENV)-$*/bin/python $(PYTEST) -q -m 'not browser and not haproxy' --ignore=tests/stalls $(ARGS)
# a ResourceWarning that is an error keeps uvloop from closing what it warns of, and then it waits for ever
UVLOOP = --loop uvloop -W default::ResourceWarning
MATRIX_PIP = $(BIN)/python -m pip --python $(VENV)-$*/bin/python install $(PIP_OPTIONS)
# what the versions of Python between the oldest and the newest change
ASYNCIO = tests/test_contexts.py tests/test_hook_task.py tests/test_threads.py \
	tests/test_resource_leaks.py tests/test_websocket_disconnects.py tests/test_shutdown.py \
	tests/brokers/test_loops.py tests/test_run_app.py
OLDEST = $(firstword $(VERSIONS))
NEWEST = $(lastword $(VERSIONS))

matrix: $(VERSIONS:%=matrix-%) ## the tests on every Python that is found, on uvloop, on the oldest aiohttp; PART=1: a part of them

matrix-%:
	@if python$* -c '' 2>/dev/null; then \
		$(MAKE) --no-print-directory $(if $(PART),part-$*,all-$*); \
	else \
		echo "== Python $*: not found"; \
	fi

all-%: $(VENV)-%/test
	@$(MATRIX_PIP) --upgrade aiohttp
	@echo "== Python $*" && $(MATRIX_TEST)
	@if [ $* = $(NEWEST) ]; then echo "== Python $*, uvloop"; $(MATRIX_TEST) $(UVLOOP); fi
	@if [ $* = $(OLDEST) ]; then \
		echo "== Python $*, aiohttp $(OLDEST_AIOHTTP)"; \
		$(MATRIX_PIP) aiohttp==$(OLDEST_AIOHTTP) && $(MATRIX_TEST); \
	fi

part-%: $(VENV)-%/test
	@if [ $* = $(OLDEST) ]; then \
		echo "== Python $*, aiohttp $(OLDEST_AIOHTTP)"; \
		$(MATRIX_PIP) aiohttp==$(OLDEST_AIOHTTP) && $(MATRIX_TEST) --only versions; \
	elif [ $* = $(NEWEST) ]; then \
		echo "== Python $*, uvloop"; $(MATRIX_TEST) --only loops $(UVLOOP); \
	else \
		echo "== Python $*"; $(MATRIX_TEST) --only versions $(ASYNCIO); \
	fi

clean: ## delete everything generated
	rm -rf $(VENV) $(VENV)-* soak build dist *.egg-info .coverage* coverage.xml htmlcov .mypy_cache .ruff_cache .pytest_cache .hypothesis .fuzz
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The pip that comes with a Python of 2024 takes twice the time; the next one may not run on 3.10.
$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python $(PIP_INSTALL) --upgrade 'pip<27'

$(VENV)/demo: pyproject.toml | $(BIN)/python
	$(BIN)/python $(PIP_INSTALL) -e .
	@touch $@

$(VENV)/cluster: pyproject.toml | $(BIN)/python
	$(BIN)/python $(PIP_INSTALL) -e '.[redis]'
	@touch $@

$(VENV)/test: pyproject.toml | $(BIN)/python
	$(BIN)/python $(PIP_INSTALL) -e '.[test,integration]'
	@touch $@

$(VENV)/soak: pyproject.toml | $(BIN)/python
	$(BIN)/python $(PIP_INSTALL) -e '.[test,soak]'
	@touch $@

$(VENV)/fuzz: pyproject.toml | $(BIN)/python
	$(BIN)/python $(PIP_INSTALL) -e '.[test,fuzz]'
	@touch $@

$(VENV)/bench: pyproject.toml | $(BIN)/python
	$(BIN)/python $(PIP_INSTALL) -e '.[bench,speedups]'
	@touch $@

$(VENV)/lint: pyproject.toml | $(BIN)/python
	$(BIN)/python $(PIP_INSTALL) -e '.[test,integration,lint]'
	@touch $@

# all that .ci/run needs of these, at once
$(VENV)/ci: pyproject.toml | $(BIN)/python
	$(BIN)/python $(PIP_INSTALL) -e '.[test,integration,lint,soak]'
	@touch $(VENV)/test $(VENV)/lint $(VENV)/soak $@

# Autobahn's suite needs Python 2.7, for which virtualenv 20.21 is the last to make environments.
$(AUTOBAHN): $(VENV)/test
	@if python2.7 -c '' 2>/dev/null; then \
		$(BIN)/python $(PIP_INSTALL) --target $(VENV)-virtualenv 'virtualenv<20.22' && \
		PYTHONPATH=$(VENV)-virtualenv $(BIN)/python -m virtualenv --quiet --python python2.7 $(VENV)-autobahn && \
		$(VENV)-autobahn/bin/pip install --quiet autobahntestsuite==25.10.1 2>/dev/null; \
	else \
		echo "== Autobahn: Python 2.7 not found"; \
	fi

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

# it checks what the documentation shows to authors of pages
$(TYPESCRIPT): | $(MULTIPLEX_CLIENT)
	@if command -v npm >/dev/null; then \
		npm install --silent --no-audit --no-fund --prefix $(VENV)/npm typescript@5.9.3 \
			@types/react@18.3.32 @types/sockjs-client@1.5.4 vue@3.5.45; \
	fi
