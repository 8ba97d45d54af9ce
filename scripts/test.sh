#!/usr/bin/env bash
# Every test, in stages; prints how long each stage took. The first failing stage ends the run.
set -euo pipefail
if command -v ccache >/dev/null; then export CC="ccache gcc" CXX="ccache g++"; fi
stage() {
  local name=$1 start=$SECONDS; shift
  echo "== $name"
  "$@"
  echo "== $name: $((SECONDS - start)) s"
}
stage clients bash scripts/clients.sh
stage build cargo build --release --workspace --all-targets --locked
stage tests cargo test --release --workspace --locked
