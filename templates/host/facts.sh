# Prints what a machine is, as `key=value` lines; some keys come more than once, and what cannot be
# found out is left out. Read by sh on the machine: POSIX, and no program that a small system lacks
# is counted on. $1 is the folder whose file system is asked for room; ROOT stands before every path
# that is read (tests have a tree of their own there).
LC_ALL=C
export LC_ALL
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
folder=${1:-/}
ROOT=${ROOT-}

say() { # KEY VALUE: one line, if there is a value
    [ -z "$2" ] || printf '%s=%s\n' "$1" "$(printf '%s' "$2" | tr '\n\t' '  ')"
}

first() { # the first line of the files that can be read
    cat "$@" 2>/dev/null | head -n 1
}

# Asked once: where a user may not, each question is an incident in somebody's log.
can_sudo=no
if sudo -n true 2>/dev/null; then can_sudo=yes; fi

as_root() { # a command that only root may run
    "$@" 2>/dev/null && return
    [ "$(id -u)" = 0 ] || [ "$can_sudo" = no ] || sudo -n "$@" 2>/dev/null
}

# --- system -----------------------------------------------------------------------------------
say machine "$(uname -m 2>/dev/null)"
say bits "$(getconf LONG_BIT 2>/dev/null)"
say kernel "$(uname -r 2>/dev/null)"
for key in ID VERSION_ID PRETTY_NAME; do
    say "os_$key" "$(sed -n "s/^$key=//p" "$ROOT/etc/os-release" 2>/dev/null | tr -d '"' | head -n 1)"
done
glibc=$(getconf GNU_LIBC_VERSION 2>/dev/null)
[ -n "$glibc" ] || glibc=$(ldd --version 2>&1 | grep -i -e 'glibc' -e 'gnu libc' | head -n 1)
say glibc "$glibc"
say uptime "$(first "$ROOT/proc/uptime" | cut -d. -f1)"

# --- processor and memory ---------------------------------------------------------------------
cores=$(grep -c '^processor' "$ROOT/proc/cpuinfo" 2>/dev/null)
[ "${cores:-0}" -gt 0 ] || cores=$(getconf _NPROCESSORS_ONLN 2>/dev/null)
say cores "$cores"
for key in MemTotal MemAvailable SwapTotal; do
    say "$key" "$(sed -n "s/^$key: *\([0-9]*\) kB/\1/p" "$ROOT/proc/meminfo" 2>/dev/null)"
done
for file in "$ROOT"/sys/devices/system/cpu/cpufreq/policy*/scaling_governor; do
    say governor "$(first "$file")"
done

# --- room -------------------------------------------------------------------------------------
near=$ROOT$folder
while [ ! -d "$near" ] && [ "$near" != / ] && [ -n "$near" ]; do
    near=$(dirname "$near")
done
near=${near:-/}
say free "$(df -Pk "$near" 2>/dev/null | awk 'NR > 1 { print $4; exit }')"
if [ -w "$near" ]; then say writable yes; else say writable no; fi

# --- user -------------------------------------------------------------------------------------
say uid "$(id -u 2>/dev/null)"
say user "$(id -un 2>/dev/null)"
for group in $(id -Gn 2>/dev/null); do
    say group "$group"
done
say sudo "$can_sudo"

# --- programs ---------------------------------------------------------------------------------
for name in apt-get dpkg-query flock python3 rsync sha256sum sudo systemctl tar; do
    path=$(command -v "$name" 2>/dev/null) && say program "$name $path"
done
say python "$(python3 --version 2>&1 | sed -n 's/^Python //p')"
if [ -d "$ROOT/run/systemd/system" ]; then say systemd yes; else say systemd no; fi

# --- ports: 0A is LISTEN; 1F40 is 8000 ----------------------------------------------------------
for file in tcp tcp6; do
    [ ! -r "$ROOT/proc/net/$file" ] || say ports known
    awk '$4 == "0A" { sub(/.*:/, "", $2); print $2 }' "$ROOT/proc/net/$file" 2>/dev/null |
        sed -n -e 's/^1F40$/port=8000/p' -e 's/^1F41$/port=8001/p' -e 's/^1F42$/port=8002/p'
done

# --- the loader's libraries ---------------------------------------------------------------------
find_library() { # NAME, as a pattern of the shell: its path, where the loader would take it from
    for path in $(ldconfig -p 2>/dev/null | sed -n "s|^[[:space:]]*$2 .*=> ||p"); do
        [ ! -e "$ROOT$path" ] || { printf '%s\n' "$path"; return; }
    done
    for where in /usr/local/lib /lib/aarch64-linux-gnu /usr/lib/aarch64-linux-gnu /lib /usr/lib \
        /usr/lib64 /usr/lib/aarch64-linux-gnu/tegra /usr/lib/aarch64-linux-gnu/nvidia; do
        for path in "$ROOT$where"/$1; do
            [ ! -e "$path" ] || { printf '%s\n' "${path#"$ROOT"}"; return; }
        done
    done
}

# --- Rockchip's NPU -------------------------------------------------------------------------------
say compatible "$(tr '\0' ' ' <"$ROOT/proc/device-tree/compatible" 2>/dev/null)"
for file in /sys/kernel/debug/rknpu/version /proc/rknpu/version /sys/module/rknpu/version; do
    version=$(as_root cat "$ROOT$file" | head -n 1)
    if [ -n "$version" ]; then
        say npu_driver "$file $version"
        break
    fi
done
if [ -z "$version" ]; then
    version=$(as_root dmesg | grep -i 'Initialized rknpu' | tail -n 1 | sed 's/.*Initialized/Initialized/')
    [ -z "$version" ] || say npu_driver "dmesg $version"
fi
library=$(find_library librknnrt.so 'librknnrt\.so')
say npu_library "$library"
[ -z "$library" ] || say npu_library_version "$(tr -c ' -~' '\n' <"$ROOT$library" 2>/dev/null |
    sed -n 's/.*librknnrt version: *\([0-9][0-9.]*\).*/\1/p' | head -n 1)"
# The GPU has such a device, too; udev tells them apart.
set -- "$ROOT"/dev/dri/by-path/*npu-render
[ -e "$1" ] || set -- "$ROOT"/dev/dri/renderD*
for path in "$@" "$ROOT"/dev/rknpu*; do
    if [ -e "$path" ]; then
        path=$(readlink -f "$path")
        rights=
        [ ! -r "$path" ] || rights=r
        [ ! -w "$path" ] || rights=${rights}w
        say device "${path#"$ROOT"} ${rights:--}"
    fi
done
for file in /sys/kernel/debug/rknpu/load /proc/rknpu/load; do
    load=$(as_root cat "$ROOT$file" | head -n 1)
    if [ -n "$load" ]; then
        say npu_load "$load"
        break
    fi
done

# --- NVIDIA's GPU -------------------------------------------------------------------------------
say tegra "$(first "$ROOT/etc/nv_tegra_release")"
say jetpack "$(dpkg-query -W -f '${Version}' nvidia-jetpack 2>/dev/null)"
say libcuda "$(find_library libcuda.so.1 'libcuda\.so\.1')"
library=$(find_library 'libnvinfer.so.[0-9]*' 'libnvinfer\.so\.[0-9]*')
[ -z "$library" ] || say tensorrt "$(readlink -f "$ROOT$library" 2>/dev/null | sed 's/.*\.so\.//')"
say end yes
