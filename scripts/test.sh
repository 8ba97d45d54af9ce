#!/usr/bin/env bash
# Every check and every test, in stages; each says how long it took. A failed stage fails the run but hides no other
# one, except where nothing can follow. What the test runner says about all tests stands at the end.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/env.sh

times=() failed=()
stage() {
  local name=$1 start=$SECONDS outcome=""; shift
  echo "== $name"
  "$@" || { outcome=", failed"; failed+=("$name"); }
  times+=("$name $((SECONDS - start)) s$outcome")
  echo "== $name: $((SECONDS - start)) s$outcome"
}
needed() { stage "$@"; [ ${#failed[@]} = 0 ] || exit 1; }

# Other seeds than those of the simulator's own tests, which begin at 0.
simulate() { "$CARGO_TARGET_DIR/release/perennial-sim" --seeds "${SEEDS:-500}" --from 100000; }

run_tests() {
  if cargo nextest --version >/dev/null 2>&1; then
    cargo nextest run --cargo-profile release --workspace --locked --no-fail-fast
  else
    cargo test --release --workspace --all-targets --locked --no-fail-fast
  fi
}

needed setup bash scripts/setup.sh
. scripts/env.sh # ccache may have come with setup
needed clients bash scripts/clients.sh
# All of it, also what this platform does not compile: the checks of crate edges ask cargo without the network.
needed fetch cargo fetch --locked
# One build for all that follows: the whole workspace, in one profile (Makefile says why).
needed build cargo build --release --workspace --all-targets --locked
stage format cargo fmt --all --check
stage simulator simulate
stage "documentation tests" cargo test --release --workspace --doc --locked --quiet
echo "== so far: $(IFS=,; echo "${times[*]}")"
echo "== tests"
run_tests || failed+=(tests)
[ ${#failed[@]} = 0 ] || { echo "== failed: $(IFS=,; echo "${failed[*]}")" >&2; exit 1; }
