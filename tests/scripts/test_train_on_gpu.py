"""Packing a training run, two sessions of it without PyAV, Halide and pydantic, and joining their results."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import midframe
from midframe.errors import SettingError
from midframe.networks.vgg import load_vgg19
from midframe.training.config import LossConfig, TrainingConfig
from midframe.training.data.shards import ShardSample, read_shards, write_shard
from midframe.training.presets import PRESETS
from midframe.training.train.checkpoints import load_checkpoint

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "scripts"
WITHOUT = """
import importlib.machinery
find = importlib.machinery.PathFinder.find_spec
def find_spec(name, path=None, target=None):
    return None if name.partition(".")[0] in {"av", "halide", "pydantic"} else find(name, path, target)
importlib.machinery.PathFinder.find_spec = find_spec
"""
"""Contents of a sitecustomize.py that makes packages missing in a process and in its child processes."""

SMALL_GUIDED = """
preset = "guided"
[data]
crop_size = 64
[losses]
perceptual = 0.001
vgg_layer = "relu1_1"
"""


@pytest.fixture(scope="module")
def packing() -> ModuleType:
    return load_script("pack_training")


def load_script(name: str) -> ModuleType:
    """Import a script by its name."""
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # needed by dataclasses in the script
    spec.loader.exec_module(module)
    return module


def run(*command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script with additional environment variables, and without those of this test's own Python."""
    inherited = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "RANK", "WORLD_SIZE")}
    arguments = [sys.executable, *map(str, command)]
    return subprocess.run(arguments, capture_output=True, text=True, env={**inherited, **environment}, check=False)


def moving_frames(generator: np.random.Generator, side: int = 96) -> list[np.ndarray]:
    """Return three frames of a texture that moves to the right."""
    texture = cv2.resize(generator.integers(0, 255, (12, 18, 3), np.uint8), (side + 40, side), interpolation=2)
    return [np.ascontiguousarray(texture[:, 10 + k : 10 + k + side]) for k in (4, 2, 0)]


def sample(film: int, clip: int, generator: np.random.Generator, side: int = 96) -> ShardSample:
    frames = tuple(cv2.imencode(".png", frame)[1].tobytes() for frame in moving_frames(generator, side))
    return ShardSample(
        f"film{film}-{clip:03}", frames, {"name": f"film{film}.mp4", "motion": 4.0, "film": f"film{film}"}
    )


def write_dataset(folder: Path, films: dict[int, int], validation: int = 1) -> Path:
    """Write a data set. films: the number of clips by film. validation: the number of clips of the validation film."""
    generator = np.random.default_rng(0)
    folder.mkdir()
    for split, chosen in (("train", films), ("validation", {9: validation})):
        with (folder / f"{split}-000000.tar").open("wb") as file:
            write_shard(file, [sample(film, k, generator) for film, count in chosen.items() for k in range(count)])
    return folder


def write_vgg(path: Path) -> Path:
    """Write random weights of the first two convolutions of VGG-19, in the original convention."""
    torch.manual_seed(0)
    shapes = {0: (64, 3, 3, 3), 2: (64, 64, 3, 3)}
    weights = {f"features.{k}.weight": torch.randn(shape) * 0.05 for k, shape in shapes.items()}
    weights |= {f"features.{k}.bias": torch.randn(shape[0]) * 0.05 for k, shape in shapes.items()}
    save_file(weights, path, {"input": "BGR"})
    return path


def write_triplets(folder: Path) -> Path:
    """Write a set of one triplet."""
    place = folder / "moving"
    place.mkdir(parents=True)
    for name, frame in zip(("first", "middle", "last"), moving_frames(np.random.default_rng(1), 64), strict=True):
        cv2.imwrite(str(place / f"{name}.png"), frame)
    return folder


