# tritonbuild_unpack FILE DIR
# DIR holds what lies in the single top folder of the archive FILE, or stays as it was. Nothing is
# written outside of it, links that lead out are refused, owners are not taken over. Every header
# below DIR/include lies directly in DIR/include too, as backends look for it.
tritonbuild_unpack() {
  python3 -I -S - "$@" <<'TRITONBUILD_UNPACK'
import os
import shutil
import sys
import tarfile

file, folder = sys.argv[1], os.path.abspath(sys.argv[2])
part = folder + ".part"


def give_up(what):
    print(f"tritonbuild_unpack: {file}: {what}", file=sys.stderr)
    shutil.rmtree(part, ignore_errors=True)
    sys.exit(1)


def parts_of(name):
    """The parts of a member's name, which may not lead out."""
    parts = [p for p in name.split("/") if p not in ("", ".")]
    if name.startswith("/") or ".." in parts:
        give_up(f"{name!r} would lie outside of the folder")
    return parts


def check_link(path):
    """A link may lead to what is inside only, and not by way of a folder that gets another name."""
    inside = os.path.realpath(path).startswith(os.path.realpath(part) + os.sep)
    if os.path.isabs(os.readlink(path)) or not inside:
        give_up(f"{os.path.relpath(path, part)!r} leads out, to {os.readlink(path)!r}")


def extract(archive):
    """Folders and files first: so none of them can be reached through a link."""
    links = []
    tops = set()
    for member in archive:
        parts = parts_of(member.name)
        if not parts:
            continue
        tops.add(parts[0])
        path = os.path.join(part, *parts)
        os.makedirs(path if member.isdir() else os.path.dirname(path), exist_ok=True)
        if member.issym():
            links.append((path, member.linkname))
        elif member.islnk():
            os.link(os.path.join(part, *parts_of(member.linkname)), path)
        elif member.isreg():
            with archive.extractfile(member) as source, open(path, "wb") as target:
                shutil.copyfileobj(source, target)
            os.chmod(path, 0o755 if member.mode & 0o111 else 0o644)
            os.utime(path, (member.mtime, member.mtime))
        elif not member.isdir():
            give_up(f"{member.name!r} is neither file, folder nor link")
    for path, target in links:
        os.symlink(target, path)
    for path, _ in links:
        check_link(path)
    if len(tops) != 1:
        give_up(f"one top folder is wanted, not {sorted(tops)[:5]}")
    return os.path.join(part, tops.pop())


def flatten(include):
    """Put each header of a folder below into the folder itself, where no other one is."""
    for base, folders, names in os.walk(include):
        folders.sort()
        for name in sorted(names):
            flat = os.path.join(include, name)
            if name.endswith(".h") and not os.path.lexists(flat):
                shutil.copy2(os.path.join(base, name), flat)


try:
    shutil.rmtree(part, ignore_errors=True)
    os.makedirs(part)
    with tarfile.open(file) as archive:
        top = extract(archive)
    if not os.path.isdir(top):
        give_up("there is no folder in it")
    flatten(os.path.join(top, "include"))
    if os.path.lexists(folder):
        shutil.rmtree(folder)
    os.rename(top, folder)
    os.rmdir(part)
except Exception as err:  # whatever a broken archive leads to
    give_up(str(err) or type(err).__name__)
TRITONBUILD_UNPACK
}
