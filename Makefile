# Everything sets itself up: a fresh clone needs Python 3.11 or newer and make, nothing else.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
# Arguments for pytest: make test ARGS="-m slow tests/db"
ARGS ?=
# Slow tests run in CI, or by ARGS="-m slow". Two files of tests run at once: most of them wait.
TESTS := -n 2 --dist loadfile $(if $(filter true,$(CI)),,-m "not slow")

.DEFAULT_GOAL := help
.PHONY: help demo pictures serve test benchmark-receive benchmark-objects benchmark-inference benchmark-node lint format constraints clean

help:
	@echo "make demo    sample studies through a node into a PACS, in a few minutes"
	@echo "make serve   run a node on port 11112 until Ctrl-C (settings: ./preread.toml if there)"
	@echo "make test    run the tests; ARGS=\"-m slow\" runs those that take minutes"
	@echo "make benchmark-receive  Preread, Orthanc and DCMTK side by side, about 25 minutes"
	@echo "make benchmark-objects  result objects, and highdicom alone beside them, about 5 minutes"
	@echo "make benchmark-node  a whole node: C-STORE to proved report, STAT, two workers, memory; hours"
	@echo "make benchmark-inference  files to probabilities beside MONAI and the tutorials, about 10 minutes"
	@echo "make lint    ruff, mypy, import-linter"

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit("Preread needs Python 3.11 or newer; set PYTHON=...") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "no venv: install the package python3-venv" >&2; exit 1; }

# torch by itself and first: its version decides which build is taken.
$(VENV)/.demo: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) torch==2.13.0
	$(PIP) -e ".[demo,train]"
	@touch $@

$(VENV)/.test: $(VENV)/.demo
	$(PIP) -e ".[demo,train,explain,test,lint]"
	# Its network definition is what ours is compared with; what it depends on is not needed for that.
	$(PIP) --no-deps torchxrayvision
	@touch $@

demo: $(VENV)/.demo
	$(BIN)/preread demo

# What the README shows: the demonstration, and what its PACS gets. A report is drawn by Chromium.
pictures: $(VENV)/.demo
	$(BIN)/preread demo --picture deploy/docs/demo.svg --results build/pictures
	cp build/pictures/phantom-chest-13-ot-1-13.png deploy/docs/pneumothorax.png
	cp build/pictures/phantom-head-11-ot-1-11.png deploy/docs/hemorrhage.png
	chromium --headless --no-sandbox --disable-gpu --hide-scrollbars --window-size=1000,1150 \
	  --screenshot=deploy/docs/report.png "file://$(CURDIR)/build/pictures/phantom-head-11-sr-1-11.html"
	$(PIP) -e ".[demo,train,explain]"
	$(BIN)/python -m deploy.explained_picture deploy/docs/explained.jpg

serve: $(VENV)/.demo
	$(BIN)/preread up

test: $(VENV)/.test
	$(BIN)/python -m pytest $(TESTS) $(ARGS)

$(VENV)/.benchmark: $(VENV)/.test
	$(PIP) -e ".[demo,train,test,lint,benchmark]"
	@touch $@

# Arguments: make benchmark-receive ARGS="--quick --only CT"
benchmark-receive: $(VENV)/.benchmark
	$(BIN)/python tests/benchmarks/receive $(ARGS)

# Arguments: make benchmark-objects ARGS="--quick"
benchmark-objects: $(VENV)/.test
	$(BIN)/python tests/benchmarks/objects $(ARGS)

# Arguments: make benchmark-inference ARGS="--quick", ARGS="--cores 0", ARGS="--device cuda --pool 14"
benchmark-inference: $(VENV)/.benchmark
	$(BIN)/python tests/benchmarks/inference $(ARGS)

# Arguments: make benchmark-node ARGS="--only stages,urgent --databases sqlite"
benchmark-node: $(VENV)/.benchmark
	$(BIN)/python tests/benchmarks/node $(ARGS)

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

constraints: $(VENV)/.test
	$(BIN)/python -m pip freeze --exclude-editable | sed 's/+cpu$$//' > constraints.txt

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache
