"""The network `paper`: parameters, shapes, initial state, receptive field, settings."""

from __future__ import annotations

import json
import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from midframe.errors import SettingError
from midframe.networks import load
from midframe.networks.initialisation import convolution_aware_, initialise
from midframe.networks.paper import CHANNELS, DILATED_TAPS, KernelHead, Paper

HALF = torch.tensor([0.5])


@pytest.fixture(scope="module")
def untrained() -> Paper:
    torch.manual_seed(0)
    return Paper(initialisation="glorot").eval()


@pytest.fixture(scope="module")
def random_network() -> Paper:
    """A network whose output depends on every weight."""
    torch.manual_seed(1)
    return Paper.repository().eval()


def count_parameters(values: int) -> int:
    """Count the parameters from the layer list of the report: 3x3 kernels and a bias each."""

    def convolutions(*channels: int) -> int:
        return sum((9 * inputs + 1) * outputs for inputs, outputs in pairwise(channels))

    encoder = convolutions(6, *(width for width in (32, 64, 128, 256, 512) for _ in range(3)))
    decoder = convolutions(512, *(width for width in (512, 256, 128, 64) for _ in range(3)))
    after_upsampling = sum(convolutions(width, width) for width in (512, 256, 128, 64))
    return encoder + decoder + after_upsampling + 4 * convolutions(64, 64, 64, values, values)


def test_parameter_count(untrained: Paper) -> None:
    assert sum(parameter.numel() for parameter in untrained.parameters()) == 21_675_452 == count_parameters(51)


def test_parameter_count_with_composite_dilation() -> None:
    network = Paper(taps=DILATED_TAPS, initialisation="glorot")
    assert sum(parameter.numel() for parameter in network.parameters()) == count_parameters(21)


@pytest.mark.parametrize("size", [(64, 96), (33, 47), (16, 16), (17, 40), (70, 61)])
def test_shapes_at_every_level(untrained: Paper, size: tuple[int, int]) -> None:
    seen: dict[str, tuple[int, ...]] = {}
    watched = {
        **{f"encoder {k}": level for k, level in enumerate(untrained.encoder)},
        **{f"decoder {k}": level for k, level in enumerate(untrained.decoder)},
        **{f"up {k}": level for k, level in enumerate(untrained.after_upsampling)},
        **{name: part for name, part in untrained.named_modules() if isinstance(part, KernelHead)},
    }
    hooks = [
        module.register_forward_hook(lambda _m, _i, out, name=name: seen.__setitem__(name, tuple(out.shape)))
        for name, module in watched.items()
    ]
    try:
        with torch.no_grad():
            out = untrained(torch.rand(1, 3, *size), torch.rand(1, 3, *size), HALF)
    finally:
        for hook in hooks:
            hook.remove()

    def at(level: int) -> tuple[int, int]:
        return math.ceil(size[0] / 2**level), math.ceil(size[1] / 2**level)

    expected = {f"encoder {k}": (1, channels, *at(k)) for k, channels in enumerate(CHANNELS)}
    for k, channels in enumerate((512, 256, 128, 64)):
        expected[f"decoder {k}"] = (1, channels, *at(5 - k))
        expected[f"up {k}"] = (1, channels, *at(4 - k))
    heads = ("vertical_first", "horizontal_first", "vertical_second", "horizontal_second")
    expected |= dict.fromkeys(heads, (1, 51, *size))
    assert seen == expected
    assert out.shape == (1, 3, *size)


