#!/usr/bin/env bash
# find_packages.sh TREES LISTING PACKAGE...
# Lists the packages of this system that the ELF files below TREES take libraries from, and those
# that are named.
set -euo pipefail
trees=$1 listing=$2
shift 2
needed=()
while read -r file; do
  if [[ $(head -c 4 "$file" | tr -d '\0') == $'\x7fELF' ]]; then
    mapfile -t found < <(objdump -p "$file" 2>/dev/null | sed -n 's/^ *NEEDED *//p')
    needed+=("${found[@]}")
  fi
done < <(find "$trees" -type f)
{
  printf '%s\n' "$@"
  printf '%s\n' "${needed[@]}" | sort -u | while read -r library; do
    if [[ -z $(find "$trees" -name "$library" -print -quit) ]]; then
      # -S knows files by the name that their package gives them: with or without /usr.
      path=$(ldconfig -p | awk -v name="$library" '$1 == name { print $NF; exit }')
      if [[ -z $path ]]; then
        echo "tritonbuild: $library is neither in the tree nor in the system" >&2
        exit 1
      fi
      real=$(readlink -f "$path")
      { dpkg-query -S "$real" || dpkg-query -S "${real#/usr}"; } 2>/dev/null |
        sed -n '1s/:.*//p'
    fi
  done
} | sort -u >"$listing"
cat "$listing"
