# Every target sets up its own environment on a fresh machine (about two minutes) and starts at once after that.

STUDY ?= studies/shapes
DATA ?=
TRIALS ?=
WORKERS ?=
EPOCHS ?=
HOURS ?=
DEVICE ?= auto
PORT ?= 8080
IMAGES ?= $(STUDY)/data/images/val_00000*.png
JOBS ?= 2
PYTHON ?= python3

BIN := .venv/bin
SMNAS := $(BIN)/smnas
PYTEST = $(BIN)/python -m pytest -q -n $(JOBS) --dist worksteal
OPTIONS = $(if $(DATA),--data "$(DATA)") $(if $(TRIALS),--trials $(TRIALS)) $(if $(WORKERS),--workers $(WORKERS)) --device $(DEVICE)

.DEFAULT_GOAL := help
.PHONY: help setup structural modular front report verify train predict dashboard test test-slow test-nightly check clean

help:  ## show this help
	@echo "make TARGET [STUDY=$(STUDY)] [DATA=folder] [TRIALS=n] [WORKERS=n] [DEVICE=auto|cpu|cuda]"
	@echo "make verify|train [EPOCHS=n], train [HOURS=h], predict [IMAGES=folder], dashboard [PORT=$(PORT)]"
	@echo "make test|test-slow|test-nightly|check [JOBS=$(JOBS)]"
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: .venv/ready  ## set up .venv, as every target below does by itself where it is needed

structural: .venv/ready  ## search the structures of STUDY; the same command goes on after anything
	$(SMNAS) structural "$(STUDY)" $(OPTIONS)

modular: .venv/ready  ## then search inside the modules of its best structures; goes on after anything
	$(SMNAS) modular "$(STUDY)" $(OPTIONS)

front: .venv/ready  ## show the Pareto front of STUDY, also while a search runs
	$(SMNAS) front "$(STUDY)"

report: .venv/ready  ## write a page to click on STUDY: report/report.html, also while a search runs
	$(SMNAS) report "$(STUDY)" $(if $(DATA),--data "$(DATA)")

verify: .venv/ready  ## train members of the front again with other seeds, for longer; goes on after anything
	$(SMNAS) verify "$(STUDY)" $(if $(DATA),--data "$(DATA)") $(if $(WORKERS),--workers $(WORKERS)) $(if $(EPOCHS),--epochs $(EPOCHS)) --device $(DEVICE)

train: .venv/ready  ## train the knee of the front for longer, with a curve and a card; goes on after anything
	$(SMNAS) train "$(STUDY)" --knee $(if $(DATA),--data "$(DATA)") $(if $(EPOCHS),--epochs $(EPOCHS)) $(if $(HOURS),--hours $(HOURS)) --device $(DEVICE)

predict: .venv/ready  ## draw what the best detector of STUDY finds in IMAGES (a folder, file or pattern)
	$(SMNAS) predict "$(IMAGES)" --detector "$(STUDY)" --output "$(STUDY)/predictions" --device $(DEVICE)

dashboard: .venv/ready  ## browse STUDY on http://127.0.0.1:PORT, also while a search runs
	$(SMNAS) dashboard "$(STUDY)" --port $(PORT)

test: .venv/ready-dev  ## run the tests that take seconds; about four minutes on two cores
	$(PYTEST)

test-slow: .venv/ready-dev  ## run the tests that train detectors, and kill workers by the dozen; about ten minutes
	$(PYTEST) -m slow

test-nightly: .venv/ready-dev  ## run the tests that take longer, once before a release; SMNAS_KILLS=n kills n times
	$(PYTEST) -m nightly

check: .venv/ready-dev  ## run what CI runs first: lint, format, types, import contracts and quick tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(MAKE) test

clean:  ## remove the environment and caches; studies stay
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

.venv/ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name one: make PYTHON=python3.12 ...")'
	@echo "setting up .venv: torch and what else is needed, about 5.5 GB and two minutes"
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --editable .
	@touch $@

.venv/ready-dev: .venv/ready
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@
