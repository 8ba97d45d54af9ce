#!/usr/bin/env bash
# Cargo with this repository's environment. `scripts/cargo.sh --target-dir` prints where it builds.
set -euo pipefail
. "$(dirname "$0")/env.sh"
if [ "${1:-}" = --target-dir ]; then echo "$CARGO_TARGET_DIR"; exit; fi
exec cargo "$@"
