"""Measure the pixel shader: PSNR in moving regions, deviation in static regions, and time.

    python scripts/measure_shader.py [--data ../shared/data] [--out FILE.json] [--images docs/images]

Needs OpenCV (`pip install opencv-python-headless`). No trained network is used, but substitutes:

- `average`: the mean of the frames, which the shader cannot change.
- `dis`: both frames, warped half-way by OpenCV's DIS optical flow (medium preset) and averaged. It follows motion and
  has errors at edges.
- `noisy average`: the mean of the frames plus normal noise of 1.5 grey levels, new in each frame, like a network that
  flickers everywhere.

Frames are converted to RGB by the decoder's default conversion, the same for all methods.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
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

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "benchmarks"))

import common  # noqa: E402

Picture = NDArray[np.uint8]
"""RGB picture `[H, W, 3]`."""

Interpolator = Callable[[Picture, Picture], torch.Tensor]
"""Returns the middle frame `[1, 3, H, W]` in 0..1 of two pictures."""

MODES = ("off", *PRESETS)
"""Shader off, and every preset."""

STATIC_CLIPS = {"river-boat-still.mp4": 0, "stream-water.webm": 0, "dog-play.mp4": 60}
"""Real clips with static areas, and the index of the first of the 31 frames that are measured."""


@dataclass(frozen=True)
class StaticPair:
    """Two neighbouring frames with static areas."""

    first: Picture
    second: Picture
    masks: dict[str, NDArray[np.bool_]]
    """True in the static area `[H, W]`, by the name of the area."""


def main() -> None:
    """Measure everything, write the result file and draw the pictures of docs/shader.md."""
    parser = common.parser(__doc__, "shader")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--images", type=Path, default=ROOT / "docs" / "images")
    arguments = parser.parse_args()
    measured_on = common.machine()
    networks = interpolators()
    films: dict[str, Callable[[], Iterator[StaticPair]]] = {"drawn: caption over motion": caption_pairs}
    for clip, start in STATIC_CLIPS.items():
        path = arguments.data / "films" / clip
        films[clip] = lambda path=path, start=start: clip_pairs(path, start)  # type: ignore[misc]
    figures = {
        "threads": torch.get_num_threads(),
        "psnr": {name: psnr_on(arguments.data / "triplets", network) for name, network in networks.items()},
        "static": {
            film: {name: deviations(pairs(), networks[name]) for name in ("dis", "noisy average")}
            for film, pairs in films.items()
        },
        "milliseconds_1280x720": measure_times(),
    }
    print(json.dumps(figures, indent=1))
    about = "pixel shader: PSNR in dB on triplets, deviation in static areas in grey levels, time in milliseconds"
    common.write_result(arguments, about, figures, measured_on)
    draw_maps(arguments.data / "films" / "dog-play.mp4", arguments.images / "shader-maps.jpg")
    del films["river-boat-still.mp4"]  # it has a watermark
    draw_deviations(films, arguments.images / "shader-still.jpg")


def interpolators() -> dict[str, Interpolator]:
    """Return the substitutes for a network, by name; see the module."""
    noise = np.random.default_rng(1)

    def mean(first: Picture, second: Picture) -> torch.Tensor:
        return (to_tensor(first) + to_tensor(second)) / 2

    def noisy_mean(first: Picture, second: Picture) -> torch.Tensor:
        return mean(first, second) + torch.from_numpy(noise.normal(0, 1.5 / 255, (1, 3, *first.shape[:2]))).float()

    return {"average": mean, "dis": dis_middle, "noisy average": noisy_mean}


def to_tensor(picture: Picture) -> torch.Tensor:
    """Convert a picture to float32 `[1, 3, H, W]` in 0..1."""
    return torch.tensor(picture).permute(2, 0, 1)[None].float() / 255


def to_picture(frame: torch.Tensor) -> Picture:
    """Convert a frame `[1, 3, H, W]` in 0..1 to a picture of 8 bits."""
    return (frame[0].permute(1, 2, 0) * 255).round().clamp(0, 255).to(torch.uint8).numpy()


def dis_middle(first: Picture, second: Picture) -> torch.Tensor:
    """Sample each frame at x - flow / 2, with its own flow and the border repeated, and return the mean of both."""
    estimator = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    grey = [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in (first, second)]
    y, x = np.mgrid[: first.shape[0], : first.shape[1]].astype(np.float32)
    total = np.zeros(first.shape, np.float32)
    for source, start, end in ((first, *grey), (second, *reversed(grey))):
        flow = estimator.calc(start, end, None)
        sampled = (x - flow[..., 0] / 2, y - flow[..., 1] / 2)
        total += cv2.remap(source.astype(np.float32), *sampled, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return torch.from_numpy(total / (2 * 255)).permute(2, 0, 1)[None]


def apply_modes(prediction: torch.Tensor, first: Picture, second: Picture) -> dict[str, Picture]:
    """Return the frame with the shader off and with each preset, in 8 bits."""
    frames = to_tensor(first), to_tensor(second)
    outputs = {"off": prediction}
    for name, preset in PRESETS.items():
        outputs[name] = apply_shader(prediction, *frames, 0.5, blend_map(*frames, preset), preset)
    return {name: to_picture(frame) for name, frame in outputs.items()}


def psnr_on(triplets: Path, interpolate: Interpolator) -> dict[str, Any]:
    """Return the mean PSNR (RGB, 8 bit) on each set, and the largest loss and gain of a triplet by each preset."""
    figures: dict[str, Any] = {}
    for folder in sorted(path for path in triplets.iterdir() if path.is_dir()):
        scores: dict[str, list[float]] = {mode: [] for mode in MODES}
        for triplet in sorted(path for path in folder.iterdir() if path.is_dir()):
            first, middle, last = (np.asarray(Image.open(triplet / f"{n}.png")) for n in ("first", "middle", "last"))
            for mode, picture in apply_modes(interpolate(first, last), first, last).items():
                error = np.mean((picture.astype(np.float64) - middle) ** 2)
                scores[mode].append(10 * np.log10(255**2 / error))
        changes = {mode: np.subtract(scores[mode], scores["off"]) for mode in PRESETS}
        figures[folder.name] = {
            **{mode: round(float(np.mean(values)), 4) for mode, values in scores.items()},
            "worst_change": {mode: round(float(change.min()), 4) for mode, change in changes.items()},
            "best_change": {mode: round(float(change.max()), 4) for mode, change in changes.items()},
        }
    return figures


def deviations(pairs: Iterator[StaticPair], interpolate: Interpolator) -> dict[str, Any]:
    """Measure |interpolated - mean of both frames| in static areas, in grey levels of 8 bits.

    Returns for each area its fraction of the picture and, for each mode, the mean and the 99th percentile.
    """
    values: dict[str, dict[str, list[NDArray[np.float64]]]] = {}
    area_sizes: dict[str, list[float]] = {}
    for pair in pairs:
        mean = (pair.first.astype(np.float64) + pair.second) / 2
        for area, mask in pair.masks.items():
            area_sizes.setdefault(area, []).append(float(mask.mean()))
        outputs = apply_modes(interpolate(pair.first, pair.second), pair.first, pair.second)
        for mode, picture in outputs.items():
            for area, mask in pair.masks.items():
                deviation = np.abs(picture - mean)[mask].ravel()
                values.setdefault(area, {}).setdefault(mode, []).append(deviation)
    return {
        area: {"fraction_of_picture": round(float(np.mean(area_sizes[area])), 3)}
        | {
            mode: {
                "mean": round(float(np.concatenate(parts).mean()), 3),
                "p99": round(float(np.percentile(np.concatenate(parts), 99)), 2),
            }
            for mode, parts in modes.items()
        }
        for area, modes in values.items()
    }


def caption_pairs() -> Iterator[StaticPair]:
    """Yield frames of a texture that moves (9, 4) pixels per frame behind static letters and a static box of text."""
    rng = np.random.default_rng(5)
    height, width, steps = 360, 640, 12
    texture = np.zeros((height + 4 * steps, width + 9 * steps, 3), np.float32)
    for size, weight in ((4, 20), (16, 30), (64, 40)):
        coarse = rng.normal(size=(texture.shape[0] // size + 2, texture.shape[1] // size + 2, 3)).astype(np.float32)
        texture += weight * cv2.resize(coarse, texture.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    background = (texture + 110).clip(0, 255).astype(np.uint8)
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
        under = background[4 * k : 4 * k + height, 9 * k : 9 * k + width]
        over = under * (1 - text) + 235 * text
        frames.append((over * (1 - solid) + np.asarray(words) * solid).round().astype(np.uint8))
    inner = cv2.erode((solid[..., 0] == 1).astype(np.uint8), np.ones((21, 21), np.uint8)).astype(bool)
    areas = {"letters": text[..., 0] == 1, "box": solid[..., 0] == 1, "box, 10 px from its edge": inner}
    for first, second in pairwise(frames):
        yield StaticPair(first, second, areas)


def clip_pairs(path: Path, start: int) -> Iterator[StaticPair]:
    """Yield 30 pairs of a clip from frame `start` on; static: no channel changes by more than 2 levels within 5x5."""
    frames: list[Picture] = []
    with av.open(str(path)) as film:
        for k, frame in enumerate(film.decode(video=0)):
            if k >= start:
                frames.append(frame.to_ndarray(format="rgb24"))
            if len(frames) == 31:
                break
    for first, second in pairwise(frames):
        changed = (np.abs(first.astype(np.int16) - second).max(axis=2) > 2).astype(np.uint8)
        static = cv2.dilate(changed, np.ones((5, 5), np.uint8)) == 0
        yield StaticPair(first, second, {"static": static})


def measure_times() -> dict[str, float]:
    """Return the shortest time of 30 runs in milliseconds, for frames of 1280x720 in float32."""
    prediction, first, second = torch.rand(3, 1, 3, 720, 1280)
    milliseconds = {}
    for name, preset in PRESETS.items():
        blend = blend_map(first, second, preset)
        functions: dict[str, Callable[[], object]] = {
            "blend_map": lambda p=preset: blend_map(first, second, p),  # type: ignore[misc]
            "apply": lambda p=preset, b=blend: apply_shader(prediction, first, second, 0.5, b, p),  # type: ignore[misc]
        }
        for function, run in functions.items():
            milliseconds[f"{function} {name}"] = round(common.best_of(run, rounds=30) * 1e3, 2)
    return milliseconds


def draw_maps(clip: Path, target: Path) -> None:
    """Draw the maps of one real pair for both presets, after the report's Fig. 7."""
    pair = list(clip_pairs(clip, STATIC_CLIPS[clip.name]))[20]
    first, second = pair.first, pair.second
    frames = to_tensor(first), to_tensor(second)
    rows = []
    for name, preset in PRESETS.items():
        maps = shader_maps(*frames, preset)
        shown_maps = {
            "difference x 8": maps.difference * 8,
            f"{name}: processed": maps.amplified,
            f"{name}: blend map, white = {preset.high}": maps.blend * (255 / preset.high),
            f"{name}: weight of the prediction": maps.prediction_weight * 255,
        }
        grey = {title: np.asarray(map_[0, 0].clamp(0, 255).to(torch.uint8)) for title, map_ in shown_maps.items()}
        pictures = {title: np.repeat(picture[..., None], 3, axis=2) for title, picture in grey.items()}
        if name == "paper":
            del pictures["paper: processed"]
            pictures = {"first frame": first, **pictures}
        else:
            del pictures["difference x 8"]
            pictures = {"second frame": second, **pictures}
        rows.append(np.hstack([labelled(picture, title, 320) for title, picture in pictures.items()]))
    target.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.vstack(rows)).save(target, quality=80)


