# Everything runs inside .venv, which `make install` builds, and the likes of .venv-bench beside it; nothing is installed
# anywhere else.
# Paths are relative throughout: make cannot handle a space in the path of a target.

SHELL := /bin/sh
.SUFFIXES:
.DEFAULT_GOAL := help
.PHONY: help install test-tools docs-tools compiled demo test test-all test-web test-exports test-docs test-flink docs \
	fuzz coverage lint bench bench-peers profile soak dist clean
MAKEFLAGS += --no-print-directory

PY := .venv/bin/python
# Workers of the test run: more than cores, for most tests wait for a broker or another process.
JOBS ?= 3

help: ## show this list
	@echo "uniqdb: exact unique visitors for any time window"
	@echo
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{ printf "%-16s %s\n", $$1, $$2 }'
	@echo
	@echo "A Python of your choice: make PYTHON=/path/to/python3 install"

install: ## build .venv with the uniqdb command (.venv/bin/uniqdb)
	@python=$$(sh tools/find_python.sh) && "$$python" tools/make_venv.py install

test-tools:
	@python=$$(sh tools/find_python.sh) && "$$python" tools/make_venv.py test

docs-tools:
	@python=$$(sh tools/find_python.sh) && "$$python" tools/make_venv.py docs

demo: install ## generate and ingest a million visits, then ask questions
	@.venv/bin/uniqdb demo

test: test-tools compiled ## run all tests but the long ones
	@$(PY) -m pytest -q -n $(JOBS) --dist loadfile --benchmark-disable

# The page in the system's Chromium; without one the rest runs, and the last line says what to install.
test-web: test-tools compiled ## test the page and its API, in a browser where there is one
	@WEB_TEST_REQUESTS=$${WEB_TEST_REQUESTS:-10000} $(PY) -m pytest -q -m "not soak" -n $(JOBS) --dist loadfile \
		--benchmark-disable tests/web tests/kafka/test_page.py

# Whoever reads them is in .venv-bench, 1.3 GB: so `make test` leaves this out unless that is there already.
test-exports: test-tools compiled ## test that DuckDB, ClickHouse, Polars and pyroaring read exports
	@python=$$(sh tools/find_python.sh) && "$$python" tools/make_venv.py bench
	@EXPORT_TESTS=required $(PY) -m pytest -q -m "not soak" -n $(JOBS) --dist loadfile --benchmark-disable tests/exports

# TEST_ALL_OPTIONS="--only 3.12 -- tests/unit": one of them, some of the tests.
test-all: ## run the tests with every Python from 3.11 on that is found, each in its own environment
	@python=$$(sh tools/find_python.sh) && "$$python" tools/test_all.py --jobs $(JOBS) $(TEST_ALL_OPTIONS)

docs: docs-tools ## build the site of the documents into build/site, and check its links
	@.venv-docs/bin/python tools/docs_site.py

test-docs: test-tools compiled docs-tools ## run the notebook and check its charts, and check the site
	@$(PY) -m pytest -q -m docs --benchmark-disable tests/docs

# The first run fetches Flink, 160 MB; offline without it the last line says what was skipped.
test-flink: test-tools compiled ## count one topic with uniqdb and with Apache Flink, and compare
	@$(PY) -m pytest -q -m flink -n 2 --benchmark-disable tests/flink

# Guided by coverage: minutes for each of what is fuzzed, SECONDS of it. atheris has no wheel for every system.
SECONDS ?= 60
fuzz: ## fuzz what is read, guided by coverage (atheris)
	@python=$$(sh tools/find_python.sh) && "$$python" tools/make_venv.py fuzz
	@.venv-fuzz/bin/python tests/fuzz/guided.py --seconds $(SECONDS)

# Hundreds of programs that the tests start load it, also where PYTHONDONTWRITEBYTECODE forbids them to write it.
compiled: test-tools
	@$(PY) -m compileall -q engine cli

coverage: test-tools compiled ## run the tests and write htmlcov/index.html
	@$(PY) -m pytest -q -n $(JOBS) --dist loadfile --benchmark-disable --cov --cov-report=term --cov-report=html

lint: test-tools ## check style (ruff) and types (mypy)
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy --strict engine/
	@$(PY) -m mypy cli/

bench: test-tools ## measure speed against simple code on the same input
	@$(PY) bench/run.py

# PEERS_OPTIONS=--quick: seconds, figures that mean nothing. `bench/peers.py --help` has the others.
bench-peers: ## measure against DuckDB, ClickHouse, Polars, LMDB, RocksDB, SQLite, ...
	@python=$$(sh tools/find_python.sh) && "$$python" tools/make_venv.py bench
	@.venv-bench/bin/python -m compileall -q engine cli bench
	@.venv-bench/bin/python bench/peers.py $(PEERS_OPTIONS)

profile: test-tools compiled ## measure where the time of ingest goes, stage by stage
	@$(PY) bench/profile_ingest.py $(PROFILE_OPTIONS)

# `make soak SEEDS=20000 STEPS=1000`: only the simulation, so many seeds of it.
STEPS ?= 1000
soak: test-tools compiled ## run the long tests (many minutes); SEEDS=20000: only the simulation
ifdef SEEDS
	@$(PY) tests/simulation/run.py --seeds $(SEEDS) --steps $(STEPS)
else
	@$(PY) -m pytest -q -m soak --benchmark-disable tests
	@$(PY) tests/simulation/run.py --seeds 2000 --steps $(STEPS)
	@$(PY) bench/soak.py
endif

dist: test-tools ## build the wheel and the source archive into dist/
	@rm -rf dist
	@$(PY) -m build --no-isolation --outdir dist .

clean: ## remove all that make has made, .venv included
	@rm -rf .venv .venv.new .venv.old .venv-bench .venv-bench.* .venv-docs .venv-docs.* .venv-fuzz .venv-fuzz.* .venv-3.* .venv.lock \
		dist build htmlcov uniqdb-demo .coverage .coverage.* .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
	@find . -name .git -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
