"""Shards: a round trip, the WebDataset layout, splits, damage, and the packages that reading needs."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from midframe.errors import InputError
from midframe.training.data.shards import ShardSample, decode, read_shard, read_shards, stored_size, write_shard


def picture(seed: int, form: str = "PNG") -> tuple[np.ndarray, bytes]:
    pixels = np.random.default_rng(seed).integers(0, 256, (9, 14, 3)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, form, quality=90)
    return pixels, buffer.getvalue()


def sample(name: str, count: int = 3, form: str = "PNG") -> ShardSample:
    frames = tuple(picture(k, form)[1] for k in range(count))
    return ShardSample(name, frames, {"film": name, "times": ["0", "1/24"], "größe": 1.5})


def shard(*samples: ShardSample) -> bytes:
    buffer = io.BytesIO()
    write_shard(buffer, samples)
    return buffer.getvalue()


def test_written_samples_are_read_back() -> None:
    samples = [sample("a", 3), sample("b", 5, "JPEG"), sample("c", 7)]
    assert list(read_shard(io.BytesIO(shard(*samples)))) == samples


def test_shards_have_the_webdataset_layout() -> None:
    with tarfile.open(fileobj=io.BytesIO(shard(sample("a", 3, "JPEG"), sample("b", 3)))) as tar:
        members = tar.getmembers()
    names = ["a.0.jpg", "a.1.jpg", "a.2.jpg", "a.json", "b.0.png", "b.1.png", "b.2.png", "b.json"]
    assert [member.name for member in members] == names
    assert {(member.mtime, member.uid, member.gid, member.uname) for member in members} == {(0, 0, 0, "")}


def test_webdataset_reads_shards(tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    (tmp_path / "train-000000.tar").write_bytes(shard(sample("a", 3), sample("b", 3)))
    found = list(webdataset.WebDataset(str(tmp_path / "train-000000.tar"), shardshuffle=False))
    assert [row["__key__"] for row in found] == ["a", "b"]
    assert [row["1.png"] for row in found] == [sample("a").frames[1]] * 2


def test_stored_size_is_the_growth_of_the_shard() -> None:
    sizes = [stored_size(sample(name, count)) for name, count in (("a", 3), ("b", 5))]
    record = len(shard())  # tar files end with zeros up to a whole record
    total = len(shard(sample("a", 3), sample("b", 5)))
    assert sum(sizes) + 1024 <= total <= sum(sizes) + 1024 + record


def test_splits_are_read_separately_and_in_order(tmp_path: Path) -> None:
    for name, keys in (("train-000001", "cd"), ("train-000000", "ab"), ("validation-000000", "e")):
        (tmp_path / f"{name}.tar").write_bytes(shard(*(sample(key) for key in keys)))
    assert "".join(found.key for found in read_shards(tmp_path)) == "abcd"
    assert [found.key for found in read_shards(tmp_path, "validation")] == ["e"]


def test_folders_without_a_finished_data_set_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no data set"):
        list(read_shards(tmp_path))
    (tmp_path / ".work").mkdir()
    with pytest.raises(InputError, match="not finished"):
        list(read_shards(tmp_path))
    (tmp_path / "dataset.json").write_text('{"shards": []}')
    assert list(read_shards(tmp_path, "validation")) == []
    (tmp_path / "dataset.json").write_text('{"shards": [{"name": "validation-000000.tar", "bytes": 5}]}')
    assert list(read_shards(tmp_path)) == []
    with pytest.raises(InputError, match=r"validation-000000\.tar is missing"):
        list(read_shards(tmp_path, "validation"))
    (tmp_path / "dataset.json").write_text("{}")
    with pytest.raises(InputError, match="no description"):
        list(read_shards(tmp_path))


@pytest.mark.parametrize("length", [700, 1300], ids=["within_first_frame", "within_second_frame"])
def test_a_truncated_shard_is_refused(tmp_path: Path, length: int) -> None:
    (tmp_path / "train-000000.tar").write_bytes(shard(sample("a"))[:length])
    with pytest.raises(InputError, match=r"train-000000\.tar is damaged"):
        list(read_shards(tmp_path))


def test_opencv_and_pillow_decode_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels, png = picture(3)
    jpeg = picture(3, "JPEG")[1]
    with_opencv = [decode(png), decode(jpeg)]
    monkeypatch.setitem(sys.modules, "cv2", None)
    with_pillow = [decode(png), decode(jpeg)]
    for found in (with_opencv[0], with_pillow[0]):
        np.testing.assert_array_equal(found, pixels)
    assert np.abs(with_opencv[1].astype(int) - with_pillow[1]).max() <= 2


def test_reading_needs_only_the_standard_library(tmp_path: Path) -> None:
    (tmp_path / "train-000000.tar").write_bytes(shard(sample("a")))
    code = (
        "import sys\n"
        "for name in ('av', 'numpy', 'torch', 'webdataset', 'PIL', 'cv2', 'pydantic'): sys.modules[name] = None\n"
        "from midframe.training.data.shards import read_shards\n"
        f"print([s.key for s in read_shards({str(tmp_path)!r})])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "['a']"
