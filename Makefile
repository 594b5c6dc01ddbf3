# `make build` and `make test` need nothing before them: they set up .venv by themselves, once.
SHELL := /bin/bash
# Test processes: a library's threads in each would only get in each other's way.
PROCESSES ?= $(shell n=$$(nproc); echo $$((n < 4 ? n : 4)))
ONE_THREAD := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
# Given on to the command: make build ARGS="--source ~/300W_LP", make test ARGS="tests/render -x"
ARGS ?=

.PHONY: help build test bench docs lint types format setup clean distclean audit sbom wheel-test

help:
	@echo 'make build       the main job: from nothing to a published data set of position maps'
	@echo 'make test        the whole test suite'
	@echo 'make bench       every stage and job beside what else one would use; ARGS="--quick" takes two minutes'
	@echo 'make docs        the pages as a site in build/site'
	@echo 'make lint        style, formatting, the order of the folders, and types'
	@echo 'make types       mypy alone'
	@echo 'make wheel-test  sdist and wheel into an environment of their own, and the tests against it'
	@echo 'make audit       known holes in the pinned versions; make sbom writes their list, build/sbom.json'
	@echo 'make format      formats the code'
	@echo 'make setup       the whole environment in .venv, and nothing else'
	@echo 'make clean       removes caches; distclean removes .venv as well; data sets stay'
	@echo 'ARGS="…" is given on: make build ARGS="--help"'

build:
	@infra/setup.sh core
	@.venv/bin/facefoundry build 300wlp-posmaps $(ARGS)

setup:
	@infra/setup.sh all

test: setup
	$(ONE_THREAD) .venv/bin/python -m pytest -n $(PROCESSES) --dist loadfile $(ARGS)

bench: setup
	$(ONE_THREAD) .venv/bin/python -m tests.benchmarks.suite $(ARGS)

docs: setup
	NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --strict

lint: setup
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/lint-imports --no-cache
	.venv/bin/mypy

types: setup
	.venv/bin/mypy

format: setup
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

# The wheel's environment is its own, so this needs no .venv: PYTHON chooses the interpreter.
PYTHON ?= python3
wheel-test:
	$(ONE_THREAD) $(PYTHON) infra/test_wheel.py $(ARGS)

# Tools of their own environment: what they need must not mix with what they look at.
build/audit/tools:
	rm -rf build/audit
	$(PYTHON) -m venv build/audit
	build/audit/bin/pip install --quiet pip-audit cyclonedx-bom packaging pyyaml
	touch $@

# Without pip-audit's service: ADVISORIES names a clone of github.com/pypa/advisory-database.
audit: build/audit/tools
ifdef ADVISORIES
	build/audit/bin/python infra/known_holes.py $(ADVISORIES)
else
	build/audit/bin/pip-audit --strict --requirement infra/constraints.txt --no-deps --disable-pip $(ARGS)
endif

sbom: setup build/audit/tools
	build/audit/bin/cyclonedx-py environment .venv --output-format JSON --output-file build/sbom.json $(ARGS)

clean:
	find geometry render storage train flows tests infra -name __pycache__ -type d -prune -exec rm -rf {} +
	rm -rf .pytest_cache .ruff_cache .mypy_cache .hypothesis .import_linter_cache *.egg-info build

distclean: clean
	rm -rf .venv