def test_two_sessions_from_a_data_set_to_joined_weights(tmp_path: Path) -> None:  # noqa: PLR0915 - the steps of one session in order
    (tmp_path / "without").mkdir()
    (tmp_path / "without" / "sitecustomize.py").write_text(WITHOUT)
    without = {"PYTHONPATH": str(tmp_path / "without")}
    (tmp_path / "small.toml").write_text(SMALL_GUIDED)
    pack, out = tmp_path / "pack", tmp_path / "out"
    data = write_dataset(tmp_path / "data", {1: 2, 2: 1})
    options = ["--config", tmp_path / "small.toml", "--vgg", write_vgg(tmp_path / "vgg.safetensors")]
    options += ["--triplets", write_triplets(tmp_path / "textures")]
    done = run(SCRIPTS / "pack_training.py", data, "--out", pack, *options, PYTHONPATH=str(ROOT / "src"))
    assert done.returncode == 0, done.stderr

    # The first session has time for one step only; its checkpoint is brought back in pieces.
    start = [pack / "train_on_gpu.py", "--dry-run", "--out", out]
    out.mkdir()
    (out / "unrelated.txt").write_text("unrelated")
    done = run(*start, "--minutes", "0.001", "--workers", "0", **without)
    assert done.returncode == 0, done.stdout + done.stderr
    first = json.loads((out / "results.json").read_text())
    assert not first["training"]["over"]
    assert first["training"]["last"]["samples"] == 2
    done = run(pack / "pieces.py", "join", out, "--out", tmp_path / "carried" / "run", **without)
    assert done.returncode == 0, done.stderr
    carried = load_checkpoint(tmp_path / "carried" / "run" / "carried.pt")
    whole = load_checkpoint(pack / "dry-run" / "checkpoint.pt")
    assert not (pack / "run").exists()  # a dry run leaves nothing that a real run would continue
    assert (out / "unrelated.txt").read_text() == "unrelated"
    for name, weight in whole["generator"].items():
        torch.testing.assert_close(carried["generator"][name], weight, rtol=0, atol=0)
    moments = carried["generator_optimiser"]["state"][0]["exp_avg"]
    torch.testing.assert_close(
        moments.float(), whole["generator_optimiser"]["state"][0]["exp_avg"], rtol=2**-8, atol=1e-30
    )
    unfinished = midframe.load(tmp_path / "carried" / "run" / "weights.safetensors")
    assert "unfinished" in midframe.networks.read_info(pack / "dry-run" / "weights.safetensors").training
    assert sum(weight.numel() for weight in unfinished.parameters()) < 100_000

    # Another machine continues from that checkpoint, with worker processes, to the end.
    start += ["--run", tmp_path / "carried" / "run", "--workers", "1"]
    done = run(*start, "--minutes", "5", **without)
    assert done.returncode == 0, done.stdout + done.stderr
    second = json.loads((out / "results.json").read_text())
    assert second["failures"] == second["left_behind"] == []
    assert second["training"]["over"]
    assert second["training"]["package"] == "src/midframe"
    assert second["training"]["last"]["samples"] == 8
    assert {"perceptual", "charbonnier", "flow"} <= second["training"]["last"].keys()
    assert second["training"]["validation"][-1]["psnr"] > 10
    assert second["triplets"]["textures"]["mean"].keys() == {"average", "dis", "dis, crossed", "network"}
    assert max(path.stat().st_size for path in out.iterdir()) <= 15_000_000
    done = run(pack / "pieces.py", "join", out, "--out", tmp_path / "joined")
    assert done.returncode == 0, done.stderr
    network = midframe.load(tmp_path / "joined" / "weights.safetensors")
    assert network.settings["feature_channels"] == [8, 8, 8, 8]
    frames = [torch.rand(3, 32, 40) for _ in range(2)]
    made = torch.as_tensor(midframe.interpolate(*frames, network=network, shader="off"))
    assert made.shape == (3, 32, 40)
    lines = [json.loads(line) for line in (tmp_path / "joined" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["kind"] == "train"] == [1, 2, 4]
    assert "film1.mp4" in (tmp_path / "joined" / "weights.md").read_text()


def test_a_changed_file_of_the_pack_is_detected(tmp_path: Path, packing: ModuleType) -> None:
    (tmp_path / "data.txt").write_text("as it was")
    row = {"bytes": 9, "sha256": packing.sha256_of(tmp_path / "data.txt")}
    (tmp_path / "pack.json").write_text(json.dumps({"files": {"data.txt": row}}))
    training = load_script("train_on_gpu")
    training.verify_pack(tmp_path)
    (tmp_path / "data.txt").write_text("as it is")
    with pytest.raises(SystemExit, match=r"data\.txt is not what was packed: 8 of 9 bytes"):
        training.verify_pack(tmp_path)


@pytest.mark.parametrize("broken", ["missing", "changed"])
def test_a_wrong_piece_is_detected_before_anything_is_unpacked(tmp_path: Path, broken: str) -> None:
    pieces = load_script("pieces")
    (tmp_path / "in" / "deep").mkdir(parents=True)
    files = {"a.bin": np.random.default_rng(0).bytes(2500), "deep/b.bin": b"b"}
    for name, content in files.items():
        (tmp_path / "in" / name).write_bytes(content)
    made = pieces.split(tmp_path / "in", [tmp_path / "in" / name for name in files], tmp_path / "out", 1000)
    assert len(made) > 3
    assert max(path.stat().st_size for path in made) == 1000
    joined = pieces.join(tmp_path / "out", tmp_path / "again")
    assert {path.relative_to(tmp_path / "again").as_posix(): path.read_bytes() for path in joined} == files
    if broken == "missing":
        made[1].unlink()
    else:
        made[1].write_bytes(made[1].read_bytes()[:-1] + b"\1")
    with pytest.raises(ValueError, match=r"files\.tar\.1"):
        pieces.join(tmp_path / "out", tmp_path / "third")
    assert not (tmp_path / "third").exists()


def test_samples_are_left_out_evenly(tmp_path: Path, packing: ModuleType) -> None:
    data = write_dataset(tmp_path / "data", {1: 60, 2: 10, 3: 2}, validation=12)
    (tmp_path / "out").mkdir()
    stored = sum(path.stat().st_size for path in data.iterdir())
    limit = 100_000 + stored // 12
    summary = packing.copy_samples(data, tmp_path / "out", limit, quality=30, crop_size=96)
    assert packing.folder_size(tmp_path / "out") <= limit - 100_000
    taken = [s.key for s in read_shards(tmp_path / "out" / "data", "train")]
    assert len(taken) == summary["train"]["copied"] < 72
    assert 1 <= summary["validation"]["copied"] <= 6
    clips: dict[int, list[int]] = {1: [], 2: [], 3: []}
    for key in taken:
        clips[int(key[4])].append(int(key[6:]))
    # Films contribute in turn, so a film exceeds the others only after they have run out.
    assert len(clips[1]) - len(clips[2]) <= 1 or len(clips[2]) == 10
    assert len(clips[3]) == 2
    gaps = np.diff([-1, *sorted(clips[1]), 60])
    assert gaps.max() <= 3 * 60 / len(clips[1])


def test_samples_that_all_fit_are_copied_unchanged(tmp_path: Path, packing: ModuleType) -> None:
    data = write_dataset(tmp_path / "data", {1: 2, 2: 1})
    (tmp_path / "out").mkdir()
    summary = packing.copy_samples(data, tmp_path / "out", 10_000_000, quality=30, crop_size=96)
    assert summary["stored"] == "unchanged"
    for split in ("train", "validation"):
        samples: list[list[Any]] = [
            sorted((s.key, s.frames) for s in read_shards(folder, split))
            for folder in (data, tmp_path / "out" / "data")
        ]
        assert samples[0] == samples[1]


def test_samples_smaller_than_the_crop_are_left_out(tmp_path: Path, packing: ModuleType) -> None:
    """The training run would refuse them."""
    data, generator = write_dataset(tmp_path / "data", {1: 2, 2: 1}), np.random.default_rng(1)
    with (data / "train-000001.tar").open("wb") as file:
        write_shard(file, [sample(3, k, generator, side=80) for k in range(4)])
    for name in ("out", "other"):
        (tmp_path / name).mkdir()
    summary = packing.copy_samples(data, tmp_path / "out", 10_000_000, quality=30, crop_size=96)
    assert summary["too_small"] == 4
    assert summary["train"] == {"copied": 3, "of": 3, "films": 2}
    assert "film3" not in "".join(s.key for s in read_shards(tmp_path / "out" / "data", "train"))
    with pytest.raises(SettingError, match=r"no frame of .* holds a crop of 97x97"):
        packing.copy_samples(data, tmp_path / "other", 10_000_000, quality=30, crop_size=97)


@pytest.mark.parametrize(
    ("options", "code"),
    [
        pytest.param((), 3, id="no data set"),
        pytest.param(("--config", "nothing.toml"), 2, id="no settings"),
        pytest.param(("--triplets", "nowhere"), 4, id="no triplets"),
    ],
)
def test_a_failed_packing_leaves_no_folder(
    tmp_path: Path,
    packing: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    code: int,
) -> None:
    arguments = ["pack_training.py", str(tmp_path / "nothing"), "--out", str(tmp_path / "pack"), *options]
    monkeypatch.setattr(sys, "argv", arguments)
    assert packing.main() == code
    assert capsys.readouterr().err.startswith("error: ")
    assert not (tmp_path / "pack").exists()


def test_vgg_is_packed_up_to_the_deepest_layer_that_is_needed(tmp_path: Path, packing: ModuleType) -> None:
    source = write_vgg(tmp_path / "vgg.safetensors")
    config = TrainingConfig(losses=LossConfig(perceptual=1.0, vgg_layer="relu1_1"))
    packing.copy_vgg(source, tmp_path / "half.safetensors", config)
    half = load_file(tmp_path / "half.safetensors")
    assert {name: value.dtype for name, value in half.items()} == {
        "features.0.weight": torch.float16,
        "features.0.bias": torch.float16,
    }
    picture = torch.rand(1, 3, 16, 16) * 255
    whole, packed = (
        load_vgg19(path)(picture, {"relu1_1"})["relu1_1"] for path in (source, tmp_path / "half.safetensors")
    )
    torch.testing.assert_close(packed, whole, rtol=2e-3, atol=2e-1)
    with pytest.raises(packing.SettingError, match="none of the losses looks at VGG-19"):
        packing.copy_vgg(source, tmp_path / "none.safetensors", PRESETS["guided"])
