# Weir. `make` alone lists the targets. A host needs make, Python 3.10+ with venv, and any Node with npm: the scripts
# run on the Node 24 that npm installs as an optional dependency.
SHELL := /bin/bash
.DEFAULT_GOAL := help
export SEEDS SEED MODE KILL_SECONDS LOGS
export PATH := $(CURDIR)/node_modules/.bin:$(CURDIR)/.venv/bin:$(PATH)
PYTHON ?= python3
CONFORMANCE_FLAGS ?=
BENCH_FLAGS ?=

.PHONY: help build demo test lint conformance conformance-all conformance-kills conformance-sdks bench simulate simulate-mutants chaos proto clean

help: ## this list
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 18

# Not npm ci: it refuses a lock file that lacks the optional packages of platforms that a registry does not serve.
# Versions and checksums are the lock file's all the same.
node_modules/.stamp: package-lock.json
	@npm ls >/dev/null 2>&1 || npm install --no-save --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

.venv/.stamp: conformance/requirements.txt test/requirements.txt
	@test -x .venv/bin/python || $(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -r conformance/requirements.txt -r test/requirements.txt
	@touch $@

build: node_modules/.stamp ## install packages, compile to dist/
	tsc -p tsconfig.build.json

demo: build .venv/.stamp ## Beam's wordcount on Weir
	@python test/demo/run_demo.py

lint: node_modules/.stamp ## types, oxlint, import rules, dead code, prettier
	@node test/lint/run-lint.ts

test: build .venv/.stamp ## lint, unit tests and conformance, as in CI
	@node test/run-all.ts

conformance: build .venv/.stamp ## Beam's own suites, the cells that CI runs
	python conformance/run.py --plan ci $(CONFORMANCE_FLAGS)

conformance-all: build .venv/.stamp ## every suite in every environment; writes conformance/SCOREBOARD.md
	python conformance/run.py --plan all $(CONFORMANCE_FLAGS)
	$(MAKE) conformance-kills

conformance-kills: build .venv/.stamp ## Beam's suites while workers are killed; writes conformance/SCOREBOARD-KILLS.md
	python conformance/run.py --plan kills $(CONFORMANCE_FLAGS)

conformance-sdks: build .venv/.stamp ## Beam's Go, Java and TypeScript SDKs; writes conformance/SCOREBOARD-SDKS.md
	python conformance/run.py --plan sdks $(CONFORMANCE_FLAGS)

bench: build .venv/.stamp ## pipelines on Weir and Prism; checkpoints and recovery on Weir and, with FLINK_JARS, Flink
	python test/bench/bench.py $(BENCH_FLAGS)

simulate: node_modules/.stamp ## schedules of the simulation with crashes: SEED=1 SCHEDULES=200 VERBOSE=0
	@SEED=$(SEED) SCHEDULES=$(SCHEDULES) VERBOSE=$(VERBOSE) node test/simulation/simulate-main.ts

simulate-mutants: node_modules/.stamp ## is the simulation any good: it must find each of some bad changes: SEED=1 SCHEDULES=200 MUTANT=
	@SEED=$(SEED) SCHEDULES=$(SCHEDULES) MUTANT="$(MUTANT)" node test/simulation/mutants-main.ts

chaos: build .venv/.stamp ## Kafka to Kafka on ten workers, and what is killed: SEEDS=1 SEED= MODE=machines|harness|server|everything KILL_SECONDS=120 LOGS=
	@node test/chaos/chaos-main.ts

proto: node_modules/.stamp ## regenerate proto/gen
	./proto/generate.sh

clean: ## remove what the build and the tests made (packages stay)
	rm -rf dist coverage .cache/conformance .cache/bench .pytest_cache
