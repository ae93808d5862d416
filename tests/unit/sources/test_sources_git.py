"""git as it comes: moved tags, vanished repositories, killed fetches, hostile names."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from base64 import b64decode
from dataclasses import replace

import pytest
from werkzeug import Response

from tritonbuild.errors import HostError, SourceError, UnreachableError
from tritonbuild.sources import git as git_module
from tritonbuild.sources.address import (
    check_address,
    mask,
    resolve_relative,
    strip_credentials,
    view_path_of,
)
from tritonbuild.sources.git import GitCache
from tritonbuild.sources.gitrun import NETWORK, GitLog
from tritonbuild.sources.resolve import is_intact

UPSTREAM = "https://upstream.invalid"


def commit_of(world, wanted, **options):
    return world.bring(wanted, **options).repositories[0].commit


# --- references -------------------------------------------------------------------------------


def test_tag_branch_pull_request_and_commits_lead_to_the_same(world, git):
    up = world.upstream
    head = up.commit("one", {"a": "1"}, tag="v1")
    git(up.path("one"), "tag", "-a", "-m", "annotated", "v1-annotated")
    git(up.path("one"), "update-ref", "refs/pull/7/head", head)
    up.commit("one", {"a": "2"})
    git(up.path("one"), "branch", "old", head)
    for ref in ("v1", "v1-annotated", "old", "pull/7/head", head, head[:10], "origin/old"):
        lock = world.bring(world.want(("one", ref)))
        assert lock.repositories[0].commit == head, ref
        assert is_intact(lock, world.store)
    world.bring(world.want(("one", "pull/7/head")))
    clone = world.clone(f"{UPSTREAM}/one.git", "pull/7/head")
    assert git(clone, "rev-parse", "HEAD") == head


def test_history_is_left_out_where_the_server_can(world, git):
    for number in range(5):
        world.upstream.commit("one", {"a": str(number)}, tag="v1")
    world.bring(world.want(("one", "v1")))
    cached = world.cache / "git" / "upstream.invalid" / "one.git"
    assert git(cached, "rev-list", "--all", "--count") == "1"
    for options in ((), ("--depth=1",), ("--recursive", "--single-branch")):
        clone = world.clone(f"{UPSTREAM}/one.git", "v1", *options)
        assert git(clone, "rev-list", "--count", "HEAD") == "1"


def test_missing_tag_offers_one_that_is_close(world):
    world.upstream.commit("one", {"a": "1"}, tag="r23.12")
    with pytest.raises(
        SourceError, match=r'no tag or branch r23\.21; did you mean "r23\.12"'
    ) as err:
        world.bring(world.want(("one", "r23.21")))
    assert not isinstance(err.value, UnreachableError)
    assert "r23.12" in err.value.hint


@pytest.mark.parametrize(
    "ref",
    ["--upload-pack=touch x", "-x", "a..b", "a b", "a\nb", "$(touch x)", "`touch x`", "a;b",
     "refs/../x", "a@{1}", "x.lock", "", "a/", "^x", "a:b", "*"],
)  # fmt: skip
def test_hostile_reference_reaches_nobody(world, ref):
    world.upstream.commit("one", {"a": "1"}, tag="v1")
    with pytest.raises(SourceError, match="not the name of a tag"):
        world.bring(world.want(("one", ref)))
    assert world.log.read_bytes() == b""


@pytest.mark.parametrize(
    "address",
    ["--upload-pack=x", "ext::sh -c id", "-x", "https://-x/y", "https://h/../..", "a\nb",
     "https://h/a\nb", "file://-x", "git@-x:y", "$(id)", "", "https://h", "ssh://-oProxy=x/y",
     "../x"],
)  # fmt: skip
def test_hostile_address_is_refused(address):
    with pytest.raises(SourceError, match="not an address"):
        view_path_of(address)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("https://github.com/a/b.git", "github.com/a/b.git"),
        ("http://GitHub.com/a/b", "github.com/a/b.git"),
        ("https://user:pw@github.com/a/b/", "github.com/a/b.git"),
        ("git@github.com:a/b.git", "github.com/a/b.git"),
        ("ssh://git@github.com/a/b", "github.com/a/b.git"),
        ("https://h:8443/a/b.git", "h+8443/a/b.git"),
        ("file:///srv/x.git", "local/srv/x.git"),
        ("/srv/x.git/", "local/srv/x.git"),
    ],
)
def test_spellings_of_one_repository_share_a_view(address, expected):
    check_address(address)
    assert str(view_path_of(address)) == expected


def test_odd_names_get_views_of_their_own_inside_the_store():
    names = {view_path_of(f"/srv/{name}") for name in ("a b", "a_b", "-a", ".git", "a$(x)", "ä")}
    assert len(names) == 6
    for path in names:
        assert not path.is_absolute()
        assert ".." not in path.parts


@pytest.mark.parametrize(
    ("url", "parent", "expected"),
    [
        ("../y.git", "https://h/a/x.git", "https://h/a/y.git"),
        ("./y", "https://h/a/x", "https://h/a/x/y"),
        ("../../b/y", "git@h:a/x.git", "git@h:b/y"),
        ("../y", "/srv/x", "/srv/y"),
        ("https://h/z", "https://h/a/x", "https://h/z"),
    ],
)
def test_relative_submodule_address(url, parent, expected):
    assert resolve_relative(url, parent) == expected


# --- locks ------------------------------------------------------------------------------------


def test_moved_branch_stops_and_says_both_commits(world):
    old = world.upstream.commit("one", {"a": "1"})
    wanted = world.want(("one", "main"))
    lock = world.bring(wanted)
    new = world.upstream.commit("one", {"a": "2"})
    with pytest.raises(SourceError) as err:
        world.bring(wanted, lock=lock)
    assert err.value.exit_code == 5
    assert old in err.value.message
    assert new in err.value.message
    assert commit_of(world, wanted) == new


def test_mirror_that_lags_behind_the_lock_is_passed_over(world, mirror_of, tmp_path, git):
    world.upstream.commit("one", {"a": "1"}, tag="v1")
    shutil.copytree(world.upstream.root, tmp_path / "stale")
    new = world.upstream.commit("one", {"a": "2"}, tag="v1")
    lock = world.bring(world.want(("one", "v1")))
    shutil.rmtree(world.cache)
    stale = {"from": f"{UPSTREAM}/", "to": f"file://{tmp_path / 'stale'}/"}
    world.mirrors.insert(0, mirror_of(git=[stale]))
    assert commit_of(world, world.want(("one", "v1")), lock=lock) == new


def test_commit_that_the_lock_lacks_is_said(world, capsys):
    world.upstream.commit("one", {"a": "1"}, tag="v1")
    world.upstream.commit("two", {"a": "1"}, tag="v1")
    lock = world.bring(world.want(("one", "v1")))
    world.bring(world.want(("one", "v1"), ("two", "v1")), lock=lock)
    assert "two.git v1" in capsys.readouterr().err


# --- what goes away ---------------------------------------------------------------------------


def test_vanished_repository_names_every_address(world):
    world.upstream.commit("one", {"a": "1"}, tag="v1")
    shutil.rmtree(world.upstream.path("one"))
    with pytest.raises(UnreachableError) as err:
        world.bring(world.want(("one", "v1")))
    assert f"file://{world.upstream.path('one')}" in err.value.message
    assert f"{UPSTREAM}/one.git" in err.value.message
    assert "exit code 128" in err.value.message


def test_repository_that_vanishes_between_asking_and_fetching(world, monkeypatch):
    world.upstream.commit("one", {"a": "1"}, tag="v1")
    ask = GitCache._list_refs

    def ask_and_remove(self, *arguments, **options):
        found = ask(self, *arguments, **options)
        shutil.rmtree(world.upstream.path("one"), ignore_errors=True)
        return found

    monkeypatch.setattr(GitCache, "_list_refs", ask_and_remove)
    with pytest.raises(UnreachableError, match="cannot fetch v1"):
        world.bring(world.want(("one", "v1")))
    monkeypatch.undo()
    head = world.upstream.commit("one", {"a": "2"}, tag="v1")
    assert commit_of(world, world.want(("one", "v1"))) == head


def test_tag_that_moves_while_it_is_fetched_is_not_taken_for_the_old(world, monkeypatch):
    world.upstream.commit("one", {"a": "1"}, tag="v1")
    ask = GitCache._list_refs
    moved = []

    def ask_and_move(self, *arguments, **options):
        found = ask(self, *arguments, **options)
        if not moved:
            moved.append(world.upstream.commit("one", {"a": "2"}, tag="v1"))
        return found

    monkeypatch.setattr(GitCache, "_list_refs", ask_and_move)
    with pytest.raises(UnreachableError, match="moved while it was being fetched"):
        world.bring(world.want(("one", "v1")))
    assert commit_of(world, world.want(("one", "v1"))) == moved[0]


_CHILD = """
import sys
from pathlib import Path
from tritonbuild.recipe.model import Mirror
from tritonbuild.sources.resolve import GitWanted, Wanted, bring_sources
root, tmp = Path(sys.argv[1]), Path(sys.argv[2])
mirror = Mirror.model_validate({"name": "t", "summary": "t", "git": [
    {"from": "https://upstream.invalid/", "to": f"file://{root}/"}]})
