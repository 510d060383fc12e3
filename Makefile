# Every target makes .venv first and needs nothing but Python 3.11 or newer.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo lint format test test-parity bench clean

demo: $(VENV)/demo                 ## transcribe the samples
	$(BIN)/whisfusion transcribe samples/*.flac

lint: $(VENV)/test                 ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: $(VENV)/test                 ## all tests that need no torch
	$(BIN)/pytest -n auto --dist loadfile --no-loadscope-reorder --durations 15

test-parity: $(VENV)/parity $(VENV)/gpu  ## live against transformers, torch and faster-whisper
	$(BIN)/pytest -m parity tests

bench: $(VENV)/parity              ## the tables of docs/results.md, on this machine
	$(BIN)/python -m benchmarks.transcription
	$(BIN)/python -m benchmarks.decoding
	$(BIN)/python -m benchmarks.exact speed
	$(BIN)/python -m benchmarks.encoder

$(VENV)/demo: pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --editable .
	@touch $@

$(VENV)/test: pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --editable '.[test]'
	@touch $@ $(VENV)/demo

$(VENV)/parity: $(VENV)/test
	$(BIN)/pip install --quiet 'torch==2.13.0'
	$(BIN)/pip install --quiet --editable '.[test,parity,plots]'
	@touch $@

# A GPU's compiler, which needs no GPU, apart: JAX would look for one at every start.
$(VENV)/gpu: $(VENV)/parity
	rm -rf $@
	jax=$$($(BIN)/python -c 'import jax; print(jax.__version__)'); \
	$(BIN)/pip install --quiet --no-deps --target $@ jax-cuda13-plugin==$$jax \
	    jax-cuda13-pjrt==$$jax nvidia-cuda-nvcc nvidia-nvvm nvidia-nvjitlink \
	    nvidia-cuda-runtime nvidia-cudnn-cu13
	@touch $@

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

clean:
	rm -rf $(VENV)
