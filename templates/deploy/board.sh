# What `tritonbuild deploy` does on a board: `sh -c THIS board VERB LINK ...`. LINK, such as
# /opt/tritonserver, leads to one of the folders in LINK.versions; docs/deploy.md has the layout.
# Only the verb `switch` changes what runs, in one rename.
set -eu
LC_ALL=C
export LC_ALL
umask 022
verb=$1
link=$2
shift 2
versions=$link.versions
incoming=$versions/.incoming

current() { # the version that the link leads to; nothing where it is not one of ours
    target=$(readlink "$link" 2>/dev/null) || return 0
    case $target in
        "${versions##*/}"/*) printf '%s\n' "${target##*/}" ;;
    esac
}

is_whole() { # NAME: it is a version; what was not removed or sent to its end has no manifest
    [ -f "$versions/$1/manifest.json" ]
}

list_versions() { # those that ran, the one that was switched to last first
    # shellcheck disable=SC2012  # the names are ours
    ls -1t "$versions" 2>/dev/null | sed -n 's/\.before$//p' | while read -r name; do
        ! is_whole "$name" || printf '%s\n' "$name"
    done
}

previous() { # NAME: what ran before it, if that is still there
    name=$(cat "$versions/$1.before" 2>/dev/null) || return 0
    [ -z "$name" ] || ! is_whole "$name" || printf '%s\n' "$name"
}

is_free() { # FOLDER: nothing is in it, and it is root's or the user's own
    case $(stat -c %u "$1") in
        0 | "$(id -u)") ;;
        *) return 1 ;;
    esac
    inside=$(ls -A "$1" 2>/dev/null) && [ -z "$inside" ]
}

state() { # what is there
    if [ -L "$link" ]; then
        if [ -n "$(current)" ]; then echo link=ours; else echo "link=foreign"; fi
    elif [ -e "$link" ]; then
        echo link=folder
    else
        echo link=none
    fi
    case $(readlink "$link.next" 2>/dev/null) in
        "${versions##*/}"/*) echo next=ours ;;
        *) if [ -e "$link.next" ] || [ -L "$link.next" ]; then echo next=foreign; fi ;;
    esac
    if [ ! -e "$versions" ]; then
        echo store=none
    elif [ -f "$versions/.tritonbuild" ] || is_free "$versions"; then
        echo store=ours
    else
        echo store=foreign
    fi
    echo "current=$(current)"
    [ -z "$(current)" ] || echo "previous=$(previous "$(current)")"
    list_versions | sed 's/^/version=/'
    for folder in "$versions"/*/; do
        [ ! -f "$folder/manifest.json" ] || echo "complete=$(basename "$folder")"
    done
    # What a version has, too, takes no room: it is linked.
    find "$incoming" -type f -links 1 -exec du -k {} + 2>/dev/null |
        awk '{ sum += $1 } END { print "arrived=" sum + 0 }'
    echo end=yes
}

probe() { # says what the programs here cannot do that is needed; busybox's may be built with less
    folder=$(mktemp -d)
    flock -w 1 "$folder/lock" true 2>/dev/null || echo "lacks=flock -w (util-linux)"
    mkdir "$folder/from" "$folder/to"
    mv -T "$folder/from" "$folder/to" 2>/dev/null || echo "lacks=mv -T (coreutils)"
    rm -rf "$folder"
}

prepare() { # the folder for versions, and in it the one for what arrives
    mkdir -p "$incoming"
    : >"$versions/.tritonbuild"
}

differ() { # WORDS: it is not what its manifest says
    echo "$*" >&2
    exit 3
}

verify() { # FOLDER FILES LINKS: stdin has links, programs, checksums; nothing else may be there
    cd "$versions/$1"
    find . -name .rsync-partial -prune -exec rm -rf {} +
    while IFS= read -r path && [ -n "$path" ] && IFS= read -r target; do
        found=$(readlink "$path") || differ "$path: no link"
        [ "$found" = "$target" ] || differ "$path: leads to $found instead of $target"
    done
    while IFS= read -r path && [ -n "$path" ]; do
        [ -x "$path" ] || differ "$path: no program"
    done
    # Not into a file: the board may be full.
    if ! said=$(sha256sum -c - 2>&1); then
        printf '%s\n' "$said" | grep -v ': OK$' >&2 || true
        exit 3
    fi
    files=$(find . -type f ! -path ./manifest.json ! -path '*/__pycache__/*' | wc -l)
    links=$(find . -type l | wc -l)
    if [ "$files" -ne "$2" ] || [ "$links" -ne "$3" ]; then
        differ "$files files and $links links instead of $2 and $3"
    fi
}

finish() { # NAME: what arrived becomes a version; stdin is its manifest
    cat >"$incoming/manifest.json.new"
    mv "$incoming/manifest.json.new" "$incoming/manifest.json"
    chmod 0755 "$incoming"
    # A power cut must not leave names without content.
    sync
    is_whole "$1" || rm -rf "${versions:?}/$1"
    mv -T "$incoming" "$versions/$1"
}

switch() { # NAME [KEEP_BEFORE]: it is the one that runs from now on
    before=$(current)
    if [ "$before" != "$1" ]; then
        if [ "${2-}" != back ]; then
            printf '%s\n' "$before" >"$versions/.before.new"
            mv "$versions/.before.new" "$versions/$1.before"
        fi
        ln -sfn "${versions##*/}/$1" "$link.next"
        sync
        mv -T "$link.next" "$link"
        sync
    fi
}

remove() { # NAME: no version any more from the first moment on, wherever this breaks off
    [ ! -e "$versions/.gone.$1" ] || rm -rf "${versions:?}/.gone.$1"
    mv -T "$versions/$1" "$versions/.gone.$1"
    rm -f "$versions/$1.before"
    rm -rf "${versions:?}/.gone.$1"
    echo "removed=$1"
}

prune() { # KEEP: as many versions stay: what runs, what ran before it, then the newest
    now=$(current)
    seen=
    count=0
    for name in "$now" "$(previous "$now")" $(list_versions); do
        case " $seen " in
            *" $name "*) continue ;;
        esac
        [ -n "$name" ] || continue
        seen="$seen $name"
        count=$((count + 1))
        if [ "$count" -gt "$1" ]; then
            remove "$name"
        fi
    done
    # What arrived and was never switched to, and what is not whole any more.
    for folder in "$versions"/*/; do
        name=$(basename "$folder")
        [ -d "$folder" ] && [ "$name" != "$now" ] || continue
        if [ ! -e "$versions/$name.before" ] || ! is_whole "$name"; then
            remove "$name"
        fi
    done
    rm -rf "$versions"/.gone.*
}

receive() { # SECONDS COMMAND...: runs what writes what arrives, and no other beside it
    exec 9>"$versions/.incoming.lock"
    flock -w "$1" 9 || {
        # As rsync's own words begin.
        echo "rsync: another one still writes here" >&2
        exit 1
    }
    shift
    exec "$@"
}

discard() { # gives back the room of what arrived in part
    rm -rf "$incoming"
}

"$verb" "$@"
