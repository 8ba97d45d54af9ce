#!/usr/bin/env bash
# Makes the certificates that the topologies of this folder name, in certs/ beside them. What is there is kept.
#
#   cluster-configs/certificates.sh "$(make -s binary)"
set -euo pipefail
cd "$(dirname "$0")"
perennial=${1:?usage: certificates.sh PATH-OF-perennial}

setting() { sed -n "s/^$2 = \([0-9]*\).*/\1/p" "$1"; }

for config in *.toml; do
  name=${config%.toml} cluster=$(setting "$config" id) node=$(setting "$config" node)
  ca=certs/ca-$cluster
  [ -f "$ca/ca.key" ] || "$perennial" cert ca --cluster "$cluster" --dir "$ca"
  [ -f "certs/$name/node.key" ] ||
    "$perennial" cert node --cluster "$cluster" --node "$node" --ca "$ca" --dir "certs/$name" --host localhost --host 127.0.0.1
done
