"""VGG-19 as a frozen feature extractor, for the perceptual loss and the discriminator."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from midframe.errors import SettingError, WeightsError
from midframe.networks.fetch import local_path

log = logging.getLogger(__name__)

Convention = Literal["caffe", "torchvision"]
"""The input that the weights were trained on, a key of `INPUT_NORMALISATIONS`."""

BLOCKS = ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4))
"""Channels and number of convolutions of each of the five blocks; each block ends in a 2x2 max pooling."""

LAYERS = tuple(
    name
    for block, (_, count) in enumerate(BLOCKS, start=1)
    for name in (*(f"relu{block}_{k}" for k in range(1, count + 1)), f"pool{block}")
)
"""The names of all layers whose features can be requested, from the shallowest to the deepest."""


@dataclass(frozen=True)
class InputNormalisation:
    """How pictures, RGB in 0..255, become the input that the weights expect: (picture - mean) * scale."""

    reverse_channels: bool
    """Whether the weights expect B, G, R; `mean` and `scale` are then in this order."""
    mean: tuple[float, float, float]
    """Mean of each channel, 0..255."""
    scale: tuple[float, float, float]
    """Factor of each channel after the mean is subtracted."""


INPUT_NORMALISATIONS: dict[Convention, InputNormalisation] = {
    "caffe": InputNormalisation(True, mean=(103.939, 116.779, 123.68), scale=(1.0, 1.0, 1.0)),
    "torchvision": InputNormalisation(
        False,
        mean=(255 * 0.485, 255 * 0.456, 255 * 0.406),
        scale=(1 / (255 * 0.229), 1 / (255 * 0.224), 1 / (255 * 0.225)),
    ),
}
"""`caffe`: the original weights, also used by Keras. `torchvision`: RGB in 0..1, less means, divided by deviations."""


class Vgg19(nn.Module):
    """VGG-19 up to the deepest layer that the given weights reach, always frozen and in evaluation mode.

    Source: Simonyan and Zisserman, arXiv 1409.1556.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, state: Mapping[str, Tensor], convention: Convention) -> None:
        """Build the network from weights with torchvision's names.

        state: weights and biases of the convolutions from the first to the deepest that is wanted. convention: the
        input that they were trained on. Raises `WeightsError` if names or shapes are not those of VGG-19.
        """
        super().__init__()
        self.convention = convention
        self.convolutions = nn.ModuleDict()
        for expected in _expected_convolutions():
            convolution = _load_convolution(state, expected)
            if convolution is None:
                break
            self.convolutions[expected.name] = convolution
        if not self.convolutions:
            raise WeightsError("these are no weights of VGG-19: features.0.weight and features.0.bias are needed")
        self.layers = _reached_layers(set(self.convolutions))
        """The names of the layers whose features can be computed, from the shallowest to the deepest."""
        normalisation = INPUT_NORMALISATIONS[convention]
        self.register_buffer("mean", torch.tensor(normalisation.mean).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor(normalisation.scale).view(1, 3, 1, 1))
        self.requires_grad_(False)
        super().train(False)

    @property
    def deepest(self) -> str:
        """The deepest ReLU layer that can be computed."""
        return next(name for name in reversed(self.layers) if name.startswith("relu"))

    def train(self, mode: bool = True) -> Vgg19:
        """Stay in evaluation mode, whatever `mode` is."""
        return self

    def forward(self, picture: Tensor, layers: Collection[str]) -> dict[str, Tensor]:
        """Return the features of the given layers (names in `LAYERS`) for pictures `[B, 3, H, W]`, RGB in 0..255.

        Raises `SettingError` for a layer that the weights do not reach.
        """
        missing = [name for name in layers if name not in self.layers]
        if missing:
            raise SettingError(
                f"these weights of VGG-19 do not reach {missing[0]}; the deepest layer is {self.deepest}"
            )
        x = picture.flip(1) if INPUT_NORMALISATIONS[self.convention].reverse_channels else picture
        x = (x - self.mean) * self.scale
        features: dict[str, Tensor] = {}
        for name in self.layers:
            if name.startswith("pool"):
                x = F.max_pool2d(x, 2)
            else:
                x = F.relu(self.convolutions[name.replace("relu", "conv")](x))
            if name in layers:
                features[name] = x
                if len(features) == len(set(layers)):
                    break
        return features


