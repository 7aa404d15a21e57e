"""`interpolate`: kinds, shapes and types of frames, rounding, equal frames, and refused arguments."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import midframe
from midframe.errors import SettingError
from midframe.networks.base import InterpolationNetwork
from midframe.shader import DEFAULT_PRESET


class Constant(InterpolationNetwork):
    """Predicts one colour, whatever the frames are; has a parameter, as real networks do."""

    def __init__(self, *colour: float) -> None:
        super().__init__()
        self.colour = nn.Parameter(torch.tensor(colour))

    def forward(self, first: Tensor, second: Tensor, time: Tensor) -> Tensor:
        assert first.dtype == torch.float32
        return self.colour.view(1, 3, 1, 1).expand_as(first)


def random_frame(kind: Any, *shape: int, seed: int = 0) -> Any:
    values = np.random.default_rng(seed).uniform(0, 1, shape)
    if isinstance(kind, torch.dtype):
        return torch.from_numpy(values).to(kind)
    peak = {"uint8": 255, "uint16": 65535}.get(np.dtype(kind).name, 0)
    return (np.round(values * peak) if peak else values).astype(kind)


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("shape", [(3, 17, 31), (1, 3, 16, 16), (3, 3, 20, 16)])
@pytest.mark.parametrize("time", [0.25, 0.5])
def test_tensors(kind: torch.dtype, shape: tuple[int, ...], time: float) -> None:
    first, second = random_frame(kind, *shape), random_frame(kind, *shape, seed=1)
    copies = first.clone(), second.clone()
    result = midframe.interpolate(first, second, time, network="average")
    assert (type(result), result.shape, result.dtype, result.device) == (Tensor, first.shape, kind, first.device)
    mean = (1 - time) * first.double() + time * second.double()
    np.testing.assert_allclose(result.double(), mean, atol=2 * torch.finfo(kind).eps + 1e-6)
    assert torch.equal(first, copies[0])
    assert torch.equal(second, copies[1])


@pytest.mark.parametrize("kind", ["uint8", "uint16", ">u2", "float16", "float32", "float64"])
def test_arrays(kind: str) -> None:
    first, second = random_frame(kind, 17, 31, 3), random_frame(kind, 17, 31, 3, seed=1)
    result = midframe.interpolate(first, second, 0.25, network="average")
    assert (type(result), result.shape, result.dtype) == (np.ndarray, first.shape, np.dtype(kind))
    mean = 0.75 * first.astype(float) + 0.25 * second.astype(float)
    if np.dtype(kind).kind == "u":
        if kind == "uint8":
            np.testing.assert_array_equal(result, np.floor(mean + 0.5))
        assert np.abs(result.astype(float) - mean).max() < 0.51
    else:
        np.testing.assert_allclose(result, mean, atol=2 * np.finfo(kind).eps + 1e-6)


def test_views_need_no_copy_by_the_caller() -> None:
    wide = random_frame("uint8", 40, 60, 3)
    first, second = wide[::-2, ::2], wide[20:40, 5:35]
    mean = np.floor(first / 2 + second / 2 + 0.5)
    np.testing.assert_array_equal(midframe.interpolate(first, second, network="average"), mean)
    tensor = random_frame(torch.float32, 1, 16, 24, 3).permute(0, 3, 1, 2)
    assert torch.allclose(midframe.interpolate(tensor, 1 - tensor, network="average"), torch.tensor(0.5))


@pytest.mark.parametrize("kind", [torch.float64, "uint8", "float32"])
def test_predictions_are_rounded_and_clipped(kind: Any) -> None:
    constant = Constant(1.5, -0.25, 100.5 / 255)
    shape = (3, 16, 16) if isinstance(kind, torch.dtype) else (16, 16, 3)
    result = midframe.interpolate(
        random_frame(kind, *shape), random_frame(kind, *shape, seed=1), network=constant, shader="off"
    )
    values = result if isinstance(kind, torch.dtype) else result.transpose(2, 0, 1)
    expected = (255, 0, 101) if kind == "uint8" else (1.0, 0.0, 100.5 / 255)
    for channel, value in zip(values, expected, strict=True):
        np.testing.assert_allclose(np.asarray(channel, float), value, atol=1e-6)


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, "uint8", "float64"])
def test_between_equal_frames_lies_a_copy(kind: Any) -> None:
    """Also for values that float32 does not represent and values out of range. It shares no memory with the input."""
    shape = (3, 16, 16) if isinstance(kind, torch.dtype) else (16, 16, 3)
    frame = random_frame(kind, *shape)
    if kind != "uint8":
        frame[0, 0, 0] = 1.0625
    for shader in ("off", "default"):
        result = midframe.interpolate(frame, frame + 0, network=Constant(0.1, 0.2, 0.3), shader=shader)
        np.testing.assert_array_equal(np.asarray(result), np.asarray(frame))
        assert not np.shares_memory(np.asarray(result), np.asarray(frame))


def test_equal_pairs_in_a_batch_do_not_affect_others() -> None:
    first, second = random_frame(torch.float32, 3, 3, 16, 16), random_frame(torch.float32, 3, 3, 16, 16, seed=1)
    second[1] = first[1]
    result = midframe.interpolate(first, second, network=Constant(0.1, 0.2, 0.3), shader="off")
    assert torch.equal(result[1], first[1])
    alone = midframe.interpolate(first[2], second[2], network=Constant(0.1, 0.2, 0.3), shader="off")
    assert torch.equal(result[2], alone)
    assert torch.equal(result[2], torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1).expand(3, 16, 16))


def test_the_shader_keeps_static_regions() -> None:
    first = random_frame("uint8", 96, 128, 3)
    second = first.copy()
    second[:, 96:] = random_frame("uint8", 96, 32, 3, seed=1)
    shaded = midframe.interpolate(first, second, 0.25, network=Constant(0.1, 0.2, 0.3))
    plain = midframe.interpolate(first, second, 0.25, network=Constant(0.1, 0.2, 0.3), shader="off")
    static = np.s_[:, : 96 - DEFAULT_PRESET.radius]
    np.testing.assert_array_equal(shaded[static], first[static])
    np.testing.assert_array_equal(shaded[:, 100:], plain[:, 100:])
    assert (plain[static] != first[static]).any()


def test_the_result_may_be_used_in_training() -> None:
    first, second = (random_frame(torch.float32, 3, 16, 16, seed=seed) for seed in (0, 1))
    result = midframe.interpolate(first, second, network="average")
    weight = torch.ones(3, 1, 1, requires_grad=True)
    (result * weight).sum().backward()
    assert weight.grad is not None


@pytest.mark.parametrize("time", [Fraction(1, 3), np.float32(0.5), np.float64(0.25)])
def test_times_of_any_number_type(time: Any) -> None:
    first = torch.zeros(3, 16, 16)
    result = midframe.interpolate(first, first + 1, time, network="average")
    assert result.mean() == pytest.approx(float(time), abs=1e-6)


@pytest.mark.parametrize("time", [0, 1, 0.0, 1.0, -0.5, 1.5, float("nan"), float("inf"), "0.5", None])
def test_invalid_times_are_refused(time: Any) -> None:
    frame = torch.zeros(3, 16, 16)
    with pytest.raises(SettingError, match="above 0 and below 1"):
        midframe.interpolate(frame, frame, time)


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (torch.zeros(3, 16, 16), np.zeros((16, 16, 3)), "of one kind"),
        ([[0.0]], [[0.0]], "of one kind"),
        (torch.zeros(3, 16, 16), torch.zeros(3, 16, 17), "differ"),
        (torch.zeros(3, 16, 16), torch.zeros(3, 16, 16).double(), "differ"),
        (torch.zeros(3, 15, 16), torch.zeros(3, 15, 16), "16x16; found 16x15"),
        (torch.zeros(16, 16, 3), torch.zeros(16, 16, 3), r"\[3, H, W\]"),
        (torch.zeros(16), torch.zeros(16), r"\[3, H, W\]"),
        (torch.zeros(0, 3, 16, 16), torch.zeros(0, 3, 16, 16), r"\[3, H, W\]"),
        (torch.zeros(3, 16, 16, dtype=torch.uint8), torch.zeros(3, 16, 16, dtype=torch.uint8), "floating point"),
        (np.zeros((3, 16, 16)), np.zeros((3, 16, 16)), r"\[H, W, 3\]"),
        (np.zeros((16, 16)), np.zeros((16, 16)), r"\[H, W, 3\]"),
        (np.zeros((16, 16, 3), int), np.zeros((16, 16, 3), int), "uint8, uint16 or floating"),
        (np.zeros((16, 16, 3), bool), np.zeros((16, 16, 3), bool), "uint8, uint16 or floating"),
    ],
)
def test_invalid_frames_are_refused(first: Any, second: Any, message: str) -> None:
    with pytest.raises(SettingError, match=message) as caught:
        midframe.interpolate(first, second)
    assert "\n" not in str(caught.value)


def test_unknown_names_are_refused() -> None:
    frame = torch.zeros(3, 16, 16)
    with pytest.raises(SettingError, match=r"no network.*'nosuch'"):
        midframe.interpolate(frame, frame + 1, network="nosuch")
    with pytest.raises(SettingError, match="no shader preset 'nosuch'"):
        midframe.interpolate(frame, frame + 1, shader="nosuch")
