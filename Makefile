.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/installed
NODES ?= 2x8xNVIDIA-H100-80GB-HBM3
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --no-emit-index-url --no-emit-find-links

help:           ## list the targets
	@grep -hE '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

install: $(STAMP)  ## install into .venv, from the lock file
$(STAMP): pyproject.toml requirements-dev.txt
	$(PYTHON) -m venv .venv && $(BIN)/pip --quiet install --require-hashes -r requirements-dev.txt && $(BIN)/pip --quiet install --no-deps --no-build-isolation -e . && touch $@

demo: install   ## a whole cluster with simulated GPUs, the operator and one model (KEEP=1 leaves it up)
	@PATH="$(CURDIR)/$(BIN):$$PATH" NODES="$(NODES)" KEEP="$(KEEP)" examples/demo.sh

test: install   ## every test, component tests on the real control plane included
	$(BIN)/trtllm-operator sandbox build >/dev/null && $(BIN)/pytest

test-fast: install  ## the tests that need no control plane
	$(BIN)/pytest -m "not component"

check: install  ## format, lint, types, import rules
	$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/mypy && $(BIN)/lint-imports

update: install  ## rewrite everything generated: CRD, goldens; then read the diff
	$(BIN)/trtllm-operator crd > crds/llmdeployments.yaml && $(BIN)/pytest -q -m "not component" --update

verify: update  ## fail when something generated is not committed
	git diff --exit-code && test -z "$$(git status --porcelain)"

run: install    ## the operator against the current kubectl context
	$(BIN)/trtllm-operator manifests | kubectl apply --server-side -f - && $(BIN)/trtllm-operator run

lock: install   ## resolve the dependencies again
	$(COMPILE) --upgrade -o requirements.txt pyproject.toml && $(COMPILE) --upgrade --all-extras --group dev -o requirements-dev.txt pyproject.toml

clean:          ## remove the environment, caches and every sandbox
	-for name in $$($(BIN)/trtllm-operator sandbox list 2>/dev/null | awk 'NR > 1 {print $$1}'); do $(BIN)/trtllm-operator sandbox down --name $$name; done
	rm -rf .venv build dist *.egg-info operator/*.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache

.PHONY: help install demo test test-fast check update verify run lock clean
