# What a person or CI does here. Python 3.11+ with venv and pip is enough; uv is used where it is on PATH.
PYTHON ?= python3
JOBS ?= 2
ARGS ?=
BIN := .venv/bin
COMPLETE := .venv/.complete

.PHONY: setup run up test lint bench chaos docs lock chromium

setup: $(COMPLETE)

$(COMPLETE): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed: make setup PYTHON=python3.12")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	(command -v uv && uv pip install -q --python $(BIN)/python --require-hashes -r requirements.lock) \
	  || $(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

# The seeds' walk-through: one renewal that completes (exit 0) and one that fails and is undone (exit 1).
# With WORKFLOW=business-licence, or another one of samples/: that one, with all that waits for a person approved.
run: setup
ifdef WORKFLOW
	$(BIN)/orchestrator run $(WORKFLOW) samples/$(WORKFLOW).json --approve
else
	$(BIN)/orchestrator run permit-renewal samples/permit-renewal.json
	$(BIN)/orchestrator run permit-renewal samples/permit-renewal-fails.json; test $$? -eq 1
endif

up: setup
	$(BIN)/orchestrator up $(ARGS)

test: setup chromium
	$(BIN)/pytest -n $(JOBS) --dist loadfile -m "not chaos_run" $(ARGS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup
	$(BIN)/python -m tests.benchmarks.report

# Everything dies at random while thousands of instances run; then all of it has to be right. Exit 1 on any violation.
# SEED repeats a run's faults, not its interleavings; without one it is chosen and printed. OUT keeps what is printed.
SECONDS ?= 120
BROKER ?= valkey
chaos: setup
	$(BIN)/python -m tests.chaos.run --seconds $(SECONDS) --broker $(BROKER) $(if $(SEED),--seed $(SEED)) $(if $(OUT),--out $(OUT)) $(ARGS)

# The documentation as a site, in .site/html: a dead link, or a page that no navigation names, is an error.
SITE := .site
docs: setup
	$(BIN)/sphinx-build -q -E -W --keep-going -d $(SITE)/doctrees docs $(SITE)/html

# For the tests of the pages; without it they are skipped (and fail where CI=true).
chromium:
	@command -v chromium >/dev/null \
	  || { test "$$(id -u)" = 0 && command -v apt-get >/dev/null && apt-get update -q && apt-get install -qy chromium; } \
	  || echo "no chromium here: the tests of the pages are skipped"

# After a change of the dependencies. No addresses: whoever installs says where from.
lock: setup
	uv pip compile -q pyproject.toml --universal --python-version 3.11 --generate-hashes --no-emit-index-url --all-extras -o requirements.lock
