# Everything runs in its own virtual environment; nothing but Python 3.10+ and git has to be there before.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: help demo test lint docs clean

help:
	@echo "make demo   enhance examples/noisy.wav with the weights inside the package"
	@echo "make test   run the tests"
	@echo "make lint   check the style"
	@echo "make docs   build the documentation into build/docs/"

# The stamps depend on pyproject.toml, so a change of dependencies is installed and nothing else is repeated.
$(VENV)/.base: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -e ".[plot]"
	touch $@

# pesq comes as source only: without a C compiler its tests are skipped, everything else still runs.
$(VENV)/.dev: $(VENV)/.base
	$(BIN)/pip install --quiet --disable-pip-version-check -e ".[dev]"
	$(BIN)/pip install --quiet --disable-pip-version-check "pesq>=0.0.4" || echo "pesq could not be built; its tests are skipped"
	touch $@

demo: $(VENV)/.base
	$(BIN)/deepvqe enhance examples/noisy.wav -o enhanced/noisy.wav --plot --force

test: $(VENV)/.dev
	$(BIN)/python -m pytest -q -n auto --maxprocesses 4

lint: $(VENV)/.dev
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

docs: $(VENV)/.base
	$(BIN)/pip install --quiet --disable-pip-version-check -e ".[docs]"
	$(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) enhanced build dist *.egg-info
