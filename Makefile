.DEFAULT_GOAL := help
.PHONY: help setup run test lab check fix bench calibrate data lock schema clean

BIN := .venv/bin
NOTEBOOKS := $(wildcard notebooks/*.ipynb)
STRIP := $(BIN)/nbstripout --keep-id --extra-keys "metadata.papermill metadata.language_info.version cell.metadata.papermill cell.metadata.execution"

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/.ready ## make .venv from requirements.lock (the targets that need it do this first)

.venv/.ready: requirements.lock pyproject.toml
	@sh .ci/setup

run: setup ## run every program in params/ through its notebooks (ARGS="params/x.yaml" for one)
	@$(BIN)/ldlab run $(ARGS)
	@echo "The page: $(CURDIR)/outputs/index.html"

test: setup ## run the tests (ARGS="-k did" for some)
	@$(BIN)/python -m pytest $(ARGS)

lab: setup ## open JupyterLab, with a kernel that has everything
	@PATH="$(CURDIR)/$(BIN):$$PATH" JUPYTER_PREFER_ENV_PATH=1 $(BIN)/jupyter lab $(ARGS)

check: setup ## lint, check types, and check that notebooks are committed without outputs
	@$(BIN)/ruff check
	@$(BIN)/mypy
	@$(if $(NOTEBOOKS),$(STRIP) --verify $(NOTEBOOKS) || { echo "Notebooks carry outputs: make fix strips them."; exit 1; })

fix: setup ## mend what check can mend: lint fixes, notebook outputs
	@$(if $(NOTEBOOKS),$(STRIP) $(NOTEBOOKS))
	@$(BIN)/ruff check --fix

bench: setup ## time what should stay quick; figures go to outputs/bench*.json
	@$(BIN)/python -m tests.bench $(ARGS)
	@$(if $(ARGS),,$(BIN)/python -m tests.bench_batch)
	@$(if $(ARGS),,$(BIN)/python -m tests.bench_did --growth)
	@$(if $(ARGS),,$(BIN)/python -m tests.bench_ab)

calibrate: setup ## hold every Bayesian model against worlds from its own prior (goes on where it stopped)
	@$(BIN)/python -m tests.calibrate $(ARGS)

data: setup ## rebuild the tables in data/
	@$(BIN)/python data/build.py $(ARGS)

lock: setup ## resolve pyproject.toml into requirements.lock (ARGS="--upgrade" for newer versions)
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.12 --generate-hashes --extra dev \
		--no-emit-index-url --custom-compile-command "make lock" pyproject.toml -o requirements.lock $(ARGS)
	@if grep -n '://' requirements.lock; then echo "requirements.lock must not hold a URL."; exit 1; fi

schema: setup ## write params/program.schema.json from the program model
	@mkdir -p params
	@$(BIN)/ldlab schema > .venv/program.schema.json
	@mv .venv/program.schema.json params/program.schema.json

clean: ## remove what runs and tools leave (keeps .venv)
	@rm -rf outputs/* build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find src tests data notebooks \( -name __pycache__ -o -name .ipynb_checkpoints \) -prune -exec rm -rf {} + 2>/dev/null || true
