PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOCKJS_CLIENT := $(VENV)/npm/node_modules/sockjs-client/dist/sockjs.min.js
VERSIONS := 3.10 3.11 3.12 3.13
OLDEST_AIOHTTP := 3.14.1

.PHONY: demo test lint format matrix clean
.DELETE_ON_ERROR:

demo: $(VENV)/demo $(SOCKJS_CLIENT) ## the chat page, on http://127.0.0.1:8080/
	$(BIN)/python -m examples.chat

test: $(VENV)/test $(SOCKJS_CLIENT) ## all tests that this machine can run, with coverage
	$(BIN)/python -m pytest --cov --cov-report=term $(ARGS)

lint: $(VENV)/lint ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/lint
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Each Python that is found, the oldest aiohttp with the oldest of them, and uvloop with the newest.
matrix:
	@for version in $(VERSIONS); do \
		python=$$(command -v python$$version) || { echo "python$$version: not found"; continue; }; \
		$(MAKE) --no-print-directory matrix-$$version MATRIX_PYTHON=$$python || exit 1; \
	done

matrix-%:
	@echo "== Python $*"
	@test -x $(VENV)-$*/bin/python || $(MATRIX_PYTHON) -m venv $(VENV)-$*
	@$(VENV)-$*/bin/python -m pip install --quiet --disable-pip-version-check -e '.[test]'
	@$(VENV)-$*/bin/python -m pytest -q -m 'not browser and not haproxy' $(ARGS)
	@$(VENV)-$*/bin/python -m pytest -q -m 'not browser and not haproxy' --loop uvloop $(ARGS)
	@$(VENV)-$*/bin/python -m pip install --quiet --disable-pip-version-check aiohttp==$(OLDEST_AIOHTTP)
	@echo "== Python $*, aiohttp $(OLDEST_AIOHTTP)"
	@$(VENV)-$*/bin/python -m pytest -q -m 'not browser and not haproxy' $(ARGS)
	@$(VENV)-$*/bin/python -m pip install --quiet --disable-pip-version-check --upgrade aiohttp

clean:
	rm -rf $(VENV) $(VENV)-* build *.egg-info .coverage* .mypy_cache .ruff_cache .pytest_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/demo: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

$(VENV)/test: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test]'
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
