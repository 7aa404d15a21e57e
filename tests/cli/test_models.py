"""The commands `midframe models` and `midframe models fetch`."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

from midframe.networks import NETWORKS, fetch
from process import InProcessCommand, expect_one_line, parse_json_object


def test_the_list_for_people_and_machines(run_in_process: InProcessCommand) -> None:
    ran = run_in_process("models")
    assert ran.returncode == 0
    lines = ran.stdout.splitlines()
    assert {line.split()[0] for line in lines} >= {"default", *NETWORKS}
    assert re.match(r"default +guided, trained \(\d\.\d million parameters, MIT\), any time\. ", lines[0])
    assert all(", untrained, " in line for line in lines if line.split()[0] in NETWORKS)
    ran = run_in_process("models", "--json")
    data = parse_json_object(ran.stdout)
    assert (ran.returncode, data["schema"], data["ok"]) == (0, "midframe.models/1", True)
    rows = {row["name"]: row for row in data["models"]}
    assert rows.keys() >= {"default", *NETWORKS}
    assert (rows["default"]["network"], rows["default"]["trained"]) == ("guided", True)
    assert rows["default"]["weights"]["weights"].endswith("default.safetensors")
    assert not any(rows[name]["trained"] or rows[name]["weights"] for name in NETWORKS)


def test_fetching_says_where_the_file_is(
    run_in_process: InProcessCommand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIDFRAME_HOME", str(tmp_path / "home"))
    mirror = tmp_path / "thing.pth"
    mirror.write_bytes(b"weights")
    checksum = hashlib.sha256(b"weights").hexdigest()
    monkeypatch.setitem(fetch.REMOTE_FILES, "thing", fetch.RemoteFile("http://127.0.0.1:9/thing.pth", checksum, ""))
    ran = run_in_process("models", "fetch", "thing", "--from", mirror.as_uri())
    place = tmp_path / "home" / "models" / "thing.pth"
    assert (ran.returncode, ran.stdout) == (0, "")
    assert str(place) in expect_one_line(ran.stderr)
    ran = run_in_process("models", "fetch", "thing", "--json")
    assert parse_json_object(ran.stdout)["fetched"] == {"name": "thing", "path": str(place), "bytes": 7}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("vgg19", "--from", "http://127.0.0.1:9/vgg19.pth"), 3, "cannot be fetched"),
        (("resnet",), 2, "what can be is: vgg19"),
        ((), 2, "see midframe models --help"),
    ],
)
def test_errors_are_one_line_with_their_exit_code(
    run_in_process: InProcessCommand,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    code: int,
    message: str,
) -> None:
    monkeypatch.setenv("MIDFRAME_HOME", str(tmp_path))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    ran = run_in_process("models", "fetch", *arguments)
    assert (ran.returncode, ran.stdout) == (code, "")
    assert message in expect_one_line(ran.stderr)


def test_a_file_with_another_checksum_is_refused(
    run_in_process: InProcessCommand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIDFRAME_HOME", str(tmp_path / "home"))
    (tmp_path / "vgg19.pth").write_bytes(b"something else")
    ran = run_in_process("models", "fetch", "vgg19", "--from", (tmp_path / "vgg19.pth").as_uri(), "--json")
    data = parse_json_object(ran.stdout)
    assert (ran.returncode, data["ok"], data["schema"]) == (3, False, "midframe.models/1")
    assert "dcbb9e9d is needed" in data["error"]["message"]
    assert not list((tmp_path / "home").rglob("*.p*"))
