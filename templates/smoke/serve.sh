# Runs a server on a board until it ends or nobody holds our stdin any more: whoever asked for it is
# gone then, or the way to them. `sh -c THIS serve COMMAND...`.
set -u
shared=no
# The server must not wait for that stdin, and not keep it.
exec 3<&0 </dev/null
# Shared memory of its own: the python backend names its regions by a counter, and a server that
# runs here already would meet ours. Only root can have that.
if [ "$(id -u)" = 0 ] && unshare --mount true 2>/dev/null; then
    # shellcheck disable=SC2016  # for the shell inside
    set -- unshare --mount sh -c 'mount -t tmpfs -o mode=1777 tmpfs /dev/shm && exec "$@"' sh "$@"
else
    for region in /dev/shm/triton_*_backend_shm_region_*; do
        if [ -e "$region" ]; then
            echo "error: another Triton server with Python models runs here, or left $region" >&2
            exit 4
        fi
    done
    shared=yes
fi
export PYTHONDONTWRITEBYTECODE=1
setsid "$@" 3<&- &
server=$!
{
    cat <&3
    kill -TERM "$server"
    sleep 15
    kill -KILL "-$server"
} >/dev/null 2>&1 &
watcher=$!
exec 3<&-
wait "$server"
code=$?
# What it started and left behind.
kill -KILL "-$server" 2>/dev/null
kill "$watcher" 2>/dev/null
[ "$shared" = no ] || rm -f /dev/shm/triton_*_backend_shm_region_*
exit "$code"
