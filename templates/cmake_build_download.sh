# tritonbuild_download URL SHA256|- FILE
# FILE is there whole and with that checksum (- where none is known) or not at all. What an
# interrupted run left in FILE.part is gone on with; a web page in place of the file is refused.
tritonbuild_download() {
  local url=$1 wanted=$2 file=$3 part=$3.part try fresh
  if [[ -f $file ]] && tritonbuild_download_check "$wanted" "$file" "$file"; then
    return 0
  fi
  mkdir -p "$(dirname "$file")"
  for try in 1 2 3 4 5; do
    if [[ $try -gt 1 ]]; then
      sleep "$((try * ${TRITONBUILD_RETRY_SECONDS:-2}))"
    fi
    if [[ -e $part ]]; then fresh=0; else fresh=1; fi
    if tritonbuild_download_once "$url" "$part"; then
      if tritonbuild_download_check "$wanted" "$part" "$url"; then
        mv -f "$part" "$file"
        return 0
      fi
      rm -f "$part"
      # What was gone on with may have been the beginning of another file.
      if [[ $fresh -eq 1 ]]; then
        return 1
      fi
    elif [[ $? -eq 3 ]]; then
      break
    fi
    echo "tritonbuild_download: $url: try $try failed" >&2
  done
  echo "tritonbuild_download: $url: cannot be fetched" >&2
  return 1
}

# Returns 3 where another try cannot help.
tritonbuild_download_once() {
  local url=$1 part=$2 status result=0
  if ! command -v curl >/dev/null; then
    if ! command -v wget >/dev/null; then
      echo "tritonbuild_download: neither curl nor wget is there" >&2
      return 3
    fi
    wget --no-verbose --tries=1 --timeout=60 --continue --output-document="$part" -- "$url" ||
      return 1
    return 0
  fi
  status=$(curl --fail --silent --show-error --location --proto '=https,http,file' \
    --connect-timeout 30 --speed-limit 1 --speed-time 60 --continue-at - \
    --write-out '%{http_code}' --output "$part" --url "$url") || result=$?
  case $result:$status in
    0:*) return 0 ;;
    33:* | *:416) rm -f "$part" ;; # it cannot be gone on with
    *:408 | *:429) ;;
    *:4[0-9][0-9] | 3:*) return 3 ;;
  esac
  return 1
}

tritonbuild_download_check() {
  local wanted=$1 file=$2 name=$3 found
  if head -c 512 "$file" | grep -aqiE '^[[:space:]]*(<!doctype html|<html|<head)'; then
    echo "tritonbuild_download: $name: a web page came instead of the file" >&2
    return 1
  fi
  found=$(sha256sum <"$file")
  found=${found%% *}
  if [[ $wanted == - ]]; then
    echo "tritonbuild_download: $name: no checksum is known; this one has $found" >&2
  elif [[ $found != "$wanted" ]]; then
    echo "tritonbuild_download: $name: sha256 is $found, not $wanted" >&2
    return 1
  fi
}
