# Runs a program with shared memory of its own: `sh -c THIS apart COMMAND...`. The python backend
# names its regions by a counter, and a server that runs beside it would meet them. Only root can
# have that; for others it ends with 77, as a test does that cannot be made.
set -u
if [ "$(id -u)" != 0 ] || ! unshare --mount true 2>/dev/null; then
    exit 77
fi
# shellcheck disable=SC2016  # for the shell inside
exec unshare --mount sh -c 'mount -t tmpfs -o mode=1777 tmpfs /dev/shm && exec "$@"' sh "$@"
