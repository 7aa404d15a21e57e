"""Shards of a data set: tar files in the WebDataset layout. Reading and writing need only the standard library.

A shard holds for each sample its frames `KEY.0.jpg` .. `KEY.{n-1}.jpg` (or .png) and then `KEY.json`; a key contains no
dot. Shards are named `train-000000.tar`, `validation-000000.tar`, ...; equal samples give equal bytes.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

from midframe.errors import DeviceError, InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Split = Literal["train", "validation"]

WORK = ".work"
"""The folder in a data set where an unfinished build stores its results; removed when the build is finished."""

DESCRIPTION = "dataset.json"
"""The file that a build writes last: settings, counts and the format's version."""


@dataclass(frozen=True)
class ShardSample:
    """One window of consecutive frames as it is stored in a shard."""

    key: str
    """The sample's name, unique in the data set."""
    frames: tuple[bytes, ...]
    """Encoded pictures (JPEG or PNG), earliest first."""
    info: Mapping[str, Any]
    """Film, clip, times and scores (see docs/dataset.md)."""


def read_shards(folder: str | os.PathLike[str], split: Split = "train") -> Iterator[ShardSample]:
    """Yield the samples of one split of a data set, in the order in which they are stored.

    Raises `InputError` if the folder holds no data set, its build is unfinished, or a shard is damaged.
    """
    for path in shard_paths(folder, split):
        with path.open("rb") as file:
            yield from read_shard(file, path.name)


def shard_paths(folder: str | os.PathLike[str], split: Split = "train") -> list[Path]:
    """Return the paths of a split's shards in order; the list is empty if no film is in the split.

    Raises `InputError` if the folder holds no data set, its build is unfinished, or a shard is missing or has another
    size than dataset.json says.
    """
    folder = Path(folder)
    has_description = (folder / DESCRIPTION).is_file()
    if (folder / WORK).is_dir() and not has_description:
        raise InputError(f"the data set in {folder} is not finished; the same `midframe dataset build` goes on with it")
    paths = sorted(folder.glob(f"{split}-*.tar"))
    if has_description:
        sizes = {path.name: path.stat().st_size for path in paths}
        for name, expected in _described_sizes(folder / DESCRIPTION, split).items():
            if sizes.get(name) != expected:
                state = "missing" if name not in sizes else f"{sizes[name]} bytes long"
                raise InputError(
                    f"{folder / name} is {state}, and should have {expected} bytes; build the data set again"
                )
    elif not paths:
        raise InputError(f"there is no data set in {folder}: neither {DESCRIPTION} nor {split}-000000.tar")
    return paths


def read_shard(file: BinaryIO, name: str = "the shard") -> Iterator[ShardSample]:
    """Yield the samples of one shard, read sequentially.

    file: a file or a stream from an object store. name: of the shard, for messages. Raises `InputError` if the shard
    is damaged.
    """
    key, frames = "", list[bytes]()
    try:
        with tarfile.open(fileobj=file, mode="r|") as tar:
            for member in tar:
                member_key, _, suffix = member.name.partition(".")
                content = tar.extractfile(member)
                if content is None:
                    continue
                if member_key != key:
                    key, frames = member_key, []
                if suffix != "json":
                    frames.append(content.read())
                else:
                    yield ShardSample(key, tuple(frames), json.loads(content.read()))
                    frames = []
            if frames:
                raise EOFError(f"it ends within {key}")
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise InputError(f"{name} is damaged: {error}") from None


def write_shard(file: BinaryIO, samples: Iterable[ShardSample]) -> None:
    """Write samples as one shard; the bytes depend on the samples alone."""
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for sample in samples:
            for k, frame in enumerate(sample.frames):
                _add_member(tar, f"{sample.key}.{k}.{picture_suffix(frame)}", frame)
            _add_member(tar, f"{sample.key}.json", to_json(sample.info))


def stored_size(sample: ShardSample) -> int:
    """Return the number of bytes that a sample takes in a shard."""
    return sum(tar_size(len(content)) for content in (*sample.frames, to_json(sample.info)))


def tar_size(content_size: int) -> int:
    """Return the number of bytes that a file of this size takes in a tar file: a header and whole blocks of 512."""
    return 512 + -(-content_size // 512) * 512


def to_json(info: Mapping[str, Any]) -> bytes:
    """Encode a sample's info, or a line of the manifest, as it is stored."""
    return json.dumps(info, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def picture_suffix(picture: bytes) -> str:
    """Return the file name suffix of an encoded picture: png or jpg."""
    return "png" if picture.startswith(b"\x89PNG") else "jpg"


def decode(picture: bytes) -> NDArray[np.uint8]:
    """Decode a frame to RGB `[H, W, 3]`, uint8, by OpenCV or else by Pillow.

    Raises `InputError` if the bytes are no picture, `DeviceError` if neither package is installed.
    """
    import numpy as np

    try:
        import cv2
    except ImportError:
        try:
            from PIL import Image
        except ImportError:
            raise DeviceError("frames are decoded by OpenCV or Pillow; install opencv-python-headless") from None
        with Image.open(io.BytesIO(picture)) as image:
            return np.array(image.convert("RGB"))
    pixels = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR) if picture else None
    if pixels is None:
        raise InputError("a frame of the data set is no picture that can be decoded")
    return np.ascontiguousarray(pixels[:, :, ::-1])


def _described_sizes(path: Path, split: Split) -> dict[str, int]:
    """Return the sizes in bytes of a split's shards by name, as the description of the data set lists them."""
    try:
        description = json.loads(path.read_bytes())
        return {shard["name"]: shard["bytes"] for shard in description["shards"] if shard["name"].startswith(split)}
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is no description of a data set: {type(error).__name__} {error}") from None


def _add_member(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    """Add a file with a fixed mode and the time 0 to a tar file."""
    member = tarfile.TarInfo(name)
    member.size = len(content)
    member.mode = 0o644
    tar.addfile(member, io.BytesIO(content))
