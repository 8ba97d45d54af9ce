# Sourced by every script: where to build, and with which C compiler.
#
# The folder is outside of the clone, so that clones share what they compile. The compiler goes through ccache where it
# is installed: RocksDB is an hour of C++ on a small machine, and is compiled again only if it changes.
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/perennial/target}
if command -v ccache >/dev/null; then export CC="ccache gcc" CXX="ccache g++"; fi
