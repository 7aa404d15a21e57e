"""Pictures, pipes and animations as output; and a file that did not come out as planned never gets its name."""

from __future__ import annotations

import tracemalloc
from array import array
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from converted import convert_quickly, interpolated_times
from films import AudioTrack, Film, SubtitleTrack, draw_pictures, read_planes, read_times
from midframe.conversion import job
from midframe.conversion.plan import make_plan
from midframe.conversion.settings import Settings
from midframe.conversion.verify import verify
from midframe.errors import InputError, OutputError, SettingError
from midframe.video.images.animation import loop_count
from midframe.video.probe import probe

Factory = Callable[..., Path]
FILM = Film(frames=12, width=64, height=48, audio=(AudioTrack(),), subtitles=(SubtitleTrack(),))


def test_pictures_in_and_out(tmp_path: Path) -> None:
    folder = draw_pictures(Film(frames=5, width=64, height=48), tmp_path / "in")
    summary = convert_quickly(folder, tmp_path / "out.mp4", input_rate=Fraction(10))
    assert read_times(tmp_path / "out.mp4") == [Fraction(k, 20) for k in range(9)]
    assert summary.plan.format.encoder.name == "libx264rgb"
    assert any("RGB" in warning and "--pixel-format yuv420p" in warning for warning in summary.warnings)
    convert_quickly(folder, tmp_path / "plain.mp4", pixel_format="yuv420p")
    with av.open(str(tmp_path / "plain.mp4")) as film:
        assert next(film.decode(video=0)).format.name == "yuv420p"
    (tmp_path / "made").mkdir()
    convert_quickly(folder, f"{tmp_path}/made/", factor=3)
    names = sorted(p.name for p in (tmp_path / "made").iterdir())
    assert len(names) == 13
    first = [
        np.asarray(next(av.open(str(p)).decode(video=0)).to_ndarray(format="rgb24"))
        for p in (tmp_path / "in" / "frame1.png", tmp_path / "made" / names[3])
    ]
    assert np.array_equal(*first)


