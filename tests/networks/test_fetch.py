"""Downloads over HTTP from a local server and from files; no external network is used."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from midframe.errors import InputError, OutputError, SettingError
from midframe.networks import fetch as fetching
from midframe.networks.fetch import RemoteFile, data_folder, fetch, local_path

CONTENT = bytes(range(256)) * 10_000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves `/good.bin`, `/other.bin` (other bytes) and `/short.bin` (truncated), and counts the requests."""

    requests = 0


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.requests += 1
        known = {"/good.bin": CONTENT, "/other.bin": CONTENT[:-1] + b"x", "/short.bin": CONTENT}
        if self.path not in known:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(known[self.path])))
        self.end_headers()
        body = known[self.path]
        self.wfile.write(body[: len(body) // 2] if self.path == "/short.bin" else body)

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MIDFRAME_HOME", str(tmp_path / "home"))
    running = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{running.server_port}"
    monkeypatch.setitem(fetching.REMOTE_FILES, "thing", RemoteFile(f"{address}/good.bin", SHA256[:8], "for tests"))
    yield running
    running.shutdown()
    running.server_close()
    thread.join()


def address(server: Server, name: str) -> str:
    return f"http://127.0.0.1:{server.server_port}/{name}"


def remaining_files(tmp_path: Path) -> list[str]:
    return [path.name for path in (tmp_path / "home").rglob("*") if path.is_file()]


def test_a_file_is_downloaded_once_with_progress(server: Server, tmp_path: Path) -> None:
    calls: list[tuple[int, int | None]] = []
    path = fetch("thing", progress=lambda done, total: calls.append((done, total)))
    assert path == local_path("thing") == tmp_path / "home" / "models" / "good.bin"
    assert path.read_bytes() == CONTENT
    assert calls[-1] == (len(CONTENT), len(CONTENT))
    assert [done for done, _ in calls] == sorted({done for done, _ in calls})
    assert remaining_files(tmp_path) == ["good.bin"]
    assert fetch("thing") == path
    assert server.requests == 1


def test_a_damaged_local_file_is_downloaded_again(server: Server) -> None:
    local_path("thing").parent.mkdir(parents=True)
    local_path("thing").write_bytes(b"half")
    assert fetch("thing").read_bytes() == CONTENT
    assert server.requests == 1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("other.bin", "gave another file than thing: its SHA-256 begins with"),
        ("short.bin", "cannot be fetched"),
        ("missing.bin", "the server answers 404"),
    ],
)
def test_a_wrong_or_truncated_file_is_not_kept(server: Server, tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        fetch("thing", url=address(server, name))
    assert "\n" not in str(caught.value)
    assert remaining_files(tmp_path) == []


def test_without_a_network_the_error_names_the_local_path(server: Server, tmp_path: Path) -> None:
    server.server_close()
    server.shutdown()
    with pytest.raises(InputError, match=f"put the file at {local_path('thing')} yourself"):
        fetch("thing", timeout=5)
    assert remaining_files(tmp_path) == []


def test_file_urls_and_invalid_urls(server: Server, tmp_path: Path) -> None:
    mirror = tmp_path / "mirror.bin"
    mirror.write_bytes(CONTENT)
    assert fetch("thing", url=mirror.as_uri()).read_bytes() == CONTENT
    assert server.requests == 0
    local_path("thing").unlink()
    for wrong in ((tmp_path / "absent").as_uri(), "nowhere"):
        with pytest.raises(InputError, match="cannot be fetched"):
            fetch("thing", url=wrong)


def test_a_folder_that_cannot_be_created_is_an_output_error(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("MIDFRAME_HOME", str(tmp_path / "file"))
    with pytest.raises(OutputError, match="cannot be written"):
        fetch("thing")
    assert server.requests == 0


def test_an_interruption_leaves_no_file(server: Server, tmp_path: Path) -> None:
    def stop(done: int, total: int | None) -> None:
        raise KeyboardInterrupt("stopped by the user")

    with pytest.raises(KeyboardInterrupt, match="stopped by the user"):
        fetch("thing", progress=stop)
    assert remaining_files(tmp_path) == []


def test_unknown_names_are_refused() -> None:
    with pytest.raises(SettingError, match="what can be is: vgg19"):
        fetch("resnet")


def test_the_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("MIDFRAME_HOME", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert data_folder() == tmp_path / "own"
    monkeypatch.delenv("MIDFRAME_HOME")
    assert data_folder() == tmp_path / "data" / "midframe"
    monkeypatch.setenv("XDG_DATA_HOME", "not/absolute")
    assert data_folder() == Path.home() / ".local" / "share" / "midframe"


def test_the_published_vgg19_is_named_by_its_checksum() -> None:
    remote = fetching.REMOTE_FILES["vgg19"]
    assert remote.url == "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth"
    assert remote.file_name == f"vgg19-{remote.sha256}.pth"
