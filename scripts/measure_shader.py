"""Measure what the pixel shader does: PSNR where things move, steadiness where they stand still, time taken.

    python scripts/measure_shader.py [--data ../shared/data] [--out FILE.json] [--images docs/images]

Needs OpenCV (`pip install opencv-python-headless`). No trained network takes part; two stand-ins do:

- `dis`: OpenCV's DIS optical flow (medium), both frames warped half way and averaged: moves what moves, errs at edges;
- `noisy average`: the mean of the frames plus normal noise of 1.5 grey levels, new in each frame: a network that
  flickers a little everywhere.

Frames are taken to RGB by the decoder's default conversion: the same for all that is compared here.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from midframe.shader import PRESETS, apply_shader, blend_map
from midframe.shader.maps import shader_maps

Picture = NDArray[np.uint8]
MODES = ("off", *PRESETS)
STILL_CLIPS = {"river-boat-still.mp4": 0, "stream-water.webm": 0, "dog-play.mp4": 60}
"""Real clips with still areas, and the frame at which the measured 31 frames begin."""


def main() -> None:
    root = Path(__file__).resolve().parent.parent
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=root.parent / "shared" / "data")
    parser.add_argument("--out", type=Path, default=root / "benchmarks" / "results" / "shader.json")
    parser.add_argument("--images", type=Path, default=root / "docs" / "images")
    arguments = parser.parse_args()
    noise = np.random.default_rng(1)
    networks: dict[str, Callable[[Picture, Picture], torch.Tensor]] = {
        "average": lambda first, second: (to_tensor(first) + to_tensor(second)) / 2,
        "dis": dis_middle,
        "noisy average": lambda first, second: (
            (to_tensor(first) + to_tensor(second)) / 2
            + torch.from_numpy(noise.normal(0, 1.5 / 255, (1, 3, *first.shape[:2]))).float()
        ),
    }
    result = {
        "machine": {"processor": platform.processor() or platform.machine(), "torch": torch.__version__,
                    "opencv": cv2.__version__, "threads": torch.get_num_threads()},
        "psnr": {name: psnr_on(arguments.data / "triplets", make) for name, make in networks.items()},
        "still": {},
        "milliseconds_1280x720": times(),
    }  # fmt: skip
    films: dict[str, Callable[[], Iterator[tuple[Picture, Picture, dict[str, NDArray[np.bool_]]]]]] = {
        "drawn: caption over motion": caption_pairs,
        **{clip: lambda clip=clip: clip_pairs(arguments.data / "films" / clip, STILL_CLIPS[clip])
           for clip in STILL_CLIPS},
    }  # fmt: skip
    for film, pairs in films.items():
        result["still"][film] = {name: deviations(pairs(), networks[name]) for name in ("dis", "noisy average")}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))
    draw_maps(arguments.data / "films" / "dog-play.mp4", arguments.images / "shader-maps.jpg")
    del films["river-boat-still.mp4"]  # it bears a watermark
    draw_stills(films, arguments.images / "shader-still.jpg")


def to_tensor(picture: Picture) -> torch.Tensor:
    return torch.tensor(picture).permute(2, 0, 1)[None].float() / 255


def to_picture(frame: torch.Tensor) -> Picture:
    return (frame[0].permute(1, 2, 0) * 255).round().clamp(0, 255).to(torch.uint8).numpy()


def dis_middle(first: Picture, second: Picture) -> torch.Tensor:
    """The half-way warps of both frames, averaged: `remap` at x - flow / 2, border repeated."""
    flow_of = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    grey = [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in (first, second)]
    y, x = np.mgrid[: first.shape[0], : first.shape[1]].astype(np.float32)
    total = np.zeros(first.shape, np.float32)
    for source, one, other in ((first, *grey), (second, *reversed(grey))):
        flow = flow_of.calc(one, other, None)
        at = (x - flow[..., 0] / 2, y - flow[..., 1] / 2)
        total += cv2.remap(source.astype(np.float32), *at, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return torch.from_numpy(total / (2 * 255)).permute(2, 0, 1)[None]


def shaded(made: torch.Tensor, first: Picture, second: Picture) -> dict[str, Picture]:
    """The made frame with the shader off and with each preset, in 8 bits."""
    frames = to_tensor(first), to_tensor(second)
    shown = {"off": made}
    for name, preset in PRESETS.items():
        shown[name] = apply_shader(made, *frames, 0.5, blend_map(*frames, preset), preset)
    return {name: to_picture(frame) for name, frame in shown.items()}


def psnr_on(triplets: Path, make: Callable[[Picture, Picture], torch.Tensor]) -> dict[str, Any]:
    """Mean PSNR (RGB, 8 bit, per picture) on each set and how many pictures each preset makes better or worse."""
    answer: dict[str, Any] = {}
    for folder in sorted(path for path in triplets.iterdir() if path.is_dir()):
        scores: dict[str, list[float]] = {mode: [] for mode in MODES}
        for triplet in sorted(path for path in folder.iterdir() if path.is_dir()):
            first, middle, last = (np.asarray(Image.open(triplet / f"{n}.png")) for n in ("first", "middle", "last"))
            for mode, picture in shaded(make(first, last), first, last).items():
                error = np.mean((picture.astype(np.float64) - middle) ** 2)
                scores[mode].append(10 * np.log10(255**2 / error))
        changes = {mode: np.subtract(scores[mode], scores["off"]) for mode in PRESETS}
        answer[folder.name] = {
            **{mode: round(float(np.mean(values)), 4) for mode, values in scores.items()},
            "worst_change": {mode: round(float(change.min()), 4) for mode, change in changes.items()},
            "best_change": {mode: round(float(change.max()), 4) for mode, change in changes.items()},
        }
    return answer


def deviations(
    pairs: Iterator[tuple[Picture, Picture, dict[str, NDArray[np.bool_]]]],
    make: Callable[[Picture, Picture], torch.Tensor],
) -> dict[str, Any]:
    """Mean and 99th percentile of |made - mean of its neighbours| in the still areas, in grey levels of 8 bits."""
    seen: dict[str, dict[str, list[NDArray[np.float64]]]] = {}
    shares: dict[str, list[float]] = {}
    for first, second, areas in pairs:
        mean = (first.astype(np.float64) + second) / 2
        for area, mask in areas.items():
            shares.setdefault(area, []).append(float(mask.mean()))
        for mode, picture in shaded(make(first, second), first, second).items():
            for area, mask in areas.items():
                seen.setdefault(area, {}).setdefault(mode, []).append(np.abs(picture - mean)[mask].ravel())
    return {
        area: {"share_of_picture": round(float(np.mean(shares[area])), 3)}
        | {
            mode: {
                "mean": round(float(np.concatenate(values).mean()), 3),
                "p99": round(float(np.percentile(np.concatenate(values), 99)), 2),
            }
            for mode, values in modes.items()
        }
        for area, modes in seen.items()
    }


def caption_pairs() -> Iterator[tuple[Picture, Picture, dict[str, NDArray[np.bool_]]]]:
    """A texture that moves (9, 4) pixels a frame behind letters that stand, and behind a box that stands."""
    rng = np.random.default_rng(5)
    height, width, steps = 360, 640, 12
    texture = np.zeros((height + 4 * steps, width + 9 * steps, 3), np.float32)
    for size, weight in ((4, 20), (16, 30), (64, 40)):
        coarse = rng.normal(size=(texture.shape[0] // size + 2, texture.shape[1] // size + 2, 3)).astype(np.float32)
        texture += weight * cv2.resize(coarse, texture.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    film_of = (texture + 110).clip(0, 255).astype(np.uint8)
    letters = Image.new("L", (width, height))
    draw = ImageDraw.Draw(letters)
    draw.text((40, 60), "A still caption", fill=255, font=ImageFont.load_default(64))
    box = Image.new("L", (width, height))
    ImageDraw.Draw(box).rectangle((60, 230, 580, 320), fill=255)
    solid, text = (np.asarray(mask)[..., None] / 255 for mask in (box, letters))
    words = Image.new("RGB", (width, height), (20, 40, 90))
    ImageDraw.Draw(words).text((90, 250), "A still box of text", fill=(240, 240, 240), font=ImageFont.load_default(40))
    frames = []
    for k in range(steps):
        under = film_of[4 * k : 4 * k + height, 9 * k : 9 * k + width]
        over = under * (1 - text) + 235 * text
        frames.append((over * (1 - solid) + np.asarray(words) * solid).round().astype(np.uint8))
    inner = cv2.erode((solid[..., 0] == 1).astype(np.uint8), np.ones((21, 21), np.uint8)).astype(bool)
    areas = {"letters": text[..., 0] == 1, "box": solid[..., 0] == 1, "box, 10 px from its edge": inner}
    for first, second in pairwise(frames):
        yield first, second, areas


def clip_pairs(path: Path, start: int) -> Iterator[tuple[Picture, Picture, dict[str, NDArray[np.bool_]]]]:
    """30 pairs of a real clip; still is what no channel changes by more than 2 levels, and its 5x5 surroundings."""
    frames: list[Picture] = []
    with av.open(str(path)) as film:
        for k, frame in enumerate(film.decode(video=0)):
            if k >= start:
                frames.append(frame.to_ndarray(format="rgb24"))
            if len(frames) == 31:
                break
    for first, second in pairwise(frames):
        changed = (np.abs(first.astype(np.int16) - second).max(axis=2) > 2).astype(np.uint8)
        still = cv2.dilate(changed, np.ones((5, 5), np.uint8)) == 0
        yield first, second, {"still": still}


def times() -> dict[str, float]:
    """Best of 30, frames of 1280x720 in float32."""
    made, first, second = torch.rand(3, 1, 3, 720, 1280)
    answer = {}
    for name, preset in PRESETS.items():
        blend = blend_map(first, second, preset)
        for what, work in (
            ("blend_map", lambda p=preset: blend_map(first, second, p)),
            ("apply", lambda p=preset, b=blend: apply_shader(made, first, second, 0.5, b, p)),
        ):
            spent = []
            for _ in range(30):
                start = time.perf_counter()
                work()
                spent.append(time.perf_counter() - start)
            answer[f"{what} {name}"] = round(min(spent) * 1e3, 2)
    return answer


def draw_maps(clip: Path, target: Path) -> None:
    """The maps of one real pair for both presets, after the report's Fig. 7, at half size."""
    first, second, _ = list(clip_pairs(clip, STILL_CLIPS[clip.name]))[20]
    frames = to_tensor(first), to_tensor(second)
    rows = []
    for name, preset in PRESETS.items():
        maps = shader_maps(*frames, preset)
        shown = {
            "difference x 8": maps.difference * 8,
            f"{name}: processed": maps.amplified,
            f"{name}: blend map, white = {preset.high}": maps.blend * (255 / preset.high),
            f"{name}: share of the made frame": maps.prediction_weight * 255,
        }
        grey = {what: np.asarray(m[0, 0].clamp(0, 255).to(torch.uint8)) for what, m in shown.items()}
        pictures = {what: np.repeat(picture[..., None], 3, axis=2) for what, picture in grey.items()}
        if name == "paper":
            del pictures["paper: processed"]
            pictures = {"first frame": first, **pictures}
        else:
            del pictures["difference x 8"]
            pictures = {"second frame": second, **pictures}
        rows.append(np.hstack([labelled(picture, what, 320) for what, picture in pictures.items()]))
    target.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.vstack(rows)).save(target, quality=80)


