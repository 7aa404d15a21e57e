"""Pack what a training needs on another machine into one folder of limited size.

    python scripts/pack_training.py DATA --out PACK [--films FILM...] [--config scripts/default.toml] [--megabytes 48]
        [--vgg FILE] [--triplets SET...] [--start WEIGHTS]

DATA: a data set of `midframe dataset build`; with --films it is built first (by its defaults, windows of --window
frames). --config: a preset or TOML file, resolved here, so that the other machine needs no pydantic. The samples are
taken as they are where all fit; else their frames are coded anew (--quality), and if that is not enough they are
thinned: a film gives one after the other, evenly spread over it, each film as often as the others, until the folder is
full. Frames that are smaller than the settings' crops are left out. Held-back samples get a tenth of the room. --vgg:
VGG-19 in half precision, no deeper than the losses look. --triplets: folders of NAME/{first,middle,last}.png that the
trained network is measured on there.

PACK then holds the package's source, config.json, data/, and train_on_gpu.py, which is started there, also by a Python
without PyAV, Halide and pydantic. pack.json lists every file with its SHA-256.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

from midframe.errors import MidframeError, SettingError
from midframe.training.config import Config, read_config, tables
from midframe.training.data.samples import augmentation_of
from midframe.training.data.shards import ShardSample, Split, decode, read_shards, stored_size, write_shard

ROOT = Path(__file__).resolve().parent.parent
MANIFEST, FORMAT = "pack.json", "midframe-pack/1"
VGG = "vgg19.safetensors"
SCRIPTS = ("scripts/train_on_gpu.py", "scripts/pieces.py", "benchmarks/triplets.py")
SPLITS: tuple[tuple[Split, float], ...] = (("validation", 0.1), ("train", 1.0))
"""In this order, and how much of the room that is left each may take."""
ENDING = 10_240
"""Bytes that end a tar file at most."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--films", type=Path, nargs="*", default=[])
    parser.add_argument("--window", type=int, default=7)
    parser.add_argument("--config", default=str(ROOT / "scripts" / "default.toml"))
    parser.add_argument("--megabytes", type=float, default=48)
    parser.add_argument("--quality", type=int, default=88, help="of the JPEG files, where all do not fit as they are")
    parser.add_argument("--vgg", type=Path)
    parser.add_argument("--triplets", type=Path, nargs="*", default=[])
    parser.add_argument("--start", type=Path, help="a weights file to go on from")
    parser.add_argument("--wheels", type=Path, nargs="*", default=[], help="pure Python, for what is not there")
    try:
        told = pack(parser.parse_args())
    except (MidframeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return getattr(error, "exit_code", 4)
    except KeyboardInterrupt:
        print("interrupted; nothing was left behind", file=sys.stderr)
        return 130
    print(json.dumps(told, indent=1))
    return 0


def pack(given: argparse.Namespace) -> dict[str, Any]:
    """Fill the folder; returns what is in it."""
    out: Path = given.out
    if out.exists() and any(out.iterdir()):
        raise SettingError(f"{out} is not empty; name another folder")
    if given.films:
        from midframe.training.build import DatasetSettings, build_dataset

        build_dataset(given.films, given.data, DatasetSettings(window=given.window))
    out.mkdir(parents=True, exist_ok=True)
    try:
        return fill(given, out)
    except BaseException:  # a half of a pack is in the way of the next try
        shutil.rmtree(out, ignore_errors=True)
        raise


def fill(given: argparse.Namespace, out: Path) -> dict[str, Any]:
    """Fill a folder that is empty; returns what is in it."""
    config = read_config(given.config)
    config = replace(config, data=replace(config.data, shards=("data",)))
    copy_source(out)
    if given.vgg is not None:
        copy_vgg(given.vgg, out / VGG, config)
        config = replace(config, losses=replace(config.losses, vgg=VGG))
    for folder in given.triplets:
        shutil.copytree(folder, out / "triplets" / folder.name)
    if given.start is not None:
        shutil.copy(given.start, out / "start.safetensors")
        config = replace(config, start="start.safetensors")
    for wheel in given.wheels:
        (out / "wheels").mkdir(exist_ok=True)
        shutil.copy(wheel, out / "wheels")
    (out / "config.json").write_text(json.dumps(tables(config), indent=1) + "\n", "utf-8")
    told = copy_samples(given.data, out, int(given.megabytes * 1e6), given.quality, augmentation_of(config.data).crop)
    files = {
        path.relative_to(out).as_posix(): {"bytes": path.stat().st_size, "sha256": checksum(path)}
        for path in sorted(out.rglob("*"))
        if path.is_file()
    }
    (out / MANIFEST).write_text(json.dumps({"format": FORMAT, "samples": told, "files": files}, indent=1) + "\n")
    return {"pack": str(out), "megabytes": round(size_of(out) / 1e6, 2), "samples": told}


def copy_source(out: Path) -> None:
    """The package without weights, and the scripts that run there."""
    ignored = shutil.ignore_patterns("__pycache__", "*.pyc", "weights")
    shutil.copytree(ROOT / "src" / "midframe", out / "src" / "midframe", ignore=ignored)
    for name in SCRIPTS:
        shutil.copy(ROOT / name, out)


def copy_vgg(source: Path, target: Path, config: Config) -> None:
    """VGG-19 in half precision, up to the deepest layer that a loss or the discriminator looks at."""
    import torch
    from safetensors.torch import save_file

    from midframe.networks.vgg import LAYERS, choose_layer, load_vgg19

    vgg = load_vgg19(source)
    wanted = [config.losses.layer] * bool(config.losses.perceptual)
    wanted += [config.discriminator.base] * bool(config.losses.adversarial)
    if not wanted:
        raise SettingError(f"{source}: none of the losses looks at VGG-19; leave --vgg out")
    deepest = max(LAYERS.index(choose_layer(vgg, layer)) for layer in wanted)
    tensors, index = {}, 0
    for layer in LAYERS[: deepest + 1]:
        if layer.startswith("pool"):
            index += 1
            continue
        convolution = vgg.convolutions[layer.replace("relu", "conv")]
        tensors |= {
            f"features.{index}.{name}": value.to(torch.float16) for name, value in convolution.state_dict().items()
        }
        index += 2
    says = {"caffe": "BGR 0..255 minus means", "torchvision": "RGB 0..1 normalised"}[vgg.convention]
    save_file(tensors, target, {"input": says})


@dataclass(frozen=True)
class Frames:
    """How a sample's frames are stored: as they are, or coded anew as JPEG of a quality."""

    quality: int | None = None

    def of(self, sample: ShardSample) -> ShardSample:
        if self.quality is None:
            return sample
        import cv2

        how = [cv2.IMWRITE_JPEG_QUALITY, self.quality]
        how += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
        coded = (cv2.imencode(".jpg", decode(frame)[:, :, ::-1], how)[1].tobytes() for frame in sample.frames)
        return ShardSample(sample.key, tuple(coded), sample.info)


def copy_samples(data: Path, out: Path, limit: int, quality: int, crop: int) -> dict[str, Any]:
    """Fill the room that is left with samples of both splits that hold a crop.

    Returns how many of how many, and how they are stored.
    """
    (out / "data").mkdir()
    room = limit - size_of(out) - 100_000  # for the list of files
    every = {split: list(read_shards(data, split)) for split, _ in SPLITS}
    stored = {split: [sample for sample in samples if holds(sample, crop)] for split, samples in every.items()}
    if every["train"] and not stored["train"]:
        raise SettingError(f"no frame of {data} holds a crop of {crop}x{crop}; set data.crop in --config")
    need = sum(stored_size(sample) for samples in stored.values() for sample in samples) + 2 * ENDING
    frames = Frames() if need <= room else Frames(quality)
    told: dict[str, Any] = {
        "stored": "as they were" if frames.quality is None else f"JPEG {quality}",
        "too small": sum(map(len, every.values())) - sum(map(len, stored.values())),
    }
    for split, share in SPLITS:
        taken = list(chosen(stored[split], frames, room if frames.quality is None else int(room * share)))
        if stored[split] and not taken:
            raise SettingError(f"{limit / 1e6:g} MB hold no sample of {data} ({split}); give more --megabytes")
        if taken:
            path = out / "data" / f"{split}-000000.tar"
            with path.open("wb") as file:
                write_shard(file, taken)
            room -= path.stat().st_size
        told[split] = {"taken": len(taken), "of": len(stored[split]), "films": len({s.info["name"] for s in taken})}
    return told


def holds(sample: ShardSample, crop: int) -> bool:
    """Whether a crop of this side can be cut out of its frames."""
    return min(decode(sample.frames[0]).shape[:2]) >= crop


def chosen(samples: Sequence[ShardSample], frames: Frames, room: int) -> Iterator[ShardSample]:
    """Samples that take no more than `room` bytes in a shard: a film gives one in turn, spread over it."""
    films: dict[str, list[ShardSample]] = {}
    for sample in sorted(samples, key=lambda sample: sample.key):
        films.setdefault(str(sample.info["name"]), []).append(sample)
    turns = zip_longest(*(spread(film) for film in films.values()))
    room -= ENDING
    for sample in filter(None, chain.from_iterable(turns)):
        coded = frames.of(sample)
        room -= stored_size(coded)
        if room < 0:
            return
        yield coded


def spread(samples: Sequence[ShardSample]) -> list[ShardSample]:
    """All of them, in an order of which every beginning is spread evenly: steps of the golden ratio."""
    places = sorted(range(len(samples)), key=lambda k: (k * 0.6180339887498949) % 1)
    order = sorted(range(len(samples)), key=lambda k: places[k])
    return [samples[k] for k in order]


def checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    sys.exit(main())
