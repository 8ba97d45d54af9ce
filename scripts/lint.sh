#!/usr/bin/env bash
# Formatting, clippy, and the checks of the repository (tests/).
#
# Clippy runs twice: libraries and programs under every rule of clippy.toml, then everything else without the bans on
# clocks and files, for tests of the pure crates may read their scripts. It needs its own artefacts of every dependency,
# minutes of work, so it is no stage of `make test`.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/env.sh
cargo fmt --all --check
cargo fetch --locked # for the checks of crate edges, which ask cargo without the network
cargo clippy --release --workspace --lib --bins --locked --quiet -- -D warnings
cargo clippy --release --workspace --all-targets --locked --quiet -- -D warnings -A clippy::disallowed_types -A clippy::disallowed_methods
cargo test --release --workspace --locked --quiet --test tidy