def draw_stills(films: dict[str, Callable[[], Iterator[Any]]], target: Path) -> None:
    """|made - mean of its neighbours|, 32 times, of one pair of each film: shader off, `paper`, `amplified` (DIS)."""
    rows = []
    for film, pairs in films.items():
        first, second, _ = list(pairs())[5]
        mean = (first.astype(np.float64) + second) / 2
        cells = [labelled(first, film, 320)]
        for mode, picture in shaded(dis_middle(first, second), first, second).items():
            error = (np.abs(picture - mean).max(axis=2, keepdims=True) * 32).clip(0, 255).astype(np.uint8)
            cells.append(labelled(np.repeat(error, 3, axis=2), f"shader: {mode}", 320))
        rows.append(np.hstack(cells))
    Image.fromarray(np.vstack(rows)).save(target, quality=60)


def labelled(picture: Picture, text: str, width: int) -> Picture:
    """A picture scaled to a width, with a line of text above it."""
    height = round(picture.shape[0] * width / picture.shape[1])
    cell = Image.new("RGB", (width, height + 18), "white")
    cell.paste(Image.fromarray(picture).resize((width, height), Image.Resampling.BOX), (0, 18))
    ImageDraw.Draw(cell).text((4, 2), text, fill="black", font=ImageFont.load_default(12))
    return np.asarray(cell)


if __name__ == "__main__":
    main()