bring_sources(Wanted((GitWanted("big", "https://upstream.invalid/big.git", "v1"),)),
    store=tmp / "store", cache=tmp / "cache", mirrors=[mirror], lock=None, offline=False,
    allow_dirty=False, log=tmp / "log", report=lambda text: None)
"""


@pytest.mark.parametrize("delay", [0.0, 0.01, 0.02, 0.04, 0.08, 0.15, 0.3])
def test_fetch_that_was_killed_leaves_a_cache_that_works(world, tmp_path, delay):
    files = {f"d{n}/f{n}": os.urandom(20_000).hex() for n in range(60)}
    head = world.upstream.commit("big", files, tag="v1")
    work = tmp_path / "killed"
    work.mkdir()
    child = subprocess.Popen([sys.executable, "-c", _CHILD, world.upstream.root, work])
    limit = time.monotonic() + 20
    while not (work / "log").exists() and time.monotonic() < limit:
        time.sleep(0.002)
    time.sleep(delay)
    child.send_signal(signal.SIGKILL)
    child.wait(10)
    lock = world.bring(world.want(("big", "v1")), store=work / "store", cache=work / "cache")
    assert lock.repositories[0].commit == head
    assert is_intact(lock, work / "store")
    clone = world.clone(f"{UPSTREAM}/big.git", "v1", store=work / "store")
    assert (clone / "d7/f7").read_text() == files["d7/f7"]


def test_stale_locks_of_a_killed_git_do_not_block(world):
    world.upstream.commit("one", {"a": "1"}, tag="v1")
    world.bring(world.want(("one", "v1")))
    head = world.upstream.commit("one", {"a": "2"}, tag="v2")
    cached = world.cache / "git" / "upstream.invalid" / "one.git"
    for name in ("shallow.lock", "packed-refs.lock", "config.lock",
                 f"refs/tritonbuild/commits/{head}.lock", "objects/pack/tmp_pack_x"):  # fmt: skip
        (cached / name).write_text("")
    assert commit_of(world, world.want(("one", "v2"))) == head


def test_what_was_fetched_survives_a_power_cut(world):
    """git forces packs to the disk, and by default nothing else."""
    world.upstream.commit("one", {"a": "1"}, tag="v1")
    world.bring(world.want(("one", "v1")))
    objects = world.cache / "git" / "upstream.invalid" / "one.git" / "objects"
    assert {path.parent.name for path in objects.rglob("*") if path.is_file()} == {"pack"}


@pytest.mark.parametrize("damage", ["cut", "changed"])
def test_damaged_cache_is_called_one(world, damage):
    world.upstream.commit("one", {"a": "1"}, tag="v1")
    wanted = world.want(("one", "v1"))
    world.bring(wanted)
    cached = world.cache / "git" / "upstream.invalid" / "one.git"
    (pack,) = cached.glob("objects/pack/*.pack")
    pack.chmod(0o644)
    content = pack.read_bytes()
    # What a disk that fails gives back: something else, without saying so.
    changed = content[:20] + bytes([content[20] ^ 0xFF]) + content[21:]
    pack.write_bytes(content[:20] if damage == "cut" else changed)
    with pytest.raises(HostError, match=r"one\.git is damaged") as err:
        world.bring(wanted)
    assert f"delete {cached}" in err.value.hint
    shutil.rmtree(cached)
    world.bring(wanted)


# --- bad networks -----------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(git_module, "_PAUSES", (0.01, 0.01))


@pytest.fixture
def dead_mirror(mirror_of):
    """A mirror on a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        place = f"http://127.0.0.1:{server.getsockname()[1]}/"
    return mirror_of(git=[{"from": f"{UPSTREAM}/", "to": place}])


