"""The commands `midframe info` and `midframe models`."""

from __future__ import annotations

import json
from pathlib import Path

from films import AudioTrack, Film
from midframe.networks import NETWORKS, load
from midframe.networks.weights import save_weights
from process import run_midframe


def test_info_says_for_each_backend_whether_it_runs_and_why() -> None:
    data = json.loads(run_midframe("info", "--json").stdout)
    assert set(data["backends"]) == {"halide", "triton", "torch", "reference"}
    assert data["backends"]["torch"]["runs"]
    assert not data["backends"]["triton"]["runs"] or data["device"] == "cuda"
    assert all(backend["why"] for backend in data["backends"].values())
    convolution = data["operators"]["separable_convolution"]
    assert list(convolution) == ["halide", "triton", "torch", "reference"]
    assert convolution["torch"] == {"runs": True, "why": "matrix products on chunks of rows, in bounded memory"}


def test_info_in_words_says_which_backends_run_each_operator() -> None:
    lines = [line.split(maxsplit=1) for line in run_midframe("info", "--device", "cpu").stdout.splitlines()]
    assert ["separable_convolution", "halide, torch, reference"] in lines


def test_info_of_a_film_names_its_streams(film_factory) -> None:  # type: ignore[no-untyped-def]
    film = Film(frames=5, audio=(AudioTrack(),))
    data = json.loads(run_midframe("info", film_factory(film, ".mp4"), "--json").stdout)
    assert (data["width"], data["height"], data["frames"]) == (film.width, film.height, 5)
    assert [stream["kind"] for stream in data["streams"]] == ["video", "audio"]


def test_info_of_weights(tmp_path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "some.safetensors"
    save_weights(load("guided"), path, training={"steps": 3}, licence="MIT", data="drawn")
    data = json.loads(run_midframe("info", path, "--json").stdout)
    assert (data["network"], data["training"], data["licence"]) == ("guided", {"steps": 3}, "MIT")


def test_info_of_the_shipped_weights() -> None:
    data = json.loads(run_midframe("info", "default", "--json").stdout)
    assert (data["network"], data["licence"]) == ("guided", "MIT")
    assert Path(data["card"]).name == "default.md"
    assert data["bytes"] == Path(data["weights"]).stat().st_size
    shown = run_midframe("info", "default").stdout
    assert "guided" in shown
    assert "default.md" in shown


def test_info_of_a_foreign_file_is_one_line(tmp_path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "foreign.safetensors"
    path.write_bytes(b"not weights")
    done = run_midframe("info", path)
    assert done.returncode == 3
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1


def test_models_lists_every_network() -> None:
    names = {row["name"] for row in json.loads(run_midframe("models", "--json").stdout)["models"]}
    assert names >= {"default", *NETWORKS}
