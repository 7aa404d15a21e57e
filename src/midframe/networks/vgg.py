"""VGG-19's features: frozen, for the perceptual loss and the discriminator."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from midframe.errors import SettingError, WeightsError
from midframe.networks.fetch import place_of

log = logging.getLogger(__name__)

Convention = Literal["caffe", "torchvision"]

BLOCKS = ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4))
"""Channels and convolutions of each of the five blocks; each ends in a 2x2 max pooling."""

LAYERS = tuple(
    name
    for block, (_, count) in enumerate(BLOCKS, start=1)
    for name in (*(f"relu{block}_{k}" for k in range(1, count + 1)), f"pool{block}")
)
"""Every feature that can be asked for, from the shallowest to the deepest."""


class Vgg19(nn.Module):
    """VGG-19 up to the deepest layer whose weights are at hand, frozen and in evaluation mode for good.

    convention: what the weights were trained on. "caffe" (the original ones, Keras): B, G, R in 0..255 less the channel
    means; "torchvision": R, G, B in 0..1, less the means, divided by the deviations.
    Source: Simonyan and Zisserman, arXiv 1409.1556.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, state: Mapping[str, Tensor], convention: Convention) -> None:
        super().__init__()
        self.convention = convention
        self.convolutions = nn.ModuleDict()
        for name, index, shape in _expected():
            weight, bias = state.get(f"features.{index}.weight"), state.get(f"features.{index}.bias")
            if weight is None or bias is None:
                break
            if tuple(weight.shape) != shape or tuple(bias.shape) != shape[:1]:
                found = f"{tuple(weight.shape)} and {tuple(bias.shape)}"
                raise WeightsError(f"features.{index} of VGG-19 is {shape} and {shape[:1]}, found {found}")
            layer = nn.Conv2d(shape[1], shape[0], 3, padding=1)
            layer.load_state_dict({"weight": weight.float(), "bias": bias.float()})
            self.convolutions[name] = layer
        if not self.convolutions:
            raise WeightsError("these are no weights of VGG-19: features.0.weight and features.0.bias are needed")
        self.layers = _reached(set(self.convolutions))
        mean, scale = _NORMALISATION[convention]
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor(scale).view(1, 3, 1, 1))
        self.requires_grad_(False)
        super().train(False)

    @property
    def deepest(self) -> str:
        """The deepest layer that can be had after a rectifier."""
        return next(name for name in reversed(self.layers) if name.startswith("relu"))

    def train(self, mode: bool = True) -> Vgg19:
        """Stay in evaluation mode."""
        return self

    def forward(self, picture: Tensor, wanted: Collection[str]) -> dict[str, Tensor]:
        """The features `wanted` (names of `LAYERS`) of pictures `[B, 3, H, W]`, RGB in 0..255."""
        missing = [name for name in wanted if name not in self.layers]
        if missing:
            raise SettingError(
                f"these weights of VGG-19 do not reach {missing[0]}; the deepest layer is {self.deepest}"
            )
        x = picture.flip(1) if self.convention == "caffe" else picture
        x = (x - self.mean) * self.scale
        found: dict[str, Tensor] = {}
        for name in self.layers:
            x = (
                F.max_pool2d(x, 2)
                if name.startswith("pool")
                else F.relu(self.convolutions[name.replace("relu", "conv")](x))
            )
            if name in wanted:
                found[name] = x
                if len(found) == len(set(wanted)):
                    break
        return found


def load_vgg19(path: str | Path, convention: Convention | None = None) -> Vgg19:
    """VGG-19 from a file: torchvision's published `.pth`, or safetensors with the same names.

    convention: None takes what the file says of its input, and torchvision's where it says nothing. Only numbers are
    read, nothing in the file is run. Raises `WeightsError` for any other file.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"there is no VGG-19 file {path}; give one, or fetch it with `midframe models fetch vgg19`")
    if path.suffix == ".safetensors":
        state, said = _read_safetensors(path)
    else:
        state, said = _read_pickle(path), ""
    return Vgg19(state, convention or ("caffe" if said.startswith("BGR") else "torchvision"))


def find_vgg19() -> Path:
    """The file that `midframe models fetch vgg19` brought; where there is none, `WeightsError` says what to do."""
    path = place_of("vgg19")
    if not path.is_file():
        raise WeightsError(
            f"VGG-19 is needed and not at {path}; fetch it with `midframe models fetch vgg19`, "
            "or name a file that holds it (torchvision's .pth or a .safetensors)"
        )
    return path


def choose_layer(vgg: Vgg19, wanted: str = "relu4_4") -> str:
    """The layer `wanted`, or where the weights do not reach it, with a warning in the log, the deepest that they reach.

    That is the deepest rectifier for a rectifier, the deepest of all layers for a pooling. Raises `SettingError` for a
    name that is not in `LAYERS`.
    """
    if wanted not in LAYERS:
        raise SettingError(f"VGG-19 has no layer '{wanted}'; there are: {', '.join(LAYERS)}")
    if wanted in vgg.layers:
        return wanted
    taken = vgg.deepest if wanted.startswith("relu") else vgg.layers[-1]
    log.warning("these weights of VGG-19 do not reach %s; %s is taken instead", wanted, taken)
    return taken


def random_vgg19(seed: int = 0, convention: Convention = "caffe") -> Vgg19:
    """VGG-19 with random weights to its last layer, for tests and for measuring memory."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for _, index, shape in _expected():
        deviation = (2 / (shape[1] * 9)) ** 0.5
        state[f"features.{index}.weight"] = torch.randn(shape, generator=generator) * deviation
        state[f"features.{index}.bias"] = torch.zeros(shape[0])
    return Vgg19(state, convention)


_NORMALISATION: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "caffe": ((103.939, 116.779, 123.68), (1.0, 1.0, 1.0)),
    "torchvision": (
        tuple(255 * m for m in (0.485, 0.456, 0.406)),
        tuple(1 / (255 * d) for d in (0.229, 0.224, 0.225)),
    ),
}


def _expected() -> list[tuple[str, int, tuple[int, int, int, int]]]:
    """Name, index in torchvision's `features`, and weight shape of each convolution."""
    found = []
    index, before = 0, 3
    for block, (channels, count) in enumerate(BLOCKS, start=1):
        for k in range(1, count + 1):
            found.append((f"conv{block}_{k}", index, (channels, before, 3, 3)))
            index, before = index + 2, channels
        index += 1
    return found


def _reached(convolutions: Collection[str]) -> tuple[str, ...]:
    """The layers that these convolutions reach, in order."""
    names = []
    for name in LAYERS:
        if name.startswith("relu") and name.replace("relu", "conv") not in convolutions:
            break
        names.append(name)
    return tuple(names)


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], str]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            names = list(file.keys())
            return {name: file.get_tensor(name) for name in names}, (file.metadata() or {}).get("input", "")
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} cannot be read as safetensors: {error}") from None


def _read_pickle(path: Path) -> dict[str, Tensor]:
    try:
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise WeightsError(f"{path} cannot be read as weights: {reason}") from None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(f"{path} holds no tensors by name; torchvision's vgg19 file is needed")
    return state
