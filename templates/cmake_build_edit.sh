# tritonbuild_edit FILE WHERE OLD NEW...
# Puts NEW in the place of OLD in each FILE; all of it is done or, where anything does not fit,
# nothing. What was done before is fine. The same in reverse, OLD and NEW exchanged, undoes it.
# WHERE is how often OLD must stand there, exactly; or @LINE for whole lines, there or once; or + for
# a new file, - for one that goes away; or ? where finding OLD means that there is nothing to do.
tritonbuild_edit() {
  python3 -I -S - "$@" <<'TRITONBUILD_EDIT'
import os
import sys
import tempfile

texts = [os.fsencode(text) for text in sys.argv]
edits = list(zip(sys.argv[1::4], sys.argv[2::4], texts[3::4], texts[4::4]))
files = {}


def say(name, what):
    print(f"tritonbuild_edit: {name}: {what}", file=sys.stderr)


def give_up(edit, what):
    name, where, old, _ = edit
    say(name, f"{what}\n  wanted {times(where)} x {old.decode(errors='replace')!r}")
    sys.exit(1)


def times(where):
    return int(where) if where.isdigit() else 1


def read(edit):
    """The file as the edits so far leave it, None where there is none."""
    path = os.path.realpath(edit[0])
    if path not in files:
        try:
            with open(path, "rb") as source:
                files[path] = [source.read()] * 2
        except FileNotFoundError:
            files[path] = [None, None]
        except OSError as err:
            give_up(edit, err.strerror)
    return files[path]


def places(text, part, where):
    """Where PART stands, also where it overlaps; with @LINE as whole lines."""
    found, at = [], text.find(part) if part else -1
    while at >= 0:
        end = at + len(part)
        first = at == 0 or text[at - 1 : at] == b"\n"
        if where[0] != "@" or (first and (part.endswith(b"\n") or end == len(text))):
            found.append(at)
        at = text.find(part, at + 1)
    if where[0] == "@" and len(found) > 1:
        found = [at for at in found if text.count(b"\n", 0, at) == int(where[1:]) - 1] or found
    return found


def swap(text, old, new, where):
    """TEXT with NEW for OLD, None where that could not be taken back exactly."""
    found = places(text, old, where)
    if len(found) != times(where):
        return None
    parts, start = [], 0
    for at in found:
        parts += [text[start:at], new]
        start = at + len(old)
    edited = b"".join(parts) + text[start:]
    expected = [at + i * (len(new) - len(old)) for i, at in enumerate(found)]
    return edited if places(edited, new, where) == expected else None


def judge_once(text, where, old, new):
    """What is there (OLD, NEW, or None: does not fit), and what takes its place."""
    if where in ("+", "-"):
        before, after = (None, new) if where == "+" else (old, None)
        if text not in (before, after):
            return None, None
        return ("NEW", before) if text == after else ("OLD", after)
    if text is None:
        return None, None
    forward, backward = swap(text, old, new, where), swap(text, new, old, where)
    if forward is not None and backward is not None:
        # The longer text, which holds the other, is what was meant.
        if old in new:
            forward = None
        elif new in old:
            backward = None
    if (forward is None) == (backward is None):
        return None, None
    return ("OLD", forward) if backward is None else ("NEW", backward)


def judge(text, where, old, new):
    """The same, but None too where editing once more would change something again."""
    found, result = judge_once(text, where, old, new)
    if found and judge_once(result, where, old, new)[0] == {"OLD": "NEW", "NEW": "OLD"}[found]:
        return found, result
    return None, None


def explain(text, where, old, new):
    if text is None:
        return "No such file or directory"
    if where in ("+", "-"):
        return "is there with another content"
    here, there = (len(places(text, part, where)) for part in (old, new))
    what = f"the old text is there {here} times, the new one {there} times"
    edited = swap(text, old, new, where)
    if edited is not None and places(edited, old, where):
        what += "; the old text would still be there afterwards"
    elif here == times(where):
        what += "; it could not be told afterwards where the new text was put"
    return what


def run(edit):
    name, where, old, new = edit
    content = read(edit)
    found, result = judge(content[1], where, old, new)
    if found is None:
        give_up(edit, explain(content[1], where, old, new))
    if found == "OLD":
        content[1] = result
    return name, f"edited {times(where)} x" if found == "OLD" else "edited before"


for edit in edits:
    if edit[1] == "?" and edit[2] in (read(edit)[1] or b""):
        say(edit[0], "fixed upstream")
        sys.exit()
said = [run(edit) for edit in edits if edit[1] != "?"]
temporary = {}
try:
    for path, (before, after) in files.items():
        if before != after and after is not None:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            handle, temporary[path] = tempfile.mkstemp(
                prefix=".tritonbuild-edit-", dir=os.path.dirname(path)
            )
            with os.fdopen(handle, "wb") as target:
                target.write(after)
            mode = 0o644 if before is None else os.stat(path).st_mode & 0o7777
            os.chmod(temporary[path], mode)
    for path in list(temporary):
        os.replace(temporary[path], path)
        del temporary[path]
    for path, (before, after) in files.items():
        if before is not None and after is None:
            os.unlink(path)
except OSError as err:
    for path in temporary.values():
        os.unlink(path)
    say(err.filename or edits[0][0], err.strerror)
    sys.exit(1)
for line in said:
    say(*line)
TRITONBUILD_EDIT
}
