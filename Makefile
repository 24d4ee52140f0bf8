# Every target sets up what it needs by itself: a Python, .venv, packages.  `make help` lists them.
#
#   PYTHON=/path/to/python   the interpreter for .venv         NO_APT=1   never use apt-get
#   QCOW2CRYPT_NATIVE=auto|require|off    the C kernels: if they compile, or stop, or without
#   ARGS="..."               more arguments for the program    JOBS=4     test processes

SHELL := /bin/bash
.DEFAULT_GOAL := help
.NOTPARALLEL:
.SUFFIXES:

BIN  := .venv/bin
JOBS ?= auto
BENCH ?= engines
FUZZ_SECONDS ?= 60
ARGS ?=
export PYTHON NO_APT QCOW2CRYPT_NATIVE

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: ## see it work: encrypt and decrypt an image, step by step
	@tools/setup-venv.sh run
	@$(BIN)/python -m qcow2crypt.demo $(ARGS)

.PHONY: test
test: ## run all tests (ARGS="-k engine" for some of them)
	@tools/setup-venv.sh test
	@tools/setup-qemu.sh
	@tools/setup-native-tools.sh
	@tools/setup-browser.sh
	@$(BIN)/pytest -n $(JOBS) --maxprocesses=8 --dist worksteal $(ARGS)

.PHONY: lint
lint: ## ruff: rules and format
	@tools/setup-venv.sh dev
	@$(BIN)/ruff check . $(ARGS)
	@$(BIN)/ruff format --check .

.PHONY: format
format: ## ruff: rewrite the format, and what can be mended safely
	@tools/setup-venv.sh dev
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

.PHONY: types
types: ## mypy --strict
	@tools/setup-venv.sh dev
	@$(BIN)/mypy $(ARGS)

.PHONY: build
build: ## wheel and sdist in dist/, and a look at what is in them
	@tools/setup-venv.sh dev
	@tools/build-dist.sh

.PHONY: docs
docs: ## the site of the documents and the course, in build/docs
	@tools/setup-venv.sh docs
	@rm -rf build/docs
	@$(BIN)/python -m sphinx -q -E -W --keep-going -n -c docs -d build/docs-trees . build/docs $(ARGS)
	@$(BIN)/python tools/check_site.py build/docs

.PHONY: bench
bench: ## measure (BENCH=engines, sectors, random_access, convert, convert_more, startup)
	@tools/setup-venv.sh bench
	@$(BIN)/python -m benchmarks.$(BENCH) $(ARGS)

.PHONY: fuzz
fuzz: ## fuzz the parsers and the C boundary (FUZZ_SECONDS=60 for each)
	@tools/setup-venv.sh fuzz
	@for target in engines compressed images; do \
	    $(BIN)/python fuzz/fuzz.py $$target -max_total_time=$(FUZZ_SECONDS) $(ARGS) || exit 1; done

.PHONY: mutate
mutate: ## mutation testing of the core (ARGS="cipher ivgen" for some modules)
	@tools/setup-venv.sh mutate
	@$(BIN)/python tools/mutate.py $(ARGS)

.PHONY: fuzz-c
fuzz-c: ## fuzz the C kernels alone, with clang (FUZZ_SECONDS=60)
	@fuzz/csrc.sh build/fuzz/csrc -max_total_time=$(FUZZ_SECONDS) $(ARGS)

.PHONY: check
check: lint types test ## what to run before a commit

.PHONY: clean
clean: ## remove everything that was made here
	@rm -rf .venv build dist demo-out *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@rm -f qcow2crypt/_native.*so qcow2crypt/_native.*pyd
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
