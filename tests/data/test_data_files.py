"""Where files are looked for, and downloads that appear whole or not at all."""

from __future__ import annotations

import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from dgl_rbm.data.files import atomic_path, cache_folder, data_folder, download, download_folder
from dgl_rbm.errors import DataError, DatasetNotFoundError


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/missing":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", "100")
        self.end_headers()
        self.wfile.write(b"x" * (100 if self.path == "/whole" else 40))

    def log_message(self, *_):
        pass


@pytest.fixture
def server() -> Iterator[str]:
    httpd = HTTPServer(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_port}"
    httpd.shutdown()
    httpd.server_close()
    thread.join()


def test_data_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("DGL_RBM_DATA", str(tmp_path))
    assert data_folder() == tmp_path
    monkeypatch.delenv("DGL_RBM_DATA")
    assert data_folder() is None
    monkeypatch.setenv("DGL_RBM_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(DatasetNotFoundError, match=r"DGL_RBM_DATA is '.*nowhere', which is not a folder"):
        data_folder()


def test_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "dgl-rbm"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "dgl-rbm"


def test_a_complete_download(server, tmp_path):
    download(f"{server}/whole", tmp_path / "sub" / "file", hint="do this")
    assert (tmp_path / "sub" / "file").read_bytes() == b"x" * 100
    assert [path.name for path in (tmp_path / "sub").iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("path", "reason"), [("/short", "after 40 of 100 bytes"), ("/missing", "Not Found"), (None, "refused")]
)
def test_a_failed_download_leaves_nothing(server, tmp_path, path, reason):
    url = f"{server}{path}" if path else "http://127.0.0.1:9/file"
    with pytest.raises(DatasetNotFoundError) as caught:
        download(url, tmp_path / "file", hint="do this")
    assert reason in str(caught.value)
    assert url in str(caught.value)
    assert caught.value.hint == "do this"
    assert not list(tmp_path.iterdir())


def test_an_invalid_url_and_an_unwritable_folder(tmp_path):
    with pytest.raises(DatasetNotFoundError, match="could not be downloaded"):
        download("not a url", tmp_path / "file", hint="do this")
    (tmp_path / "plain").write_text("a file")
    source = tmp_path / "source"
    source.write_text("content")
    with pytest.raises(DatasetNotFoundError, match="could not be downloaded"):
        download(source.as_uri(), tmp_path / "plain" / "file", hint="do this")


def archive(path: Path, names: list[str]) -> str:
    with zipfile.ZipFile(path, "w") as content:
        for name in names:
            content.writestr(name, name)
    return path.as_uri()


def test_folders_are_unpacked(tmp_path):
    url = archive(tmp_path / "a.zip", ["top/inner/x", "top/y"])
    download_folder(url, tmp_path / "out" / "whole", hint="")
    assert (tmp_path / "out" / "whole" / "top" / "inner" / "x").read_text() == "top/inner/x"
    download_folder(url, tmp_path / "out" / "part", inner="top", hint="")
    assert (tmp_path / "out" / "part" / "y").read_text() == "top/y"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["part", "whole"]


def test_damaged_archives_leave_nothing(tmp_path):
    url = archive(tmp_path / "a.zip", ["top/x"])
    with pytest.raises(DataError, match="cannot be unpacked"):
        download_folder(url, tmp_path / "out" / "folder", inner="other", hint="")
    content = (tmp_path / "a.zip").read_bytes()
    (tmp_path / "a.zip").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="cannot be unpacked"):
        download_folder(url, tmp_path / "out" / "folder", hint="")
    assert not list((tmp_path / "out").iterdir())


def test_an_interrupted_write_leaves_the_old_file(tmp_path):
    target = tmp_path / "file"
    target.write_text("old")

    def interrupted():
        with atomic_path(target) as partial:
            partial.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
