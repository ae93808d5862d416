#!/usr/bin/env bash
# system.sh MACHINE DISTRIBUTION SUITE MIRROR|- LISTING|- PACKAGE|@FILE...
# Runs in an image of the board's system: installs the packages that it lacks, those in a FILE too, and
# lists all that it has, each with its files.
set -euo pipefail
machine=$1 distribution=$2 suite=$3 mirror=$4 listing=$5
shift 5
if [[ $(uname -m) != "$machine" ]]; then
  echo "tritonbuild: the image is for $(uname -m), not for $machine" >&2
  exit 3
fi
if ! command -v dpkg-query >/dev/null; then
  echo "tritonbuild: the image has no dpkg: it is none of Debian or Ubuntu" >&2
  exit 3
fi
# shellcheck disable=SC1091  # the image's
found=$(. /etc/os-release && echo "${ID-} ${VERSION_CODENAME-}")
if [[ $found != "$distribution $suite" ]]; then
  echo "tritonbuild: the image is of $found, not of $distribution $suite" >&2
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
  export DEBIAN_FRONTEND=noninteractive
  bash "${0%/*}/prepare_apt.sh" "$mirror"
  apt-get install -y --no-install-recommends -- "${missing[@]}"
  rm -rf /var/lib/apt/lists/*
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
