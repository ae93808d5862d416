#!/usr/bin/env bash
# compilers.sh ARCH TRIPLET GCC MIRROR|- TOOLS
# Runs on the machine that builds, in an image of the board's system for that machine: makes
# /opt/native, compilers for the board that run here. It is empty where there are none, or where
# this machine is like the board.
set -euo pipefail
arch=$1 triplet=$2 gcc=$3 mirror=$4 tools=$5
mkdir -p /opt/native/compilers
machine=$(dpkg --print-architecture)
if [[ $machine == "$arch" || $machine != amd64 ]]; then
  echo "tritonbuild: this machine is $machine: the board's own compilers are used"
  exit 0
fi
export DEBIAN_FRONTEND=noninteractive
bash "$tools/prepare_apt.sh" "$mirror"
if ! apt-cache show "g++-$gcc-$triplet" >/dev/null 2>&1; then
  echo "tritonbuild: there is no g++-$gcc-$triplet: the board's own compilers run under QEMU, some" \
    "eight times as slow" >&2
  exit 0
fi
apt-get install -y --no-install-recommends ccache "g++-$gcc-$triplet" python3
rm -rf /opt/native
python3 -B "$tools/arrange.py" / /board /opt/native "$triplet" "$gcc"
