#!/usr/bin/env bash
# Installs the MySQL clients that the aggregator's tests drive; says nothing when all of them are there.
# The mariadb CLI comes from apt; the others live in a folder of their own, so that nothing of the machine's
# Python or Node is touched: $PERENNIAL_CLIENTS, by default the user's cache folder + /perennial/clients.
set -euo pipefail

python_packages=(PyMySQL==1.2.4 mysql-connector-python==26.10.0 singlestoredb==1.18.1)
node_packages=(mysql2@3.24.6)
clients=${PERENNIAL_CLIENTS:-${XDG_CACHE_HOME:-$HOME/.cache}/perennial/clients}

need=()
command -v mariadb >/dev/null || need+=(mariadb-client)
command -v python3 >/dev/null || need+=(python3)
python3 -c 'import ensurepip, venv' 2>/dev/null || need+=(python3-venv)
command -v npm >/dev/null || need+=(nodejs npm)
if [ ${#need[@]} -gt 0 ]; then
  echo "clients: installing ${need[*]}"
  sudo=""; [ "$(id -u)" = 0 ] || sudo=sudo
  $sudo apt-get update -qq
  DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq "${need[@]}" >/dev/null
fi

# A stamp names what a folder was filled with: another version in the list above fills it anew.
wanted="${python_packages[*]} ${node_packages[*]}"
[ "$(cat "$clients/stamp" 2>/dev/null)" = "$wanted" ] && exit 0
echo "clients: installing $wanted"
mkdir -p "$clients"
rm -rf "$clients/stamp" "$clients/venv" "$clients/node"
python3 -m venv "$clients/venv"
"$clients/venv/bin/pip" install --quiet --disable-pip-version-check "${python_packages[@]}"
mkdir "$clients/node"
npm install --silent --no-audit --no-fund --prefix "$clients/node" "${node_packages[@]}" >/dev/null
echo "$wanted" >"$clients/stamp"
