#!/usr/bin/env bash
# Installs what the build and the tests need on Debian or Ubuntu; says nothing when all of it is there.
set -euo pipefail
command -v cargo >/dev/null || { echo "setup: cargo is missing: install Rust 1.94 or newer (rustup), then run this again" >&2; exit 1; }

need=()
for pair in clang:clang cmake:cmake ccache:ccache protoc:protobuf-compiler g++:g++ git:git \
            mariadb:mariadb-client python3:python3 node:nodejs npm:npm; do
  command -v "${pair%%:*}" >/dev/null || need+=("${pair##*:}")
done
ls /usr/lib/llvm-*/lib/libclang*.so* >/dev/null 2>&1 || need+=(libclang-dev)
python3 -c 'import ensurepip, venv' 2>/dev/null || need+=(python3-venv)

if [ ${#need[@]} -gt 0 ]; then
  echo "setup: installing ${need[*]}"
  sudo=""; [ "$(id -u)" = 0 ] || sudo=sudo
  $sudo apt-get update -qq
  DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq "${need[@]}" >/dev/null
fi