def test_pooling_of_odd_sizes_averages_only_existing_pixels() -> None:
    """A constant picture stays constant, so the mean contains no padding zeros."""
    network = Paper(initialisation="glorot")
    seen = []
    hook = network.encoder[1].register_forward_pre_hook(lambda _m, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        for name, parameter in network.encoder[0].named_parameters():
            parameter.fill_(1.0 if name.endswith("bias") else 0.0)
        network.features(torch.zeros(1, 6, 17, 19))
    hook.remove()
    assert torch.equal(seen[0], torch.ones(1, 32, 9, 10))


@pytest.mark.parametrize("size", [(16, 16), (31, 18), (45, 64)])
@pytest.mark.parametrize("batch", [1, 2])
def test_the_untrained_network_returns_the_mean(untrained: Paper, size: tuple[int, int], batch: int) -> None:
    first, second = torch.rand(2, batch, 3, *size)
    with torch.no_grad():
        frame = untrained(first, second, HALF.expand(batch))
    torch.testing.assert_close(frame, (first + second) / 2, atol=3e-7, rtol=0)


def test_the_untrained_network_with_composite_dilation_returns_the_mean() -> None:
    first, second = torch.rand(2, 1, 3, 40, 24)
    with torch.no_grad():
        frame = Paper(taps=DILATED_TAPS, initialisation="glorot")(first, second, HALF)
    torch.testing.assert_close(frame, (first + second) / 2, atol=3e-7, rtol=0)


def test_the_authors_initialisation_does_not_return_the_mean(random_network: Paper) -> None:
    first, second = torch.rand(2, 1, 3, 32, 32)
    with torch.no_grad():
        frame = random_network(first, second, HALF)
    assert (frame - (first + second) / 2).abs().mean() > 0.1


def receptive_radius() -> int:
    """Return how many pixels away an output pixel depends on the input: one pixel of its resolution for each 3x3
    convolution, each pooling and each upsampling, and 25 for the taps."""
    down = sum((3 + 1) * 2**level for level in range(5))
    up = sum((3 + 1) * 2**level + 2 ** (level - 1) for level in range(5, 1, -1))
    heads = (3 + 1) * 2 + 1
    return down + up + heads + 25


@pytest.mark.parametrize("axis", [2, 3])
def test_a_picture_inside_a_larger_one_gives_the_same_frame(random_network: Paper, axis: int) -> None:
    """Strips of 32 pixels, longer by multiples of 32 on both ends along one axis, in float64."""
    reach, before, after = receptive_radius(), 64, 32
    length = -(-(2 * reach + 64) // 32) * 32
    network = Paper.repository().double()
    network.load_state_dict(random_network.state_dict())
    size = (1, 3, before + length + after, 32) if axis == 2 else (1, 3, 32, before + length + after)
    first, second = torch.rand(2, *size, dtype=torch.float64)

    def inner(frame: Tensor, margin: int = 0, offset: int = 0) -> Tensor:
        return frame.narrow(axis, offset + margin, length - 2 * margin)

    with torch.no_grad():
        large = network(first, second, HALF.double())
        small = network(inner(first, 0, before), inner(second, 0, before), HALF.double())
    same = inner(large, reach, before) - inner(small, reach)
    assert same.shape[axis] >= 64
    assert same.abs().max() < 1e-12
    assert (inner(large, 0, before) - small).abs().max() > 1e-6, "near the border the surroundings must have an effect"


def test_every_parameter_gets_a_gradient(untrained: Paper) -> None:
    network = Paper(initialisation="glorot")
    network.load_state_dict(untrained.state_dict())
    optimiser = torch.optim.SGD(network.parameters(), lr=0.01)
    first, target, second = torch.rand(3, 1, 3, 32, 32)
    for _ in range(2):  # at the start only the last convolutions of the heads have a gradient
        optimiser.zero_grad()
        (network(first, second, HALF) - target).square().mean().backward()
        optimiser.step()
    without = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == []


def test_time_is_not_read(random_network: Paper) -> None:
    assert random_network.any_time is False
    first, second = torch.rand(2, 1, 3, 16, 16)
    with torch.no_grad():
        assert torch.equal(random_network(first, second, HALF), random_network(first, second, torch.tensor([0.2])))


def test_bfloat16_is_close_to_float32(random_network: Paper) -> None:
    network = Paper(initialisation="glorot", precision="bfloat16")
    network.load_state_dict(random_network.state_dict())
    first, second = torch.rand(2, 1, 3, 32, 48)
    with torch.no_grad():
        exact, got = random_network(first, second, HALF), network(first, second, HALF)
    assert got.dtype == torch.float32
    assert not torch.equal(got, exact)
    assert (got - exact).norm() < 0.05 * exact.norm()


def test_an_untrained_network_says_so(untrained: Paper, random_network: Paper) -> None:
    assert untrained.is_untrained_average
    assert not random_network.is_untrained_average


def test_settings_rebuild_the_network() -> None:
    network = Paper(taps=DILATED_TAPS, initialisation="glorot")
    again = Paper(**json.loads(json.dumps(network.settings)), initialisation="glorot")
    assert again.taps == DILATED_TAPS
    again.load_state_dict(network.state_dict())


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        pytest.param({"taps": [11, 10]}, "taps is inner, outer and a variant", id="two numbers"),
        pytest.param({"taps": [11, 10, "spirals"]}, "taps is inner, outer and a variant", id="unknown variant"),
        pytest.param({"taps": ["11", 10, "rings"]}, "taps is inner, outer and a variant", id="a string for a number"),
        pytest.param({"taps": [10, 10, "rings"]}, "10 dense", id="even size"),
        pytest.param({"taps": [10**9 + 1, 0, "rings"]}, "taps is inner, outer and a variant", id="too large"),
        pytest.param({"precision": "float8"}, "precision is float32 or bfloat16; got 'float8'", id="precision"),
        pytest.param({"initialisation": "zeros"}, "no initialisation 'zeros'", id="initialisation"),
    ],
)
def test_invalid_settings_are_refused(setting: dict[str, object], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        Paper(**setting)  # type: ignore[arg-type]


def test_convolution_aware_initialisation() -> None:
    torch.manual_seed(2)
    weight = convolution_aware_(torch.empty(40, 30, 3, 3))
    assert weight.var(correction=0).item() == pytest.approx(2 / (30 * 9), rel=1e-4)
    plain = convolution_aware_(torch.empty(40, 30, 3, 3), noise=0.0)
    spectra = torch.fft.rfft2(plain)
    assert spectra.imag.abs().max() < 1e-5, "without noise the spectra are real"
    # The coefficients that survive a real inverse transform: of the column kx = 0 only the mean of ky and -ky does.
    basis = spectra.real.view(40, 5, 6, 6)
    gram = basis @ basis.mT
    surviving = torch.linalg.eigvalsh(gram)
    assert torch.allclose(surviving[..., 0], torch.zeros(()), atol=1e-4), "one direction of six is lost"
    assert torch.allclose(surviving[..., 1:] / surviving[..., 5:], torch.ones(()), atol=1e-3), "five are orthonormal"
    assert not torch.equal(plain[0], plain[1])


def test_glorot_initialisation_and_zero_biases() -> None:
    torch.manual_seed(3)
    layer = nn.Conv2d(20, 30, 3)
    initialise(layer, "glorot")
    limit = math.sqrt(6 / (20 * 9 + 30 * 9))
    assert layer.weight.abs().max() <= limit
    assert layer.weight.abs().max() > 0.95 * limit
    assert layer.bias is not None
    assert not layer.bias.any()
    with pytest.raises(SettingError, match=r"'he'.*glorot"):
        initialise(layer, "he")  # type: ignore[arg-type]


def test_it_loads_by_name() -> None:
    network = load("paper")
    assert isinstance(network, Paper)
    assert not network.training
    first, second = torch.rand(2, 1, 3, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(network(first, second, HALF), (first + second) / 2, atol=3e-7, rtol=0)
