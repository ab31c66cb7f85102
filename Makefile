# Kagami's commands. `make` or `make help` lists them.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:
.ONESHELL:
.SUFFIXES:

# Where the tests and the demo run: local (the cluster under local/, Linux and root), kind (needs Docker),
# or current (the cluster of your KUBECONFIG).
CLUSTER ?= local
# Downloads, compiled programs and dependencies, shared by all clones.
export KAGAMI_CACHE ?= $(HOME)/.cache/kagami
export CARGO_TARGET_DIR ?= $(KAGAMI_CACHE)/target
export CLUSTER
export IMAGE ?= ghcr.io/kagami-operator/kagami:0.1.0
export KAGAMI_BEGAN := $(or $(KAGAMI_BEGAN),$(shell date +%s))
export CARGO_TERM_COLOR ?= auto
# What a whole run compiles is seldom compiled again piece by piece, and the pieces take gigabytes.
export CARGO_INCREMENTAL ?= 0
# Of `make simulate`: how many schedules (or FROM..TO), or one of them with its story; SHRINK=1 makes it small first.
SEEDS ?= 1000
SEED ?=
SHRINK ?=
# SHAPE=3x2: three shards of two nodes each; otherwise every seed draws its own.
SHAPE ?=
# For how long `make simulate-fresh` runs seeds that nobody has run before; one that fails says how to run it again.
FRESH_SECONDS ?= 180
# Further arguments of the cluster tests, such as the name of one story.
STORIES ?=

CARGO_DENY_VERSION := 0.20.2
CARGO_DENY := $(KAGAMI_CACHE)/tools/cargo-deny-$(CARGO_DENY_VERSION)/bin/cargo-deny
ACTIONLINT_VERSION := 1.7.7
ACTIONLINT := $(KAGAMI_CACHE)/tools/actionlint-$(ACTIONLINT_VERSION)/actionlint
STEP := scripts/step

##@ Start here

