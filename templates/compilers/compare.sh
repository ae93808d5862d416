#!/usr/bin/env bash
# compare.sh FOLDER OURS
# Compiles and links FOLDER/sample.cc with the system's own g++ and with OURS. Says in one line what is
# not the same and returns 1; says nothing and returns 0 where all is.
set -u
folder=$1 ours=$2
own_path=$PATH
cd "$folder" || exit 2

try() {
  local name=$1 program=$2
  # -fno-ident: the version string of a compiler is not the code that it makes.
  "$program" -std=c++17 -O3 -fPIC -pthread -fno-ident -c sample.cc -o "$name.o" >"$name.log" 2>&1 &&
    "$program" -pthread "$name.o" -o "$name" >>"$name.log" 2>&1 && return 0
  echo "$program failed: $(tail -c 500 "$name.log" | tr '\n' ' ')"
  return 1
}

try own /usr/bin/g++ || exit 1
PATH=${ours%/*}:$own_path
try ours "$ours" || exit 1
if ! cmp -s own.o ours.o; then
  echo "one file came out differently when it was compiled"
  exit 1
fi
if ! cmp -s own ours; then
  echo "one file came out differently when it was linked"
  exit 1
fi
