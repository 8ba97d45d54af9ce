# `make demo` plays the main job, `make test` runs all tests; both set up the machine themselves.
SHELL := /bin/bash
export CARGO_TARGET_DIR ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/perennial/target
ifneq ($(shell command -v ccache),)
export CC := ccache gcc
export CXX := ccache g++
endif

.PHONY: setup test
setup:
	@bash scripts/setup.sh

test: setup
	@bash scripts/test.sh
