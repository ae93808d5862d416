#!/usr/bin/env bash
# prepare_apt.sh MIRROR|-
# Lets apt look in another archive, and keep what it fetched: images delete that.
set -euo pipefail
mirror=$1
rm -f /etc/apt/apt.conf.d/docker-clean
if [[ $mirror != - ]]; then
  # shellcheck disable=SC2001  # bash 5.2 and older ones read & differently there
  mirror=$(sed 's/[&#\\]/\\&/g' <<<"$mirror") # as a replacement wants it
  shopt -s nullglob
  for file in /etc/apt/sources.list /etc/apt/sources.list.d/*; do
    sed -i -E "s#https?://[^ ]+/(debian|ubuntu|ubuntu-ports)/?( |\$)#$mirror\\2#" "$file"
  done
fi
apt-get update
