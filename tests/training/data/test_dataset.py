"""A data set in memory: what was in the shards, shared with other processes, balanced."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from midframe.errors import Cancelled, InputError, OutputError, SettingError
from midframe.training.build.frames import encode_picture
from midframe.training.data.dataset import InMemoryDataset, load_dataset
from midframe.training.data.shards import ShardSample, write_shard
from runs import files_of_at_most, packed, shards, window

SIZES = tuple(encode_picture(np.zeros((side, 48, 3), np.uint8), None) for side in (48, 40, 48))
"""Frames of sizes that differ."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shards(tmp_path_factory.mktemp("data"))


def test_it_holds_what_is_in_the_shards(folder: Path) -> None:
    counts: list[int] = []
    data = load_dataset([folder, folder], progress=counts.append)
    assert counts == list(range(1, 9))
    assert data.film_names == ("film-0.mp4", "film-1.mp4")
    assert data.film_indices.tolist() == [0, 1, 0, 1] * 2
    assert data.motions.tolist() == [1.0] * 8  # 4 pixels over the four steps of five frames
    for found, number in zip(data.windows, [0, 1, 3, 4] * 2, strict=True):
        assert torch.equal(found, window(number))
    assert data.bytes == 8 * window(0).numel()
    held = load_dataset([folder], "validation")
    assert held.film_names == ("film-2.mp4",)
    assert torch.equal(held.textures[1], window(5)[2])


def test_a_reader_may_be_stopped(folder: Path) -> None:
    def stop(count: int) -> None:
        raise Cancelled(str(count))

    with pytest.raises(Cancelled, match="1"):
        load_dataset([folder], progress=stop)


def test_where_there_is_nothing_to_train_on(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="no data set was named"):
        load_dataset([])
    (tmp_path / "train-000000.tar").write_bytes(b"\0" * 10240)
    with pytest.raises(InputError, match="holds no samples to train on"):
        load_dataset([folder, tmp_path])


@pytest.mark.parametrize(
    ("frames", "info", "said"),
    [
        ((), {"name": "a.mp4", "motion": 1.0}, "0 frames"),
        ((b"",) * 3, {"name": "a.mp4", "motion": 1.0}, "no picture"),
        ((b"\x89PNG\r\n",) * 3, {"name": "a.mp4", "motion": 1.0}, "no picture"),
        (SIZES[:2], {"name": "a.mp4", "motion": 1.0}, "needs 3 at least"),
        (SIZES, {"name": "a.mp4", "motion": 1.0}, "shape"),
        (SIZES[:1] * 3, {"motion": 1.0}, "it has no 'name'"),
        (SIZES[:1] * 3, {"name": "a.mp4", "motion": "fast"}, "fast"),
    ],
)
def test_a_sample_that_is_damaged_is_named(tmp_path: Path, frames: tuple[bytes, ...], info: Any, said: str) -> None:
    with (tmp_path / "train-000000.tar").open("wb") as file:
        write_shard(file, [ShardSample("film-7", frames, info)])
    with pytest.raises(InputError, match=f"the sample film-7 of .* is damaged: .*{said}"):
        load_dataset([tmp_path])


def test_stored_in_a_file_it_opens_as_it_was(tmp_path: Path) -> None:
    data = packed(4, 2)
    data = InMemoryDataset(
        (*data.windows[:3], data.windows[3][:, :, :50, :40].contiguous()), *list(vars(data).values())[1:4]
    )
    again = data.save_pixels(tmp_path / "windows.bin").open()
    assert (again.film_names, again.film_indices.tolist(), again.motions.tolist()) == (
        data.film_names,
        data.film_indices.tolist(),
        data.motions.tolist(),
    )
    assert all(torch.equal(one, other) for one, other in zip(data.windows, again.windows, strict=True))


def test_films_are_picked_alike_and_what_moves_more_often() -> None:
    films = torch.tensor([0] * 9 + [1])
    motions = torch.tensor([1.0] * 8 + [16.0, 5.0])
    data = InMemoryDataset(tuple(torch.zeros(3, 3, 8, 8).byte() for _ in films), films, ("many", "one"), motions)
    assert data.balanced_probabilities[:9].sum().item() == pytest.approx(0.5)
    assert data.balanced_probabilities[9].item() == pytest.approx(0.5)
    assert (data.balanced_probabilities[8] / data.balanced_probabilities[0]).item() == pytest.approx(
        4.0
    )  # the root of 16


def test_no_room_for_the_file_of_windows_is_said(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="File too large"), files_of_at_most(1000):
        packed(1).save_pixels(tmp_path / "windows.bin")
