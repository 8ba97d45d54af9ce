#!/usr/bin/env bash
# Every check and every test, in stages; each says how long it took. The first failing stage ends the run, and what
# the test runner says about all tests stands at the very end.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/env.sh

times=()
stage() {
  local name=$1 start=$SECONDS; shift
  echo "== $name"
  "$@" || { echo "== $name: failed after $((SECONDS - start)) s" >&2; exit 1; }
  times+=("$name $((SECONDS - start)) s")
  echo "== $name: $((SECONDS - start)) s"
}

simulate() { "$CARGO_TARGET_DIR/release/perennial-sim" --seeds "${SEEDS:-500}"; }

# The tests last: their runner's closing line is the last line.
run_tests() {
  if cargo nextest --version >/dev/null 2>&1; then
    cargo nextest run --cargo-profile release --workspace --locked --no-fail-fast
  else
    cargo test --release --workspace --all-targets --locked --no-fail-fast
  fi
}

stage setup bash scripts/setup.sh
. scripts/env.sh # ccache may have come with setup
stage clients bash scripts/clients.sh
stage format cargo fmt --all --check
# One build for all that follows: the whole workspace, in one profile (Makefile says why).
stage build cargo build --release --workspace --all-targets --locked
stage clippy bash scripts/lint.sh --without-tidy
stage simulator simulate
stage "documentation tests" cargo test --release --workspace --doc --locked --quiet
echo "== so far: $(IFS=,; echo "${times[*]}")"
echo "== tests"
run_tests
