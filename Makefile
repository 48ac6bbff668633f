.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/installed
UNPRIVILEGED := $(if $(filter 0,$(shell id -u)),,-m "not privileged and not scenario and not flux")
NODES ?= 2x8xNVIDIA-H100-80GB-HBM3
# Not asked of the operator's pod: a CPU limit (throttling delays it), limits of storage it does not use, pulling a release
# again and again, and a NetworkPolicy, which the chart offers for who knows the API server's ports.
SCORE := --ignore-test container-ephemeral-storage-request-and-limit --ignore-test container-image-pull-policy --ignore-test pod-networkpolicy --ignore-container-cpu-limit
# Nor of what the operator renders: users, root file systems and resources for the reasons in .checkov-children.yaml; two
# different probes (trtllm-serve has one route; the liveness probe waits longer); a budget (spec.disruption asks for one).
SCORE_CHILDREN := $(SCORE) --ignore-test container-security-context-user-group-id --ignore-test container-security-context-readonlyrootfilesystem --ignore-test container-resources --ignore-test pod-probes-identical --ignore-test deployment-has-poddisruptionbudget
CHECKOV := $(BIN)/uvx --quiet --from checkov==3.3.30 checkov
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --no-emit-index-url --no-emit-find-links

help:           ## list the targets
	@grep -hE '^[a-z.-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

install: $(STAMP)  ## install into .venv, from the lock file
$(STAMP): pyproject.toml requirements-dev.txt
	$(PYTHON) -m venv .venv && $(BIN)/pip --quiet install --require-hashes -r requirements-dev.txt && $(BIN)/pip --quiet install --no-deps --no-build-isolation -e . && touch $@

demo: install   ## a whole cluster with simulated GPUs, the operator and one model (KEEP=1 leaves it up)
	@PATH="$(CURDIR)/$(BIN):$$PATH" NODES="$(NODES)" KEEP="$(KEEP)" examples/demo.sh

test: install   ## every test, component tests on the real control plane included
	$(BIN)/trtllm-operator sandbox build --with lws >/dev/null && $(BIN)/trtllm-operator sandbox helm >/dev/null && $(BIN)/pytest $(UNPRIVILEGED)

test-fast: install  ## the tests that need no control plane
	$(BIN)/pytest -m "not component"

fuzz: install   ## COUNT (2000) generated objects against the real API server, the planner and the templates
	$(BIN)/pytest tests/component/test_fuzz.py --fuzz $(or $(COUNT),2000)

scenarios: install  ## every scenario of docs/reliability.md, with their outcomes recorded (about half an hour)
	$(BIN)/pytest tests/scenarios tests/component/test_at_rest.py -m "gate or scenario" --record; $(BIN)/pytest -q tests/test_reliability_page.py --update

gitops: install ## Flux's own controllers keep examples/gitops on a sandbox (some minutes the first time, to build them)
	$(BIN)/pytest tests/gitops -m "flux"

bench: install  ## the operator beside a bare client; see docs/performance.md
	PYTHONPATH=operator:tests $(BIN)/python -m bench

check: install  ## format, lint, types, import rules
	$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/mypy && $(BIN)/lint-imports

update: install  ## rewrite everything generated: CRD, charts, pages, goldens; then read the diff
	$(BIN)/pytest -q tests/test_crd.py --update && $(BIN)/python tools/charts.py && $(BIN)/python tools/static_manifests.py && $(BIN)/pytest -q -m "not component" --update && $(BIN)/pytest -q tests/chart/test_templates.py --update

verify: update  ## fail when something generated is not committed
	git diff --exit-code && test -z "$$(git status --porcelain)"

vendor: install ## copy the pinned CRDs from their Go modules and the schemas of the API server
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python tools/vendor_schemas.py

run: install    ## the operator against the current kubectl context
	kubectl apply --server-side -f crds/llmdeployments.yaml && $(BIN)/trtllm-operator run

install.yaml: install  ## dist/install.yaml: the whole installation as one file
	mkdir -p dist && $$($(BIN)/trtllm-operator sandbox build | awk '$$1 == "kubectl" {print $$2}') kustomize config/default > dist/$@

sbom: install   ## dist/sbom.cdx.json: the image's Python packages, from the lock file
	mkdir -p dist && $(BIN)/uvx --quiet --from cyclonedx-bom==7.5.0 cyclonedx-py requirements --output-reproducible --pyproject pyproject.toml -o dist/sbom.cdx.json requirements.txt

lint-manifests: install.yaml  ## checkov and kube-score over the installation, the chart, what the operator renders and the Dockerfile
	$$($(BIN)/trtllm-operator sandbox helm) template trtllm-operator charts/trtllm-operator --namespace trtllm-operator-system > dist/chart.yaml
	$(BIN)/python tools/children.py > dist/children.yaml
	$(CHECKOV) --config-file .checkov.yaml -f dist/install.yaml -f dist/chart.yaml -f Dockerfile
	$(CHECKOV) --config-file .checkov-children.yaml -f dist/children.yaml
	cd tools && PATH="$(CURDIR)/$(BIN):$$PATH" go tool kube-score score --output-format ci $(SCORE) ../dist/install.yaml
	cd tools && PATH="$(CURDIR)/$(BIN):$$PATH" go tool kube-score score --output-format ci $(SCORE) ../dist/chart.yaml
	cd tools && PATH="$(CURDIR)/$(BIN):$$PATH" go tool kube-score score --output-format ci $(SCORE_CHILDREN) ../dist/children.yaml

lock: install   ## resolve the dependencies again
	$(COMPILE) --upgrade -o requirements.txt pyproject.toml && $(COMPILE) --upgrade --all-extras --group dev -o requirements-dev.txt pyproject.toml

clean:          ## remove the environment, caches and every sandbox
	-for name in $$($(BIN)/trtllm-operator sandbox list 2>/dev/null | awk 'NR > 1 {print $$1}'); do $(BIN)/trtllm-operator sandbox down --name $$name; done
	rm -rf .venv build dist *.egg-info operator/*.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache

.PHONY: help install install.yaml sbom lint-manifests demo test test-fast fuzz scenarios gitops bench check update verify vendor run lock clean
