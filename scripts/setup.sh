#!/usr/bin/env bash
# Installs what the build needs on Debian or Ubuntu and says nothing when all of it is there.
set -euo pipefail
need=()
for pair in clang:clang cmake:cmake ccache:ccache protoc:protobuf-compiler g++:g++; do
  command -v "${pair%%:*}" >/dev/null || need+=("${pair##*:}")
done
ls /usr/lib/llvm-*/lib/libclang*.so* >/dev/null 2>&1 || need+=(libclang-dev)
if [ ${#need[@]} -gt 0 ]; then
  echo "setup: installing ${need[*]}"
  sudo=""; [ "$(id -u)" = 0 ] || sudo=sudo
  $sudo apt-get update -qq
  DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq "${need[@]}" >/dev/null
fi
