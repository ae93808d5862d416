# Makes a systemd service on a board: `sh -c THIS service NAME USER`, its unit on stdin.
set -eu
LC_ALL=C
export LC_ALL
umask 022
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
name=$1
user=$2
unit=/etc/systemd/system/$name.service

if ! getent passwd "$user" >/dev/null; then
    useradd --system --no-create-home --home-dir "/var/lib/$name" --shell /usr/sbin/nologin "$user"
fi
cat >"$unit.new"
mv "$unit.new" "$unit"
systemctl daemon-reload
systemctl enable "$name.service"
systemctl restart "$name.service"
