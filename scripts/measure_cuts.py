"""Measures the cut detector on real films and on what can be made of them; writes benchmarks/results/cuts.json.

    python scripts/measure_cuts.py [FILMS]        (default: ../shared/data/films beside the repository)

Labels are those of benchmarks/labels/cuts.json. Everything but the real films is made of their thumbnails, and every
figure comes from `CutDetector` fed frame by frame. See docs/cuts.md for what the sets mean.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import av
import numpy as np

from midframe.video.cuts import THRESHOLD, CutDetector, Thumbnail, distance, thumbnail

ROOT = Path(__file__).resolve().parents[1]
FILMS = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT.parent / "shared" / "data" / "films"
LABELS = json.loads((ROOT / "benchmarks/labels/cuts.json").read_text())
SPLICES = 500
Shot = list[dict[str, Thumbnail]]
rng = np.random.default_rng(1)


def views(luma: np.ndarray, depth: int) -> dict[str, Thumbnail]:
    """Thumbnails of the frame, of two opposite corners of it (1.8 times enlarged), and of it between black bars."""
    h, w = luma.shape
    ch, cw = int(h / 1.8), int(w / 1.8)
    barred = np.full_like(luma, 16 << (depth - 8))
    barred[h // 8 : h // 8 + 3 * h // 4] = luma[np.arange(3 * h // 4) * h // (3 * h // 4)]
    planes = {"whole": luma, "corner": luma[:ch, :cw], "other corner": luma[-ch:, -cw:], "barred": barred}
    return {name: thumbnail(plane, depth) for name, plane in planes.items()}


def read(path: Path) -> Shot:
    film = []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        for frame in container.decode(stream):
            plane, depth = frame.planes[0], frame.format.components[0].bits
            dtype = np.dtype(np.uint8 if depth == 8 else np.uint16)
            lines = np.frombuffer(plane, dtype).reshape(plane.height, -1)
            film.append(views(lines[:, : plane.width], depth))
    return film


def of_cells(cells: np.ndarray) -> Thumbnail:
    cells = np.clip(cells, 0, 255).astype(np.float32)
    return Thumbnail(cells, np.sort(cells, axis=None))


def changed(change: Callable[[np.ndarray], np.ndarray], frames: Iterable[Thumbnail]) -> list[Thumbnail]:
    return [of_cells(change(frame.cells)) for frame in frames]


def scores(frames: Iterable[Thumbnail]) -> np.ndarray:
    detector = CutDetector()
    decisions = [d for frame in frames for d in detector.push(frame)] + detector.flush()
    return np.array([d.score for d in decisions])


def stretch(shot: Shot, view: str, at: int, count: int = 3, step: int = 1) -> list[Thumbnail]:
    return [shot[at + i * step][view] for i in range(count)]


def random_place(shots: list[Shot], length: int) -> tuple[int, int]:
    """A shot and a frame in it where `length` frames follow that are not nearly black."""
    while True:
        number = int(rng.integers(len(shots)))
        if len(shots[number]) < length:
            continue
        at = int(rng.integers(len(shots[number]) - length + 1))
        if all(f["whole"].cells.max() > 50 for f in shots[number][at : at + length]):
            return number, at


def splices(shots: list[Shot], fast: list[Shot]) -> dict[str, np.ndarray]:
    """Scores of cuts made by putting six frames together, three of each side."""

    def pairs(pool: list[Shot], before: str, after: str, same: bool, step: int = 1) -> list[list[Thumbnail]]:
        made: list[list[Thumbnail]] = []
        while len(made) < SPLICES:
            (a, i), (b, j) = random_place(pool, 2 * step + 1), random_place(pool, 2 * step + 1)
            if same:  # the film goes on, seen otherwise
                if len(pool[a]) < i + 6:
                    continue
                b, j = a, i + 3
            elif a == b:
                continue
            made.append(stretch(pool[a], before, i, step=step) + stretch(pool[b], after, j, step=step))
        return made

    def jumps() -> list[list[Thumbnail]]:
        made: list[list[Thumbnail]] = []
        while len(made) < SPLICES:
            a, i = random_place(shots, 3)
            j = i + int(rng.integers(60, 120))
            if j + 3 <= len(shots[a]):
                made.append(stretch(shots[a], "whole", i) + stretch(shots[a], "whole", j))
        return made

    plain = pairs(shots, "whole", "whole", same=False)
    sets = {
        "two films": plain,
        "two films, dark (contrast 12 %)": [changed(lambda c: 16 + 0.12 * c, p) for p in plain],
        "two films, hazy (contrast 30 %)": [changed(lambda c: 90 + 0.3 * c, p) for p in plain],
        "two films, letterboxed": pairs(shots, "barred", "barred", same=False),
        "full picture to letterboxed": pairs(shots, "whole", "barred", same=False),
        "two films, each frame twice": [[f for f in p for _ in range(2)] for p in plain],
        "two fast films, every third frame": pairs(fast, "whole", "whole", same=False, step=3),
        "same scene, opposite corners": pairs(shots, "corner", "other corner", same=True),
        "same scene, whole to corner": pairs(shots, "whole", "corner", same=True),
        "same scene, mirrored": [
            p[:3] + changed(lambda c: c[:, ::-1], p[3:]) for p in pairs(shots, "whole", "whole", same=True)
        ],
        "same shot, 2 to 4 s later": jumps(),
    }
    return {name: np.array([scores(p)[len(p) // 2 - 1] for p in made]) for name, made in sets.items()}


def harmless(shots: list[Shot]) -> dict[str, np.ndarray]:
    """The largest score in each of many pieces without a cut."""

    def pieces(length: int) -> list[list[Thumbnail]]:
        places = [random_place(shots, length) for _ in range(SPLICES // 4)]
        return [stretch(shots[a], "whole", i, length) for a, i in places]

    def dissolve(length: int) -> list[list[Thumbnail]]:
        made = []
        for one, two in zip(pieces(length + 8), pieces(length + 8), strict=True):
            t = np.clip((np.arange(length + 8) - 3) / (length + 1), 0, 1)
            made.append([of_cells((1 - s) * x.cells + s * y.cells) for s, x, y in zip(t, one, two, strict=True)])
        return made

    def flash(length: int) -> list[list[Thumbnail]]:
        return [p[:5] + changed(lambda c: 150 + 0.5 * c, p[5 : 5 + length]) + p[5 + length :] for p in pieces(12)]

    def fade(piece: list[Thumbnail]) -> list[Thumbnail]:
        levels = np.clip(1 - (np.arange(20) - 3) / 12, 0, 1)
        return [of_cells(16 + s * (f.cells - 16)) for s, f in zip(levels, piece, strict=True)]

    def caption(piece: list[Thumbnail]) -> list[Thumbnail]:
        text = rng.random((5, 24)) < 0.5

        def titled(cells: np.ndarray) -> np.ndarray:
            cells = cells.copy()
            cells[25:30, 4:28][text] += 0.6 * (255 - cells[25:30, 4:28][text])
            return cells

        return piece[:5] + changed(titled, piece[5:])

    sets = {
        "flash of one frame": flash(1),
        "flash of two frames": flash(2),
        "dissolve of 8 frames": dissolve(8),
        "dissolve of 24 frames": dissolve(24),
        "fade to black in 12 frames": [fade(p) for p in pieces(20)],
        "brightness flicker, 15 %": [[of_cells(f.cells * rng.uniform(0.85, 1.15)) for f in p] for p in pieces(10)],
        "grain, 5 levels in each cell": [changed(lambda c: c + rng.normal(0, 5, c.shape), p) for p in pieces(10)],
        "caption appears": [caption(p) for p in pieces(10)],
        "on twos": [[f for f in p[::2] for _ in range(2)] for p in pieces(16)],
        "on threes": [[f for f in p[::3] for _ in range(3)] for p in pieces(18)],
    }
    return {name: np.array([scores(p).max() for p in made]) for name, made in sets.items()}


def real(films: dict[str, Shot], step: int = 1) -> dict[str, Any]:
    """Cuts and false holds of the films themselves, of every `step`-th frame of them."""
    found, missed, false, frames, cut_scores, others = 0, [], [], 0, [], [0.0]
    for name, film in films.items():
        kept = list(range(0, len(film), step))
        cuts = [next(i for i, k in enumerate(kept) if k >= cut) - 1 for cut in LABELS["cuts"].get(name, [])]
        frames += len(kept)
        for pair, score in enumerate(scores(film[k]["whole"] for k in kept)):
            if pair in cuts:
                cut_scores.append(score)
                found += int(score > THRESHOLD)
                missed += [] if score > THRESHOLD else [f"{name} {kept[pair + 1]}"]
            else:
                others.append(score)
                false += [f"{name} {kept[pair + 1]}"] if score > THRESHOLD else []
    return {
        "films": len(films), "frames": frames, "minutes at 25 frames a second": round(frames / 1500, 2),
        "cuts": len(cut_scores), "found": found, "missed": missed, "false holds": false,
        "false holds in five minutes": round(len(false) / frames * 7500, 2),
        "smallest score of a cut": round(float(min(cut_scores, default=0.0)), 3),
        "largest score of another pair": round(float(max(others)), 3),
    }  # fmt: skip


def shots_of(films: dict[str, Shot]) -> list[Shot]:
    shots = []
    for name, film in films.items():
        edges = [0, *LABELS["cuts"].get(name, []), len(film)]
        shots += [film[a:b] for a, b in itertools.pairwise(edges)]
    return shots


def milliseconds(work: Callable[[], object]) -> float:
    best = np.inf
    for _ in range(200):
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return round(best * 1e3, 3)


def main() -> None:
    names = sorted(p.name for p in FILMS.iterdir() if p.suffix != ".md")
    films = {name: read(FILMS / name) for name in names}
    fast = {name: film for name, film in films.items() if name in LABELS["fast"]}
    halves = [{n: films[n] for n in names[i::2]} for i in (0, 1)]
    result: dict[str, Any] = {"threshold": THRESHOLD}
    result["real"] = {"all": real(films), "fast motion": real(fast)}
    for step in (2, 3, 4):
        result["real"][f"all, every {step}. frame"] = real(films, step)
        result["real"][f"fast motion, every {step}. frame"] = real(fast, step)
    for i, half in enumerate(halves):
        made = splices(shots_of(half), shots_of({n: f for n, f in half.items() if n in fast}))
        thinned = np.concatenate([scores(f["whole"] for f in shot[::2]) for shot in shots_of(half)])
        result[f"half {'AB'[i]}"] = {
            "films": sorted(half),
            "real": real(half),
            "found of cuts that were made": {k: round(float((v > THRESHOLD).mean()), 4) for k, v in made.items()},
            "held of pieces without a cut": {
                k: round(float((v > THRESHOLD).mean()), 4) for k, v in harmless(shots_of(half)).items()
            },
            "by threshold": {
                str(t): {
                    "found of two films": round(float((made["two films"] > t).mean()), 4),
                    "found of same scene": round(
                        float(np.mean([(v > t).mean() for k, v in made.items() if k.startswith("same scene")])), 4
                    ),
                    "held of every 2. frame": int((thinned > t).sum()),
                }
                for t in (0.25, 0.3, THRESHOLD, 0.45)
            },
        }
    hd, full = (rng.integers(0, 255, s, dtype=np.uint8) for s in ((720, 1280), (1080, 1920)))
    one, two = films[names[0]][0]["whole"], films[names[0]][1]["whole"]
    result["milliseconds, best of 200"] = {
        "thumbnail of 1280x720": milliseconds(lambda: thumbnail(hd, 8)),
        "thumbnail of 1920x1080": milliseconds(lambda: thumbnail(full, 8)),
        "distance of two thumbnails": milliseconds(lambda: distance(one, two)),
    }
    result["splices in each set"] = SPLICES
    text = json.dumps(result, indent=1, ensure_ascii=False)
    (ROOT / "benchmarks/results/cuts.json").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