def test_film_to_y4m_and_back(film_factory: Factory, tmp_path: Path) -> None:
    source = film_factory(replace(FILM, codec="ffv1"), ".mkv")
    convert_quickly(source, tmp_path / "out.y4m")
    before, after = read_planes(source), read_planes(tmp_path / "out.y4m")
    assert len(after) == 23
    assert all(np.array_equal(a, b) for k in range(12) for a, b in zip(before[k], after[2 * k], strict=True))
    convert_quickly(tmp_path / "out.y4m", tmp_path / "again.mp4")
    assert read_times(tmp_path / "again.mp4") == [Fraction(k, 96) for k in range(45)]


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_animations_in_and_out(film_factory: Factory, tmp_path: Path, suffix: str) -> None:
    source = film_factory(Film(frames=6, width=64, height=48, rate=Fraction(20)), ".mp4")
    convert_quickly(source, tmp_path / f"a{suffix}")
    convert_quickly(tmp_path / f"a{suffix}", tmp_path / "back.mp4", pixel_format="yuv420p", drop_alpha=True)
    assert read_times(tmp_path / "back.mp4") == interpolated_times(
        [Fraction(k, 40) if suffix == ".webp" else Fraction((5 * k + 1) // 2, 100) for k in range(11)], 2
    )


def rewritten(part: Path, change: Callable[[Any, av.Packet[Any]], bool]) -> None:
    """Copy a film over itself, packet by packet; those for which `change(state, packet)` is false are left out."""
    copy = part.with_suffix(".copy")
    with av.open(str(part)) as film, av.open(str(copy), "w", format="matroska") as out:
        streams = {s.index: out.add_stream_from_template(s) for s in film.streams}
        state: dict[int, int] = {}
        for packet in film.demux():
            if packet.size:
                index = packet.stream.index
                state[index] = state.get(index, -1) + 1
                if change(state[index], packet):
                    packet.stream = streams[index]
                    out.mux(packet)
    copy.replace(part)


def drop_last_frame(n: int, packet: av.Packet[Any]) -> bool:
    return not (packet.stream.type == "video" and n == 22)


def drop_sound(n: int, packet: av.Packet[Any]) -> bool:
    return not (packet.stream.type == "audio" and n == 5)


def drop_text(n: int, packet: av.Packet[Any]) -> bool:
    return packet.stream.type != "subtitle"


def move_a_frame(n: int, packet: av.Packet[Any]) -> bool:
    if packet.stream.type == "video" and n == 7:
        packet.pts = packet.dts = packet.pts + 5
    return True


def move_the_sound(n: int, packet: av.Packet[Any]) -> bool:
    if packet.stream.type == "audio":
        packet.pts = packet.dts = packet.pts + 40
    return True


def spoil_sound(n: int, packet: av.Packet[Any]) -> bool:
    if packet.stream.type == "audio" and n == 5:
        packet.update(bytes(packet.size)) if hasattr(packet, "update") else np.frombuffer(packet, np.uint8).fill(0)
    return True


def truncate(part: Path) -> None:
    part.write_bytes(part.read_bytes()[: part.stat().st_size // 2])


def nothing(part: Path) -> None:
    part.write_bytes(b"")


TAMPER: dict[str, Callable[[Path], None]] = {
    "last frame missing": lambda part: rewritten(part, drop_last_frame),
    "a packet of sound missing": lambda part: rewritten(part, drop_sound),
    "no subtitles": lambda part: rewritten(part, drop_text),
    "a frame at another time": lambda part: rewritten(part, move_a_frame),
    "sound out of step": lambda part: rewritten(part, move_the_sound),
    "sound spoilt": lambda part: rewritten(part, spoil_sound),
    "half a file": truncate,
    "an empty file": nothing,
}


@pytest.mark.parametrize("how", TAMPER)
def test_verification_catches(film_factory: Factory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    def tampered(sink: Any, *rest: Any) -> None:
        TAMPER[how](sink.part)
        verify(sink, *rest)

    monkeypatch.setattr(job, "verify", tampered)
    with pytest.raises(OutputError):
        convert_quickly(film_factory(FILM, ".mkv"), tmp_path / "out.mkv")
    assert list(tmp_path.iterdir()) == []


def test_verification_lets_a_plain_copy_pass(
    film_factory: Factory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def copied(sink: Any, *rest: Any) -> None:
        rewritten(sink.part, lambda n, packet: True)
        verify(sink, *rest)

    monkeypatch.setattr(job, "verify", copied)
    convert_quickly(film_factory(FILM, ".mkv"), tmp_path / "out.mkv")


def test_verification_catches_wrong_pictures_in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = draw_pictures(Film(frames=4, width=64, height=48), tmp_path / "in")

    def tampered(sink: Any, *rest: Any) -> None:
        sorted(sink.part.iterdir())[3].unlink()
        verify(sink, *rest)

    monkeypatch.setattr(job, "verify", tampered)
    with pytest.raises(OutputError, match=r"7 frames were written, 6 are there|missing"):
        convert_quickly(folder, f"{tmp_path}/made/")
    assert [p.name for p in tmp_path.iterdir()] == ["in"]


def test_the_plan_needs_few_bytes_a_frame(film_factory: Factory, tmp_path: Path) -> None:
    film = probe(film_factory(Film(frames=4, width=64, height=48), ".mp4"))
    count = 100_000
    long = replace(film, ticks=array("q", range(0, count * 512, 512)))
    tracemalloc.start()
    try:
        plan = make_plan(long, "in.mp4", str(tmp_path / "out.mp4"), Settings())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert plan.frame_count == 2 * count - 1
    # 8 bytes for the time of each output frame, more while the array grows; the steps, twice, to find their median.
    assert peak < 8 * 2 * count * 1.2 + 2 * 8 * count + 1_000_000


@pytest.mark.parametrize("target", ["out.xyz", "out", "out.srt"])
def test_a_name_that_says_no_container_is_refused(film_factory: Factory, tmp_path: Path, target: str) -> None:
    with pytest.raises(SettingError, match=r"name it with one of \.mp4"):
        convert_quickly(film_factory(FILM, ".mkv"), tmp_path / target)


def test_pictures_do_not_replace_their_own_sources(tmp_path: Path) -> None:
    folder = draw_pictures(Film(frames=3, width=32, height=32), tmp_path / "pictures")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    pattern = f"{folder}/frame%d.png"
    for source, target in ((str(folder), f"{folder}/"), (pattern, pattern), (str(folder), pattern)):
        with pytest.raises(OutputError, match="input"):
            convert_quickly(source, target, overwrite=True)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def drawn_gif(path: Path, milliseconds: list[int], loop: int = 0) -> Path:
    """A GIF of gray pictures, each shown for so long."""
    pictures = [Image.fromarray(np.full((32, 32, 3), 20 * k + 20, np.uint8)) for k in range(len(milliseconds))]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=milliseconds, loop=loop)
    return path


def test_a_gif_that_is_cut_off_is_damage(tmp_path: Path) -> None:
    whole = drawn_gif(tmp_path / "whole.gif", [100] * 8).read_bytes()
    cut = tmp_path / "cut.gif"
    cut.write_bytes(whole[: len(whole) * 2 // 3])
    with pytest.raises(InputError, match="ends before"):
        convert_quickly(cut, tmp_path / "out.mp4")
    assert not (tmp_path / "out.mp4").exists()


def test_an_animation_plays_as_often_as_its_source(tmp_path: Path) -> None:
    source = drawn_gif(tmp_path / "in.gif", [100] * 4, loop=2)
    for suffix in (".gif", ".webp"):
        convert_quickly(source, tmp_path / f"out{suffix}")
        assert loop_count(tmp_path / f"out{suffix}") == loop_count(source)


def test_a_gif_faster_than_players_show_is_refused_before_anything_is_written(
    film_factory: Factory, tmp_path: Path
) -> None:
    source = film_factory(Film(frames=6, width=32, height=32, rate=Fraction(30)), ".mp4")
    with pytest.raises(SettingError, match="too short for gif"):
        convert_quickly(source, tmp_path / "out.gif")
    assert list(tmp_path.iterdir()) == []


def test_variable_times_of_a_gif_in_mp4(tmp_path: Path) -> None:
    times = tuple(Fraction(t, 100) for t in (0, 4, 12, 22, 42))
    drawn_gif(tmp_path / "in.gif", [40, 80, 100, 200, 60])
    convert_quickly(tmp_path / "in.gif", tmp_path / "out.mp4", encoder="libx264rgb", preset="ultrafast")
    assert read_times(tmp_path / "out.mp4") == interpolated_times(times, 2)
