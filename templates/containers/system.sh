#!/usr/bin/env bash
# system.sh MACHINE MIRROR|- LISTING|- PACKAGE|@FILE...
# Runs in an image of the board's system: installs the packages that it lacks, those in a FILE too, and
# lists all that it has, each with its files.
set -euo pipefail
machine=$1 mirror=$2 listing=$3
shift 3
if [[ $(uname -m) != "$machine" ]]; then
  echo "tritonbuild: the image is for $(uname -m), not for $machine" >&2
  exit 3
fi
if ! command -v dpkg-query >/dev/null; then
  echo "tritonbuild: the image has no dpkg: it is none of Debian or Ubuntu" >&2
  exit 3
fi
wanted=()
for one in "$@"; do
  if [[ $one == @* ]]; then
    mapfile -t -O "${#wanted[@]}" wanted <"${one#@}"
  else
    wanted+=("$one")
  fi
done
missing=()
for package in "${wanted[@]}"; do
  if [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) != installed ]]; then
    missing+=("$package")
  fi
done
if ((${#missing[@]})); then
  if [[ $mirror != - ]]; then
    # shellcheck disable=SC2001  # bash 5.2 and older ones read & differently there
    mirror=$(sed 's/[&#\\]/\\&/g' <<<"$mirror") # as a replacement wants it
    shopt -s nullglob
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/*; do
      sed -i -E "s#https?://[^ ]+/(debian|ubuntu|ubuntu-ports)/?( |\$)#$mirror\2#" "$file"
    done
  fi
  export DEBIAN_FRONTEND=noninteractive
  apt-get update
  apt-get install -y --no-install-recommends -- "${missing[@]}"
fi
if [[ $listing == - ]]; then
  exit 0
fi
dpkg-query -W -f '${Package} ${Version} ${db:Status-Status} ${binary:Package}\n' |
  while read -r package version status full; do
    [[ $status == installed ]] || continue
    printf '= %s %s\n' "$package" "$version"
    for list in "/var/lib/dpkg/info/$full.list" "/var/lib/dpkg/info/$package.list"; do
      if [[ -f $list ]]; then
        while read -r path; do
          # Folders are of no interest, and end with a stroke in a listing of an archive.
          if [[ -d $path && ! -L $path ]]; then printf '.%s/\n' "$path"; else printf '.%s\n' "$path"; fi
        done <"$list"
        break
      fi
    done
  done >"$listing"
