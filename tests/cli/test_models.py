"""`midframe models` and `midframe models fetch`."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

import midframe.cli
from midframe.networks import NETWORKS, fetch
from process import one_line, one_object


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = midframe.cli._run([*map(str, arguments)])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_the_list_for_people_and_machines(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "models")
    assert code == 0
    lines = out.splitlines()
    assert {line.split()[0] for line in lines} >= {"default", *NETWORKS}
    assert re.match(r"default +guided, trained \(\d\.\d million parameters, MIT\), any time\. ", lines[0])
    assert all(", untrained, " in line for line in lines if line.split()[0] in NETWORKS)
    code, out, _ = run(capsys, "models", "--json")
    told = one_object(out)
    assert (code, told["schema"], told["ok"]) == (0, "midframe.models/1", True)
    rows = {row["name"]: row for row in told["models"]}
    assert rows.keys() >= {"default", *NETWORKS}
    assert (rows["default"]["network"], rows["default"]["trained"]) == ("guided", True)
    assert rows["default"]["weights"]["weights"].endswith("default.safetensors")
    assert not any(rows[name]["trained"] or rows[name]["weights"] for name in NETWORKS)


def test_fetching_says_where_the_file_is(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIDFRAME_HOME", str(tmp_path / "home"))
    mirror = tmp_path / "thing.pth"
    mirror.write_bytes(b"weights")
    checksum = hashlib.sha256(b"weights").hexdigest()
    monkeypatch.setitem(fetch.REMOTES, "thing", fetch.Remote("http://127.0.0.1:9/thing.pth", checksum, ""))
    code, out, err = run(capsys, "models", "fetch", "thing", "--from", mirror.as_uri())
    place = tmp_path / "home" / "models" / "thing.pth"
    assert (code, out) == (0, "")
    assert str(place) in one_line(err)
    code, out, _ = run(capsys, "models", "fetch", "thing", "--json")
    assert one_object(out)["fetched"] == {"name": "thing", "path": str(place), "bytes": 7}


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("vgg19", "--from", "http://127.0.0.1:9/vgg19.pth"), 3, "cannot be fetched"),
        (("resnet",), 2, "what can be is: vgg19"),
        ((), 2, "see midframe models --help"),
    ],
)
def test_errors_are_one_line_with_their_exit_code(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    code: int,
    said: str,
) -> None:
    monkeypatch.setenv("MIDFRAME_HOME", str(tmp_path))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    found, out, err = run(capsys, "models", "fetch", *arguments)
    assert (found, out) == (code, "")
    assert said in one_line(err)


def test_a_file_with_another_checksum_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIDFRAME_HOME", str(tmp_path / "home"))
    (tmp_path / "vgg19.pth").write_bytes(b"something else")
    code, out, _ = run(capsys, "models", "fetch", "vgg19", "--from", (tmp_path / "vgg19.pth").as_uri(), "--json")
    told = one_object(out)
    assert (code, told["ok"], told["schema"]) == (3, False, "midframe.models/1")
    assert "dcbb9e9d is needed" in told["error"]["message"]
    assert not list((tmp_path / "home").rglob("*.p*"))
