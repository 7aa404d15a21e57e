"""Read and write weights files: what a network has learnt, and all that is needed to rebuild it.

A weights file is one `safetensors` file, which cannot contain code. Its tensors are stored in float16. Its metadata are
the strings `format` (`midframe-weights/1`), `network` (a name in `NETWORKS`), `settings` (JSON, arguments of the
network's class), `training` (JSON, a summary of the training), `licence`, and `data` (what it was trained on). A model
card in Markdown with the same name may lie beside it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from midframe.errors import SettingError, WeightsError
from midframe.files import atomic_write
from midframe.networks.base import InterpolationNetwork
from midframe.networks.registry import network_class, network_name

FORMAT = "midframe-weights/1"
"""The format that this version reads and writes."""

SUFFIX = ".safetensors"
"""Suffix of a weights file's name."""

MAX_BYTES = 1 << 30
"""Size of the largest file that is read; the network `paper` takes 43 million bytes."""

TENSOR_TYPES = ("F16", "BF16", "F32")
"""The tensor types that a weights file may have, in the terms of safetensors."""


@dataclass(frozen=True)
class WeightsInfo:
    """The description of a weights file, without its tensors; shown by `midframe info WEIGHTS`."""

    path: Path
    """The weights file."""
    format: str
    """Its format, always `FORMAT`."""
    network: str
    """Name of the network in `NETWORKS`."""
    settings: Mapping[str, Any]
    """Arguments of the network's class."""
    training: Mapping[str, Any]
    """Summary of the training."""
    licence: str
    """Licence of the weights."""
    data: str
    """What the network was trained on, in words."""
    parameters: int
    """Number of values in all tensors."""
    bytes: int
    """Size of the file."""
    card: Path | None = None
    """The model card beside the file, None if there is none."""
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict, repr=False)
    """Shape of each tensor by name."""


def load_weights(path: str | Path) -> InterpolationNetwork:
    """Build the network that a weights file describes, with its weights in float32, in evaluation mode on the CPU.

    Format, network, settings, tensor names and shapes are checked before anything is allocated, and the values must be
    finite. Raises `WeightsError` with what was found and what is expected.
    """

    info = read_info(path)
    try:
        with torch.device("meta"):  # Names and shapes only, so that a bad file cannot make it allocate memory.
            network = network_class(info.network)(**info.settings)
    except SettingError as error:
        raise WeightsError(f"{info.path} has settings that {info.network} does not take: {error}") from error
    except TypeError as error:
        raise WeightsError(f"{info.path} has settings that {info.network} does not know: {info.settings}") from error
    _check_shapes(info, {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()})
    network.load_state_dict(_read_tensors(info), assign=True)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network.eval()


def read_info(path: str | Path) -> WeightsInfo:
    """Read the description of a weights file, without its tensors; raises `WeightsError` for any other file."""
    path = Path(path)
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise WeightsError(f"{path} is no file; a weights file is needed, NAME{SUFFIX}")
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}") from error
    if size > MAX_BYTES:
        raise WeightsError(f"{path} has {size} bytes; a weights file of Midframe has at most {MAX_BYTES}")
    with _open_safetensors(path) as file:
        metadata = file.metadata() or {}
        found = metadata.get("format")
        if found != FORMAT:
            what = f"has the format '{found}'" if found and found.startswith("midframe") else "was not made by Midframe"
            raise WeightsError(f"{path} {what}; a weights file of the format {FORMAT} is needed")
        shapes = _read_shapes(file, path)
    card = path.with_suffix(".md")
    return WeightsInfo(
        path=path,
        format=found,
        network=_metadata_string(path, metadata, "network"),
        settings=_metadata_object(path, metadata, "settings"),
        training=_metadata_object(path, metadata, "training"),
        licence=_metadata_string(path, metadata, "licence"),
        data=_metadata_string(path, metadata, "data"),
        parameters=sum(torch.Size(shape).numel() for shape in shapes.values()),
        bytes=size,
        card=card if card.is_file() else None,
        shapes=shapes,
    )


