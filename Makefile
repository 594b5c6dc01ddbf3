# `make build` and `make test` need nothing before them: they set up .venv by themselves, once.
SHELL := /bin/bash
# Test processes: a library's threads in each would only get in each other's way.
PROCESSES ?= $(shell n=$$(nproc); echo $$((n < 4 ? n : 4)))
ONE_THREAD := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
# Given on to the command: make build ARGS="--source ~/300W_LP", make test ARGS="tests/render -x"
ARGS ?=

.PHONY: help build test bench docs lint types format setup clean distclean

help:
	@echo 'make build       the main job: from nothing to a published data set of position maps'
	@echo 'make test        the whole test suite'
	@echo 'make bench       the main job beside the usual recipe, on the same cores'
	@echo 'make docs        the pages as a site in build/site'
	@echo 'make lint        style, formatting and the order of the folders'
	@echo 'make types       mypy, which is not part of `make lint` yet'
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
	$(ONE_THREAD) .venv/bin/python tests/benchmarks/main_job.py $(ARGS)

docs: setup
	NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --strict

lint: setup
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/lint-imports --no-cache

types: setup
	.venv/bin/mypy

format: setup
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

clean:
	find geometry render storage train flows tests infra -name __pycache__ -type d -prune -exec rm -rf {} +
	rm -rf .pytest_cache .ruff_cache .mypy_cache .hypothesis .import_linter_cache *.egg-info build

distclean: clean
	rm -rf .venv
