"""The table of containers: output names, agreement with FFmpeg, and one row as all that a new container needs."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import av
import pytest

from converted import convert_quickly, interpolated_times
from films import AudioTrack, Film, read_times
from midframe.errors import SettingError
from midframe.video import containers
from midframe.video.containers import CONTAINERS, DEMUXERS, Container, container_for, container_named, demuxer_named

FFMPEG_CONTAINERS = [container for container in CONTAINERS if container.name != "images"]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("film.mp4", "mp4"),
        ("film.m4v", "mp4"),
        ("film.MOV", "mov"),
        ("film.mkv", "matroska"),
        ("film.webm", "webm"),
        ("film.gif", "gif"),
        ("film.webp", "webp"),
        ("film.y4m", "yuv4mpegpipe"),
        ("-", "yuv4mpegpipe"),
        ("folder/", "images"),
        ("frame%05d.webp", "images"),
    ],
)
def test_output_name_chooses_the_container(path: str, name: str) -> None:
    assert container_for(path).name == name


@pytest.mark.parametrize("path", ["film", "film.xyz", "film.png", "mp4"])
def test_unknown_suffix_is_refused_with_the_known_ones(path: str) -> None:
    with pytest.raises(SettingError, match=rf"cannot tell from '{path}' what to write.*\.mp4 .*\.mkv .*\.y4m"):
        container_for(path)


def test_names_and_suffixes_are_unique() -> None:
    names = [container.name for container in CONTAINERS]
    suffixes = [suffix for container in CONTAINERS for suffix in container.suffixes]
    assert len(set(names)) == len(names)
    assert len(set(suffixes)) == len(suffixes)
    assert all(suffix == suffix.lower() for suffix in suffixes)


@pytest.mark.parametrize("container", FFMPEG_CONTAINERS, ids=lambda container: container.name)
def test_every_muxer_exists(container: Container) -> None:
    assert av.format.ContainerFormat(container.name, "w").name == container.name


@pytest.mark.parametrize("demuxer", [demuxer.name for demuxer in DEMUXERS if not demuxer.text])
def test_every_demuxer_exists(demuxer: str) -> None:
    assert av.format.ContainerFormat(demuxer, "r").name == demuxer


@pytest.mark.parametrize("container", [c for c in CONTAINERS if c.needs_encoder], ids=lambda container: container.name)
def test_container_holds_the_encoders_of_its_row(container: Container) -> None:
    listed = {*container.default_encoders, *container.default_encoders_deep, *(container.encoders or ())}
    listed -= {"ffv1"} if container.name == "mov" else set()
    for encoder in listed:
        with av.open(io.BytesIO(), "w", format=container.name) as output:
            stream = output.add_stream(encoder, rate=25)
            assert isinstance(stream, av.VideoStream)
            stream.width, stream.height = 64, 64
            pixel_formats = [f.name for f in av.codec.Codec(encoder, "w").video_formats or ()]
            stream.pix_fmt = "yuv420p" if "yuv420p" in pixel_formats else pixel_formats[0]
            output.start_encoding()


def test_unknown_container_is_a_key_error() -> None:
    with pytest.raises(KeyError, match="avi"):
        container_named("avi")


def test_unknown_demuxer_has_the_defaults() -> None:
    assert demuxer_named("flv") == containers.Demuxer("flv")
    assert demuxer_named("mpegts").free_running_clock


def test_new_container_needs_one_row(
    film_factory: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its row in the table alone, a film is converted into NUT: picture, times and audio."""
    nut = Container(name="nut", suffixes=(".nut",), spoken_name="nut", negative_times=False)
    monkeypatch.setattr(containers, "CONTAINERS", (*CONTAINERS, nut))
    source = film_factory(Film(frames=6, width=64, height=48, audio=(AudioTrack(),)), ".mp4")
    summary = convert_quickly(source, tmp_path / "out.nut", preset="ultrafast")
    assert summary.plan.container == nut
    times = read_times(tmp_path / "out.nut")
    assert [time - times[0] for time in times] == interpolated_times(read_times(source), 2)
    with av.open(str(tmp_path / "out.nut")) as film:
        assert [stream.type for stream in film.streams] == ["video", "audio"]
