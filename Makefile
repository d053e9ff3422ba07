# Everything a developer or CI runs. `make` alone lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# Which cluster the targets work on: a name of your own keeps two side by side.
CLUSTER ?= dev
# Where e2e tests run: local (built here, no Docker), kind (pytest-kind), existing (your kubeconfig's context).
E2E_CLUSTER ?= local
# What builds images: buildah, or docker where its daemon runs.
BUILDER ?= buildah
PYTEST_ARGS ?=
FUZZ_SECONDS ?= 600
# These have a cluster of their own, so that they run beside the other e2e tests.
E2E_LIFE := e2e/test_children.py e2e/test_stalled.py e2e/test_stale_kv.py e2e/test_front_ends.py

VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed
# Builds what is missing before tests start, whose time limits are not meant for builds.
PREPARE := $(PY) -m e2e.prepare

.PHONY: help
help: ## List the targets
	@awk 'BEGIN {FS = ":.*## "; print "Usage: make TARGET [CLUSTER=dev]\n"} \
	  /^##@/ {printf "\n%s\n", substr($$0, 5)} \
	  /^[a-z0-9-]+:.*## / {printf "  \033[36m%-17s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

##@ See it
.PHONY: demo demo-down
demo: $(STAMP) ## Real Kubernetes, vLLM and LMCache: one YAML, a chat, and the hit rate that it caused
	@$(PY) -m e2e.demo --name $(CLUSTER)

.PHONY: dashboard
dashboard: $(STAMP) ## A real Prometheus scrapes the demo's service under load; its dashboard as a picture
	@$(PY) -m e2e.monitoring trial --name $(CLUSTER)

demo-down: $(STAMP) ## Take the demo and its cluster down
	@$(PY) -m e2e.cluster down --name $(CLUSTER)

##@ Check it
.PHONY: test lint unit apiserver e2e e2e-cluster e2e-cache e2e-life
test: lint ## Everything: lint, unit, rules, real API server, real cluster with real vLLM and LMCache
	@$(PREPARE) $(if $(filter local,$(E2E_CLUSTER)),all,binaries)
	@$(MAKE) --jobs 2 --keep-going lane-e2e-cache lane-e2e-life lane-apiserver lane-unit lane-monitoring-check lane-e2e-cluster

# Two run at a time, for each of them mostly waits; whole lines only, so that what they print stays readable.
lane-%:
	@$(MAKE) $* | sed -u ''

lint: $(STAMP) ## ruff, mypy strict, layer contracts, generated files
	@$(VENV)/bin/ruff check
	@$(VENV)/bin/ruff format --check
	@$(VENV)/bin/mypy
	@$(VENV)/bin/lint-imports
	@$(PY) crds/generate.py --check

unit: $(STAMP) ## Tests that need nothing but Python
	@$(PY) -m pytest tests --ignore tests/apiserver $(PYTEST_ARGS)

apiserver: $(STAMP) ## Tests against a real kube-apiserver and etcd, built on first use
	@$(PREPARE) binaries
	@$(PY) -m pytest tests/apiserver $(PYTEST_ARGS)

e2e: e2e-cluster e2e-life e2e-cache ## Tests on a real cluster: the next three (E2E_CLUSTER=local|kind|existing)

e2e-cluster: $(STAMP) ## … of the local cluster itself
	@$(PREPARE) binaries
	@$(PY) -m pytest e2e/test_local_cluster.py --durations 5 $(PYTEST_ARGS)

e2e-life: $(STAMP) ## … of the life of a service: its children, causes that stop it, models that change
	@$(if $(filter local,$(E2E_CLUSTER)),$(PREPARE) all)
	@$(PY) -m pytest $(E2E_LIFE) --cluster $(E2E_CLUSTER) --name life --durations 10 $(PYTEST_ARGS)

e2e-cache: $(STAMP) ## … of the cache: sharing, tiers, what the status says of it
	@$(if $(filter local,$(E2E_CLUSTER)),$(PREPARE) all)
	@$(PY) -m pytest e2e $(addprefix --ignore=,e2e/test_local_cluster.py $(E2E_LIFE)) \
	  --cluster $(E2E_CLUSTER) --name cache --durations 10 $(PYTEST_ARGS)

.PHONY: clients fuzz router-faults
clients: ## Real clients through the router, unchanged: LangChain, aiperf (a Python environment of their own)
	@$(MAKE) .venv-clients/.installed
	@.venv-clients/bin/python -m pytest tests/router/test_optional_clients.py -p no:dash $(PYTEST_ARGS)

fuzz: ## Fuzz the router's parsers (FUZZ_SECONDS=600); what it finds goes to build/fuzz
	@$(MAKE) .venv-fuzz/.installed
	@mkdir -p build/fuzz
	@PYTHONPATH=runtime:. .venv-fuzz/bin/python -m tests.fuzz.run -max_total_time=$(FUZZ_SECONDS) -max_len=2048 \
	  -artifact_prefix=build/ build/fuzz tests/fuzz/corpus

