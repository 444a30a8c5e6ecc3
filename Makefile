# Everything that a fresh clone can do, with Python 3.11 or newer and nothing else. `make help` lists it.
.DELETE_ON_ERROR:

VENV = .venv
PYTHON = $(VENV)/bin/python
INSTALL = $(PYTHON) -m pip --disable-pip-version-check --no-input install --quiet

help:  ## show this
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-6s %s\n", $$1, $$2 }' Makefile

demo: $(VENV)/.installed  ## show a signed webhook become a finished run; it stops and cleans up by itself
	@$(PYTHON) -P -m gateway demo

up: $(VENV)/.installed  ## run everything on this machine, with the pipelines of examples/, until Ctrl-C
	@$(PYTHON) -P -m gateway up --pipelines examples

test: ARGS = --numprocesses 3 --dist loadfile
test: $(VENV)/.installed-dev  ## run all tests, on their own Postgres and Redis; ARGS are for pytest
	@$(PYTHON) -m pytest $(ARGS)

clean:  ## remove the virtual environment and all caches; your data in .penstock stays
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist

$(VENV)/.installed: pyproject.toml | $(PYTHON)
	@echo "installing Penstock into $(VENV): about 450 MB, and only this first time..."
	@$(INSTALL) -e .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(PYTHON)
	@echo "installing Penstock and its test tools into $(VENV): about 850 MB, and only this first time..."
	@$(INSTALL) -e '.[dev]'
	@touch $@ $(VENV)/.installed

# The first Python that is new enough and can make virtual environments: `python3` is often older than one beside it.
$(PYTHON):
	@for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	    if $$python -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
	        echo "making $(VENV) with $$($$python -V)"; \
	        exec $$python -m venv $(VENV); \
	    fi; \
	done; \
	echo "Penstock needs Python 3.11 or newer with its venv module (Debian, Ubuntu: apt install python3-venv)." >&2; \
	echo "python3 is: $$(python3 -V 2>&1)" >&2; \
	exit 1

.PHONY: help demo up test clean