def save_weights(
    network: InterpolationNetwork, path: str | Path, *, training: Mapping[str, Any], licence: str, data: str
) -> WeightsInfo:
    """Write the weights of a network in float16, with a description. Return the description as read from the new file.

    training: a summary, anything that JSON can hold. licence: of the weights. data: what they were trained on. The file
    is written under a temporary name and then renamed.

    Raises `WeightsError` for weights that are not finite in float16, `SettingError` for a network that is not in
    `NETWORKS` or a `training` that JSON cannot hold, and `OutputError` if the file cannot be written.
    """
    from safetensors.torch import save

    path = Path(path)
    state = network.state_dict()
    tensors = {name: tensor.detach().cpu().to(torch.float16).contiguous() for name, tensor in state.items()}
    _check_finite(tensors, "the network's weights in float16")
    try:
        metadata = {
            "format": FORMAT,
            "network": network_name(network),
            "settings": json.dumps(getattr(network, "settings", {})),
            "training": json.dumps(dict(training), allow_nan=False),
            "licence": licence,
            "data": data,
        }
    except (TypeError, ValueError) as error:
        raise SettingError(f"the training summary of a weights file must be JSON: {error}") from error
    with atomic_write(path) as file:
        file.write(save(tensors, metadata))
    return read_info(path)


def _check_shapes(info: WeightsInfo, expected: Mapping[str, tuple[int, ...]]) -> None:
    """Raise `WeightsError` unless the file has exactly the expected tensors."""
    missing, unexpected = sorted(expected.keys() - info.shapes.keys()), sorted(info.shapes.keys() - expected.keys())
    if missing or unexpected:
        example = f"lacks {missing[0]}" if missing else f"holds {unexpected[0]}"
        raise WeightsError(
            f"{info.path} {example}; {info.network} with its settings has {len(expected)} tensors, "
            f"the file lacks {len(missing)} and holds {len(unexpected)} others"
        )
    for name, shape in expected.items():
        if info.shapes[name] != shape:
            found = list(info.shapes[name])
            raise WeightsError(f"{info.path} holds {name} as {found}; {info.network} needs {list(shape)}")


def _check_finite(tensors: Mapping[str, Tensor], where: str) -> None:
    """Raise `WeightsError` if a tensor has a value that is not finite; where: what the tensors belong to."""
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise WeightsError(f"{where}: {name} holds numbers that are not finite")


def _open_safetensors(path: Path) -> Any:
    """Open a safetensors file; this parses its header and checks it against the length of the file."""
    from safetensors import SafetensorError, safe_open

    try:
        return safe_open(path, framework="pt", device="cpu")
    except (SafetensorError, OSError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(f"{path} is no safetensors file ({reason}); a weights file of Midframe is needed") from error


def _read_shapes(file: Any, path: Path) -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor of an open file; raises `WeightsError` for other types than `TENSOR_TYPES`."""
    shapes = {}
    for name in file.keys():  # noqa: SIM118 - it is no mapping
        tensor = file.get_slice(name)
        if tensor.get_dtype() not in TENSOR_TYPES:
            found = f"{name} ({tensor.get_dtype()})"
            raise WeightsError(f"{path} holds {found}; the tensors of a weights file are {', '.join(TENSOR_TYPES)}")
        shapes[name] = tuple(tensor.get_shape())
    return shapes


def _read_tensors(info: WeightsInfo) -> dict[str, Tensor]:
    """Read all tensors in float32; raises `WeightsError` if one is not finite."""
    with _open_safetensors(info.path) as file:
        tensors = {name: file.get_tensor(name).float() for name in info.shapes}
    _check_finite(tensors, str(info.path))
    return tensors


def _metadata_string(path: Path, metadata: Mapping[str, str], key: str) -> str:
    """Return a metadata string; raises `WeightsError` if it is missing."""
    if key not in metadata:
        raise WeightsError(f"{path} does not say its {key}; a weights file of the format {FORMAT} does")
    return metadata[key]


def _metadata_object(path: Path, metadata: Mapping[str, str], key: str) -> dict[str, Any]:
    """Parse a metadata string that is a JSON object; raises `WeightsError` if it is not."""
    try:
        value = json.loads(_metadata_string(path, metadata, key))
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path}: its {key} is no JSON") from error
    if not isinstance(value, dict):
        raise WeightsError(f"{path}: its {key} is a JSON {type(value).__name__}; an object is needed")
    return value
