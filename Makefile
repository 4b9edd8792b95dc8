# Everything is made in $(VENV), from the lock files in requirements/, once; later runs need no network.
#
#   make demo                   the three stories, end to end
#   make test                   checks, tests, coverage
#   make VENV=/tmp/v demo       another place for the environment
#   make PYTHON=python3.12 demo another interpreter

VENV ?= .venv
JOBS ?= 2
PYTEST_ARGS ?=
BENCH_ARGS ?=
ESCAPE_ARGS ?=
export VENV PYTHON
export NO_MKDOCS_2_WARNING := 1
BIN := $(abspath $(VENV))/bin

.DEFAULT_GOAL := help
.PHONY: help demo test check format docs docs-serve bench soak escape screenshot wheel lock upgrade clean setup-demo setup-dev

help:
	@echo "make demo        the three stories, end to end (opens the terminal UI if there is a terminal)"
	@echo "make test        format, lint, types, import floors, docs, tests with coverage, the wheel"
	@echo "make check       the same without the tests"
	@echo "make bench       what a governed call costs, as a table and as JSON"
	@echo "make soak        the long tests: 200 kills at random times, and more"
	@echo "make escape      what gets out of our sandbox, of bubblewrap, and of none, attack by attack"
	@echo "make screenshot  docs/images/tui.svg from the real application"
	@echo "make docs        the documentation site, in site/"
	@echo "make wheel       the distribution, in dist/"
	@echo "make lock        write requirements/*.txt anew (make upgrade: with the newest versions)"
	@echo "make clean       remove the environment and what was built"

setup-demo:
	@scripts/setup demo

setup-dev:
	@scripts/setup dev

demo: setup-demo
	@"$(BIN)/fumehood" demo
	@command -v fumehood >/dev/null || echo 'The command is in $(VENV)/bin; once per shell: . $(VENV)/bin/activate'

test: setup-dev
	@scripts/check "$(BIN)"
	@echo "  tests ($(JOBS) at a time)"
	@"$(BIN)/python" -m pytest -q -n $(JOBS) --cov --cov-report=term $(PYTEST_ARGS)

check: setup-dev
	@scripts/check "$(BIN)"

format: setup-dev
	@"$(BIN)/ruff" format .
	@"$(BIN)/ruff" check --fix .

bench: setup-dev
	@mkdir -p build/bench
	@for file in benchmarks/bench_*.py; do \
		echo "  $$file"; \
		"$(BIN)/python" "$$file" --json "build/bench/$$(basename "$$file" .py).json" $(BENCH_ARGS) || exit 1; \
	done
	@echo "  as JSON: build/bench/"

soak: setup-dev
	@"$(BIN)/python" -m pytest -q -n $(JOBS) -m slow $(PYTEST_ARGS)

escape: setup-dev
	@"$(BIN)/python" scripts/escape.py $(ESCAPE_ARGS)

screenshot: setup-dev
	@"$(BIN)/python" scripts/screenshot.py

docs: setup-dev
	@"$(BIN)/mkdocs" build --strict --quiet
	@echo "  the site is in site/index.html"

docs-serve: setup-dev
	@"$(BIN)/mkdocs" serve

wheel: setup-dev
	@"$(BIN)/python" -m pip --disable-pip-version-check --quiet wheel --no-deps --no-build-isolation --no-index --wheel-dir dist .
	@ls dist/*.whl

lock:
	@scripts/lock

upgrade:
	@scripts/lock --upgrade

clean:
	rm -rf .venv build dist site .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find sandbox policies adapters tui tests -name __pycache__ -type d -prune -exec rm -rf {} +
