# What one does with this repository. `make help` lists it; the scripts behind it are in .ci/ and need no make.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help

TARGET := $(or $(CARGO_TARGET_DIR),target)
FUZZ_SECONDS ?= 60
EXAMPLES ?= 20
ROUNDS ?= 5
OUTAGE_SECONDS ?= 60
SEEDS ?= 1000
FROM ?= 1
JOBS ?= 2
MINUTES ?= 10
# In CI the lock file must be right as it is committed.
LOCKED := $(if $(CI),--locked)

.PHONY: help test cluster chaos planted-bugs simulate check run bench bench-cluster bench-pods bench-tables bench-telemetry fuzz openapi schemathesis chart configuration image sbom terraform

help: ## lists the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

test: ## builds everything once, then runs all tests: Rust, doc tests, requests made from the OpenAPI document
	@.ci/test $(LOCKED)

chart: ## the tests of the Helm chart, with the real helm, which is built with Go (.ci/chart --update writes what is made from values)
	@.ci/chart

cluster: ## the tests of a cluster over PostgreSQL and S3, ROUNDS (5) of each instead of the few that `make test` has
	@export LAKEFALL_TEST_ROUNDS=$(ROUNDS) LAKEFALL_TEST_OUTAGE_SECONDS=$(OUTAGE_SECONDS)
	.ci/cluster $(LOCKED)

simulate: ## SEEDS (1000) seeds of the simulation from FROM (1) on, JOBS (2) at once, with SHORT=1 short ones; tells how to replay those that find something
	@cargo build -p lakefall-simulation --bin lakefall-simulate $(LOCKED)
	$(TARGET)/debug/lakefall-simulate seeds --from $(FROM) --count $(SEEDS) --jobs $(JOBS) $(if $(SHORT),--short)

planted-bugs: ## plants each of the mistakes of queue/src/planted.rs and tells by which seed the simulation finds it (minutes)
	cargo test --workspace --test simulation $(LOCKED) -- --ignored --nocapture every_planted_bug_is_found

chaos: ## faults for MINUTES (10) on a loaded cluster of real parts, then everything is read and judged; SEED repeats a run
	@.ci/chaos $(LOCKED) -- --minutes $(MINUTES) $(if $(SEED),--seed $(SEED)) $(if $(ONLY),--only '$(ONLY)') $(if $(RATE),--rate $(RATE))

check: ## formatting and lints, as CI wants them
	@.ci/lints $(LOCKED)

run: ## starts a server with all roles on http://127.0.0.1:8080
	cargo run --release -- dev

bench: ## measures the codecs, then a release server on this machine (some minutes; see docs/benchmarks.md)
	cargo bench -p lakefall-storage $(LOCKED)
	cargo build --release -p lakefall $(LOCKED)
	.ci/released $(TARGET)/release/lakefall
	.ci/with-server $(TARGET)/release/lakefall .ci/bench $(TARGET)/release/lakefall
	.ci/with-server $(TARGET)/release/lakefall .ci/bench-queues $(TARGET)/release/lakefall

bench-cluster: ## measures a cluster over a real PostgreSQL and S3 server beside the embedded default (a few minutes)
	cargo build --release -p lakefall $(LOCKED)
	.ci/released $(TARGET)/release/lakefall
	.ci/bench-cluster $(TARGET)/release/lakefall

bench-pods: ## measures how fast a pod is ready and what it takes while idle, and the sizes of executable and image (two minutes)
	cargo build --release -p lakefall $(LOCKED)
	.ci/released $(TARGET)/release/lakefall
	.ci/bench-pods $(TARGET)/release/lakefall

bench-tables: ## measures Parquet, replays and SQL beside DuckDB; FLIGHTS names the file of flights (some minutes)
	cargo build --release -p lakefall $(LOCKED)
	"$$(.ci/python)" .ci/bench-tables $(TARGET)/release/lakefall $(FLIGHTS)

bench-telemetry: ## measures what telling an OpenTelemetry collector costs (six minutes)
	cargo build --release -p lakefall $(LOCKED)
	.ci/bench-telemetry $(TARGET)/release/lakefall

fuzz: ## fuzzes each target for FUZZ_SECONDS (60), guided by coverage where there is a nightly toolchain with cargo-fuzz
	@.ci/fuzz $(FUZZ_SECONDS)

openapi: ## writes docs/openapi.json anew from the handlers
	UPDATE_OPENAPI=1 cargo test -p lakefall-http --test openapi $(LOCKED)

configuration: ## writes docs/configuration.md anew from the settings' descriptions
	UPDATE_DOCS=1 cargo test -p lakefall-service --lib manual $(LOCKED)

image: ## makes the container image without a container engine, in target/image, and tells its size
	cargo build --release -p lakefall $(LOCKED)
	.ci/rootfs $(TARGET)/release/lakefall $(TARGET)/image

sbom: ## writes the executable's bill of materials to target/lakefall.cdx.json
	.ci/sbom >$(TARGET)/lakefall.cdx.json

terraform: ## checks terraform/ with mocked clouds
	.ci/terraform

schemathesis: ## requests made from the OpenAPI document against a server, EXAMPLES (20) random ones per operation
	@python=$$(.ci/python)
	cargo build -p lakefall $(LOCKED)
	.ci/with-server $(TARGET)/debug/lakefall .ci/schemathesis $(TARGET)/debug/lakefall "$$python" $(EXAMPLES)
