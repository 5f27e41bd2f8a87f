# One environment, .venv, made by whichever target is run first and renewed when its two sources change.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PORT ?= 7860
# Test files run at a time by `make test`. A file of them may use a second processor and a gigabyte.
JOBS ?= 2
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

# Spinning threads slow two busy cores down many times over (see docs/architecture.md).
export OMP_WAIT_POLICY ?= PASSIVE

.DEFAULT_GOAL := help
.PHONY: help demo test quick check lint audit release format clean env native part-by-part

help:  ## Show this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 20

env: $(READY)  ## Make or renew the environment in .venv

$(READY): pyproject.toml constraints.txt setup.py
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "error: Python 3.11 or newer is needed, and PYTHON=$(PYTHON) is not; for example: make demo PYTHON=python3.12" >&2; \
	  exit 1; }
	@test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV)
	@echo "setting up .venv (a few minutes the first time)"
	@$(INSTALL) -e ".[ui,train,dev,eval,text,cluster]" 2>/dev/null || $(MAKE) --no-print-directory part-by-part
	@touch $@

# Where not everything can be installed: the most of it, and what is lacking without the rest.
part-by-part:
	@$(INSTALL) -e ".[ui,train,dev]"
	@$(INSTALL) -e ".[eval]" || \
	  echo "note: what judges sound (the extra 'eval') was not installed: it needs a C compiler. All else works." >&2
	@$(INSTALL) -e ".[text]" || \
	  echo "note: GPT-2's tokens (the extra 'text') were not installed. All else works." >&2
	@$(INSTALL) -e ".[cluster]" || \
	  echo "note: Ray (the extra 'cluster') was not installed, so there is no --ray. All else works." >&2

native: $(READY)  ## Build the native engine anew, after a change to its C++
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .

demo: $(READY)  ## Set everything up and serve the demo at 127.0.0.1:7860 (PORT=... for another port)
	@.ci/system-packages fluidsynth
	$(BIN)/python -m ui --checkpoints checkpoints --port $(PORT)

test: $(READY)  ## Set everything up and pass the tests
	@.ci/system-packages fluidsynth chromium
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile

quick: $(READY)  ## The tests that take under two minutes in all, by what each took here before
	$(BIN)/python -m pytest --quick 80

lint: $(READY)  ## Ruff, mypy and import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m mypy
	$(BIN)/lint-imports --no-logo

check: lint test  ## Everything a change must pass: lint, then the tests

audit:  ## Ask a database of known faults about every pinned dependency (docs/security.md); needs the network
	@PYTHON="$(PYTHON)" .ci/audit

release:  ## Build wheel and sdist into dist/ and try both in an empty environment (.ci/release-check); the network, minutes
	@PYTHON="$(PYTHON)" .ci/release-check

format: $(READY)  ## Format the code and apply Ruff's safe fixes
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:  ## Remove caches and the environment; checkpoints, data/ and runs/ stay
	rm -rf $(VENV) build dist *.egg-info shortcut_gen/decoding/native/_engine* shortcut_gen/network/cpu_kernels/_kernels* .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -not -path './data/*' -prune -exec rm -rf {} +
