# make run   makes .venv, installs, runs the quickstart suite, prints the leaderboard
# make test  makes .venv, installs with the test extra, runs all tests; those of the site need a Chromium
# make vendor the libraries of the site again, from their npm packages
# make test-explore  the property tests on new random cases
# make test-fuzz  hostile journals and suites, for an hour or more
# make test-gpu  the tests that need an NVIDIA GPU, and those that need two where there are two
# make lint  ruff, mypy --strict, import contracts, length of files, no test that imports another
# make docs  the documentation site, from docs/ to build/docs; a warning is an error
# make graph which package imports which; fails on a cycle
# make leaderboard  runs what is stale of the published suites, and writes leaderboard/ again
# make bench benchmarks, as ratios against a peer or a bare loop
# make bench-gpu  the figures of one NVIDIA GPU
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# Two processes leave a third of two cores idle, because many tests wait for what they started; each takes 2 to 3 GB
WORKERS ?= 3
PIP    := $(BIN)/python -m pip --disable-pip-version-check install --quiet

.PHONY: run test test-explore test-fuzz test-gpu lint docs vendor graph leaderboard bench bench-gpu clean

run: $(VENV)/.installed
	$(BIN)/pruningbench run quickstart

test: $(VENV)/.installed-test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow and not gpu and not gpus" --numprocesses $(WORKERS)

# property tests on new random cases: a failure prints the case, to be added as an example
test-explore: $(VENV)/.installed-test
	PRUNINGBENCH_HYPOTHESIS=explore OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow and not gpu and not gpus" --numprocesses 2 --timeout 3600

# a machine without a GPU fails; PRUNINGBENCH_GPU_REHEARSAL=1 rehearses these tests on a CPU
test-gpu: $(VENV)/.installed-test
	@if [ "$$($(BIN)/python -c 'import torch; print(torch.cuda.device_count())')" -ge 2 ]; then marked="gpu or gpus"; \
	else marked=gpu; echo "left out: the tests of trainings on two GPUs (pytest -m gpus), of which torch sees fewer"; fi; \
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "$$marked"

# what readers make of hostile files, on new random cases: nothing but results and errors of one line
test-fuzz: $(VENV)/.installed-test
	PRUNINGBENCH_HYPOTHESIS=explore OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow -k fuzz --numprocesses 2 --timeout 7200

lint: $(VENV)/.installed-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python .ci/imports.py
	$(BIN)/python .ci/files.py

docs: $(VENV)/.installed-test
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# needs npm; the files are a part of the repository, so that nothing else does
vendor:
	$(PYTHON) .ci/vendor.py

graph: $(BIN)/python
	$(BIN)/python .ci/imports.py

# RERUN=3: also computes three random cells of each suite again, from nothing
leaderboard: $(VENV)/.installed
	OMP_NUM_THREADS=1 $(BIN)/python .ci/leaderboard.py --rerun $(or $(RERUN),0)

bench: $(VENV)/.installed-test
	$(BIN)/python -m pytest benchmarks -o python_files='bench_*.py' -m "not gpu" --benchmark-only --benchmark-columns=median,iqr,rounds

bench-gpu: $(VENV)/.installed-test
	$(BIN)/python -m pytest benchmarks/bench_gpu.py -m gpu -s --benchmark-only --benchmark-columns=median

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "pruningbench needs Python >= 3.11; say which with: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(PIP) --editable .
	@touch $@

$(VENV)/.installed-test: pyproject.toml | $(BIN)/python
	$(PIP) --editable '.[test]'
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-lint: pyproject.toml | $(BIN)/python
	$(PIP) --editable '.[test,lint]'
	@touch $@ $(VENV)/.installed $(VENV)/.installed-test

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
