"""Image sequences, y4m and animations; verification of the output; targets that are refused."""

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


def test_image_sequences_in_and_out(tmp_path: Path) -> None:
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


def rewrite(part: Path, change: Callable[[int, av.Packet[Any]], bool]) -> None:
    """Remux a film in place; leave out each packet for which `change(number of the packet, packet)` is False."""
    copy = part.with_suffix(".copy")
    with av.open(str(part)) as film, av.open(str(copy), "w", format="matroska") as out:
        streams = {s.index: out.add_stream_from_template(s) for s in film.streams}
        counts: dict[int, int] = {}
        for packet in film.demux():
            if packet.size:
                index = packet.stream.index
                counts[index] = counts.get(index, -1) + 1
                if change(counts[index], packet):
                    packet.stream = streams[index]
                    out.mux(packet)
    copy.replace(part)


def drop_last_frame(n: int, packet: av.Packet[Any]) -> bool:
    return not (packet.stream.type == "video" and n == 22)


def drop_sound(n: int, packet: av.Packet[Any]) -> bool:
    return not (packet.stream.type == "audio" and n == 5)


def drop_subtitles(n: int, packet: av.Packet[Any]) -> bool:
    return packet.stream.type != "subtitle"


def move_a_frame(n: int, packet: av.Packet[Any]) -> bool:
    if packet.stream.type == "video" and n == 7:
        packet.pts = packet.dts = packet.pts + 5
    return True


def move_the_sound(n: int, packet: av.Packet[Any]) -> bool:
    if packet.stream.type == "audio":
        packet.pts = packet.dts = packet.pts + 40
    return True


def corrupt_sound(n: int, packet: av.Packet[Any]) -> bool:
    if packet.stream.type == "audio" and n == 5:
        packet.update(bytes(packet.size)) if hasattr(packet, "update") else np.frombuffer(packet, np.uint8).fill(0)
    return True


def truncate(part: Path) -> None:
    part.write_bytes(part.read_bytes()[: part.stat().st_size // 2])


def empty(part: Path) -> None:
    part.write_bytes(b"")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        pytest.param(lambda part: rewrite(part, drop_last_frame), "22 are in the file", id="last frame missing"),
        pytest.param(lambda part: rewrite(part, drop_sound), r"of audio .* packets of", id="audio packet missing"),
        pytest.param(lambda part: rewrite(part, drop_subtitles), "of subtitle .* 0 packets of", id="subtitles missing"),
        pytest.param(lambda part: rewrite(part, move_a_frame), "frame 7 is at", id="frame moved"),
        pytest.param(lambda part: rewrite(part, move_the_sound), "the last packet of audio", id="sound delayed"),
        pytest.param(lambda part: rewrite(part, corrupt_sound), "are not those that were", id="sound corrupted"),
        pytest.param(truncate, "were written", id="file truncated"),
        pytest.param(empty, "it is empty", id="file empty"),
    ],
)
def test_verification_finds_damage(
    film_factory: Factory,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    damage: Callable[[Path], None],
    message: str,
) -> None:
    def damage_and_verify(sink: Any, *rest: Any) -> None:
        damage(sink.part)
        verify(sink, *rest)

    monkeypatch.setattr(job, "verify", damage_and_verify)
    with pytest.raises(OutputError, match=f"did not come out as planned and was removed: .*{message}"):
        convert_quickly(film_factory(FILM, ".mkv"), tmp_path / "out.mkv")
    assert list(tmp_path.iterdir()) == []


def test_verification_accepts_a_remuxed_copy(
    film_factory: Factory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def copy_and_verify(sink: Any, *rest: Any) -> None:
        rewrite(sink.part, lambda n, packet: True)
        verify(sink, *rest)

    monkeypatch.setattr(job, "verify", copy_and_verify)
    convert_quickly(film_factory(FILM, ".mkv"), tmp_path / "out.mkv")


def test_verification_finds_missing_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = draw_pictures(Film(frames=4, width=64, height=48), tmp_path / "in")

    def delete_and_verify(sink: Any, *rest: Any) -> None:
        sorted(sink.part.iterdir())[3].unlink()
        verify(sink, *rest)

    monkeypatch.setattr(job, "verify", delete_and_verify)
    with pytest.raises(OutputError, match=r"7 frames were written, 6 are there|missing"):
        convert_quickly(folder, f"{tmp_path}/made/")
    assert [p.name for p in tmp_path.iterdir()] == ["in"]


def test_a_plan_takes_few_bytes_for_each_frame(film_factory: Factory, tmp_path: Path) -> None:
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
    # 8 bytes for the time of each output frame, and a fifth more while the array grows; the intervals between source
    # frames, twice, to find their median.
    assert peak < 8 * 2 * count * 1.2 + 2 * 8 * count + 1_000_000


@pytest.mark.parametrize("target", ["out.xyz", "out", "out.srt"])
def test_a_target_without_a_known_suffix_is_refused(film_factory: Factory, tmp_path: Path, target: str) -> None:
    with pytest.raises(SettingError, match=r"name it with one of \.mp4"):
        convert_quickly(film_factory(FILM, ".mkv"), tmp_path / target)


def test_images_do_not_replace_their_own_sources(tmp_path: Path) -> None:
    folder = draw_pictures(Film(frames=3, width=32, height=32), tmp_path / "pictures")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    pattern = f"{folder}/frame%d.png"
    for source, target in ((str(folder), f"{folder}/"), (pattern, pattern), (str(folder), pattern)):
        with pytest.raises(OutputError, match="input"):
            convert_quickly(source, target, overwrite=True)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def draw_gif(path: Path, milliseconds: list[int], loop: int = 0) -> Path:
    """Write a GIF of gray pictures with the given durations."""
    pictures = [Image.fromarray(np.full((32, 32, 3), 20 * k + 20, np.uint8)) for k in range(len(milliseconds))]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=milliseconds, loop=loop)
    return path


def test_a_truncated_gif_is_refused(tmp_path: Path) -> None:
    whole = draw_gif(tmp_path / "whole.gif", [100] * 8).read_bytes()
    cut = tmp_path / "cut.gif"
    cut.write_bytes(whole[: len(whole) * 2 // 3])
    with pytest.raises(InputError, match="ends before"):
        convert_quickly(cut, tmp_path / "out.mp4")
    assert not (tmp_path / "out.mp4").exists()


def test_an_animation_plays_as_often_as_its_source(tmp_path: Path) -> None:
    source = draw_gif(tmp_path / "in.gif", [100] * 4, loop=2)
    for suffix in (".gif", ".webp"):
        convert_quickly(source, tmp_path / f"out{suffix}")
        assert loop_count(tmp_path / f"out{suffix}") == loop_count(source)


def test_a_gif_too_fast_for_players_is_refused_before_anything_is_written(
    film_factory: Factory, tmp_path: Path
) -> None:
    source = film_factory(Film(frames=6, width=32, height=32, rate=Fraction(30)), ".mp4")
    with pytest.raises(SettingError, match="too short for gif"):
        convert_quickly(source, tmp_path / "out.gif")
    assert list(tmp_path.iterdir()) == []


def test_the_variable_frame_rate_of_a_gif_is_kept(tmp_path: Path) -> None:
    times = tuple(Fraction(t, 100) for t in (0, 4, 12, 22, 42))
    draw_gif(tmp_path / "in.gif", [40, 80, 100, 200, 60])
    convert_quickly(tmp_path / "in.gif", tmp_path / "out.mp4", encoder="libx264rgb", preset="ultrafast")
    assert read_times(tmp_path / "out.mp4") == interpolated_times(times, 2)
