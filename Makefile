# The two commands of a newcomer are `make run` and `make test`. They need Python 3.11 or newer and make; the tests
# against published servers need node 20 or newer as well. Everything lands in .venv/ and .tools/.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# Another Python: make PYTHON=/path/to/python
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && break; done)
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq
# Two makes at once wait for each other where the system has flock.
LOCK := $(if $(shell command -v flock),flock pyproject.toml)

.PHONY: help run test soak check tools warm docs bench bench-quick clean

help:
	@echo "make run    start Manifold with three demo servers (configs/demo.yaml)"
	@echo "make test   checks and the whole test suite"
	@echo "make soak   the long-use tests in full (five to fifteen minutes; Linux)"
	@echo "make check  ruff, mypy and import-linter alone"
	@echo "make tools  install the published servers and clients that the tests use"
	@echo "make docs   write the generated pages of docs/reference/"
	@echo "make bench  measure Manifold beside other proxies (25 minutes; a quiet machine)"
	@echo "make clean  remove everything that make has made"

run: .venv/run.stamp
	@$(BIN)/python -m proxy.demo

# The tools are warmed beside the checks; if that fails, the tests which need them say why.
test: .venv/dev.stamp
	@$(MAKE) --no-print-directory --jobs=2 --output-sync check warm
	@$(BIN)/python -m pytest

# 10 000 sessions ended and 10 000 abandoned, 1 000 restarts, 100 000 calls; the figures are printed.
soak: .venv/dev.stamp
	@MANIFOLD_SOAK=full $(BIN)/python -m pytest tests/chaos/test_soak.py -s

check: .venv/dev.stamp
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports

tools: .venv/dev.stamp
	@$(BIN)/python tests/e2e/peers/rig.py

warm: .venv/dev.stamp
	-@$(BIN)/python tests/e2e/peers/rig.py

docs: .venv/dev.stamp
	@$(BIN)/python -m docs.generate

# Raw data goes to bench/results/, tables and plots to docs/benchmarks.md.
bench: .venv/dev.stamp
	@$(BIN)/python -m bench.run --keep

bench-quick: .venv/dev.stamp
	@$(BIN)/python -m bench.run --quick

clean:
	rm -rf .venv .tools .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/pip.stamp:
	@test -n "$(PYTHON)" || { echo "Manifold needs Python 3.11 or newer; say where it is: make PYTHON=..." >&2; exit 1; }
	@echo "Making .venv with $(PYTHON)"
	@$(LOCK) $(PYTHON) -m venv .venv
	@$(LOCK) $(PIP) install --upgrade 'pip>=25.1'
	@touch $@

.venv/run.stamp: pyproject.toml .venv/pip.stamp
	@echo "Installing Manifold"
	@$(LOCK) $(PIP) install --editable .
	@touch $@

.venv/dev.stamp: pyproject.toml .venv/pip.stamp
	@echo "Installing Manifold and the development tools"
	@$(LOCK) $(PIP) install --editable . --group dev
	@touch .venv/run.stamp $@
