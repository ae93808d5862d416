# tritonbuild_edit FILE COUNT OLD NEW
# Puts NEW in the place of OLD, which must stand in FILE exactly COUNT times. An edit that was made
# before is fine; anything else is an error, and FILE stays as it is.
tritonbuild_edit() {
  python3 -I -S - "$@" <<'TRITONBUILD_EDIT'
import os
import sys
import tempfile

file = os.path.realpath(sys.argv[1])
count = int(sys.argv[2])
old, new = (os.fsencode(text) for text in sys.argv[3:5])


def pending(text):
    """How often OLD stands there, besides inside of NEW; no argument holds a NUL."""
    return (text.replace(new, b"\0") if old in new else text).count(old)


def say(what):
    print(f"tritonbuild_edit: {sys.argv[1]}: {what}", file=sys.stderr)


def give_up(what):
    say(f"{what}\n  wanted {count} x {old.decode(errors='replace')!r}")
    sys.exit(1)


try:
    with open(file, "rb") as source:
        text = source.read()
except OSError as err:
    give_up(err.strerror)
present = text.count(new) if new else 0
if pending(text) == 0 and present == count:
    say("edited before")
    sys.exit()
if pending(text) != count:
    give_up(f"the old text is there {pending(text)} times, the new one {present} times")
edited = text.replace(old, new)
if pending(edited):
    give_up("the old text would still be there afterwards")
temporary = None
try:
    handle, temporary = tempfile.mkstemp(prefix=".tritonbuild-edit-", dir=os.path.dirname(file))
    with os.fdopen(handle, "wb") as target:
        target.write(edited)
    os.chmod(temporary, os.stat(file).st_mode & 0o7777)
    os.replace(temporary, file)
except OSError as err:
    if temporary is not None:
        os.unlink(temporary)
    give_up(err.strerror)
say(f"edited {count} x")
TRITONBUILD_EDIT
}
