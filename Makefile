# Each target sets up what it needs, in .venv. PYTHON chooses the interpreter that makes it.
PYTHON ?= python3
BIN = .venv/bin
BASE = .venv/.base
CHECKS = .venv/.check
TORCH = .venv/.torch
CUDA = .venv/.cuda
BROWSER = .venv/.browser

.PHONY: train test check parity browser cuda-check clean

train: $(BASE)  ## train the default model on the names that come with the package; print samples
	$(BIN)/ownt train

test: $(BASE)  ## run the tests, but for those of `make cuda-check` and `make parity`
	$(BIN)/python -m pytest --ignore=tests/cuda --ignore=tests/parity

check: $(CHECKS)  ## format, lint, types, direction of imports
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_imports.py

parity: $(TORCH)  ## compare values, gradients and training with PyTorch
	$(BIN)/python -m pytest -m parity tests/parity

cuda-check: $(CUDA)  ## compile the CUDA kernels, and execute and compare them without a GPU
	$(BIN)/python -m pytest tests/cuda tests/test_cuda_*.py -rs

browser: $(BROWSER)  ## have the memory page tested in Chromium, if there is one, by `make test`

clean:
	rm -rf .venv

$(BIN)/python:
	$(PYTHON) -m venv .venv

$(BASE): $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test]'
	touch $@

$(CHECKS): $(BASE)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[check]'
	touch $@

$(BROWSER): $(BASE)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[browser]'
	touch $@

$(CUDA): $(BASE)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[cuda-check]' && touch $@ \
		|| echo "CuPy and NVIDIA's compiler could not be installed: what needs them is skipped"

$(TORCH): $(BASE)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[parity]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps torchvision==0.28.0 pillow
	touch $@
