# The commands of the project. GNU make 3.81 (macOS) and a POSIX sh are enough; Python >= 3.11 is looked for, or given: make run PYTHON=python3.12

VENV = .venv
BIN = $(VENV)/bin
CONFIG = config/postern.yaml
PIP = $(BIN)/python -m pip --disable-pip-version-check --no-input --quiet
PIP_TOOLS = pip-tools==7.6.2
LOCK_VENV = .venv-lock

# An environment that no longer starts (its Python was removed or replaced) is made anew.
ifneq ($(shell $(BIN)/python -c 'import sys; print(sys.version_info >= (3, 11))' 2>/dev/null),True)
STALE = stale
endif

.PHONY: help run test lint format bench soak prices lock redis clean stale
.DEFAULT_GOAL = help

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "make %-8s %s\n", $$1, $$2}' Makefile

run: $(VENV)/.run ## start Postern with config/postern.yaml (another file: make run CONFIG=my.yaml)
	@exec $(BIN)/python -m proxy serve --config $(CONFIG)

test: $(VENV)/.dev redis ## every test; what is skipped says why (some of them: make test ARGS="-k stream")
	$(BIN)/python -m pytest -ra $(ARGS)

lint: $(VENV)/.dev ## style, format, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache --no-logo

format: $(VENV)/.dev ## put the format right
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

bench: $(VENV)/.dev ## measure what Postern costs a call (options: ARGS=...)
	$(BIN)/python -m tests.bench $(ARGS)

soak: $(VENV)/.dev ## an hour of mixed load with everything on: does memory stay flat? (options: ARGS=...)
	$(BIN)/python -m tests.soak $(ARGS)

prices: $(VENV)/.dev ## export the price data of the pinned genai-prices into proxy/data
	$(BIN)/python -m proxy.data.export_prices

clean: ## remove environments and caches, not the state in .postern
	rm -rf $(VENV) $(LOCK_VENV) build dist ./*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find proxy tests -name __pycache__ -type d -prune -exec rm -rf {} +

# ------------------------------------------------------------------------------------------------------- environments

$(VENV)/.run: requirements.txt requirements-build.txt $(STALE)
	@PYTHON="$(PYTHON)" VENV=$(VENV) sh .ci/environment
	$(PIP) install --require-hashes -r requirements-build.txt -r requirements.txt
	$(PIP) install --no-deps --no-build-isolation --no-index --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.run requirements-dev.txt
	$(PIP) install --require-hashes -r requirements-dev.txt
	@touch $@

redis:
	@sh .ci/redis

# Pins stay as they are unless asked: make lock ARGS=--upgrade. Locked on the oldest Python, whose list of dependencies is the longest.
lock: ## pin requirements*.in into requirements*.txt, with the hashes of every platform's files
	python3.11 -m venv $(LOCK_VENV)
	$(LOCK_VENV)/bin/python -m pip install --disable-pip-version-check --quiet $(PIP_TOOLS)
	for name in requirements requirements-build requirements-dev; do \
		env -u PIP_FIND_LINKS $(LOCK_VENV)/bin/pip-compile --quiet --generate-hashes --allow-unsafe --strip-extras --no-header \
			--no-emit-index-url --no-emit-find-links --no-emit-trusted-host $(ARGS) --output-file $$name.txt $$name.in || exit 1; \
	done