def asked(world, place: str) -> list[str]:
    return [line for line in world.log.read_text().splitlines()
            if line.startswith("$ git ") and place in line]  # fmt: skip


def test_server_that_is_busy_is_asked_again(world, git, httpserver, mirror_of, quick):
    head = world.upstream.commit("one", {"a": "1"}, tag="v1")
    bare = world.tmp / "served" / "one.git"
    git(world.tmp, "clone", "-q", "--bare", world.upstream.path("one"), bare)
    git(bare, "update-server-info")
    refused = []

    def answer(request):
        if len(refused) < 2:
            refused.append(request.path)
            return Response("busy", 503)
        path = bare / request.path.removeprefix("/one.git/")
        return Response(path.read_bytes()) if path.is_file() else Response("none", 404)

    httpserver.expect_request(re.compile("/one.git/.*")).respond_with_handler(answer)
    world.mirrors = [mirror_of(git=[{"from": f"{UPSTREAM}/", "to": httpserver.url_for("/")}])]
    assert commit_of(world, world.want(("one", "v1"))) == head
    assert len(refused) == 2
    assert len(asked(world, UPSTREAM)) == 0, "the mirror was not given up"


# As git 2.34 to 2.43 say it, with curl and GnuTLS or OpenSSL, or through ssh.
FLAKY = """\
fatal: unable to access 'https://x/': OpenSSL SSL_connect: SSL_ERROR_SYSCALL in connection to x:443
fatal: unable to access 'https://x/': OpenSSL SSL_read: Connection was reset, errno 10054
fatal: unable to access 'https://x/': HTTP/2 stream 1 was not closed cleanly before end of the stream
fatal: unable to access 'https://x/': Error in the HTTP2 framing layer
fatal: unable to access 'https://x/': Failure when receiving data from the peer
fatal: unable to access 'https://x/': GnuTLS recv error (-110): The TLS connection was non-properly terminated.
fatal: unable to access 'https://x/': Recv failure: Connection reset by peer
fatal: unable to access 'https://x/': Could not resolve host: x
fatal: unable to access 'https://x/': Failed to connect to x port 443 after 134987 ms: Couldn't connect to server
fatal: unable to access 'https://x/': Operation too slow. Less than 1 bytes/sec transferred the last 60 seconds
fatal: unable to access 'https://x/': The requested URL returned error: 503
error: RPC failed; curl 18 transfer closed with outstanding read data remaining
fetch-pack: unexpected disconnect while reading sideband packet
fatal: early EOF
kex_exchange_identification: Connection closed by remote host
ssh: connect to host x port 22: No route to host
"""
LASTING = """\
fatal: repository 'https://x/' not found
fatal: unable to access 'https://x/': The requested URL returned error: 403
fatal: couldn't find remote ref refs/heads/x
fatal: https://x/info/refs not valid: is this a git repository?
Host key verification failed.
git@x: Permission denied (publickey).
"""


