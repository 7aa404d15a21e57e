"""Reading and writing shards: tar files in the WebDataset layout. Needs only Python's own library.

A shard holds, for each sample, its frames `KEY.0.jpg` .. `KEY.{n-1}.jpg` (or .png) and then `KEY.json`; a key has no
dot. Shards are named `train-000000.tar`, `validation-000000.tar`, ...; the same samples give the same bytes.
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
"""The folder within a data set where an unfinished build keeps what it has; gone when it is done."""

DESCRIPTION = "dataset.json"
"""The file that is written last: settings, counts and the format's version."""


@dataclass(frozen=True)
class ShardSample:
    """One window of consecutive frames.

    frames: encoded pictures (JPEG or PNG), earliest first; info: film, clip, times and scores (see docs/dataset.md).
    """

    key: str
    frames: tuple[bytes, ...]
    info: Mapping[str, Any]


def read_shards(folder: str | os.PathLike[str], split: Split = "train") -> Iterator[ShardSample]:
    """The samples of one split of a built data set, shard by shard, in the order in which they are stored.

    Raises `InputError` where there is no data set in the folder, where its build was not finished, or where a shard is
    damaged.
    """
    for path in shard_paths(folder, split):
        with path.open("rb") as file:
            yield from read_shard(file, path.name)


def shard_paths(folder: str | os.PathLike[str], split: Split = "train") -> list[Path]:
    """The shards of one split in order; none where no film was held back. Raises `InputError` as `read_shards`."""
    place = Path(folder)
    described = (place / DESCRIPTION).is_file()
    if (place / WORK).is_dir() and not described:
        raise InputError(f"the data set in {place} is not finished; the same `midframe dataset build` goes on with it")
    found = sorted(place.glob(f"{split}-*.tar"))
    if described:
        sizes = {path.name: path.stat().st_size for path in found}
        for name, listed in _listed(place / DESCRIPTION, split).items():
            if sizes.get(name) != listed:
                state = "missing" if name not in sizes else f"{sizes[name]} bytes long"
                raise InputError(f"{place / name} is {state}, and should have {listed} bytes; build the data set again")
    elif not found:
        raise InputError(f"there is no data set in {place}: neither {DESCRIPTION} nor {split}-000000.tar")
    return found


def read_shard(file: BinaryIO, name: str = "the shard") -> Iterator[ShardSample]:
    """The samples of one shard, read from its beginning on (a file, or a stream from an object store)."""
    key, frames = "", list[bytes]()
    try:
        with tarfile.open(fileobj=file, mode="r|") as tar:
            for member in tar:
                stem, _, rest = member.name.partition(".")
                content = tar.extractfile(member)
                if content is None:
                    continue
                if stem != key:
                    key, frames = stem, []
                if rest != "json":
                    frames.append(content.read())
                else:
                    yield ShardSample(key, tuple(frames), json.loads(content.read()))
                    frames = []
            if frames:
                raise EOFError(f"it ends within {key}")
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise InputError(f"{name} is damaged: {error}") from None


def write_shard(file: BinaryIO, samples: Iterable[ShardSample]) -> None:
    """Write samples as one shard. Nothing but the samples decides its bytes."""
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for sample in samples:
            for k, frame in enumerate(sample.frames):
                _add(tar, f"{sample.key}.{k}.{suffix_of(frame)}", frame)
            _add(tar, f"{sample.key}.json", to_json(sample.info))


def stored_size(sample: ShardSample) -> int:
    """How many bytes of a shard a sample takes."""
    contents = (*sample.frames, to_json(sample.info))
    return sum(512 + -(-len(content) // 512) * 512 for content in contents)


def to_json(info: Mapping[str, Any]) -> bytes:
    """A sample's info, or a line of the manifest, as it is stored."""
    return json.dumps(info, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def suffix_of(picture: bytes) -> str:
    """What an encoded picture is called by: png or jpg."""
    return "png" if picture.startswith(b"\x89PNG") else "jpg"


def decode(picture: bytes) -> NDArray[np.uint8]:
    """An encoded frame as RGB `[H, W, 3]`, uint8, by OpenCV or Pillow, whichever is installed."""
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


def _listed(path: Path, split: Split) -> dict[str, int]:
    """The shards of a split and their sizes, as the data set's description has them."""
    try:
        described = json.loads(path.read_bytes())
        return {shard["name"]: shard["bytes"] for shard in described["shards"] if shard["name"].startswith(split)}
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is no description of a data set: {type(error).__name__} {error}") from None


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    member.mode = 0o644
    tar.addfile(member, io.BytesIO(content))
