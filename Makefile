# make demo   teacher in, student and router out, on a data set that installs with the project
# make test   the whole test-suite
# make test-long  many more cases of the property tests, and every network of the zoo; half an hour
# make test-runtimes  pairs in OpenVINO and in ONNX Runtime for the web, which it installs; needs npm
# make lint   ruff, mypy --strict, the contract on imports
# make format put the code in the form that lint asks for
#
# Each target works alone on a fresh clone: it makes .venv and installs what it needs there.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

export PIP_DISABLE_PIP_VERSION_CHECK := 1

INSTALL    := $(BIN)/python -m pip install -q -c constraints.txt
INPUTS     := pyproject.toml constraints.txt
HAS_PIP    := $(VENV)/.made
HAS_SEARCH := $(VENV)/.search
HAS_DEV    := $(VENV)/.dev
RUNTIMES   := .runtimes

.PHONY: demo test test-long test-runtimes lint format clean

# The command line refuses an existing folder, and a demo is meant to be repeated.
demo: $(HAS_SEARCH)
	rm -rf runs/demo
	$(BIN)/understudy demo --out runs/demo

# Small networks gain nothing from a second thread, so two processes share the tests, file by
# file. Those with Ray use both processors by themselves, and come after the others: in one process,
# so that they share a finished job.
WITH_RAY := tests/search/test_pipeline.py tests/search/test_resume.py tests/search/analysis/test_tune_study.py \
    tests/search/packaging/test_router_rows.py tests/service/cli/test_cli.py tests/service/cli/test_thresholds.py tests/understudy/test_jobs.py
FAULTS   := tests/search/execution/test_evaluator.py tests/search/finalists/test_train.py tests/search/test_faults.py
SHARED   := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

test: $(HAS_DEV)
	$(SHARED) $(WITH_RAY:%=--ignore=%)
	$(BIN)/python -m pytest $(WITH_RAY)

test-long: $(HAS_DEV)
	$(SHARED) -m long $(WITH_RAY:%=--ignore=%) $(FAULTS:%=--ignore=%)
	$(BIN)/python -m pytest -m long $(WITH_RAY) $(FAULTS)

# In environments of their own: neither is needed to develop, nor may it move what is.
OPENVINO := $(RUNTIMES)/openvino
WEB      := $(RUNTIMES)/web

test-runtimes: $(HAS_DEV) $(OPENVINO)/.made $(WEB)/.made
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m long tests/runtimes/test_runtimes.py

$(OPENVINO)/.made:
	$(PYTHON) -m venv $(OPENVINO)
	$(OPENVINO)/bin/python -m pip install -q 'openvino==2026.*' numpy
	@touch $@

$(WEB)/.made:
	mkdir -p $(WEB)
	cd $(WEB) && npm init -y > /dev/null && npm install --silent --no-fund --no-audit onnxruntime-web@1
	@touch $@

lint: $(HAS_DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(HAS_DEV)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .venv-base $(RUNTIMES) build *.egg-info .mypy_cache .pytest_cache .ruff_cache \
	    .hypothesis .import_linter_cache

# Stamps: an install is repeated only when what it was made from has changed.
$(HAS_PIP):
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(HAS_SEARCH): $(HAS_PIP) $(INPUTS)
	$(INSTALL) -e '.[search]'
	@touch $@

# The development tools come on top of `search`, so this install serves the demo as well.
$(HAS_DEV): $(HAS_PIP) $(INPUTS)
	$(INSTALL) -e '.[service,dev]'
	@touch $@ $(HAS_SEARCH)