@pytest.mark.parametrize("line", FLAKY.splitlines())
def test_what_a_bad_network_says_is_worth_another_try(line):
    assert NETWORK.search(line)


@pytest.mark.parametrize("line", LASTING.splitlines())
def test_what_stays_as_it_is_is_not_tried_again(line):
    assert not NETWORK.search(line)


def test_host_that_does_not_answer_comes_last_from_then_on(world, dead_mirror, quick, capsys):
    world.upstream.commit("two", {"a": "1"}, tag="v1")
    world.upstream.commit("one", {"a": "1"})
    world.upstream.add_submodule("one", "two", "../two.git", of="two")
    world.upstream.tag("one", "v1")
    world.mirrors.insert(0, dead_mirror)
    world.bring(world.want(("one", "v1")))
    assert len(asked(world, "http://127.0.0.1")) == 3, "two.git was taken from the one that answers"
    assert capsys.readouterr().err.count("is asked last from now on") == 1


def test_host_that_keeps_us_waiting_gets_no_further_chance(world, dead_mirror, monkeypatch):
    monkeypatch.setattr(git_module, "_PATIENCE", 0.0)
    head = world.upstream.commit("one", {"a": "1"}, tag="v1")
    world.mirrors.insert(0, dead_mirror)
    assert commit_of(world, world.want(("one", "v1"))) == head
    assert len(asked(world, "http://127.0.0.1")) == 1


