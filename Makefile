# Targets install into $(VENV) by themselves. `make help` lists them.
VENV ?= .venv
PYTHON ?= python3
DATA ?=
SCALE ?= embedded
DATA_ROOT ?=
SERVER ?=
ARGS ?=

BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
OVERRIDES = $(if $(DATA),data=$(DATA)) scale=$(SCALE) $(if $(DATA_ROOT),data.root=$(DATA_ROOT)) $(ARGS)

.DEFAULT_GOAL := help
.PHONY: help install test bench lint format clean

help: ## list the targets
	@echo "Targets:"
	@sed -nE 's/^([a-z0-9%-]+):.*## (.*)/  \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "  %-20s %s\n", $$1, $$2}'
	@echo "Tables: $(patsubst sweeps/%.yaml,%,$(wildcard sweeps/*.yaml))"
	@echo "Variables of the tables:"
	@echo "  DATA=davis2017, youtube_vos, ...; embedded data by default  DATA_ROOT=its folder  SCALE=embedded|small|paper"
	@echo "  SERVER=file with a server's figures  ARGS='further overrides, such as seed=0,1,2 logger=wandb'"

install: $(INSTALLED) ## make the environment in .venv

$(INSTALLED): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV); torch is large, a few minutes are usual."
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

reproduce-%: $(INSTALLED) ## train and score a paper's table, such as reproduce-table4, and print it beside the paper's
	@status=0; \
	$(BIN)/vos-train -m sweeps=$* $(OVERRIDES) || status=$$?; \
	$(BIN)/vos-table sweeps=$* $(OVERRIDES) $(if $(SERVER),--server $(SERVER)) || status=$$?; \
	exit $$status

test: $(INSTALLED) ## run the tests, two files at a time
	$(BIN)/pytest -n 2 --dist loadfile

bench: $(INSTALLED) ## measure speed and memory beside plain implementations, 11 minutes
	@$(BIN)/python -m benchmarks

lint: $(INSTALLED) ## check style and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(INSTALLED) ## apply the style
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean: ## remove the environment and caches, not runs
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache build dist