def draw_deviations(films: dict[str, Callable[[], Iterator[StaticPair]]], target: Path) -> None:
    """Draw |interpolated - mean of both frames|, times 32, of one pair of each film for all modes, with DIS."""
    rows = []
    for film, pairs in films.items():
        pair = list(pairs())[5]
        first, second = pair.first, pair.second
        mean = (first.astype(np.float64) + second) / 2
        cells = [labelled(first, film, 320)]
        for mode, picture in apply_modes(dis_middle(first, second), first, second).items():
            error = (np.abs(picture - mean).max(axis=2, keepdims=True) * 32).clip(0, 255).astype(np.uint8)
            cells.append(labelled(np.repeat(error, 3, axis=2), f"shader: {mode}", 320))
        rows.append(np.hstack(cells))
    Image.fromarray(np.vstack(rows)).save(target, quality=60)


def labelled(picture: Picture, text: str, width: int) -> Picture:
    """Return a picture scaled to a width, with a line of text above it."""
    height = round(picture.shape[0] * width / picture.shape[1])
    cell = Image.new("RGB", (width, height + 18), "white")
    cell.paste(Image.fromarray(picture).resize((width, height), Image.Resampling.BOX), (0, 18))
    ImageDraw.Draw(cell).text((4, 2), text, fill="black", font=ImageFont.load_default(12))
    return np.asarray(cell)


if __name__ == "__main__":
    main()
