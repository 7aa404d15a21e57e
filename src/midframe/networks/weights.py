"""Weights files: what a network has learnt, with all that is needed to build it again and nothing that could run.

One `safetensors` file: the tensors in float16, and as metadata strings `format` (`midframe-weights/1`), `network` (its
name), `settings` (JSON, what its class takes), `training` (JSON, what the training wants to be remembered), `licence`
and `data` (what it was trained on, in words). A model card (Markdown) of the same name may lie beside it.
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

FORMAT = "midframe-weights/1"
SUFFIX = ".safetensors"
LARGEST = 1 << 30
"""Bytes: the paper's network takes 43 million."""
STORED = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32}


@dataclass(frozen=True)
class WeightsInfo:
    """What a weights file says about itself: `midframe info WEIGHTS`."""

    path: Path
    format: str
    network: str
    settings: Mapping[str, Any]
    training: Mapping[str, Any]
    licence: str
    data: str
    parameters: int
    bytes: int
    card: Path | None = None
    """The model card beside the file, where there is one."""
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict, repr=False)
    """The shape of each tensor by name."""


def load_weights(path: str | Path) -> InterpolationNetwork:
    """Build the network that a weights file describes, with its weights in float32, ready to make frames.

    Format, network, settings, names, shapes and finiteness are checked before anything is built; only numbers are ever
    read. Raises `WeightsError` with what was found and what is needed.
    """
    from midframe.networks.registry import network_class

    info = read_info(path)
    try:
        with torch.device("meta"):  # names and shapes only: nothing is allocated for what the file may claim
            network = network_class(info.network)(**info.settings)
    except SettingError as error:
        raise WeightsError(f"{info.path} has settings that {info.network} does not take: {error}") from error
    except TypeError as error:
        raise WeightsError(f"{info.path} has settings that {info.network} does not know: {info.settings}") from error
    _compare(info, {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()})
    tensors = _tensors(info)
    network.load_state_dict(tensors, assign=True)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network.eval()


def read_info(path: str | Path) -> WeightsInfo:
    """Read what a weights file says about itself, without its tensors. Raises `WeightsError` as `load_weights`."""
    path = Path(path)
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise WeightsError(f"{path} is no file; a weights file is needed, NAME{SUFFIX}")
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}") from error
    if size > LARGEST:
        raise WeightsError(f"{path} has {size} bytes; a weights file of Midframe has at most {LARGEST}")
    with _opened(path) as file:
        metadata = file.metadata() or {}
        found = metadata.get("format")
        if found != FORMAT:
            what = f"has the format '{found}'" if found and found.startswith("midframe") else "was not made by Midframe"
            raise WeightsError(f"{path} {what}; a weights file of the format {FORMAT} is needed")
        shapes, wrong = {}, []
        for name in file.keys():  # noqa: SIM118 - it is no mapping
            stored = file.get_slice(name)
            shapes[name] = tuple(stored.get_shape())
            if stored.get_dtype() not in STORED:
                wrong.append(f"{name} ({stored.get_dtype()})")
    if wrong:
        raise WeightsError(f"{path} holds {wrong[0]}; the tensors of a weights file are {', '.join(STORED)}")
    card = path.with_suffix(".md")
    return WeightsInfo(
        path=path,
        format=found,
        network=_word(path, metadata, "network"),
        settings=_mapping(path, metadata, "settings"),
        training=_mapping(path, metadata, "training"),
        licence=_word(path, metadata, "licence"),
        data=_word(path, metadata, "data"),
        parameters=sum(torch.Size(shape).numel() for shape in shapes.values()),
        bytes=size,
        card=card if card.is_file() else None,
        shapes=shapes,
    )


def save_weights(
    network: InterpolationNetwork, path: str | Path, *, training: Mapping[str, Any], licence: str, data: str
) -> WeightsInfo:
    """Write the weights of a network, in float16, and what is to be known about them; returns that as read back.

    training: anything JSON can hold. licence: of the weights. data: what they were trained on. The file appears under
    its name when it is whole. Raises `WeightsError` for weights that are not finite in float16, `SettingError` for a
    network that is not in `NETWORKS` or a `training` that is no JSON, `OutputError` where it cannot be written.
    """
    from safetensors.torch import save

    from midframe.networks.registry import network_name

    path = Path(path)
    learnt = network.state_dict()
    tensors = {name: tensor.detach().cpu().to(torch.float16).contiguous() for name, tensor in learnt.items()}
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


def _compare(info: WeightsInfo, wanted: Mapping[str, tuple[int, ...]]) -> None:
    missing, foreign = sorted(wanted.keys() - info.shapes.keys()), sorted(info.shapes.keys() - wanted.keys())
    if missing or foreign:
        which = f"lacks {missing[0]}" if missing else f"holds {foreign[0]}"
        raise WeightsError(
            f"{info.path} {which}; {info.network} with its settings has {len(wanted)} tensors, "
            f"the file lacks {len(missing)} and holds {len(foreign)} others"
        )
    for name, shape in wanted.items():
        if info.shapes[name] != shape:
            found = list(info.shapes[name])
            raise WeightsError(f"{info.path} holds {name} as {found}; {info.network} needs {list(shape)}")


def _tensors(info: WeightsInfo) -> dict[str, Tensor]:
    with _opened(info.path) as file:
        tensors = {name: file.get_tensor(name).float() for name in info.shapes}
    _check_finite(tensors, str(info.path))
    return tensors


def _check_finite(tensors: Mapping[str, Tensor], where: str) -> None:
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise WeightsError(f"{where}: {name} holds numbers that are not finite")


def _opened(path: Path) -> Any:
    """The file as safetensors sees it: its header is parsed and held against the file's length."""
    from safetensors import SafetensorError, safe_open

    try:
        return safe_open(path, framework="pt", device="cpu")
    except (SafetensorError, OSError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(f"{path} is no safetensors file ({reason}); a weights file of Midframe is needed") from error


def _word(path: Path, metadata: Mapping[str, str], key: str) -> str:
    if key not in metadata:
        raise WeightsError(f"{path} does not say its {key}; a weights file of the format {FORMAT} does")
    return metadata[key]


def _mapping(path: Path, metadata: Mapping[str, str], key: str) -> dict[str, Any]:
    try:
        value = json.loads(_word(path, metadata, key))
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path}: its {key} is no JSON") from error
    if not isinstance(value, dict):
        raise WeightsError(f"{path}: its {key} is a JSON {type(value).__name__}; an object is needed")
    return value
