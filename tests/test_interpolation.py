"""One frame from two: the same kind, shape and type comes back, and what cannot be done is said."""

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


class Painter(InterpolationNetwork):
    """Answers with one colour, whatever the frames are; has a parameter, as real networks do."""

    def __init__(self, *colour: float) -> None:
        super().__init__()
        self.colour = nn.Parameter(torch.tensor(colour))

    def forward(self, first: Tensor, second: Tensor, time: Tensor) -> Tensor:
        assert first.dtype == torch.float32
        return self.colour.view(1, 3, 1, 1).expand_as(first)


def random(kind: Any, *shape: int, seed: int = 0) -> Any:
    values = np.random.default_rng(seed).uniform(0, 1, shape)
    if isinstance(kind, torch.dtype):
        return torch.from_numpy(values).to(kind)
    peak = {"uint8": 255, "uint16": 65535}.get(np.dtype(kind).name, 0)
    return (np.round(values * peak) if peak else values).astype(kind)


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("shape", [(3, 17, 31), (1, 3, 16, 16), (3, 3, 20, 16)])
@pytest.mark.parametrize("time", [0.25, 0.5])
def test_tensors(kind: torch.dtype, shape: tuple[int, ...], time: float) -> None:
    first, second = random(kind, *shape), random(kind, *shape, seed=1)
    kept = first.clone(), second.clone()
    made = midframe.interpolate(first, second, time, network="average")
    assert (type(made), made.shape, made.dtype, made.device) == (Tensor, first.shape, kind, first.device)
    mean = (1 - time) * first.double() + time * second.double()
    np.testing.assert_allclose(made.double(), mean, atol=2 * torch.finfo(kind).eps + 1e-6)
    assert torch.equal(first, kept[0])
    assert torch.equal(second, kept[1])


@pytest.mark.parametrize("kind", ["uint8", "uint16", ">u2", "float16", "float32", "float64"])
def test_arrays(kind: str) -> None:
    first, second = random(kind, 17, 31, 3), random(kind, 17, 31, 3, seed=1)
    made = midframe.interpolate(first, second, 0.25, network="average")
    assert (type(made), made.shape, made.dtype) == (np.ndarray, first.shape, np.dtype(kind))
    mean = 0.75 * first.astype(float) + 0.25 * second.astype(float)
    if np.dtype(kind).kind == "u":
        if kind == "uint8":
            np.testing.assert_array_equal(made, np.floor(mean + 0.5))
        assert np.abs(made.astype(float) - mean).max() < 0.51
    else:
        np.testing.assert_allclose(made, mean, atol=2 * np.finfo(kind).eps + 1e-6)


def test_views_are_taken_as_they_are() -> None:
    wide = random("uint8", 40, 60, 3)
    first, second = wide[::-2, ::2], wide[20:40, 5:35]
    mean = np.floor(first / 2 + second / 2 + 0.5)
    np.testing.assert_array_equal(midframe.interpolate(first, second, network="average"), mean)
    tensor = random(torch.float32, 1, 16, 24, 3).permute(0, 3, 1, 2)
    assert torch.allclose(midframe.interpolate(tensor, 1 - tensor, network="average"), torch.tensor(0.5))


@pytest.mark.parametrize("kind", [torch.float64, "uint8", "float32"])
def test_answers_are_rounded_and_clipped(kind: Any) -> None:
    painter = Painter(1.5, -0.25, 100.5 / 255)
    shape = (3, 16, 16) if isinstance(kind, torch.dtype) else (16, 16, 3)
    made = midframe.interpolate(random(kind, *shape), random(kind, *shape, seed=1), network=painter, shader="off")
    values = made if isinstance(kind, torch.dtype) else made.transpose(2, 0, 1)
    wanted = (255, 0, 101) if kind == "uint8" else (1.0, 0.0, 100.5 / 255)
    for channel, value in zip(values, wanted, strict=True):
        np.testing.assert_allclose(np.asarray(channel, float), value, atol=1e-6)


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, "uint8", "float64"])
def test_equal_frames_come_back(kind: Any) -> None:
    """Values that no float32 holds, or out of range, too; as a copy, so that writing to it changes no input."""
    shape = (3, 16, 16) if isinstance(kind, torch.dtype) else (16, 16, 3)
    frame = random(kind, *shape)
    if kind != "uint8":
        frame[0, 0, 0] = 1.0625
    for shader in ("off", "default"):
        made = midframe.interpolate(frame, frame + 0, network=Painter(0.1, 0.2, 0.3), shader=shader)
        np.testing.assert_array_equal(np.asarray(made), np.asarray(frame))
        assert not np.shares_memory(np.asarray(made), np.asarray(frame))


def test_equal_pairs_in_a_batch() -> None:
    first, second = random(torch.float32, 3, 3, 16, 16), random(torch.float32, 3, 3, 16, 16, seed=1)
    second[1] = first[1]
    made = midframe.interpolate(first, second, network=Painter(0.1, 0.2, 0.3), shader="off")
    assert torch.equal(made[1], first[1])
    alone = midframe.interpolate(first[2], second[2], network=Painter(0.1, 0.2, 0.3), shader="off")
    assert torch.equal(made[2], alone)
    assert torch.equal(made[2], torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1).expand(3, 16, 16))


def test_the_shader_keeps_what_stands_still() -> None:
    first = random("uint8", 96, 128, 3)
    second = first.copy()
    second[:, 96:] = random("uint8", 96, 32, 3, seed=1)
    shaded = midframe.interpolate(first, second, 0.25, network=Painter(0.1, 0.2, 0.3))
    plain = midframe.interpolate(first, second, 0.25, network=Painter(0.1, 0.2, 0.3), shader="off")
    still = np.s_[:, : 96 - DEFAULT_PRESET.radius]
    np.testing.assert_array_equal(shaded[still], first[still])
    np.testing.assert_array_equal(shaded[:, 100:], plain[:, 100:])
    assert (plain[still] != first[still]).any()


def test_the_answer_may_be_used_in_training() -> None:
    first, second = (random(torch.float32, 3, 16, 16, seed=seed) for seed in (0, 1))
    made = midframe.interpolate(first, second, network="average")
    weight = torch.ones(3, 1, 1, requires_grad=True)
    (made * weight).sum().backward()
    assert weight.grad is not None


@pytest.mark.parametrize("time", [Fraction(1, 3), np.float32(0.5), np.float64(0.25)])
def test_times_of_any_number_type(time: Any) -> None:
    first = torch.zeros(3, 16, 16)
    made = midframe.interpolate(first, first + 1, time, network="average")
    assert made.mean() == pytest.approx(float(time), abs=1e-6)


@pytest.mark.parametrize("time", [0, 1, 0.0, 1.0, -0.5, 1.5, float("nan"), float("inf"), "0.5", None])
def test_wrong_times(time: Any) -> None:
    frame = torch.zeros(3, 16, 16)
    with pytest.raises(SettingError, match="above 0 and below 1"):
        midframe.interpolate(frame, frame, time)


@pytest.mark.parametrize(
    ("first", "second", "said"),
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
def test_wrong_frames(first: Any, second: Any, said: str) -> None:
    with pytest.raises(SettingError, match=said) as caught:
        midframe.interpolate(first, second)
    assert "\n" not in str(caught.value)


def test_wrong_names() -> None:
    frame = torch.zeros(3, 16, 16)
    with pytest.raises(SettingError, match=r"no network.*'nosuch'"):
        midframe.interpolate(frame, frame + 1, network="nosuch")
    with pytest.raises(SettingError, match="no shader preset 'nosuch'"):
        midframe.interpolate(frame, frame + 1, shader="nosuch")
