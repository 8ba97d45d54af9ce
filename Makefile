# Perennial: what a person types. `make help` lists it.
#
# Every build is the whole workspace in one profile (release). Cargo takes the union of the features of what it builds
# together: building one crate with -p would give RocksDB and DataFusion other features than building all of them, and
# compile both again, minutes each time. The build folder is outside of the clone; scripts/env.sh says where.
SHELL := /bin/bash
.DEFAULT_GOAL := help
CARGO := scripts/cargo.sh

SEEDS ?= 500
FROM ?= 0
MINUTES ?= 30
BENCH_DIR ?= $(shell dirname "$$(scripts/cargo.sh --target-dir)")/bench

.PHONY: help setup binary demo compare failback chaos hostile test lint bench sim scale drill failover rebalance restart clients

help: ## this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

setup: ## install what the build and the tests need (Debian, Ubuntu)
	@bash scripts/setup.sh

binary: setup ## build the daemon and print the path of `perennial`
	@$(CARGO) build --release --workspace --locked
	@echo "$$($(CARGO) --target-dir)/release/perennial"

demo: setup ## lose a region and take it back, played on this machine: make demo [DEMO="--scale 0.01 --keep"]
	@$(CARGO) build --release --workspace --locked
	@"$$($(CARGO) --target-dir)/release/perennial-bench" demo $(DEMO)

compare: setup ## answers beside SQLite's, over 336,776 real rows of 19 columns
	@$(CARGO) build --release --workspace --locked
	@bash scripts/play.sh compare

failback: setup ## a region is lost and comes back, by statements, over the same rows: what was shipped, what was set aside
	@$(CARGO) build --release --workspace --locked
	@bash scripts/play.sh failback

chaos: setup ## SIGKILL of leaves and of whole regions under load: make chaos [CHAOS="--rounds 20 --seed 1"]
	@$(CARGO) build --release --workspace --locked
	@bash scripts/play.sh chaos $(CHAOS)

hostile: setup ## bad clients, a bad network, a full disk (mounts a small one where it may)
	@$(CARGO) build --release --workspace --locked
	@bash scripts/play.sh hostile

test: ## every check and every test, in stages
	@bash scripts/test.sh

lint: setup ## formatting, clippy, and the checks of the repository
	@bash scripts/lint.sh

sim: setup ## the simulator: make sim SEEDS=10000 [FROM=0]
	@$(CARGO) build --release --workspace --locked
	@"$$($(CARGO) --target-dir)/release/perennial-sim" --seeds $(SEEDS) --from $(FROM)

scale: setup ## the control plane of a large region, counted: make scale [SCALE="--leaves 1000 --partitions 100000 --lost 200"]
	@$(CARGO) build --release --workspace --locked
	@"$$($(CARGO) --target-dir)/release/perennial-sim" scale $(SCALE)

drill: setup ## random faults on a cluster of real processes: make drill [MINUTES=30] [DRILL="--seed 7"]
	@$(CARGO) build --release --workspace --locked
	@"$$($(CARGO) --target-dir)/release/perennial-bench" drill --minutes $(MINUTES) \
		--report "$$($(CARGO) --target-dir)/drill.json" $(DRILL)

failover: setup ## how long writes pause when a node is lost: make failover [FAILOVER="--trials 10"]
	@$(CARGO) build --release --workspace --locked
	@"$$($(CARGO) --target-dir)/release/perennial-bench" failover $(FAILOVER)

rebalance: setup ## what clients notice while 2 GB move to a leaf that was added: make rebalance [REBALANCE="--gigabytes 1"]
	@$(CARGO) build --release --workspace --locked
	@"$$($(CARGO) --target-dir)/release/perennial-bench" rebalance $(REBALANCE)

restart: setup ## how long a leaf with 2 GB takes to serve again: make restart [RESTART="--gigabytes 1"]
	@$(CARGO) build --release --workspace --locked
	@"$$($(CARGO) --target-dir)/release/perennial-bench" restart $(RESTART)

bench: setup ## the node log beside the raw disk: make bench [BENCH_DIR=folder on the disk to measure]
	@$(CARGO) build --release --workspace --locked
	@mkdir -p "$(BENCH_DIR)"
	@"$$($(CARGO) --target-dir)/release/perennial-bench" log --dir "$(BENCH_DIR)"

clients: ## install the MySQL clients that the tests drive
	@bash scripts/clients.sh
