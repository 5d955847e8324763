# One way to do each thing. Every target sets up .venv from the lock file on first use.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
JOBS ?= 2
export PYTHONHASHSEED ?= 0

.PHONY: help setup demo test check format bench bench-peers docs schemas lock clean
.DEFAULT_GOAL := help

help:
	@echo "make setup | demo | test | check | format | bench | bench-peers | docs | schemas | lock | clean"

setup: $(READY)

# Falls back to any python3 that is new enough, so that a bare machine needs no other name for it.
$(READY): requirements/dev.lock pyproject.toml
	@py="$$(command -v $(PYTHON) || command -v python3)"; \
	"$$py" -c 'import sys; sys.exit("mdive needs Python 3.11 or newer, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None' && \
	"$$py" -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

# Two synthetic events with known truth, offline: made, mapped, scored, reported.
demo: $(READY)
	$(BIN)/mdive demo flood --out demo/flood --force
	$(BIN)/mdive demo wildfire --out demo/wildfire --force

test: $(READY)
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal

check: $(READY)
	$(BIN)/ruff check src tests benchmarks docs examples
	$(BIN)/ruff format --check src tests benchmarks docs examples
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)
	$(BIN)/ruff check --fix-only --quiet src tests benchmarks docs examples
	$(BIN)/ruff format src tests benchmarks docs examples

bench: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bench.lock
	$(BIN)/asv machine --yes > /dev/null 2>&1
	$(BIN)/asv run --python=same --quick --show-stderr

# mdive beside other libraries on one workload (benchmarks/README.md); says so where they are not there.
bench-peers: $(READY)
	$(BIN)/python -m benchmarks.peers.run

docs: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/docs.lock
	$(BIN)/sphinx-build -W --keep-going -b html docs docs/_build/html

schemas: $(READY)
	$(BIN)/python -m mdive.model.schema

# Needs uv; the lock files are universal (all systems, Python 3.11 and newer).
lock:
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header --extra dev -o requirements/dev.lock pyproject.toml requirements/build.in
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header --extra bench -c requirements/dev.lock -o requirements/bench.lock pyproject.toml
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header --extra docs -c requirements/dev.lock -o requirements/docs.lock pyproject.toml

clean:
	rm -rf $(VENV) demo docs/_build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
