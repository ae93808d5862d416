"""A download that breaks off goes on where it stopped: real pip, a server that hangs up halfway."""

from __future__ import annotations

import hashlib
import http.server
import os
import re
import threading
import zipfile
from contextlib import contextmanager

from tritonbuild.sources.wheel import Wheel, fetch_wheel

NAME = "tiny-1.0-py3-none-any.whl"


def make_wheel(path):
    """Write a wheel with some random bytes; return its content."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tiny/data", os.urandom(200_000))
        archive.writestr("tiny-1.0.dist-info/METADATA", "Name: tiny\nVersion: 1.0\n")
        archive.writestr("tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("tiny-1.0.dist-info/RECORD", "")
    return path.read_bytes()


@contextmanager
def serve_in_pieces(content):
    """Serve an index with one file, and hang up in the middle of the file the first time."""
    ranges = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_GET(self):
            if self.path.startswith("/simple/"):
                page = f'<a href="/files/{NAME}">{NAME}</a>'.encode()
                self.reply(200, page, len(page), "text/html")
                return
            asked = self.headers.get("Range")
            ranges.append(asked)
            if asked is None:
                self.reply(200, content[: len(content) // 2], len(content))
                self.connection.close()
                return
            start = int(re.match(r"bytes=(\d+)-", asked)[1])
            self.reply(206, content[start:], len(content) - start, start=start)

        def reply(self, status, body, length, kind="application/octet-stream", start=None):
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(length))
            self.send_header("ETag", '"tiny"')
            if start is not None:
                total = len(content)
                self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
            self.end_headers()
            self.wfile.write(body)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/simple/", ranges
        finally:
            server.shutdown()


def test_download_that_breaks_off_goes_on_where_it_stopped(tmp_path, monkeypatch):
    content = make_wheel(tmp_path / NAME)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serve_in_pieces(content) as (index, ranges):
        wheel = Wheel("tiny", NAME, hashlib.sha256(content).hexdigest(), "3.11", index)
        kept = fetch_wheel(wheel, cache=tmp_path / "cache", log=tmp_path / "log")
    assert kept.read_bytes() == content
    assert ranges == [None, f"bytes={len(content) // 2}-"]