router-faults: $(STAMP) ## Streams that fail while an engine is killed, hung, slow or flapping (3 minutes)
	@$(PY) -m tests.bench.router_faults

.PHONY: bench-router
bench-router: $(STAMP) ## The router's decisions on a simulated fleet and its CPU beside vllm-router's: tables and pictures (20 minutes)
	@$(MAKE) .venv-bench/.installed
	@$(PY) -m tests.bench.router --neighbour .venv-bench/bin/vllm-router --pictures operator/docs/img

# Groups of pyproject.toml that are not in the lock: nothing that is shipped or tested by default needs them.
.venv-%/.installed: pyproject.toml $(STAMP)
	@test -x .venv-$*/bin/python || $(PY) -m venv .venv-$*
	@$(VENV)/bin/uv pip install --quiet --python .venv-$*/bin/python --group $* --editable '.[router]'
	@touch $@

.PHONY: monitoring-check
monitoring-check: $(STAMP) ## Prometheus rules, their unit tests and the dashboard's queries, with promtool, built on first use
	@$(PY) -m e2e.monitoring check

.PHONY: causes
causes: $(STAMP) ## Inject every known cause of silent zero hits and write operator/docs/causes.md (STAGE=fake|real|all ONLY='Cache server down')
	@$(PY) -m e2e.causes --stage $(or $(STAGE),all) $(if $(ONLY),--only '$(ONLY)')

.PHONY: bench-tiers bench-faults bench-rollouts soak-tiers sizing
bench-tiers: $(STAMP) ## Where KV comes from and how fast: table and picture, about 25 minutes (CLUSTER=dev)
	@$(PY) -m e2e.bench.tiers --name $(CLUSTER) --out operator/docs/img/tiers.json

bench-faults: $(STAMP) ## What faults of Valkey cost: first tokens before and during each, about 9 minutes (CLUSTER=dev)
	@$(PY) -m e2e.bench.faults --name $(CLUSTER)

bench-rollouts: $(STAMP) ## Streams lost while routers and engines are replaced, and when there are fewer, about 6 minutes (CLUSTER=dev)
	@$(PY) -m e2e.bench.rollouts --name $(CLUSTER)

soak-tiers: $(STAMP) ## 20 minutes at three times the working set: no kill, no restart, memory within limits
	@$(PY) -m e2e.bench.soak --name $(CLUSTER)

sizing: $(STAMP) ## What a cache comes to: make sizing MODEL=path/to/config.json [SIZING="--users 300 --tokens-per-user 20k"]
	@$(PY) -m e2e.sizing $(MODEL) $(SIZING)

##@ Work on it
.PHONY: venv generate lock cluster cluster-down images install kubeconfig audit-log clean
venv: $(STAMP) ## Python environment from the lock file
$(STAMP): requirements/dev.txt pyproject.toml
	@test -x $(PY) || python3 -m venv $(VENV)
	@echo "Installing the locked Python packages into $(VENV) …"
	@$(PY) -m pip install --quiet --require-hashes --requirement requirements/dev.txt
	@$(PY) -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

generate: $(STAMP) ## Write what is made from Python: crds/, the API reference and the dashboard
	@$(PY) crds/generate.py
	@$(PY) -m e2e.monitoring generate

lock: $(STAMP) ## Resolve requirements/ again
	@$(VENV)/bin/uv pip compile pyproject.toml --group dev --extra operator --extra router --generate-hashes --universal \
	  --python-version 3.11 --no-emit-index-url --no-emit-find-links --no-header --quiet --output-file requirements/dev.txt
	@PATH="$$PWD/$(VENV)/bin:$$PATH" requirements/compile.sh

cluster: $(STAMP) ## A real Kubernetes on this machine, without Docker
	@$(PY) -m e2e.cluster up --name $(CLUSTER)

cluster-down: $(STAMP) ## Take that cluster down, with all that it started
	@$(PY) -m e2e.cluster down --name $(CLUSTER)

images: $(STAMP) ## Build the images (BUILDER=buildah|docker)
	@$(PY) -m e2e.images build --engine $(BUILDER)

install: $(STAMP) ## Build the images, load them, and install CRD and operator into the cluster
	@$(PY) -m e2e.install --name $(CLUSTER)

kubeconfig: $(STAMP) ## Print the kubeconfig of the running local cluster (use make -s)
	@$(PY) -m e2e.cluster kubeconfig --name $(CLUSTER)

audit-log: $(STAMP) ## Print the API server's audit log of writes (use make -s)
	@$(PY) -m e2e.cluster audit-log --name $(CLUSTER)

clean: ## Remove what builds left in this folder; the cache in your home stays
	@rm -rf $(VENV) .venv-clients .venv-fuzz dist build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
