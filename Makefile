# Everything needs git, Python 3.11 or newer, and make; the first target that runs installs the rest into $(VENV).
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help demo test test-core test-kserve lint bench clean

help:
	@echo "make demo       the whole job on an embedded data set: train, record, tune, bench, report"
	@echo "make test       all tests"
	@echo "make test-core  the tests that need no torch, in an environment without it"
	@echo "make test-kserve  the server with KServe's client, which needs older libraries, in an environment of its own"
	@echo "make lint       ruff and mypy"
	@echo "make bench      the benchmarks (see benchmarks/README.md; DATA=folder of labelled photos)"

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else f"Python 3.11 or newer is needed, this is {v[0]}.{v[1]}; say make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -e '.[all,dev]'
	@touch $(READY)

demo: $(READY)
	$(BIN)/pilotfish demo

test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

test-core: $(VENV)-core/.ready
	$(VENV)-core/bin/python -m pytest -n auto

$(VENV)-core/.ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)-core
	$(VENV)-core/bin/python -m pip install --quiet -e . hypothesis pytest pytest-xdist
	@touch $@

test-kserve: $(VENV)-kserve/.ready
	$(VENV)-kserve/bin/python -m pytest tests/serve/test_serve_oip_clients.py

$(VENV)-kserve/.ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)-kserve
	$(VENV)-kserve/bin/python -m pip install --quiet -e '.[serve]' hypothesis kserve pytest
	@touch $@

lint: $(READY)
	$(BIN)/ruff check src tests examples benchmarks experiments tools
	$(BIN)/ruff format --check src tests examples benchmarks experiments tools
	$(BIN)/mypy

bench: $(READY)
	$(BIN)/python benchmarks/recording_speed.py --data $(or $(DATA),../shared/data/imagenet_sample)
	$(BIN)/python benchmarks/recording_memory.py
	$(BIN)/python benchmarks/efficiency.py --data $(or $(DATA),../shared/data/imagenet_sample)

clean:
	rm -rf $(VENV) $(VENV)-core $(VENV)-kserve demo
