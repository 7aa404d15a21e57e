"""Measure the cut detector on real films and on sequences assembled from them; write benchmarks/results/cuts.json.

    python scripts/measure_cuts.py [FILMS]

FILMS is ../shared/data/films, beside the repository, by default. The cuts of the real films are labelled in
benchmarks/labels/cuts.json. Assembled sequences consist of thumbnails of the real films. Every score comes from a
`CutDetector` that is fed frame by frame. docs/cuts.md explains the results.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from midframe.video.cuts import THRESHOLD, CutDetector, Thumbnail, distance, thumbnail
from midframe.video.ffmpeg import film_stream, open_container
from midframe.video.pixels import planes_of

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "benchmarks"))

import common  # noqa: E402

LABELS = json.loads((ROOT / "benchmarks/labels/cuts.json").read_text())
"""The first frames after cuts by the name of the film (`cuts`), and the films with fast motion (`fast`)."""

SEQUENCES = 500
"""Sequences assembled for each kind of cut."""

Array = NDArray[Any]
Views = dict[str, Thumbnail]
"""Thumbnails of one frame by the name of the view, see `thumbnails_of_views`."""
Shot = list[Views]
"""The frames of one shot, or of a whole film."""
Sequence = list[Thumbnail]
"""The frames that one detector is fed."""

rng = np.random.default_rng(1)


def main() -> None:
    """Measure films, sequences and speed, and write the result file."""
    parser = common.parser(__doc__, "cuts")
    parser.add_argument("films", type=Path, nargs="?", default=ROOT.parent / "shared" / "data" / "films")
    options = parser.parse_args()
    measured_on = common.machine()
    names = sorted(path.name for path in options.films.iterdir() if path.suffix != ".md")
    films = {name: read_film(options.films / name) for name in names}
    fast = {name: film for name, film in films.items() if name in LABELS["fast"]}
    real_films = {"all": measure_films(films), "fast motion": measure_films(fast)}
    for step in (2, 3, 4):
        real_films[f"all, every {step}. frame"] = measure_films(films, step)
        real_films[f"fast motion, every {step}. frame"] = measure_films(fast, step)
    figures: dict[str, Any] = {"threshold": THRESHOLD, "real films": real_films}
    for letter, start in (("A", 0), ("B", 1)):
        half = {name: films[name] for name in names[start::2]}
        figures[f"half {letter}"] = measure_half(half, {name: half[name] for name in half if name in fast})
    figures["milliseconds, best of 200"] = measure_speed(films[names[0]])
    figures["sequences in each set"] = SEQUENCES
    print(json.dumps(figures, indent=1, ensure_ascii=False))
    common.write_result(options, "cut detector: detected cuts, false alarms and time", figures, measured_on)


def measure_films(films: dict[str, Shot], step: int = 1) -> dict[str, Any]:
    """Return the detected cuts and the false alarms in films of which every `step`-th frame is used."""
    detected, missed, false_alarms, frames = 0, [], [], 0
    cut_scores: list[float] = []
    other_scores = [0.0]
    for name, film in films.items():
        used = list(range(0, len(film), step))
        cuts = [next(i for i, k in enumerate(used) if k >= cut) - 1 for cut in LABELS["cuts"].get(name, [])]
        frames += len(used)
        for pair, score in enumerate(scores(film[k]["whole"] for k in used)):
            if pair in cuts:
                cut_scores.append(score)
                detected += int(score > THRESHOLD)
                missed += [] if score > THRESHOLD else [f"{name} {used[pair + 1]}"]
            else:
                other_scores.append(score)
                false_alarms += [f"{name} {used[pair + 1]}"] if score > THRESHOLD else []
    return {
        "films": len(films),
        "frames": frames,
        "minutes at 25 frames a second": round(frames / 1500, 2),
        "cuts": len(cut_scores),
        "detected": detected,
        "missed": missed,
        "false alarms": false_alarms,
        "false alarms in five minutes": round(len(false_alarms) / frames * 7500, 2),
        "smallest score of a cut": round(float(min(cut_scores, default=0.0)), 3),
        "largest score of another pair": round(float(max(other_scores)), 3),
    }


def measure_half(films: dict[str, Shot], fast: dict[str, Shot]) -> dict[str, Any]:
    """Return the results for one half of the films, by themselves and in assembled sequences."""
    shots = split_into_shots(films)
    spliced = splice_scores(shots, split_into_shots(fast))
    thinned = np.concatenate([scores(views["whole"] for views in shot[::2]) for shot in shots])
    same_scene = [values for name, values in spliced.items() if name.startswith("same scene")]
    return {
        "films": sorted(films),
        "real films": measure_films(films),
        "detected spliced cuts": {name: round(float((v > THRESHOLD).mean()), 4) for name, v in spliced.items()},
        "false alarms without a cut": {
            name: round(float((v > THRESHOLD).mean()), 4) for name, v in uncut_scores(shots).items()
        },
        "by threshold": {
            str(threshold): {
                "detected, two films": round(float((spliced["two films"] > threshold).mean()), 4),
                "detected, same scene": round(float(np.mean([(v > threshold).mean() for v in same_scene])), 4),
                "false alarms, every 2. frame": int((thinned > threshold).sum()),
            }
            for threshold in (0.25, 0.3, THRESHOLD, 0.45)
        },
    }


def measure_speed(film: Shot) -> dict[str, float]:
    """Return the milliseconds of thumbnails and of a distance."""
    hd, full_hd = (rng.integers(0, 255, size, dtype=np.uint8) for size in ((720, 1280), (1080, 1920)))
    return {
        "thumbnail of 1280x720": best_milliseconds(lambda: thumbnail(hd, 8)),
        "thumbnail of 1920x1080": best_milliseconds(lambda: thumbnail(full_hd, 8)),
        "distance of two thumbnails": best_milliseconds(lambda: distance(film[0]["whole"], film[1]["whole"])),
    }


def best_milliseconds(function: Callable[[], object]) -> float:
    """Return the shortest time of 200 calls in milliseconds."""
    return round(common.best_of(function, rounds=200) * 1e3, 3)


def read_film(path: Path) -> Shot:
    """Decode a film and return the thumbnails of its frames."""
    film = []
    with open_container(str(path)) as container:
        stream = film_stream(container, str(path))
        stream.thread_type = "AUTO"
        for frame in container.decode(stream):
            planes, layout, _ = planes_of(frame)
            film.append(thumbnails_of_views(planes[0], layout.depth))
    return film


def thumbnails_of_views(luma: Array, depth: int) -> Views:
    """Return thumbnails of a frame: the whole, two opposite corners (enlarged 1.8 times), and between black bars."""
    h, w = luma.shape
    corner_h, corner_w = int(h / 1.8), int(w / 1.8)
    barred = np.full_like(luma, 16 << (depth - 8))
    barred[h // 8 : h // 8 + 3 * h // 4] = luma[np.arange(3 * h // 4) * h // (3 * h // 4)]
    planes = {
        "whole": luma,
        "corner": luma[:corner_h, :corner_w],
        "other corner": luma[-corner_h:, -corner_w:],
        "barred": barred,
    }
    return {name: thumbnail(plane, depth) for name, plane in planes.items()}


def split_into_shots(films: dict[str, Shot]) -> list[Shot]:
    """Split films at their labelled cuts."""
    shots = []
    for name, film in films.items():
        edges = [0, *LABELS["cuts"].get(name, []), len(film)]
        shots += [film[a:b] for a, b in itertools.pairwise(edges)]
    return shots


def scores(frames: Iterable[Thumbnail]) -> Array:
    """Return the score of every pair of a sequence."""
    detector = CutDetector()
    decisions = [d for frame in frames for d in detector.push(frame)] + detector.flush()
    return np.array([d.score for d in decisions])


def splice_scores(shots: list[Shot], fast: list[Shot]) -> dict[str, Array]:
    """Return the scores of cuts between two excerpts of three frames each, for several kinds of cuts.

    fast: the shots with fast motion.
    """
    two_films = splice_two_shots(shots, "whole", "whole")
    sets = {
        "two films": two_films,
        "two films, dark (contrast 12 %)": [change_cells(s, lambda c: 16 + 0.12 * c) for s in two_films],
        "two films, hazy (contrast 30 %)": [change_cells(s, lambda c: 90 + 0.3 * c) for s in two_films],
        "two films, letterboxed": splice_two_shots(shots, "barred", "barred"),
        "full picture to letterboxed": splice_two_shots(shots, "whole", "barred"),
        "two films, each frame twice": [[frame for frame in s for _ in range(2)] for s in two_films],
        "two fast films, every third frame": splice_two_shots(fast, "whole", "whole", step=3),
        "same scene, opposite corners": splice_same_shot(shots, "corner", "other corner"),
        "same scene, whole to corner": splice_same_shot(shots, "whole", "corner"),
        "same scene, mirrored": [
            s[:3] + change_cells(s[3:], lambda c: c[:, ::-1]) for s in splice_same_shot(shots, "whole", "whole")
        ],
        "same shot, 2 to 4 s later": splice_later(shots),
    }
    return {
        name: np.array([scores(sequence)[len(sequence) // 2 - 1] for sequence in sequences])
        for name, sequences in sets.items()
    }


def splice_two_shots(shots: list[Shot], before: str, after: str, step: int = 1) -> list[Sequence]:
    """Splice excerpts of two shots, seen in the views `before` and `after`."""
    sequences: list[Sequence] = []
    while len(sequences) < SEQUENCES:
        (a, i), (b, j) = random_position(shots, 2 * step + 1), random_position(shots, 2 * step + 1)
        if a != b:
            sequences.append(excerpt(shots[a], before, i, step=step) + excerpt(shots[b], after, j, step=step))
    return sequences


def splice_same_shot(shots: list[Shot], before: str, after: str) -> list[Sequence]:
    """Splice two successive excerpts of one shot, seen in different views."""
    sequences: list[Sequence] = []
    while len(sequences) < SEQUENCES:
        a, i = random_position(shots, 3)
        random_position(shots, 3)  # unused; without it the stored results could not be reproduced
        if len(shots[a]) >= i + 6:
            sequences.append(excerpt(shots[a], before, i) + excerpt(shots[a], after, i + 3))
    return sequences


def splice_later(shots: list[Shot]) -> list[Sequence]:
    """Splice two excerpts of one shot, the second 60 to 120 frames later."""
    sequences: list[Sequence] = []
    while len(sequences) < SEQUENCES:
        a, i = random_position(shots, 3)
        j = i + int(rng.integers(60, 120))
        if j + 3 <= len(shots[a]):
            sequences.append(excerpt(shots[a], "whole", i) + excerpt(shots[a], "whole", j))
    return sequences


def uncut_scores(shots: list[Shot]) -> dict[str, Array]:
    """Return the largest score in each of many sequences without a cut, for several effects."""
    sets = {
        "flash of one frame": [add_flash(s, 1) for s in random_sequences(shots, 12)],
        "flash of two frames": [add_flash(s, 2) for s in random_sequences(shots, 12)],
        "dissolve of 8 frames": dissolves(shots, 8),
        "dissolve of 24 frames": dissolves(shots, 24),
        "fade to black in 12 frames": [fade_to_black(s) for s in random_sequences(shots, 20)],
        "brightness flicker, 15 %": [add_flicker(s) for s in random_sequences(shots, 10)],
        "grain, 5 levels in each cell": [
            change_cells(s, lambda c: c + rng.normal(0, 5, c.shape)) for s in random_sequences(shots, 10)
        ],
        "caption appears": [add_caption(s) for s in random_sequences(shots, 10)],
        "on twos": [[frame for frame in s[::2] for _ in range(2)] for s in random_sequences(shots, 16)],
        "on threes": [[frame for frame in s[::3] for _ in range(3)] for s in random_sequences(shots, 18)],
    }
    return {name: np.array([scores(sequence).max() for sequence in sequences]) for name, sequences in sets.items()}


def random_sequences(shots: list[Shot], length: int) -> list[Sequence]:
    """Return excerpts of a length at random positions, a quarter as many as `SEQUENCES`."""
    positions = [random_position(shots, length) for _ in range(SEQUENCES // 4)]
    return [excerpt(shots[a], "whole", i, length) for a, i in positions]


def random_position(shots: list[Shot], length: int) -> tuple[int, int]:
    """Return the number of a shot, and a frame in it from which `length` frames are not nearly black."""
    while True:
        number = int(rng.integers(len(shots)))
        if len(shots[number]) < length:
            continue
        start = int(rng.integers(len(shots[number]) - length + 1))
        if all(views["whole"].cells.max() > 50 for views in shots[number][start : start + length]):
            return number, start


def excerpt(shot: Shot, view: str, start: int, count: int = 3, step: int = 1) -> Sequence:
    """Return every `step`-th frame of a shot from `start` on, `count` frames in all, in one view."""
    return [shot[start + k * step][view] for k in range(count)]


def thumbnail_of_cells(cells: Array) -> Thumbnail:
    """Return the thumbnail that has these cells, clipped to 0..255."""
    cells = np.clip(cells, 0, 255).astype(np.float32)
    return Thumbnail(cells, np.sort(cells, axis=None))


def change_cells(sequence: Sequence, change: Callable[[Array], Array]) -> Sequence:
    """Return a sequence with a function applied to the cells of each thumbnail."""
    return [thumbnail_of_cells(change(frame.cells)) for frame in sequence]


def dissolves(shots: list[Shot], length: int) -> list[Sequence]:
    """Return sequences in which one excerpt dissolves into another during `length` frames."""
    sequences = []
    pairs = zip(random_sequences(shots, length + 8), random_sequences(shots, length + 8), strict=True)
    weights = np.clip((np.arange(length + 8) - 3) / (length + 1), 0, 1)
    for one, two in pairs:
        frames = zip(weights, one, two, strict=True)
        sequences.append([thumbnail_of_cells((1 - w) * a.cells + w * b.cells) for w, a, b in frames])
    return sequences


def add_flash(sequence: Sequence, length: int) -> Sequence:
    """Brighten `length` frames from the sixth on."""
    end = 5 + length
    return sequence[:5] + change_cells(sequence[5:end], lambda c: 150 + 0.5 * c) + sequence[end:]


def fade_to_black(sequence: Sequence) -> Sequence:
    """Fade a sequence of 20 frames to black in 12 frames."""
    levels = np.clip(1 - (np.arange(20) - 3) / 12, 0, 1)
    return [thumbnail_of_cells(16 + level * (frame.cells - 16)) for level, frame in zip(levels, sequence, strict=True)]


def add_flicker(sequence: Sequence) -> Sequence:
    """Multiply each frame by a random factor between 0.85 and 1.15."""
    return [thumbnail_of_cells(frame.cells * rng.uniform(0.85, 1.15)) for frame in sequence]


def add_caption(sequence: Sequence) -> Sequence:
    """Let a caption appear at the sixth frame."""
    text = rng.random((5, 24)) < 0.5

    def draw_caption(cells: Array) -> Array:
        cells = cells.copy()
        cells[25:30, 4:28][text] += 0.6 * (255 - cells[25:30, 4:28][text])
        return cells

    return sequence[:5] + change_cells(sequence[5:], draw_caption)


if __name__ == "__main__":
    main()
