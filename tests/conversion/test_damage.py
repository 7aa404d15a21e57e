"""Damaged films: an error that says how far reading got, or with `keep_going` a film with duplicated frames."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from converted import HALF_MILLISECOND, convert_quickly, interpolated_times, largest_difference
from films import (
    AudioTrack,
    Film,
    bit_flips,
    dropped,
    falling_times,
    read_frames,
    read_times,
    truncated,
    undecodable,
)
from films.broken import remuxed
from midframe.errors import InputError

INTRA = Film(
    frames=12, codec="ffv1", gop=1
)  # every frame can be decoded by itself, and a broken one is known by its checksum


@pytest.mark.parametrize(
    "place",
    [
        pytest.param({5}, id="one frame"),
        pytest.param({5, 6, 7}, id="three frames in a row"),
        pytest.param({1}, id="second frame"),
        pytest.param({11}, id="last frame"),
        pytest.param({3, 8}, id="two frames apart"),
    ],
)
def test_frames_that_cannot_be_decoded(place: set[int], film_factory: Callable[..., Path], tmp_path: Path) -> None:
    whole = film_factory(INTRA, ".mkv")
    broken = undecodable(whole, place, tmp_path / "broken.mkv")
    out = tmp_path / "out.mkv"
    times = read_times(whole)
    with pytest.raises(InputError, match=f"the frame at {float(times[min(place)]):.3f} s .*--keep-going") as caught:
        convert_quickly(broken, out)
    assert f"{min(place)} of 12 frames" in str(caught.value)
    assert not out.exists()
    summary = convert_quickly(broken, out, keep_going=True)
    assert (summary.report.lost, summary.counts.read) == (len(place), 12 - len(place))
    assert largest_difference(read_times(out), interpolated_times(times, 2)) <= HALF_MILLISECOND
    assert not summary.complete
    assert any("could not be decoded" in warning for warning in summary.warnings)


def test_first_frames_that_cannot_be_decoded(film_factory: Callable[..., Path], tmp_path: Path) -> None:
    """If the first key frame is damaged the film begins later, and a warning says so."""
    broken = undecodable(film_factory(INTRA, ".mkv"), {0, 1}, tmp_path / "broken.mkv")
    summary = convert_quickly(broken, tmp_path / "out.mkv", keep_going=True)
    assert summary.plan.film.undecodable_start + summary.report.lost == 2
    assert any("before the first key frame" in warning for warning in summary.warnings)


def test_a_lost_frame_is_replaced_by_the_one_before_it(film_factory: Callable[..., Path], tmp_path: Path) -> None:
    """Its neighbour is shown up to the next decoded frame; nothing is interpolated beside it."""
    whole = film_factory(INTRA, ".mkv")
    out = tmp_path / "out.mkv"
    summary = convert_quickly(undecodable(whole, {5, 6}, tmp_path / "broken.mkv"), out, keep_going=True)
    before, after = read_frames(whole), read_frames(out)
    assert summary.counts.duplicated_for_lost == 3  # the middles of 4-5, 5-6, 6-7
    for k in (*range(8, 14), *range(0, 24, 2)):
        source = 4 if 8 <= k < 14 else k // 2
        assert all(map(np.array_equal, before[source].planes, after[k].planes)), k
    assert any("could not be decoded" in warning for warning in summary.warnings)


def test_keep_going_with_fields_and_a_target_rate(film_factory: Callable[..., Path], tmp_path: Path) -> None:
    broken = undecodable(film_factory(INTRA, ".mkv"), {5}, tmp_path / "broken.mkv")
    summary = convert_quickly(broken, tmp_path / "a.mkv", keep_going=True, deinterlace="field")
    assert (summary.counts.written, summary.complete) == (12 * 2 * 2 - 1, False)
    summary = convert_quickly(broken, tmp_path / "b.mkv", keep_going=True, fps=Fraction(60))
    assert (summary.counts.written, summary.complete) == (summary.plan.frame_count, False)


@pytest.mark.parametrize(
    ("suffix", "options"), [(".mp4", {"movflags": "+faststart"}), (".mkv", {}), (".avi", {}), (".mov", {})]
)
def test_truncated(suffix: str, options: dict[str, str], film_factory: Callable[..., Path], tmp_path: Path) -> None:
    film = Film(frames=24, audio=(AudioTrack(),), container_options=options)
    cut = truncated(film_factory(film, suffix), 0.6, tmp_path / f"cut{suffix}")
    out = tmp_path / "out.mkv"
    if suffix == ".mov":  # its index is at the end, so that nothing can be read
        with pytest.raises(InputError, match="is not a film that can be read"):
            convert_quickly(cut, out, keep_going=True)
        return
    with pytest.raises(InputError, match=r"not complete.*last frame is at 0\.\d+ s.*--keep-going"):
        convert_quickly(cut, out)
    with pytest.raises(InputError, match="not complete"):
        convert_quickly(cut, out, dry_run=True)
    assert not out.exists()
    summary = convert_quickly(cut, out, keep_going=True)
    assert not summary.complete
    assert summary.warnings
    assert 4 < summary.counts.read < 24
    assert len(read_times(out)) == summary.counts.written
    # A part of the film before the missing end is complete.
    part = convert_quickly(cut, tmp_path / "part.mkv", duration=Fraction(1, 6))
    assert part.complete
    assert part.counts.read == 4


def test_flipped_bits_are_always_reported(film_factory: Callable[..., Path], tmp_path: Path) -> None:
    whole = film_factory(Film(frames=24, gop=12), ".mp4")
    usual_warnings = set(convert_quickly(whole, tmp_path / "whole.mkv").warnings)
    for seed in range(6):
        broken = bit_flips(whole, 30, seed, tmp_path / "broken.mp4", first=0.15)
        out = tmp_path / f"out{seed}.mkv"
        try:
            summary = convert_quickly(broken, out)
        except InputError:
            assert not out.exists()
        else:
            assert set(summary.warnings) - usual_warnings


def test_missing_packets_are_reported(film_factory: Callable[..., Path], tmp_path: Path) -> None:
    """Frames that were never stored show only as a gap in the times, which a warning names."""
    out = tmp_path / "out.mkv"
    summary = convert_quickly(dropped(film_factory(INTRA, ".mkv"), {4, 5}, tmp_path / "holes.mkv"), out)
    assert any("2 frames seem to be missing after 0.125 s" in warning for warning in summary.warnings)
    summary = convert_quickly(film_factory(INTRA, ".mkv"), tmp_path / "whole.mkv")
    assert not any("missing" in warning for warning in summary.warnings)


def test_a_variable_frame_rate_is_not_reported_as_damage(film_factory: Callable[..., Path], tmp_path: Path) -> None:
    times = tuple(Fraction(n, 100) for n in (0, 4, 8, 16, 20, 32, 36, 40, 60, 64, 70, 74))
    summary = convert_quickly(film_factory(replace(INTRA, times=times), ".mkv"), tmp_path / "out.mkv")
    assert not any("missing" in warning for warning in summary.warnings)


def test_equal_and_falling_times(film_factory: Callable[..., Path], tmp_path: Path) -> None:
    source = film_factory(INTRA, ".mkv")
    broken = falling_times(source, tmp_path / "falling.mkv", equal={3}, falling={8})
    summary = convert_quickly(broken, tmp_path / "out.mkv")
    assert summary.counts.read == 10
    assert summary.json()["damage"]["dropped"] == 2
    assert summary.counts.written == 19
    assert sum("dropped" in warning for warning in summary.warnings) == 1


def test_a_falling_time_between_two_others(film_factory: Callable[..., Path], tmp_path: Path) -> None:
    """Without B-frames a falling time is an error even if no other frame has that time."""

    def shift(number: int, packet):
        packet.dts = packet.pts - 10_000
        packet.pts -= 60 if number == 8 else 0
        return packet

    broken = remuxed(film_factory(INTRA, ".mkv"), tmp_path / "falling.mkv", shift)
    summary = convert_quickly(broken, tmp_path / "out.mkv")
    assert (summary.counts.read, summary.counts.written) == (11, 21)
    assert summary.json()["damage"]["dropped"] == 1