.PHONY: help
help: ## Shows this list.
	@awk 'BEGIN {FS = ":.*## "; print "Usage: make TARGET [CLUSTER=local|kind|current]"}
	  /^##@/ {printf "\n%s\n", substr($$0, 5)}
	  /^[a-z.-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: deps cluster load deploy ## From nothing to SET and GET: cluster, operator, a CloudFormation template, a walk-through.
	@$(STEP) 'walk-through' demo/demo.sh

.PHONY: test
test: deps check test-unit test-admission cluster load test-chart deploy test-cluster ## Everything that must hold before a change lands.
	@$(STEP) 'all of make test' true

.PHONY: test-long
test-long: deps cluster load deploy ## The cluster tests that take longer than `make test` may.
	@$(STEP) 'long cluster tests' scripts/stories --long $(STORIES)

##@ The cluster

.PHONY: cluster
cluster: ## Starts the cluster, if it is not running.
	@$(STEP) 'cluster ($(CLUSTER))' local/cluster up

.PHONY: cluster-down
cluster-down: ## Ends the cluster and removes what it left.
	@$(STEP) 'cluster down ($(CLUSTER))' local/cluster down

.PHONY: kubeconfig
kubeconfig: ## Prints the path of the cluster's kubeconfig: export KUBECONFIG=$(make -s kubeconfig)
	@local/cluster kubeconfig

.PHONY: deploy
deploy: load ## Installs the operator with Helm, as it is in this clone.
	@$(STEP) 'operator installed with Helm' scripts/deploy

##@ Build

.PHONY: deps
deps: ## Installs what a build needs, where that is possible without asking; else says what to install.
	@scripts/dependencies

.PHONY: image
image: deps ## Compiles the static binaries and makes the image; prints the archive's path.
	@scripts/image

.PHONY: load
load: cluster ## Brings the image to the cluster's machines.
	@$(STEP) 'image built and loaded' scripts/load

.PHONY: crds
crds: ## Writes crds/*.yaml from the Rust types, and the chart's copies of them.
	@$(STEP) 'crds' scripts/crds

.PHONY: install.yaml
install.yaml: ## Renders the chart into one file for `kubectl apply --server-side -f`.
	@scripts/render-install >install.yaml.new && mv install.yaml.new install.yaml

##@ Check

.PHONY: check
check: lint deny drift workflows ## All that needs no cluster: formatting, lints, dependencies, generated files, workflows.

.PHONY: lint
lint: ## rustfmt, clippy and shellcheck; a warning is an error.
	@$(STEP) 'rustfmt' cargo fmt --all --check
	$(STEP) 'shellcheck' scripts/shell-lint
	$(STEP) 'clippy' cargo clippy --workspace --all-targets --locked -- -D warnings

.PHONY: deny
deny: $(CARGO_DENY) ## Licences, duplicates and sources of the dependencies, and known vulnerabilities if their list can be had.
	@$(STEP) 'cargo deny' scripts/deny $(CARGO_DENY)

$(CARGO_DENY):
	@$(STEP) 'cargo-deny $(CARGO_DENY_VERSION) (compiled once, some minutes)' env CARGO_TARGET_DIR=$(KAGAMI_CACHE)/tools/build CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_OPT_LEVEL=1 \
	  CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 cargo install --quiet --locked --version $(CARGO_DENY_VERSION) \
	  --root $(KAGAMI_CACHE)/tools/cargo-deny-$(CARGO_DENY_VERSION) cargo-deny
	rm -rf $(KAGAMI_CACHE)/tools/build

.PHONY: drift
drift: ## Are the generated files (CRDs, their copies in the chart, install.yaml) what their sources say?
	@$(STEP) 'generated files' scripts/drift

.PHONY: test-unit
test-unit: ## Unit, table and property tests; no cluster.
	@$(STEP) 'unit tests' cargo test --workspace --locked --exclude kagami-simulator
	$(STEP) 'simulator: corpus, crash points' cargo test --locked --profile simulate -p kagami-simulator

.PHONY: conformance
conformance: ## The simulator's model of an engine against every real engine whose image was built. ENGINES="redis_7.0" picks some.
	@$(STEP) 'model and engines agree' scripts/conformance $(ENGINES)

.PHONY: fuzz
fuzz: ## Fuzzes what parses foreign bytes: TARGET=cluster_nodes|info|messages|template|windows|slots SECONDS=120. Needs a nightly Rust.
	@scripts/fuzz "$(TARGET)" "$(or $(SECONDS),120)"

.PHONY: test-admission
test-admission: ## The definitions and every rule of admission, on a kube-apiserver alone; with another CLUSTER the stories ask that one.
ifeq ($(CLUSTER),local)
	@local/cluster programs
	$(STEP) 'rules of admission' cargo test --locked -p kagami-api --test apiserver -- --ignored
endif

.PHONY: simulate
simulate: ## Seeded worlds that try to break every promise: SEEDS=1000 or SEEDS=1..5000, or SEED=7 with its story. SHAPE=3x2.
	@$(STEP) 'simulator built' cargo build --quiet --locked --profile simulate -p kagami-simulator
	$(CARGO_TARGET_DIR)/simulate/kagami-simulator $(if $(filter 3x2,$(SHAPE)),--3x2) $(if $(SEED),--seed $(SEED) $(if $(SHRINK),--shrink),--seeds $(SEEDS))

# Not yet part of `make test`: some seeds in a thousand still break a promise (docs/simulator.md).
.PHONY: simulate-fresh
simulate-fresh: ## The simulator on seeds that nobody has run, for FRESH_SECONDS (180).
	@$(STEP) '$(FRESH_SECONDS) s of fresh seeds' cargo run --quiet --locked --profile simulate -p kagami-simulator -- --seconds $(FRESH_SECONDS)

.PHONY: test-chart
test-chart: load ## The Helm chart: rendered in many ways, tried on the apiserver, installed, upgraded, uninstalled, installed again.
	@$(STEP) 'chart tests' charts/kagami/tests/run

.PHONY: test-cluster
test-cluster: ## The stories, on a real Kubernetes with the operator deployed. STORIES="name" picks some.
	@$(STEP) 'cluster tests' scripts/stories $(STORIES)

##@ Measure

.PHONY: bench-quick
bench-quick: ## How long writes pause at a failover: up to 5 runs of each fault and shape, at most 15 minutes; more with ARGS='--runs 9 --minutes 40'. The operator must be deployed.
	@$(STEP) 'failover bench, quick' benches/failover/run quick $(ARGS)

.PHONY: bench-full
bench-full: ## The same at length (hours); stopped, it goes on where it was.
	@$(STEP) 'failover bench, full' benches/failover/run full $(ARGS)

.PHONY: nemesis
nemesis: ## Faults at random for MINUTES (60) from a SEED, against clients that keep a history; the operator must be deployed.
	@$(if $(SEED),SEED=$(SEED)) NEMESIS_MINUTES=$(or $(MINUTES),60) $(STEP) 'nemesis' scripts/stories --long an_hour_of_faults --nocapture

.PHONY: workflows
workflows: $(ACTIONLINT) ## Checks .github/workflows with actionlint.
	@$(STEP) 'actionlint' $(ACTIONLINT)

$(ACTIONLINT):
	@$(STEP) 'actionlint $(ACTIONLINT_VERSION) (compiled once)' env GOBIN=$(dir $(ACTIONLINT)) GOFLAGS= go install github.com/rhysd/actionlint/cmd/actionlint@v$(ACTIONLINT_VERSION)
