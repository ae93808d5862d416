"""Archives from servers as they are: slow to recover, cutting off, lying, or serving web pages."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import hashlib
import io
import lzma
import os
import re
import socket
import threading
import time
import zipfile

import pytest
from werkzeug import Response

from tritonbuild.errors import HostError, SourceError, UnreachableError
from tritonbuild.sources import archive as archive_module
from tritonbuild.sources.archive import Archive, ArchiveCache, name_of

CONTENT = gzip.compress(os.urandom(600_000))
SHA256 = hashlib.sha256(CONTENT).hexdigest()
PAGE = b"<!DOCTYPE html>\n<html><head><title>Account deactivated</title></head></html>"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(archive_module, "_BACKOFF", 0.01)


@pytest.fixture
def cache(tmp_path):
    return ArchiveCache(tmp_path / "cache", lambda _text: None)


@pytest.fixture
def url(httpserver):
    return httpserver.url_for("/pack.tar.gz")


def kept(cache) -> list:
    return [path for path in cache._root.rglob("*.tar.gz") if path.is_file()]


def wanted(url: str, **more: object) -> Archive:
    return Archive(url, "pack.tar.gz", **{"sha256": SHA256, **more})


class RawServer:
    """A server that does with a connection what a test says; it records the requests."""

    def __init__(self, *answers) -> None:
        self.answers = list(answers)
        self.requests: list[str] = []
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}/pack.tar.gz"
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    def _serve(self) -> None:
        for answer in self.answers:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            with connection:
                request = connection.recv(65536).decode()
                self.requests.append(request)
                connection.sendall(answer(request))

    def header(self, name: str, request: int = -1) -> str | None:
        found = re.search(
            rf"^{name}: (.*?)\r$", self.requests[request], re.MULTILINE | re.IGNORECASE
        )
        return found[1] if found else None

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)  # wakes a thread that waits for a connection
        self.socket.close()
        self.thread.join(5)
        assert not self.thread.is_alive()


@pytest.fixture
def raw_server():
    servers = []

    def start(*answers) -> RawServer:
        servers.append(RawServer(*answers))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def head(status: str, **headers: object) -> bytes:
    lines = [f"HTTP/1.1 {status}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def cut_at(size: int, **headers: object):
    return lambda _request: head("200 OK", Content_Length=len(CONTENT), **headers) + CONTENT[:size]


def rest_from(request: str) -> bytes:
    start = int(re.search(r"bytes=(\d+)-", request)[1])
    headers = {"Content_Range": f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}",
               "Content_Length": len(CONTENT) - start}  # fmt: skip
    return head("206 Partial Content", **headers) + CONTENT[start:]


def whole(_request: str) -> bytes:
    return head("200 OK", Content_Length=len(CONTENT)) + CONTENT


# --- what goes well in the end ----------------------------------------------------------------


def test_archive_is_fetched_once_and_kept_by_its_checksum(cache, httpserver, url):
    httpserver.expect_ordered_request("/pack.tar.gz").respond_with_data(CONTENT)
    arrived = cache.fetch(wanted(url), [url])
    assert arrived.path == cache._root / SHA256 / "pack.tar.gz"
    assert (arrived.sha256, arrived.size, arrived.url) == (SHA256, len(CONTENT), url)
    assert cache.fetch(wanted(url), [url]).url is None
    assert len(httpserver.log) == 1


def test_busy_server_is_asked_again(cache, httpserver, url):
    for status in (503, 429, 500):
        httpserver.expect_ordered_request("/pack.tar.gz").respond_with_data("busy", status)
    httpserver.expect_ordered_request("/pack.tar.gz").respond_with_data(CONTENT)
    assert cache.fetch(wanted(url), [url]).sha256 == SHA256


def test_redirect_is_followed(cache, httpserver, url):
    moved = Response(status=302, headers={"Location": httpserver.url_for("/there")})
    httpserver.expect_request("/pack.tar.gz").respond_with_response(moved)
    httpserver.expect_request("/there").respond_with_data(CONTENT)
    assert cache.fetch(wanted(url), [url]).sha256 == SHA256


def test_download_that_breaks_off_goes_on_where_it_stopped(cache, raw_server):
    server = raw_server(cut_at(200_000, ETag='"one"'), rest_from)
    assert cache.fetch(wanted(server.url), [server.url]).sha256 == SHA256
    assert server.header("Range") == "bytes=200000-"
    assert server.header("If-Range") == '"one"'


def test_download_goes_on_in_the_next_run(cache, tmp_path, raw_server):
    server = raw_server(cut_at(100_000), *[lambda _r: b""] * 20, rest_from)
    with pytest.raises(UnreachableError):
        cache.fetch(wanted(server.url), [server.url])
    server.answers[:] = []
    again = raw_server(rest_from)
    part = next((cache._root / ".partial").glob("*/data"))
    target = cache._root / ".partial" / archive_module._key(again.url)
    part.parent.rename(target)
    assert cache.fetch(wanted(again.url), [again.url]).sha256 == SHA256
    assert again.header("Range") == "bytes=100000-"


@pytest.mark.parametrize(("headers", "resumed"), [({"ETag": '"one"'}, True), ({}, False)])
def test_halves_that_nothing_can_tell_apart_are_not_put_together(
    cache, raw_server, headers, resumed
):
    unknown = {"sha256": None}
    server = raw_server(cut_at(100_000, **headers), *[lambda _r: b""] * 20)
    with pytest.raises(UnreachableError):
        cache.fetch(wanted(server.url, **unknown), [server.url])
    again = raw_server(rest_from if resumed else whole)
    part = next((cache._root / ".partial").glob("*/data"))
    part.parent.rename(cache._root / ".partial" / archive_module._key(again.url))
    assert cache.fetch(wanted(again.url, **unknown), [again.url]).sha256 == SHA256
    assert again.header("Range") == ("bytes=100000-" if resumed else None)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(whole, id="ignores-range"),
        pytest.param(
            lambda _r: head("416 Range Not Satisfiable", Content_Length=0), id="refuses-range"
        ),
        pytest.param(
            lambda _r: head("206 Partial Content", Content_Range=f"bytes 7-9/{len(CONTENT)}",
                            Content_Length=3) + b"xyz", id="lies-about-range",
        ),
        pytest.param(
            lambda r: rest_from(r).replace(CONTENT[-1000:], os.urandom(1000)), id="other-bytes"
        ),
    ],
)  # fmt: skip
def test_server_that_cannot_resume_costs_a_download(cache, raw_server, answer):
    server = raw_server(cut_at(200_000), answer, whole)
    assert cache.fetch(wanted(server.url), [server.url]).sha256 == SHA256


def test_encoding_of_the_transport_is_not_undone(cache, httpserver, url):
    headers = {"Content-Encoding": "gzip"}
    httpserver.expect_request("/pack.tar.gz").respond_with_data(CONTENT, headers=headers)
    assert cache.fetch(wanted(url), [url]).sha256 == SHA256


def test_file_address(cache, tmp_path):
    path = tmp_path / "a b.tar.gz"
    path.write_bytes(CONTENT)
    assert cache.fetch(wanted("https://x.invalid/p"), [path.as_uri()]).sha256 == SHA256


# --- what does not ----------------------------------------------------------------------------


def test_web_page_is_called_one_and_the_next_address_is_tried(cache, httpserver, url):
    httpserver.expect_request("/pack.tar.gz").respond_with_data(
        PAGE, content_type="application/gzip"
    )
    httpserver.expect_request("/mirror").respond_with_data(CONTENT)
    with pytest.raises(SourceError, match="a web page") as err:
        cache.fetch(wanted(url), [url])
    assert "Account deactivated" in err.value.message
    assert "sha256" not in err.value.message
    assert cache.fetch(wanted(url), [url, httpserver.url_for("/mirror")]).sha256 == SHA256


@pytest.mark.parametrize(
    ("content", "digests", "message"),
    [
        pytest.param(CONTENT[:-1] + b"x", (), "sha256 is not what it should be", id="changed"),
        pytest.param(b"PK" + CONTENT, (), "is no gzip file", id="other-kind"),
        pytest.param(b"", (), "is no gzip file", id="empty"),
        pytest.param(CONTENT, (("MD5", "0" * 32),), "md5 is not what", id="md5"),
        pytest.param(CONTENT, (("SHA512", "0" * 128),), "sha512 is not what", id="sha512"),
    ],
)
def test_wrong_file_is_never_kept(cache, httpserver, url, content, digests, message):
    httpserver.expect_request("/pack.tar.gz").respond_with_data(content)
    with pytest.raises(SourceError, match=message):
        cache.fetch(wanted(url, digests=digests), [url])
    assert kept(cache) == []
    assert not list((cache._root / ".partial").glob("*/data"))


def test_page_that_was_made_to_be_slow_to_read_is_not(cache, httpserver, url):
    started = time.monotonic()
    httpserver.expect_request("/pack.tar.gz").respond_with_data(b"<!-- a -->" * 2000 + b"x")
    with pytest.raises(SourceError, match="no gzip file"):
        cache.fetch(wanted(url), [url])
    assert time.monotonic() - started < 10


def test_file_that_stays_cut_short_is_never_kept(cache, raw_server):
    server = raw_server(*[cut_at(1000)] * 8)
    with pytest.raises(UnreachableError, match=f"1000 of {len(CONTENT)} bytes"):
        cache.fetch(wanted(server.url), [server.url])
    assert kept(cache) == []


def pack_zip() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as out:
        out.writestr("data", CONTENT)
    return packed.getvalue()


PACKED = {"tar.gz": CONTENT, "tar.xz": lzma.compress(CONTENT), "tar.bz2": bz2.compress(CONTENT),
          "zip": pack_zip()}  # fmt: skip


@pytest.mark.parametrize("ending", PACKED)
@pytest.mark.parametrize("damage", ["cut", "changed"])
def test_damage_is_seen_where_nobody_knows_a_checksum(cache, raw_server, ending, damage):
    """The server does not say how much it sends, so that the end of a cut file looks like one."""
    whole, half = PACKED[ending], len(PACKED[ending]) // 2
    changed = whole[:half] + bytes([whole[half] ^ 1]) + whole[half + 1 :]
    answers = [head("200 OK") + (whole[:half] if damage == "cut" else changed),
               head("200 OK") + whole]  # fmt: skip
    server = raw_server(*[lambda _request, answer=answer: answer for answer in answers])
    name = f"pack.{ending}"
    unknown = Archive(f"https://upstream.invalid/{name}", name)
    with pytest.raises(SourceError, match="cut short or damaged"):
        cache.fetch(unknown, [server.url])
    assert not [path for path in cache._root.rglob("*") if path.name in (name, "data")]
    assert cache.fetch(unknown, [server.url]).path.read_bytes() == whole


def test_damaged_cache_is_mended(cache, httpserver, url):
    httpserver.expect_request("/pack.tar.gz").respond_with_data(CONTENT)
    path = cache.fetch(wanted(url), [url]).path
    path.write_bytes(CONTENT[:-1] + b"?")
    assert cache.fetch(wanted(url), [url]).path.read_bytes() == CONTENT


def test_all_addresses_are_named_when_none_answers(cache, unused_port):
    places = [f"http://127.0.0.1:{unused_port}/a", "http://user:secret@localhost:1/b",
              "file:///nowhere/c"]  # fmt: skip
    with pytest.raises(UnreachableError) as err:
        cache.fetch(wanted(places[0]), places)
    for place in (places[0], "http://***@localhost:1/b", places[2]):
        assert place in err.value.message
    assert "secret" not in err.value.message


@pytest.fixture
def unused_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def test_missing_file_names_the_status(cache, httpserver, url):
    httpserver.expect_request("/pack.tar.gz").respond_with_data("no", 404)
    with pytest.raises(UnreachableError, match="HTTP 404 NOT FOUND"):
        cache.fetch(wanted(url), [url])


def test_full_disk_is_said_to_be_one(cache, httpserver, url, tmp_path, monkeypatch):
    httpserver.expect_request("/pack.tar.gz").respond_with_data(CONTENT)
    real = archive_module._key(url)
    folder = cache._root / ".partial" / real
    folder.mkdir(parents=True)
    (folder / "data").symlink_to("/dev/full")
    with pytest.raises(HostError, match="no room on disk"):
        cache.fetch(wanted(url), [url])


def test_unknown_checksum_is_found_by_address_later(cache, httpserver, url):
    httpserver.expect_ordered_request("/pack.tar.gz").respond_with_data(CONTENT)
    first = cache.fetch(wanted(url, sha256=None), [url])
    assert cache.fetch(wanted(url, sha256=None), []).path == first.path


@pytest.mark.parametrize("url", ["https://x/", "https://x/..", "https://x/%2e%2e", "https://x/-rf",
                                 "https://x/a%2fb", "https://x/a%0ab.tgz"])  # fmt: skip
def test_address_without_a_safe_name_is_refused(url):
    with pytest.raises(SourceError):
        name_of(url)
