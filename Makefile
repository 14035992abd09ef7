# `make` alone prints what there is. Everything runs in .venv, which `make setup` builds from the lock files.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.setup-done
# Most of a test's time is waiting for servers. A file's tests stay together, and each process has servers of its own.
# Acceptance tests start all of Waylink's processes: fewer of them at the same time.
TEST_PROCESSES ?= 3
ACCEPTANCE_PROCESSES ?= 2
# A set's order, too, is the same in every run.
PYTEST := PYTHONHASHSEED=0 $(BIN)/python -m pytest
# The real index's hashes only: a local wheel folder would put its own files' hashes into the locks.
COMPILE := env -u UV_FIND_LINKS -u UV_EXTRA_INDEX_URL -u UV_INDEX $(BIN)/uv pip compile --quiet --universal \
	--generate-hashes --python-version 3.11 --no-header --no-emit-index-url --no-emit-find-links $(LOCK_OPTIONS)
# What builds the project; hatchling asks for editables when the project is installed from its own folder.
BUILD_REQUIRES = import tomllib; project = tomllib.load(open("pyproject.toml", "rb")); \
	print(*project["build-system"]["requires"], "editables>=0.5", sep="\n")
# Files that hold tests which need more than Python and make.
NEEDS_MORE = browser or node or prometheus or rabbitmq or tls
EXTRA_TESTS = $(wildcard tests/browser/test_*.py) \
	$(shell grep -rslE --include='test_*.py' 'mark\.(browser|node|prometheus|rabbitmq|tls)\b' tests | grep -v '^tests/browser/')

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup run migrate test test-all test-random check bench bench-quick docs screenshots lock clean

help: ## print this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/\1\t\2/p' $(MAKEFILE_LIST) | while IFS="$$(printf '\t')" read -r name text; do \
		printf '  make %-12s %s\n' "$$name" "$$text"; done

setup: $(STAMP) ## build .venv from the lock files (PYTHON=python3.13 takes another Python)

$(STAMP): pyproject.toml requirements-dev.lock requirements-build.lock
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "Waylink needs Python 3.11 or newer, \
	this is " + sys.version.split()[0] + ": name another one, as in make setup PYTHON=python3.13")'
	@test -x $(BIN)/python || { echo "Creating $(VENV) ..."; $(PYTHON) -m venv $(VENV); }
	@echo "Installing the locked dependencies ..."
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet --require-hashes \
		-r requirements-build.lock -r requirements-dev.lock
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation --editable .
	@touch $@

run: setup ## start Waylink with everything it needs (waylink up)
	@test -n "$$WAYLINK_CONFIG" -o -e waylink.toml -o -L waylink.toml || { cp examples/waylink.toml waylink.toml; \
		echo "waylink.toml written, with two example teams: it is yours to change"; }
	@exec $(BIN)/waylink up

migrate: setup ## bring the database's schema up to date
	@$(BIN)/waylink migrate

test: setup ## unit, integration and acceptance tests: needs Python and make only
	$(PYTEST) -m "not ($(NEEDS_MORE))" -n $(TEST_PROCESSES) --dist loadfile tests/unit tests/integration
	$(PYTEST) -m "not ($(NEEDS_MORE))" -n $(ACCEPTANCE_PROCESSES) --dist loadfile --no-loadscope-reorder tests/acceptance

test-all: test ## the same, and the tests that need Chromium, Node.js, promtool or Debian's servers: RabbitMQ, and TLS
ifneq ($(strip $(EXTRA_TESTS)),)
	$(PYTEST) -m "$(NEEDS_MORE)" -n $(ACCEPTANCE_PROCESSES) --dist loadfile $(EXTRA_TESTS)
else
	@echo "There are no tests that need more."
endif

test-random: setup ## the tests that draw at random, with new seeds for SECONDS=120 (SEED=1 repeats a run)
	$(BIN)/python -m tests.random_run --seconds $(or $(SECONDS),120) $(if $(SEED),--seed $(SEED))

check: setup ## format, lint, types, import rules, and that the locks fit pyproject.toml
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pip --disable-pip-version-check check

bench: setup ## the benchmarks, in full (PARTS="ladder soak" takes single parts)
	$(BIN)/python -m bench $(PARTS)

bench-quick: setup ## the benchmarks, reduced, in under five minutes
	$(BIN)/python -m bench --quick $(PARTS)

docs: setup ## write docs/settings.md and docs/cli.md again, from the code
	$(BIN)/python docs/generate.py

screenshots: setup ## pictures of every page of the console in build/screenshots (needs Chromium)
	$(BIN)/python docs/screenshots.py build/screenshots

lock: setup ## renew the lock files after a change of pyproject.toml (LOCK_OPTIONS=--upgrade takes newer releases)
	$(COMPILE) --extra embedded pyproject.toml --output-file requirements.lock
	$(COMPILE) --all-extras --constraints requirements.lock pyproject.toml --output-file requirements-dev.lock
	$(BIN)/python -c '$(BUILD_REQUIRES)' | \
		$(COMPILE) --constraints requirements-dev.lock --output-file requirements-build.lock -

clean: ## remove .venv and everything that was built; the data folder .waylink stays
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .random-findings
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
