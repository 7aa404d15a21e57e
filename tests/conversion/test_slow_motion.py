"""Slow motion: the film lasts longer, and its sound, where it is kept, with it, at its own pitch."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from converted import click_times, convert_quickly, interpolated_times, largest_difference, times_at_rate
from films import AudioTrack, Chapter, Film, SubtitleTrack, packets, read_times
from midframe.errors import SettingError

Factory = Callable[..., Path]
SECOND = Fraction(1)
FILM = Film(
    frames=24,
    rate=Fraction(12),
    width=64,
    height=48,
    audio=(AudioTrack(kind="clicks"),),
    subtitles=(SubtitleTrack(((SECOND / 2, SECOND, "half"), (SECOND, 3 * SECOND / 2, "whole"))),),
    chapters=(Chapter(Fraction(0), SECOND, "one"), Chapter(SECOND, 2 * SECOND, "two")),
)


def stretched(sources: list[Fraction], slow: int) -> list[Fraction]:
    return [sources[0] + slow * (time - sources[0]) for time in sources]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("factor", [2, 4])
def test_picture_subtitles_and_chapters_are_stretched(
    film_factory: Factory, tmp_path: Path, factor: int, suffix: str
) -> None:
    source, target = film_factory(FILM, suffix), tmp_path / f"out{suffix}"
    summary = convert_quickly(source, target, factor=factor, slow_motion=True)
    expected = interpolated_times(stretched(read_times(source), factor), factor)
    assert largest_difference(read_times(target), expected) <= (
        Fraction(1, 2000) * (factor + 1) if suffix == ".mkv" else 0
    )
    with av.open(str(target)) as film:
        assert [s.type for s in film.streams if s.type != "data"] == ["video", "subtitle"]
        lines = [(p.pts * p.time_base, p.duration * p.time_base) for p in film.demux(subtitles=0) if p.size > 2]
        chapters = [(c["start"] * c["time_base"], c["end"] * c["time_base"]) for c in film.chapters()]
    assert lines == [(factor * SECOND / 2, factor * SECOND / 2), (factor * SECOND, factor * SECOND / 2)]
    assert chapters == [(0, factor), (factor, 2 * factor)]
    assert any("--audio stretch" in warning for warning in summary.warnings)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm"])
@pytest.mark.parametrize("factor", [2, 3, 4])
def test_stretched_sound_stays_synchronous(film_factory: Factory, tmp_path: Path, factor: int, suffix: str) -> None:
    source, target = film_factory(FILM, ".mkv"), tmp_path / f"out{suffix}"
    convert_quickly(source, target, factor=factor, slow_motion=True, audio="stretch")
    before, after = click_times(source), click_times(target)
    assert len(before) == len(after) == 4
    shift = float(read_times(target)[0] - read_times(source)[0])
    for a, b in zip(before, after, strict=True):
        assert abs(b - shift - factor * a) < 0.005 + 0.007 * factor


@pytest.mark.parametrize("factor", [2, 3])
def test_stretched_sound_keeps_its_pitch_and_fills_the_film(film_factory: Factory, tmp_path: Path, factor: int) -> None:
    film = Film(frames=48, width=64, height=48, audio=(AudioTrack(codec="pcm_s16le", channels=1),))
    source, target = film_factory(film, ".mkv"), tmp_path / "out.mkv"
    convert_quickly(source, target, factor=factor, slow_motion=True, audio="stretch")
    with av.open(str(target)) as container:
        assert container.streams.audio[0].codec_context.name == "flac"  # lossless stays lossless
        sound = np.concatenate([f.to_ndarray().reshape(-1) for f in container.decode(audio=0)]).astype(float)
    assert abs(len(sound) / 48000 - factor * 2) < 0.05
    middle = sound[len(sound) // 4 : 3 * len(sound) // 4]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    pitch = float(np.argmax(spectrum)) * 48000 / len(middle)
    assert abs(pitch - 260) < 5  # 220 Hz and 40 for the stream's number


def test_slow_motion_at_another_frame_rate(film_factory: Factory, tmp_path: Path) -> None:
    source, target = film_factory(FILM, ".mp4"), tmp_path / "out.mp4"
    convert_quickly(source, target, factor=4, fps=Fraction(30), slow_motion=True)
    assert read_times(target) == times_at_rate(read_times(source), Fraction(8), Fraction(30))


def test_a_gap_in_the_sound_is_stretched(film_factory: Factory, tmp_path: Path) -> None:
    source = film_factory(FILM, ".mkv")
    holed = tmp_path / "holed.mkv"
    with av.open(str(source)) as film, av.open(str(holed), "w") as out:
        picture, sound = film.streams.video[0], film.streams.audio[0]
        streams = {s.index: out.add_stream_from_template(s) for s in (picture, sound)}
        for packet in film.demux(picture, sound):
            hole = packet.stream is sound and packet.pts is not None and 600 <= packet.pts < 900
            if packet.size and not hole:
                packet.stream = streams[packet.stream.index]
                out.mux(packet)
    convert_quickly(holed, tmp_path / "out.mkv", factor=2, slow_motion=True, audio="stretch")
    for a, b in zip(click_times(holed)[-2:], click_times(tmp_path / "out.mkv")[-2:], strict=True):
        assert abs(b - 2 * a) < 0.05


def test_sound_is_dropped_and_audio_needs_slow_motion(film_factory: Factory, tmp_path: Path) -> None:
    source = film_factory(FILM, ".mp4")
    convert_quickly(source, tmp_path / "out.mp4", factor=2, slow_motion=True, audio="drop")
    assert len(packets(tmp_path / "out.mp4")[0]) == 47
    with av.open(str(tmp_path / "out.mp4")) as film:
        assert not film.streams.audio
    with pytest.raises(SettingError, match="slow-motion"):
        convert_quickly(source, tmp_path / "no.mp4", audio="stretch")