def load_vgg19(path: str | Path, convention: Convention | None = None) -> Vgg19:
    """Load VGG-19 from a file: torchvision's published `.pth`, or safetensors with the same names.

    convention: None takes the input that a safetensors file states in its metadata, and torchvision's if there is no
    such statement. Loading never runs code from the file. Raises `WeightsError` for any other file.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"there is no VGG-19 file {path}; give one, or fetch it with `midframe models fetch vgg19`")
    if path.suffix == ".safetensors":
        state, stated_input = _read_safetensors(path)
    else:
        state, stated_input = _read_pickle(path), ""
    return Vgg19(state, convention or ("caffe" if stated_input.startswith("BGR") else "torchvision"))


def find_vgg19() -> Path:
    """Return the path of the file that `midframe models fetch vgg19` downloaded; raises `WeightsError` without it."""
    path = local_path("vgg19")
    if not path.is_file():
        raise WeightsError(
            f"VGG-19 is needed and not at {path}; fetch it with `midframe models fetch vgg19`, "
            "or name a file that holds it (torchvision's .pth or a .safetensors)"
        )
    return path


def choose_layer(vgg: Vgg19, wanted: str = "relu4_4") -> str:
    """Return the layer `wanted`, or, if the weights do not reach it, a shallower one, with a warning in the log.

    The replacement is the deepest ReLU layer for a ReLU layer, and the deepest layer of all for a pooling. Raises
    `SettingError` for a name that is not in `LAYERS`.
    """
    if wanted not in LAYERS:
        raise SettingError(f"VGG-19 has no layer '{wanted}'; there are: {', '.join(LAYERS)}")
    if wanted in vgg.layers:
        return wanted
    replacement = vgg.deepest if wanted.startswith("relu") else vgg.layers[-1]
    log.warning("these weights of VGG-19 do not reach %s; %s is taken instead", wanted, replacement)
    return replacement


def random_vgg19(seed: int = 0, convention: Convention = "caffe") -> Vgg19:
    """Build VGG-19 with random weights for all layers, for tests and for measuring memory."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for expected in _expected_convolutions():
        deviation = (2 / (expected.shape[1] * 9)) ** 0.5
        state[f"features.{expected.index}.weight"] = torch.randn(expected.shape, generator=generator) * deviation
        state[f"features.{expected.index}.bias"] = torch.zeros(expected.shape[0])
    return Vgg19(state, convention)


@dataclass(frozen=True)
class _ExpectedConvolution:
    """A convolution of VGG-19."""

    name: str
    """Its name here, such as `conv1_2`."""
    index: int
    """Its position in torchvision's `features`."""
    shape: tuple[int, int, int, int]
    """Shape of its weight."""


def _expected_convolutions() -> Iterator[_ExpectedConvolution]:
    """Yield all convolutions of VGG-19 in order."""
    index, input_channels = 0, 3
    for block, (channels, count) in enumerate(BLOCKS, start=1):
        for k in range(1, count + 1):
            yield _ExpectedConvolution(f"conv{block}_{k}", index, (channels, input_channels, 3, 3))
            index, input_channels = index + 2, channels  # a ReLU follows each convolution
        index += 1  # the pooling


def _load_convolution(state: Mapping[str, Tensor], expected: _ExpectedConvolution) -> nn.Conv2d | None:
    """Build a convolution from its weights, None if they are not there; raises `WeightsError` for a wrong shape."""
    index, shape = expected.index, expected.shape
    weight, bias = state.get(f"features.{index}.weight"), state.get(f"features.{index}.bias")
    if weight is None or bias is None:
        return None
    if tuple(weight.shape) != shape or tuple(bias.shape) != shape[:1]:
        found = f"{tuple(weight.shape)} and {tuple(bias.shape)}"
        raise WeightsError(f"features.{index} of VGG-19 is {shape} and {shape[:1]}, found {found}")
    convolution = nn.Conv2d(shape[1], shape[0], 3, padding=1)
    convolution.load_state_dict({"weight": weight.float(), "bias": bias.float()})
    return convolution


def _reached_layers(convolutions: Collection[str]) -> tuple[str, ...]:
    """Return the layers that can be computed with these convolutions, in order."""
    names = []
    for name in LAYERS:
        if name.startswith("relu") and name.replace("relu", "conv") not in convolutions:
            break
        names.append(name)
    return tuple(names)


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], str]:
    """Return the tensors of a safetensors file and the input that its metadata states, "" if none."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            names = list(file.keys())
            return {name: file.get_tensor(name) for name in names}, (file.metadata() or {}).get("input", "")
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} cannot be read as safetensors: {error}") from None


def _read_pickle(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a `.pth` file, without running code from it."""
    try:
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise WeightsError(f"{path} cannot be read as weights: {reason}") from None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(f"{path} holds no tensors by name; torchvision's vgg19 file is needed")
    return state
