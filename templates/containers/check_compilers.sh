#!/usr/bin/env bash
# check_compilers.sh TOOLS
# Runs in the board's system that got /opt/native: lets those programs find their libraries, and takes
# the compilers away again if they do not do exactly what the system's own do.
set -euo pipefail
tools=$1
native=/opt/native
if [[ ! -e $native/compilers/g++ ]]; then
  exit 0
fi
mkdir -p /usr/lib64
if [[ ! -e /lib64 ]]; then ln -s usr/lib64 /lib64; fi
for name in lib64/ld-linux-x86-64.so.2 lib/x86_64-linux-gnu; do
  if [[ ! -e /usr/$name ]]; then ln -s "$native/usr/$name" "/usr/$name"; fi
done
folder=$(mktemp -d)
cp "$tools/sample.cc" "$folder"
if said=$(bash "$tools/compare.sh" "$folder" "$native/compilers/g++"); then
  echo "tritonbuild: compilers of an amd64 machine do the work of the system's own"
else
  echo "tritonbuild: the system's own compilers run under QEMU, some eight times as slow: $said" >&2
  rm -rf "$native"
  mkdir -p "$native/compilers"
fi
rm -rf "$folder"
