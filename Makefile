# `make quickstart` installs the project and builds a small release. `make test` installs it and runs the tests.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
UV     := $(BIN)/uv
# uv ignores the settings of pip, so pass the package index on if one is set.
INSTALL := $(if $(PIP_INDEX_URL),UV_DEFAULT_INDEX=$(PIP_INDEX_URL)) $(UV) pip install --quiet --python $(BIN)/python --no-deps
LOCK    := $(UV) pip compile --quiet --universal --python-version 3.11 --override requirements-overrides.txt \
           --generate-hashes --no-emit-index-url --no-header --no-annotate pyproject.toml

# Tests often wait for servers and other processes, so there is one more at a time than cores.
WORKERS := $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1)

# pytest rewrites the tests, which takes longer than collecting them, and keeps the result only as bytecode.
PYTEST := PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest

.PHONY: quickstart setup test test-all test-older lint types check lock clean

quickstart: setup
	@$(BIN)/counterfoil build data/recipes/quickstart.yaml

setup: $(VENV)/.ready

test: $(VENV)/.ready-dev
	@$(PYTEST) -n $(WORKERS) --dist loadfile --no-loadscope-reorder tests

SLOW := -m slow -o addopts="-ra --strict-markers"

# Run all tests, also those that take minutes: kills, schedules, Dask and Ray, long servers, fuzzing.
# A test that fails beside the others runs once more by itself. Both results stay in the output.
test-all: test
	@$(PYTEST) -n $(WORKERS) --dist worksteal $(SLOW) tests || { test $$? -eq 1 && \
		$(PYTEST) $(SLOW) --last-failed --last-failed-no-failures none tests; }

# Run the tests with the older Prefect and FastAPI that vLLM requires.
test-older:
	@.ci/older-set $(VENV)-older

lint: $(VENV)/.ready-dev
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: $(VENV)/.ready-dev
	@$(BIN)/mypy

check: lint types test

$(UV):
	@echo "creating $(VENV)" >&2
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Counterfoil needs Python 3.11 or newer: make PYTHON=python3.12 …")'
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-uv.lock

$(VENV)/.ready: requirements.lock pyproject.toml | $(UV)
	@echo "installing" >&2
	@$(INSTALL) --require-hashes -r requirements.lock
	@$(INSTALL) --no-build-isolation --editable .
	@touch $@

# The tests start hundreds of processes, so the bytecode of all packages is written once, here.
$(VENV)/.ready-dev: requirements-dev.lock $(VENV)/.ready
	@$(INSTALL) --compile-bytecode --require-hashes -r requirements-dev.lock
	@touch $@

lock: | $(UV)
	grep -o '^uv==[0-9.]*' requirements-uv.lock | $(UV) pip compile --quiet --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --no-header --no-annotate - -o requirements-uv.lock
	$(LOCK) --extra embedded --extra build --extra postgres --extra semantic -o requirements.lock
	$(LOCK) --extra embedded --extra build --extra postgres --extra semantic --extra s3 --extra gcs --extra azure --extra dask --extra ray --extra dev -c requirements.lock -o requirements-dev.lock

clean:
	rm -rf $(VENV) data/runs data/cache data/releases
