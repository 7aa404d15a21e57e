"""`CutDetector` finds hard cuts and does not take motion, flashes or fades for cuts."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from midframe.errors import SettingError
from midframe.video.cuts import DELAY, THRESHOLD, CutDetector, Decision, distance, thumbnail

Picture = NDArray[Any]
HEIGHT, WIDTH = 180, 320


def scene(seed: int, height: int = HEIGHT, width: int = WIDTH) -> Picture:
    """Return a picture of random blobs of several sizes, in 16..235; other seeds give unrelated pictures."""
    rng = np.random.default_rng(seed)
    total = np.zeros((height, width))
    for size, weight in ((64, 3.0), (24, 2.0), (8, 1.0)):
        knots = rng.normal(size=(height // size + 2, width // size + 2))
        y, x = np.arange(height) / size, np.arange(width) / size
        rows = np.stack([np.interp(y, np.arange(len(knots)), column) for column in knots.T], 1)
        total += weight * np.stack([np.interp(x, np.arange(rows.shape[1]), row) for row in rows])
    low, high = total.min(), total.max()
    return np.round(16 + 219 * (total - low) / (high - low)).astype(np.uint8)


def pan(seed: int, count: int, step: int) -> list[Picture]:
    """Return the frames of a camera that moves right by `step` pixels a frame over a wide scene."""
    wide = scene(seed, HEIGHT, WIDTH + step * count)
    return [wide[:, k * step : k * step + WIDTH] for k in range(count)]


def decide(frames: Iterable[Picture], depth: int = 8) -> list[Decision]:
    """Return the decisions on all pairs of a film."""
    detector = CutDetector()
    return [d for f in frames for d in detector.push(thumbnail(f, depth))] + detector.flush()


def cuts(frames: Iterable[Picture], depth: int = 8) -> list[int]:
    """Return the number of the first frame of each new shot."""
    return [d.index + 1 for d in decide(frames, depth) if d.cut]


@pytest.mark.parametrize("step", [0, 3, 16])
@pytest.mark.parametrize("position", [1, 2, 5, 11])
def test_a_cut_is_found_at_its_position(step: int, position: int) -> None:
    assert cuts(pan(1, 12, step)[:position] + pan(2, 12, step)[: 12 - position]) == [position]


def test_several_cuts_are_found() -> None:
    film = [frame for seed in range(5) for frame in pan(seed, 4, 4)]
    assert cuts(film) == [4, 8, 12, 16]


@pytest.mark.parametrize("step", [1, 8, 24, 40])
def test_a_pan_is_no_cut(step: int) -> None:
    """At 40 of 320 pixels a frame, the picture is crossed in a third of a second."""
    assert cuts(pan(3, 20, step)) == []


def test_a_sudden_pan_is_no_cut() -> None:
    wide = scene(4, HEIGHT, WIDTH + 400)
    positions = [0, 0, 0, 0, 30, 70, 120, 160, 190, 190, 190, 190]
    assert cuts(wide[:, x : x + WIDTH] for x in positions) == []


@pytest.mark.parametrize("times", [1, 2], ids=["each-frame-once", "each-frame-twice"])
def test_a_cut_is_told_from_violent_motion(times: int) -> None:
    """At 120 of 320 pixels a frame no block has a match; only the equally large distances before and after show that
    this is motion. A cut within it is found by the change of brightness."""
    film = [frame for frame in pan(24, 10, 120) for _ in range(times)]
    assert min(distance(thumbnail(a, 8), thumbnail(b, 8)) for a, b in pairwise(film[::times])) > THRESHOLD
    assert cuts(film[2 * times : -2 * times]) == []
    other = [frame // 8 + 200 for frame in film]
    assert cuts(film[: 5 * times] + other[5 * times :]) == [5 * times]


def test_cuts_next_to_each_other_are_found() -> None:
    """The neighbours of each cut are cuts as well: `MAX_MOTION` limits how much of their distance is subtracted."""
    bright, dark = scene(27) // 4 + 180, scene(28) // 4
    assert cuts([*pan(29, 4, 2), bright, dark, *pan(30, 4, 2)]) == [4, 5, 6]


def test_an_object_that_leaves_a_plain_background_is_no_cut() -> None:
    """Much of the structure disappears, but nearly all of the picture stays."""
    background = np.full((HEIGHT, WIDTH), 90, np.uint8)
    background[138:178, 266:316] = scene(26)[138:178, 266:316]
    with_object = background.copy()
    with_object[2:62, 4:74] = scene(25)[2:62, 4:74]
    assert cuts([with_object] * 4 + [background] * 4) == []


@pytest.mark.parametrize("length", [1, 2])
def test_a_flash_is_no_cut_but_a_change_of_scene_is(length: int) -> None:
    film = pan(5, 12, 2)
    white = [np.full_like(film[0], 235)] * length
    assert cuts(film[:6] + white + film[6 + length :]) == []
    assert cuts(film[:6] + pan(6, 6, 2)) == [6]


def test_fade_dissolve_flicker_and_caption_are_no_cuts() -> None:
    one, two = pan(7, 40, 1), pan(8, 40, 1)
    weight = np.clip((np.arange(40) - 4) / 30, 0, 1)
    dissolve = [np.round((1 - s) * a + s * b).astype(np.uint8) for s, a, b in zip(weight, one, two, strict=True)]
    fade = [np.round(16 + (1 - s) * (a - 16.0)).astype(np.uint8) for s, a in zip(weight, one, strict=True)]
    flicker = [np.round(a * (1.0 if k % 2 else 0.8)).astype(np.uint8) for k, a in enumerate(one)]
    caption = [a.copy() for a in one]
    for frame in caption[9:]:
        frame[150:165, 60:260:4] = 235
    assert [cuts(film) for film in (dissolve, fade, flicker, caption)] == [[], [], [], []]


@pytest.mark.parametrize("times", [2, 3], ids=["on-twos", "on-threes"])
def test_repeated_frames_of_animation_are_no_cuts(times: int) -> None:
    """Animation shows each drawing for several frames, so that motion alternates with repeated frames."""
    film = [frame for frame in pan(9, 8, 20) for _ in range(times)]
    assert cuts(film) == []
    assert cuts(film + [frame for frame in pan(10, 8, 20) for _ in range(times)]) == [8 * times]


def test_scores_do_not_depend_on_the_bit_depth() -> None:
    film = pan(11, 6, 5) + pan(12, 6, 5)
    expected = [d.score for d in decide(film)]
    for depth in (10, 12, 16):
        deep = [np.round(frame.astype(np.float64) * ((1 << depth) - 1) / 255).astype(np.uint16) for frame in film]
        np.testing.assert_allclose([d.score for d in decide(deep, depth)], expected, atol=0.01)


@pytest.mark.parametrize("length", [0, 1, 2, 3])
def test_films_of_few_frames(length: int) -> None:
    """A pair without neighbours is decided, too; a film of one frame has no pair."""
    one_shot = pan(13, 3, 2)[:length]
    assert len(decide(one_shot)) == max(length - 1, 0)
    assert cuts(one_shot) == []
    if length > 1:
        assert cuts([*one_shot[:-1], scene(14)]) == [length - 1]


@given(st.lists(st.integers(0, 3), min_size=1, max_size=12), st.data())
@settings(max_examples=30, deadline=None)
def test_every_pair_is_decided_once_in_order_and_in_time(seeds: list[int], data: st.DataObject) -> None:
    thumbnails = [thumbnail(scene(s, 48, 64), 8) for s in range(4)]
    stop = data.draw(st.integers(1, len(seeds)))  # frames before a flush
    detector, decided = CutDetector(), []
    for k, seed in enumerate(seeds):
        if k == stop:
            decided += [d.index for d in detector.flush()]
            assert decided == list(range(k - 1))
        decided += [d.index for d in detector.push(thumbnails[seed])]
        assert k - 1 - DELAY in {*decided, stop - 1} or k - 1 - DELAY < 0
    decided += [d.index for d in detector.flush()]
    assert decided == [i for i in range(len(seeds) - 1) if i + 1 != stop]


def test_the_pair_across_a_flush_is_not_compared() -> None:
    detector = CutDetector()
    first = [d for f in pan(15, 5, 2) for d in detector.push(thumbnail(f, 8))] + detector.flush()
    second = [d for f in pan(16, 5, 2) for d in detector.push(thumbnail(f, 8))] + detector.flush()
    assert not any(d.cut for d in first + second)


def test_the_threshold_is_compared_with_the_score() -> None:
    film = [thumbnail(f, 8) for f in pan(17, 4, 2) + pan(18, 4, 2)]
    score = max(d.score for d in decide(pan(17, 4, 2) + pan(18, 4, 2)))
    for threshold, found in ((score * 0.9, 1), (score * 1.1, 0)):
        detector = CutDetector(threshold)
        assert sum(d.cut for f in film for d in detector.push(f)) + sum(d.cut for d in detector.flush()) == found
    for wrong in (0, -1.0, float("nan")):
        with pytest.raises(SettingError, match="threshold"):
            CutDetector(wrong)


def test_cells_of_a_thumbnail_are_means() -> None:
    picture = scene(19, 224, 320)
    expected = picture.reshape(32, 7, 32, 10).mean((1, 3))
    np.testing.assert_allclose(thumbnail(picture, 8).cells, expected, rtol=1e-5)


@given(st.integers(16, 700), st.integers(16, 700), st.sampled_from([8, 10]))
@settings(max_examples=25, deadline=None)
def test_frames_of_any_size_have_thumbnails(height: int, width: int, depth: int) -> None:
    peak = (1 << depth) - 1
    ramp = np.broadcast_to(np.linspace(0, peak, width), (height, width)).astype(np.uint16 if depth > 8 else np.uint8)
    cells = thumbnail(ramp, depth).cells
    assert cells.shape == (32, 32)
    assert abs(cells.mean() - 255 * ramp.mean() / peak) < 0.1
    assert (np.diff(cells, axis=1) >= -1e-3).all()


def test_distance_is_small_for_motion_and_changed_contrast() -> None:
    one, other, moved = (thumbnail(f, 8) for f in (scene(20), scene(21), np.roll(scene(20), (9, 14), (0, 1))))
    hazy = thumbnail((scene(20) * 0.6 + 50).astype(np.uint8), 8)
    assert distance(one, one) < 1e-3
    assert distance(one, other) == pytest.approx(distance(other, one))
    assert 2.5 * max(distance(one, moved), distance(one, hazy)) < distance(one, other)


def test_letterbox_bars_do_not_hide_a_cut() -> None:
    """Bars are the same in all shots; they must not count as structure that the shots share."""
    film = pan(22, 4, 3) + pan(23, 4, 3)
    barred = [np.pad(frame[30:-30], ((30, 30), (0, 0)), constant_values=16) for frame in film]
    bare = [frame[30:-30] for frame in film]
    assert cuts(barred) == [4]
    assert max(d.score for d in decide(barred)) > 0.8 * max(d.score for d in decide(bare))


LABELS = json.loads((Path(__file__).parents[2] / "benchmarks" / "labels" / "cuts.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("name", [*LABELS["cuts"], "snow-car-chase.mp4", "skatepark-jump.mp4", "tennis-serve.mp4"])
def test_cuts_of_real_films(name: str, shared_data: Path) -> None:
    import av

    lumas = []
    with av.open(str(shared_data / "films" / name)) as container:
        for frame in container.decode(video=0):
            plane = frame.planes[0]
            lumas.append(np.frombuffer(plane, np.uint8).reshape(plane.height, -1)[:, : plane.width].copy())
    assert cuts(lumas) == LABELS["cuts"].get(name, [])
