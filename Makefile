# Two commands do everything on a fresh machine: `make run` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
ARGS ?=

.PHONY: help run test test-long test-cluster kills check ui site bench clean
help: ## these lines
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile

run: $(VENV)/.run ## search the default study and print the answer; another: make run ARGS="cifar10 --trials 8"
	@$(BIN)/python -m search.run $(ARGS)

test: $(VENV)/.dev ## run all tests but those of the next two; nine minutes on two cores
	@$(BIN)/python -m pytest -m "not long and not cluster" -n 3 --dist loadfile --no-loadscope-reorder $(ARGS)

test-long: $(VENV)/.dev ## kill whole studies, cut them off, fill their disks, and continue them; twenty minutes
	@$(BIN)/python -m pytest -m "long and not cluster" -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

test-cluster: $(VENV)/.dev ## bring up clusters on simulated hosts, break them, take them down; as root, eleven minutes
	@$(BIN)/python -m pytest tests/hosts -m cluster -n 0 -s -rs $(ARGS)

kills: $(VENV)/.dev ## kill the driver of three studies 20 times each, and of one at its end, and compare what they become: 45 minutes
	@$(BIN)/python -m pytest tests/whole/test_kills.py -n 0 --kills 20 --kill-seeds 3 -rA $(ARGS)

check: $(VENV)/.dev ## ruff, pyright and the rules of imports
	@$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/pyright && $(BIN)/lint-imports

ui: $(VENV)/.run ## open MLflow on the comparison of the latest study, on this machine only; another: make ui ARGS="cifar10"
	@$(BIN)/python -m search.ui $(ARGS)

site: $(VENV)/.dev ## build docs/ as a site, into site/
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

bench: $(VENV)/.run ## measure what the service costs around the training
	@$(BIN)/python -m benchmarks.service.overhead $(ARGS)

clean: ## remove the environment; results stay
	rm -rf $(VENV)

$(VENV)/.run: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.12 run"; exit 1; }
	@echo "installing into $(VENV) (several minutes the first time)"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install -r requirements.lock
	@$(PIP) install --no-deps -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.run requirements-dev.lock
	@$(PIP) install -r requirements-dev.lock
	@touch $@
