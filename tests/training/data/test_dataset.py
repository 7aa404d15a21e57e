"""Data sets in memory: loaded from shards, memory-mapped, sampled with balance."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from midframe.errors import Cancelled, InputError, OutputError, SettingError
from midframe.training.build.frames import encode_picture
from midframe.training.data.dataset import InMemoryDataset, load_dataset
from midframe.training.data.shards import ShardSample, write_shard
from runs import file_size_limit, in_memory_dataset, moving_window, write_shards

PICTURES = tuple(encode_picture(np.zeros((side, 48, 3), np.uint8), None) for side in (48, 40, 48))
"""Three PNG pictures, the second smaller than the others."""

INFO = {"name": "a.mp4", "motion": 1.0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shards(tmp_path_factory.mktemp("data"))


def test_a_loaded_data_set_holds_the_windows_of_its_shards(folder: Path) -> None:
    counts: list[int] = []
    data = load_dataset([folder, folder], progress=counts.append)
    assert counts == list(range(1, 9))
    assert data.film_names == ("film-0.mp4", "film-1.mp4")
    assert data.film_indices.tolist() == [0, 1, 0, 1] * 2
    assert data.motions.tolist() == [1.0] * 8  # 4 pixels over the four steps of five frames
    for found, number in zip(data.windows, [0, 1, 3, 4] * 2, strict=True):
        assert torch.equal(found, moving_window(number))
    assert data.bytes == 8 * moving_window(0).numel()
    validation = load_dataset([folder], "validation")
    assert validation.film_names == ("film-2.mp4",)
    assert torch.equal(validation.textures[1], moving_window(5)[2])


def test_loading_can_be_cancelled(folder: Path) -> None:
    def stop(count: int) -> None:
        raise Cancelled(str(count))

    with pytest.raises(Cancelled, match="1"):
        load_dataset([folder], progress=stop)


def test_folders_without_training_samples_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="no data set was named"):
        load_dataset([])
    (tmp_path / "train-000000.tar").write_bytes(b"\0" * 10240)
    with pytest.raises(InputError, match="holds no samples to train on"):
        load_dataset([folder, tmp_path])


@pytest.mark.parametrize(
    ("frames", "info", "message"),
    [
        pytest.param((), INFO, "0 frames", id="no_frames"),
        pytest.param((b"",) * 3, INFO, "no picture", id="empty_pictures"),
        pytest.param((b"\x89PNG\r\n",) * 3, INFO, "no picture", id="truncated_pictures"),
        pytest.param(PICTURES[:2], INFO, "needs 3 at least", id="two_frames"),
        pytest.param(PICTURES, INFO, "shape", id="different_sizes"),
        pytest.param(PICTURES[:1] * 3, {"motion": 1.0}, "it has no 'name'", id="no_film_name"),
        pytest.param(PICTURES[:1] * 3, {"name": "a.mp4", "motion": "fast"}, "fast", id="motion_is_no_number"),
    ],
)
def test_a_damaged_sample_is_named(tmp_path: Path, frames: tuple[bytes, ...], info: Any, message: str) -> None:
    with (tmp_path / "train-000000.tar").open("wb") as file:
        write_shard(file, [ShardSample("film-7", frames, info)])
    with pytest.raises(InputError, match=f"the sample film-7 of .* is damaged: .*{message}"):
        load_dataset([tmp_path])


def test_a_memory_mapped_data_set_equals_the_original(tmp_path: Path) -> None:
    data = in_memory_dataset(4, 2)
    data = replace(data, windows=(*data.windows[:3], data.windows[3][:, :, :50, :40].contiguous()))
    again = data.save_pixels(tmp_path / "windows.bin").open()
    assert (again.film_names, again.film_indices.tolist(), again.motions.tolist()) == (
        data.film_names,
        data.film_indices.tolist(),
        data.motions.tolist(),
    )
    assert all(torch.equal(one, other) for one, other in zip(data.windows, again.windows, strict=True))


def test_balanced_sampling_weights_films_equally_and_windows_by_motion() -> None:
    films = torch.tensor([0] * 9 + [1])
    motions = torch.tensor([1.0] * 8 + [16.0, 5.0])
    data = InMemoryDataset(tuple(torch.zeros(3, 3, 8, 8).byte() for _ in films), films, ("many", "one"), motions)
    probabilities = data.balanced_probabilities
    assert probabilities[:9].sum().item() == pytest.approx(0.5)
    assert probabilities[9].item() == pytest.approx(0.5)
    assert (probabilities[8] / probabilities[0]).item() == pytest.approx(4.0)  # the square root of 16


def test_a_full_disk_is_reported(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="File too large"), file_size_limit(1000):
        in_memory_dataset(1).save_pixels(tmp_path / "windows.bin")
