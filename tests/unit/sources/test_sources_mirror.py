"""Which addresses are tried, in which order, and what `--mirror auto` makes of them."""

from __future__ import annotations

import socket

import pytest

from tritonbuild.recipe.load import RecipeBook
from tritonbuild.sources.mirror import Rewriter
from tritonbuild.sources.rank import choose_mirrors, rank_mirrors
from tritonbuild.sources.resolve import ArchiveWanted, GitWanted, Wanted

DEAD_BOOST = "https://boostorg.jfrog.io/artifactory/main/release/1.79.0/source/boost_1_79_0.tar.gz"


@pytest.fixture
def near(mirror_of):
    return mirror_of(
        git=[
            {"from": "https://github.com/", "to": "https://near.invalid/gh/"},
            {"from": "https://github.com/org/one.git", "to": "file:///srv/one.git"},
        ],
        images=[{"from": "nvcr.io/", "to": "near.invalid/nv/"},
                {"from": "docker.io/", "to": "near.invalid/hub/"}],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("https://github.com/a/b.git", "https://near.invalid/gh/a/b.git"),
        ("http://github.com/a/b", "https://near.invalid/gh/a/b"),
        ("https://github.com/a/b/", "https://near.invalid/gh/a/b"),
        ("git@github.com:a/b.git", "https://near.invalid/gh/a/b.git"),
        ("ssh://git@github.com/a/b.git", "https://near.invalid/gh/a/b.git"),
        ("https://github.com/org/one.git", "file:///srv/one.git"),
        ("https://github.com/org/one", "file:///srv/one.git"),
        ("https://user:pw@github.com/a/b.git", "https://near.invalid/gh/a/b.git"),
        ("https://gitlab.com/a/b.git", "https://gitlab.com/a/b.git"),
    ],
)
def test_longest_prefix_wins_in_every_spelling(near, address, expected):
    found = Rewriter([near]).git(address)
    assert found[0] == expected
    assert found[-1] == address


@pytest.mark.parametrize(
    ("name", "expected"),
    [("nvcr.io/a:1", "near.invalid/nv/a:1"), ("ubuntu:22.04", "near.invalid/hub/library/ubuntu:22.04"),
     ("org/x", "near.invalid/hub/org/x"), ("ghcr.io/x", "ghcr.io/x")],
)  # fmt: skip
def test_images(near, name, expected):
    assert Rewriter([near]).image(name)[0] == expected


def test_shipped_mirrors_find_what_moved_and_what_is_near():
    book = RecipeBook.open()
    mirrors = choose_mirrors(book, "cn", Wanted(()))
    near, now, dead = Rewriter(mirrors).archive(DEAD_BOOST)
    assert "sourceforge" in near
    assert now == "https://archives.boost.io/release/1.79.0/source/boost_1_79_0.tar.gz"
    assert dead == DEAD_BOOST
    assert Rewriter(choose_mirrors(book, "upstream", Wanted(()))).archive(DEAD_BOOST) == [now, dead]


def test_circle_of_rewrites_ends(mirror_of):
    rules = [{"from": "https://a/", "to": "https://b/"}, {"from": "https://b/", "to": "https://a/"}]
    found = Rewriter([mirror_of(archives=rules)]).archive("https://a/x")
    assert sorted(found) == ["https://a/x", "https://b/x"]


def test_mirrors_after_upstream_are_tried_after_it(near, mirror_of):
    upstream = mirror_of().model_copy(update={"name": "upstream"})
    found = Rewriter([upstream, near]).git("https://github.com/a/b.git")
    assert found == ["https://github.com/a/b.git", "https://near.invalid/gh/a/b.git"]


def test_nearest_mirror_comes_first_and_silent_ones_last(mirror_of, httpserver, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        closed = server.getsockname()[1]
    httpserver.expect_request("/slow/a/b.git/info/refs").respond_with_handler(_answer_late)
    (tmp_path / "a" / "b.git").mkdir(parents=True)
    (tmp_path / "x.tgz").write_text("x")

    def make(name, git, archives):
        mirror = mirror_of(git=[{"from": "https://github.com/", "to": git}],
                           archives=[{"from": "https://files.invalid/", "to": archives}])  # fmt: skip
        return mirror.model_copy(update={"name": name})

    files = f"file://{tmp_path}/"
    mirrors = [
        make("dead", f"http://127.0.0.1:{closed}/", files),
        make("slow", httpserver.url_for("/slow/"), files),
        make("near", files, files),
        make("half", files, f"file://{tmp_path}/none/"),
    ]
    wanted = Wanted(
        (GitWanted("c", "https://github.com/a/b.git", "r"),),
        (ArchiveWanted("x", "https://files.invalid/x.tgz", None, "c"),),
    )
    ranked = rank_mirrors(mirrors, wanted)
    assert [one.mirror.name for one in ranked[:2]] == ["near", "slow"]
    assert {one.mirror.name: one.seconds for one in ranked[2:]} == {"dead": None, "half": None}
    assert all("does not answer" in one.reason for one in ranked[2:])


def _answer_late(_request):
    import time

    from werkzeug import Response

    time.sleep(0.2)
    return Response("ok")
