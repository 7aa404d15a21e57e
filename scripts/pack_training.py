"""Pack everything that a training run needs on another machine into one folder of limited size.

    python scripts/pack_training.py DATA --out PACK [--films FILM...] [--config scripts/default.toml] [--megabytes 48]
        [--vgg FILE] [--triplets SET...] [--start WEIGHTS]

DATA is a data set of `midframe dataset build`; with --films it is built first, with default settings except --window.
--config is a preset or a TOML file. It is resolved here, so that the other machine does not need pydantic.

Samples are copied unchanged if all of them fit. Otherwise their frames are encoded again as JPEG (--quality), and if
that does not suffice, samples are left out: films contribute one sample in turn, evenly spread over the film, until the
folder is full. Samples with frames smaller than the crops of the settings are left out in any case. The validation
split gets a tenth of the space. --vgg packs VGG-19 in half precision, up to the deepest layer that a loss needs.
--triplets are folders of NAME/{first,middle,last}.png on which the trained network is measured on the other machine.

PACK then contains the package's source, config.json, data/ and train_on_gpu.py, which runs there without PyAV, Halide
and pydantic. pack.json lists every file with its size and SHA-256.
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
from midframe.training.config import TrainingConfig, config_to_dict
from midframe.training.config_file import read_config
from midframe.training.data.samples import augmentation_of
from midframe.training.data.shards import ShardSample, Split, decode, read_shards, stored_size, write_shard

ROOT = Path(__file__).resolve().parent.parent
MANIFEST, FORMAT = "pack.json", "midframe-pack/1"
VGG_FILE, INITIAL_WEIGHTS_FILE = "vgg19.safetensors", "start.safetensors"
SCRIPTS = ("scripts/train_on_gpu.py", "scripts/pieces.py", "benchmarks/triplets.py")
SPLITS: tuple[tuple[Split, float], ...] = (("validation", 0.1), ("train", 1.0))
"""The splits in the order in which they are copied, each with the fraction of the remaining space that it may take."""
MANIFEST_SIZE = 100_000
"""Bytes reserved for the manifest."""
TAR_END_SIZE = 10_240
"""Largest number of bytes that end a tar file."""
GOLDEN_RATIO = 0.6180339887498949


def main() -> int:
    """Pack, print a summary and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--films", type=Path, nargs="*", default=[])
    parser.add_argument("--window", type=int, default=7, help="frames of a window, with --films")
    parser.add_argument("--config", default=str(ROOT / "scripts" / "default.toml"))
    parser.add_argument("--megabytes", type=float, default=48)
    parser.add_argument("--quality", type=int, default=88, help="of JPEG, if the samples do not fit unchanged")
    parser.add_argument("--vgg", type=Path)
    parser.add_argument("--triplets", type=Path, nargs="*", default=[])
    parser.add_argument("--start", type=Path, help="file of initial weights")
    parser.add_argument("--wheels", type=Path, nargs="*", default=[], help="pure-Python packages missing over there")
    try:
        summary = pack(parser.parse_args())
    except (MidframeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return getattr(error, "exit_code", 4)
    except KeyboardInterrupt:
        print("interrupted; nothing was left behind", file=sys.stderr)
        return 130
    print(json.dumps(summary, indent=1))
    return 0


def pack(options: argparse.Namespace) -> dict[str, Any]:
    """Create the folder; return a summary of its contents. An incomplete folder is removed."""
    out: Path = options.out
    if out.exists() and any(out.iterdir()):
        raise SettingError(f"{out} is not empty; name another folder")
    if options.films:
        from midframe.training.build import DatasetSettings, build_dataset

        build_dataset(options.films, options.data, DatasetSettings(window=options.window))
    out.mkdir(parents=True, exist_ok=True)
    try:
        return fill(options, out)
    except BaseException:
        shutil.rmtree(out, ignore_errors=True)
        raise


def fill(options: argparse.Namespace, out: Path) -> dict[str, Any]:
    """Fill an empty folder; return a summary of its contents."""
    config = read_config(options.config)
    config = replace(config, data=replace(config.data, folders=("data",)))
    copy_source(out)
    if options.vgg is not None:
        copy_vgg(options.vgg, out / VGG_FILE, config)
        config = replace(config, losses=replace(config.losses, vgg_file=VGG_FILE))
    for folder in options.triplets:
        shutil.copytree(folder, out / "triplets" / folder.name)
    if options.start is not None:
        shutil.copy(options.start, out / INITIAL_WEIGHTS_FILE)
        config = replace(config, init_from=INITIAL_WEIGHTS_FILE)
    for wheel in options.wheels:
        (out / "wheels").mkdir(exist_ok=True)
        shutil.copy(wheel, out / "wheels")
    (out / "config.json").write_text(json.dumps(config_to_dict(config), indent=1) + "\n", "utf-8")
    limit, crop_size = int(options.megabytes * 1e6), augmentation_of(config.data).crop
    samples = copy_samples(options.data, out, limit, options.quality, crop_size)
    files = {
        path.relative_to(out).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
        for path in sorted(out.rglob("*"))
        if path.is_file()
    }
    (out / MANIFEST).write_text(json.dumps({"format": FORMAT, "samples": samples, "files": files}, indent=1) + "\n")
    return {"pack": str(out), "megabytes": round(folder_size(out) / 1e6, 2), "samples": samples}


def copy_source(out: Path) -> None:
    """Copy the package without weights, and the scripts that run on the other machine."""
    ignored = shutil.ignore_patterns("__pycache__", "*.pyc", "weights")
    shutil.copytree(ROOT / "src" / "midframe", out / "src" / "midframe", ignore=ignored)
    for name in SCRIPTS:
        shutil.copy(ROOT / name, out)


def copy_vgg(source: Path, target: Path, config: TrainingConfig) -> None:
    """Copy VGG-19 in half precision, up to the deepest layer that a loss or the discriminator needs."""
    import torch
    from safetensors.torch import save_file

    from midframe.networks.vgg import LAYERS, choose_layer, load_vgg19

    vgg = load_vgg19(source)
    needed = [config.losses.vgg_layer] * bool(config.losses.perceptual)
    needed += [config.discriminator.vgg_layer] * bool(config.losses.adversarial)
    if not needed:
        raise SettingError(f"{source}: none of the losses looks at VGG-19; leave --vgg out")
    deepest = max(LAYERS.index(choose_layer(vgg, layer)) for layer in needed)
    tensors, index = {}, 0  # the index in torchvision's list of modules, in which a ReLU follows each convolution
    for layer in LAYERS[: deepest + 1]:
        if layer.startswith("pool"):
            index += 1
            continue
        convolution = vgg.convolutions[layer.replace("relu", "conv")]
        for name, value in convolution.state_dict().items():
            tensors[f"features.{index}.{name}"] = value.to(torch.float16)
        index += 2
    input_range = {"caffe": "BGR 0..255 minus means", "torchvision": "RGB 0..1 normalised"}[vgg.convention]
    save_file(tensors, target, {"input": input_range})


@dataclass(frozen=True)
class FrameEncoding:
    """How the frames of samples are stored."""

    quality: int | None = None
    """JPEG quality; None keeps the files as they are."""

    def apply(self, sample: ShardSample) -> ShardSample:
        """Return the sample with its frames in this encoding."""
        if self.quality is None:
            return sample
        import cv2

        parameters = [cv2.IMWRITE_JPEG_QUALITY, self.quality]
        parameters += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
        frames = (cv2.imencode(".jpg", decode(frame)[:, :, ::-1], parameters)[1].tobytes() for frame in sample.frames)
        return replace(sample, frames=tuple(frames))


def copy_samples(data: Path, out: Path, limit: int, quality: int, crop_size: int) -> dict[str, Any]:
    """Fill the remaining space with samples of both splits whose frames are at least as large as the crops.

    limit: of the whole folder, in bytes. Return how the samples are stored and how many of how many were copied.
    """
    (out / "data").mkdir()
    space = limit - folder_size(out) - MANIFEST_SIZE
    all_samples = {split: list(read_shards(data, split)) for split, _ in SPLITS}
    large = {split: [s for s in samples if fits_crop(s, crop_size)] for split, samples in all_samples.items()}
    if all_samples["train"] and not large["train"]:
        raise SettingError(
            f"no frame of {data} holds a crop of {crop_size}x{crop_size}; set data.crop_size in --config"
        )
    size = sum(stored_size(sample) for samples in large.values() for sample in samples) + 2 * TAR_END_SIZE
    encoding = FrameEncoding() if size <= space else FrameEncoding(quality)
    summary: dict[str, Any] = {
        "stored": "unchanged" if encoding.quality is None else f"JPEG {quality}",
        "too_small": sum(map(len, all_samples.values())) - sum(map(len, large.values())),
    }
    for split, fraction in SPLITS:
        split_space = space if encoding.quality is None else int(space * fraction)
        chosen = list(choose_samples(large[split], encoding, split_space))
        if large[split] and not chosen:
            raise SettingError(f"{limit / 1e6:g} MB hold no sample of {data} ({split}); give more --megabytes")
        if chosen:
            path = out / "data" / f"{split}-000000.tar"
            with path.open("wb") as file:
                write_shard(file, chosen)
            space -= path.stat().st_size
        films = {sample.info["name"] for sample in chosen}
        summary[split] = {"copied": len(chosen), "of": len(large[split]), "films": len(films)}
    return summary


def fits_crop(sample: ShardSample, crop_size: int) -> bool:
    """Return whether the frames of a sample are at least as large as a crop."""
    return min(decode(sample.frames[0]).shape[:2]) >= crop_size


def choose_samples(samples: Sequence[ShardSample], encoding: FrameEncoding, space: int) -> Iterator[ShardSample]:
    """Yield encoded samples that fit into a shard of `space` bytes, one of each film in turn, spread over the film."""
    films: dict[str, list[ShardSample]] = {}
    for sample in sorted(samples, key=lambda sample: sample.key):
        films.setdefault(str(sample.info["name"]), []).append(sample)
    rounds = zip_longest(*(spread_evenly(film) for film in films.values()))
    space -= TAR_END_SIZE
    for sample in filter(None, chain.from_iterable(rounds)):
        encoded = encoding.apply(sample)
        space -= stored_size(encoded)
        if space < 0:
            return
        yield encoded


def spread_evenly(samples: Sequence[ShardSample]) -> list[ShardSample]:
    """Reorder samples so that every prefix is spread evenly over the original order, by steps of the golden ratio."""
    by_fraction = sorted(range(len(samples)), key=lambda k: (k * GOLDEN_RATIO) % 1)
    order = sorted(range(len(samples)), key=lambda k: by_fraction[k])
    return [samples[k] for k in order]


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_size(folder: Path) -> int:
    """Return the size of all files in a folder in bytes."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    sys.exit(main())
