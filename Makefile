# On a fresh machine, `make demo` and `make test` do all the set-up: a .venv here, and nothing else.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed
# The benchmark files, if they lie beside this folder; tests that need them are skipped otherwise.
GRAINS_DATA ?= $(realpath ../shared/data)

ifneq ($(GRAINS_DATA),)
export GRAINS_DATA
endif
export TOKENIZERS_PARALLELISM ?= false

.PHONY: help install demo test test-all lint types pytest clean

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile

install: $(STAMP)  ## make .venv and install everything that development needs

# torch first and by itself: where only a build for the CPU is offered, that one is taken.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check torch==2.13.0 -c constraints.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[dev]' -c constraints.txt
	touch $(STAMP)

demo: $(STAMP)  ## fit, test and show steering on a small real model
	$(BIN)/python -m grains.demo out/cheerfulness.safetensors

test: lint types pytest  ## all checks

test-all: test  ## all checks, as `make test`

lint: $(STAMP)
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(STAMP)
	$(BIN)/pyright --pythonpath $(BIN)/python

pytest: $(STAMP)
	OMP_NUM_THREADS=2 $(BIN)/python -m pytest

clean:  ## remove what these commands made
	rm -rf $(VENV) out .pytest_cache .ruff_cache .hypothesis
