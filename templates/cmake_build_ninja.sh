# tritonbuild_ninja JOBS TARGET...
# Builds targets in the current folder. Where MAKEFLAGS names a pool of job tokens that is there,
# ninja takes part in it (-j would keep it out, and CMake makes -j of its level); elsewhere at most
# JOBS compilers run, and as many in a nested build.
tritonbuild_ninja() {
  local jobs=$1 pipe='' version=''
  shift
  if [[ ${MAKEFLAGS-} == *--jobserver-auth=fifo:* ]]; then
    pipe=${MAKEFLAGS##*--jobserver-auth=fifo:}
    pipe=${pipe%% *}
    version=$(ninja --version)
  fi
  # 1.13 is the first version that knows job tokens: https://github.com/ninja-build/ninja/releases
  if [[ -p $pipe && $version =~ ^([0-9]+)\.([0-9]+) ]] &&
    ((BASH_REMATCH[1] > 1 || BASH_REMATCH[2] >= 13)); then
    env -u CMAKE_BUILD_PARALLEL_LEVEL ninja "$@"
  else
    env -u MAKEFLAGS CMAKE_BUILD_PARALLEL_LEVEL="$jobs" ninja "-j$jobs" "$@"
  fi
}
