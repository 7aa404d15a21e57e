# make demo [INPUT=film.mp4]   convert a film (or a drawn one) and look at the result
# make test                    everything that needs no GPU and no other data, in minutes
# make test-all                also the slow tests and those on real films
# make check                   style, types and the rules of which part may import which

VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
# One process a core, each on one thread: several threads in several processes would only wait for each other.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --durations=15
READY := $(VENV)/.ready

.PHONY: demo test test-all check clean

demo: $(READY)
	$(BIN)/python scripts/demo.py $(if $(INPUT),"$(INPUT)")

test: $(READY)
	$(PYTEST) -m "not slow and not gpu"

test-all: $(READY)
	$(PYTEST) -m "not gpu"

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV) out build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed, this is " + sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[test]"
	touch $(READY)
