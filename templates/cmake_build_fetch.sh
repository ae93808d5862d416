# tritonbuild_fetch FOLDER REPOSITORY TAG VERSION
# The server's sources of a tag, in a folder that may hold other files already (the build folder);
# sources that are there stay as they are. Neither files in the way nor another repository's
# checkout are touched; what an interrupted run left is completed.
tritonbuild_fetch() {
  local folder=$1 repository=$2 tag=$3 version=$4 found=
  local unfinished=$folder/.git/tritonbuild-unfinished
  if [[ ! -e $folder/TRITON_VERSION || -e $unfinished ]]; then
    if [[ -e $folder/.git && ! -e $unfinished ]]; then
      echo "tritonbuild_fetch: $folder: a git repository, but not of Triton's server" >&2
      return 1
    fi
    mkdir -p "$folder/.git"
    : >>"$unfinished"
    git init -q "$folder"
    git -C "$folder" fetch --depth=1 -- "$repository" "$tag"
    if [[ -s $unfinished ]]; then
      rm -f "$folder/.git/index.lock"
      git -C "$folder" checkout -q -f FETCH_HEAD
    else
      echo "checkout began" >"$unfinished"
      if ! git -C "$folder" checkout -q FETCH_HEAD; then
        : >"$unfinished"
        return 1
      fi
    fi
    rm -f "$unfinished"
  fi
  IFS= read -r found <"$folder/TRITON_VERSION" || [[ -n $found ]]
  if [[ $found != "$version" ]]; then
    echo "tritonbuild_fetch: $folder: TRITON_VERSION is $found, not $version" >&2
    return 1
  fi
}
