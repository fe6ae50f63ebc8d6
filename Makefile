# Every target sets up .venv by itself; nothing else on the machine is touched.
#   make PYTHON=python3.12   another interpreter       make test PYTEST_ARGS="-x -k tiles"   other pytest arguments

PYTHON ?= python3
PYTEST_ARGS ?= -n auto

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PIP := $(BIN)/python -m pip -qq --disable-pip-version-check
# Folders that may not be there yet are checked as soon as they are.
CHECKED := attnmask tests $(wildcard examples benchmarks)

.DEFAULT_GOAL := help
.PHONY: help demo test lint format bench fuzz clean

help:  ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1|\2/p' Makefile | awk -F'|' '{ printf "  %-12s %s\n", $$1, $$2 }'

demo: $(READY)  ## compile a mask, look at it, run it on the CPU
	@$(BIN)/python examples/packed_documents.py

test: lint  ## every check: lint, types, tests
	$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: $(READY)  ## ruff and mypy --strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict $(CHECKED)

format: $(READY)  ## put the code into its standard form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY)  ## time the building of block masks
	@$(BIN)/python -m benchmarks.build

fuzz: $(READY)  ## random masks against the algebra, for a minute
	@$(BIN)/python -m tests.algebra.fuzz --seconds 60

clean:  ## remove .venv, caches and build outputs
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# torch goes first and pinned: asked for through attnmask alone, pip could start to fetch a newer build of several GB.
# Without build isolation the backend comes from constraints.txt too.
$(READY): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null 2>&1 || \
	    { echo "attnmask needs Python 3.11 or newer, and there is no $(PYTHON) here." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "attnmask needs Python 3.11 or newer, and $(PYTHON) is" \
	           "$$($(PYTHON) --version 2>&1); try: make PYTHON=python3.11 $(MAKECMDGOALS)" >&2; exit 1; }
	@echo "Setting up $(VENV); the first time this takes a few minutes."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) install --constraint constraints.txt torch hatchling editables
	@$(PIP) install --constraint constraints.txt --no-build-isolation --editable '.[dev,viz]'
	@touch $@