# --- secrets ----------------------------------------------------------------------------------


@pytest.fixture
def private(world, httpserver, git):
    """A repository behind a password, served as plain files."""
    head = world.upstream.commit("one", {"a": "1"}, tag="v1")
    bare = world.tmp / "private.git"
    git(world.tmp, "clone", "-q", "--bare", world.upstream.path("one"), bare)
    git(bare, "update-server-info")

    def answer(request):
        scheme, _, value = request.headers.get("Authorization", "").partition(" ")
        if scheme != "Basic" or b64decode(value) != b"me:sEcReT":
            return Response("no", 401, {"WWW-Authenticate": 'Basic realm="x"'})
        path = bare / request.path.removeprefix("/one.git/")
        return Response(path.read_bytes()) if path.is_file() else Response("none", 404)

    httpserver.expect_request("/one.git", method="GET").respond_with_handler(answer)
    httpserver.expect_request(re.compile("/one.git/.*")).respond_with_handler(answer)
    place = httpserver.url_for("/one.git").removeprefix("http://")
    return head, f"http://me:sEcReT@{place}", f"http://me:wrong-sEcReT@{place}"


def test_password_is_used_and_shown_nowhere(world, private, capfd):
    head, address, wrong = private
    wanted = world.want(("one", "v1"))
    wanted = replace(wanted, repositories=(replace(wanted.repositories[0], repository=address),))
    world.mirrors = []
    lock = world.bring(wanted)
    assert lock.repositories[0].commit == head
    (world.clone(address, "v1") / "a").read_text()
    wanted = replace(wanted, repositories=(replace(wanted.repositories[0], repository=wrong),))
    shutil.rmtree(world.cache)
    with pytest.raises(UnreachableError) as err:
        world.bring(wanted)
    said = "".join([str(lock), world.log.read_text(), err.value.message, *world.reports])
    assert "sEcReT" not in said + "".join(capfd.readouterr())
    for path in world.cache.rglob("*"):
        assert not path.is_file() or b"sEcReT" not in path.read_bytes(), path
    assert (world.store / "gitconfig").stat().st_mode & 0o777 == 0o600


def test_password_of_a_mirror_is_for_its_owner_alone(world, mirror_of):
    world.upstream.commit("one", {"a": "1"}, tag="v1")
    world.bring(world.want(("one", "v1")))
    assert (world.store / "gitconfig").stat().st_mode & 0o777 == 0o644
    rule = {"from": "https://other.invalid/", "to": "https://me:sEcReT@mirror.invalid/"}
    world.mirrors.append(mirror_of(git=[rule]))
    world.bring(world.want(("one", "v1")))
    assert "sEcReT" in (world.store / "gitconfig").read_text()
    assert (world.store / "gitconfig").stat().st_mode & 0o777 == 0o600


def test_masks():
    assert mask("x https://u:p@h/a y") == "x https://***@h/a y"
    assert strip_credentials("https://u:p@h/a") == "https://h/a"
    assert strip_credentials("ssh://git@h/a") == "ssh://git@h/a"
    assert strip_credentials("ssh://git:pw@h/a") == "ssh://git@h/a"


def test_cache_alone_knows_what_a_tag_was(world):
    cache = GitCache(world.cache / "git", lambda _address: [], GitLog(world.tmp / "log"))
    with pytest.raises(SourceError, match="nobody may be asked"):
        cache.fetch(f"{UPSTREAM}/one.git", "v1")
    head = world.upstream.commit("one", {"a": "1"}, tag="v1")
    world.bring(world.want(("one", "v1")))
    assert cache.fetch(f"{UPSTREAM}/one.git", "v1").commit == head
