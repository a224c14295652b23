# Everything a reader of this repository needs. `make` alone lists it.

VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
RESULT := results/reproduce$(if $(PAIR),-$(PAIR))$(if $(DATA),-$(notdir $(DATA)))
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)

.DEFAULT_GOAL := help
.PHONY: help reproduce test test-all mutants check bench pair clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "Options: PAIR=small DATA=scenes for reproduce; PYTEST_ARGS=... for test; PYTHON=python3.12 for the set-up."

reproduce: $(READY)  ## Figure 6 from nothing: set-up, live sweep, figures, report, verdicts
	@$(BIN)/aiflow doctor
	@$(BIN)/aiflow sweep figure6 --output $(RESULT) $(if $(PAIR),--set pairs=$(PAIR)) $(if $(DATA),--set data=$(DATA))
	@$(BIN)/aiflow plot $(RESULT)
	@$(BIN)/aiflow report $(RESULT)

test: $(READY)  ## the tests, without those that take minutes
	@$(BIN)/pytest $(PYTEST_ARGS)

test-all: $(READY)  ## all tests
	@$(BIN)/pytest -m "" $(PYTEST_ARGS)

mutants: $(READY)  ## do the tests notice small faults? (an hour at most; what is left is for the next call)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[mutants]'
	@timeout 3600 $(BIN)/mutmut run || [ $$? -eq 124 ]
	@$(BIN)/mutmut results

check: $(READY)  ## lint, format and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet . || { echo "not formatted: run $(BIN)/ruff format"; exit 1; }
	@$(BIN)/mypy

bench: $(READY)  ## speed of the program itself against its floors
	@$(BIN)/aiflow bench

pair: $(READY)  ## train the small pair anew (about an hour of one core; resumable)
	@$(BIN)/aiflow pairs train

clean:  ## remove caches and build output; .venv, data and results stay
	rm -rf build dist mutants .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find aiflow_cli tests -name __pycache__ -type d -prune -exec rm -rf {} +

# Made once, and again when the dependencies change.
$(READY): pyproject.toml constraints.txt
	@if [ -z "$(PYTHON)" ]; then \
		echo "aiflow needs Python 3.11 or later; found: $$(python3 --version 2>&1 || echo none)."; \
		echo "Install one, or name one: make PYTHON=/path/to/python3.12 ..."; exit 1; fi
	@echo "Setting up $(VENV) with $$($(PYTHON) --version) (once, about 2 minutes) ..."
	@$(PYTHON) -m venv $(VENV) || { \
		echo "$(PYTHON) cannot make a virtual environment (Debian, Ubuntu: apt install python3-venv)."; exit 1; }
	@began=$$(date +%s); \
	( while sleep 20 >/dev/null 2>&1; do echo "  ... still installing, $$(($$(date +%s) - began)) s"; done ) & ticker=$$!; \
	trap "kill $$ticker 2>/dev/null" EXIT; \
	$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[test,check]' \
		&& touch $@ && echo "$(VENV) is ready, $$(($$(date +%s) - began)) s."
