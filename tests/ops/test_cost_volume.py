"""The bilateral cost volume: against a loop written from its formula, and every backend against the reference."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from closeness import TOLERANCE, assert_close_in_norm
from midframe.errors import DeviceError, SettingError
from midframe.ops import cost_volume


def channels_last(features: Tensor) -> Tensor:
    """Return features `[B, 2, C, H, W]` with equal values and stride 1 along C."""
    return features.flatten(0, 1).contiguous(memory_format=torch.channels_last).unflatten(0, (-1, 2))


def cost_volume_by_loop(features: Tensor, radius: int, time: float) -> Tensor:
    """Compute cost(p, k) = product(p + (1 − 2t) k, k), bilinear, with product(q, k) = mean of F0(q − k) · F1(q + k)."""
    first, second = features.unbind(1)
    batch, _, height, width = first.shape
    side = 2 * radius + 1
    out = first.new_zeros(batch, side * side, height, width)

    def product(b: int, x: int, y: int, kx: int, ky: int) -> float:
        positions = (x - kx, width), (y - ky, height), (x + kx, width), (y + ky, height), (x, width), (y, height)
        if not all(0 <= position < size for position, size in positions):
            return 0.0
        return float((first[b, :, y - ky, x - kx] * second[b, :, y + ky, x + kx]).mean())

    for b in range(batch):
        for k in range(side * side):
            kx, ky = k % side - radius, k // side - radius
            for y in range(height):
                for x in range(width):
                    qx, qy = x + (1 - 2 * time) * kx, y + (1 - 2 * time) * ky
                    left, top = math.floor(qx), math.floor(qy)
                    right_weight, lower_weight = qx - left, qy - top
                    out[b, k, y, x] = (
                        (1 - right_weight) * (1 - lower_weight) * product(b, left, top, kx, ky)
                        + right_weight * (1 - lower_weight) * product(b, left + 1, top, kx, ky)
                        + (1 - right_weight) * lower_weight * product(b, left, top + 1, kx, ky)
                        + right_weight * lower_weight * product(b, left + 1, top + 1, kx, ky)
                    )
    return out


@pytest.mark.parametrize("backend", ["reference", "halide"])
@pytest.mark.parametrize("time", [0.5, 0.25, 0.8])
def test_result_follows_the_formula(backend: str, time: float) -> None:
    torch.manual_seed(0)
    features = torch.randn(2, 2, 5, 5, 7)
    cost = cost_volume(features, radius=2, time=time, backend=backend)
    torch.testing.assert_close(cost, cost_volume_by_loop(features, 2, time), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("time", "displacement"), [(0.5, (4, -2)), (0.25, (4, -4)), (0.75, (4, 0))])
def test_a_moving_dot_matches_only_its_displacement_at_its_position(time: float, displacement: tuple[int, int]) -> None:
    """A dot at p in the first frame and at p + d in the second is found at p + t d with k = d / 2, and nowhere else."""
    dx, dy = displacement
    features = torch.zeros(1, 2, 1, 24, 24)
    features[0, 0, 0, 12, 10] = features[0, 1, 0, 12 + dy, 10 + dx] = 1
    cost = cost_volume(features, radius=2, time=time)
    k = (dy // 2 + 2) * 5 + dx // 2 + 2
    assert (cost[0] > 0).nonzero().tolist() == [[k, round(12 + time * dy), round(10 + time * dx)]]
    assert cost[0].max() == 1


def test_each_sample_has_its_own_time() -> None:
    torch.manual_seed(1)
    features = torch.randn(3, 2, 4, 6, 8)
    times = torch.tensor([0.5, 0.3, 0.9])
    together = cost_volume(features, radius=1, time=times)
    for k, time in enumerate(times):
        alone = cost_volume(features[k : k + 1], radius=1, time=float(time), backend="reference")
        torch.testing.assert_close(together[k : k + 1], alone, atol=1e-5, rtol=1e-4)


def test_exchanging_the_frames_and_reversing_time_negates_the_displacements() -> None:
    torch.manual_seed(2)
    features = torch.randn(1, 2, 4, 6, 8)
    forward = cost_volume(features, radius=2, time=0.3)
    backward = cost_volume(features.flip(1), radius=2, time=0.7)
    torch.testing.assert_close(forward, backward.flip(1), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("time", [0.5, 0.3])
@pytest.mark.parametrize("with_context", [False, True])
def test_gradients_of_the_reference_pass_gradcheck(time: float, with_context: bool) -> None:
    torch.manual_seed(3)
    features = torch.randn(2, 2, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    context = torch.randn(2, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda f, c=None: cost_volume(f, radius=2, time=time, context=c, backend="reference"),
        (features, context) if with_context else (features,),
        fast_mode=True,
    )


@st.composite
def cases(draw: st.DrawFn) -> dict[str, Any]:
    return {
        "shape": (
            draw(st.integers(1, 3)),
            2,
            draw(st.sampled_from([1, 3, 4, 16, 32])),
            draw(st.integers(1, 40)),
            draw(st.integers(1, 40)),
        ),
        "radius": draw(st.integers(1, 4)),
        "times": draw(st.sampled_from([[0.5] * 3, [0.5, 0.25, 0.9], [0.3] * 3])),
        "context_channels": draw(st.sampled_from([None, 1, 6])),
        "dtype": draw(st.sampled_from([torch.float32, torch.float32, torch.bfloat16, torch.float16])),
        "layout": draw(st.sampled_from(["contiguous", "channels_last", "slice", "every other sample"])),
        "seed": draw(st.integers(0, 2**16)),
    }


def in_layout(maps: Tensor, layout: str) -> Tensor:
    """Return maps `[..., C, H, W]` of equal values in another memory layout, with NaN in the memory between them."""
    flat = maps.reshape(-1, *maps.shape[-3:])
    if layout == "channels_last":
        flat = flat.contiguous(memory_format=torch.channels_last)
    elif layout == "slice":
        batch, channels, height, width = flat.shape
        storage = flat.new_full((batch, channels + 2, height + 1, width + 3), math.nan)
        storage[:, 1:-1, 1:, 2:-1] = flat
        flat = storage[:, 1:-1, 1:, 2:-1]
    elif layout == "every other sample":
        storage = flat.new_full((2 * flat.shape[0], *flat.shape[1:]), math.nan)
        storage = storage.contiguous(memory_format=torch.channels_last)
        storage[::2] = flat
        flat = storage[::2]
    return flat.unflatten(0, maps.shape[:-3])


@settings(max_examples=40, deadline=None)
@given(case=cases())
def test_halide_agrees_with_the_reference(case: dict[str, Any]) -> None:
    generator = torch.Generator().manual_seed(case["seed"])
    batch, _, channels, height, width = case["shape"]
    inputs = [torch.randn(case["shape"], generator=generator)]
    planes = (2 * case["radius"] + 1) ** 2
    if case["context_channels"]:
        inputs.append(torch.randn((batch, case["context_channels"], height, width), generator=generator))
        planes += 2 * channels + case["context_channels"]
    inputs = [tensor.to(case["dtype"]) for tensor in inputs]
    times = torch.tensor(case["times"][:batch])
    grad = torch.randn((batch, planes, height, width), generator=generator).to(case["dtype"])

    def result_and_gradients(backend: str, dtype: torch.dtype, layout: str) -> list[Tensor]:
        leaves = [in_layout(tensor.to(dtype), layout).requires_grad_() for tensor in inputs]
        context = leaves[1] if len(leaves) > 1 else None
        out = cost_volume(leaves[0], radius=case["radius"], time=times, context=context, backend=backend)
        return [out.detach(), *torch.autograd.grad(out, leaves, in_layout(grad.to(dtype), layout))]

    results = result_and_gradients("halide", case["dtype"], case["layout"])
    expected = result_and_gradients("reference", torch.float64, "contiguous")
    names = ("result", "gradient of the features", "gradient of the context")[: len(results)]
    for name, result, exact in zip(names, results, expected, strict=True):
        assert_close_in_norm(name, result, exact, dtype=case["dtype"], tolerance=TOLERANCE[case["dtype"]])


@pytest.mark.parametrize("backend", ["reference", "halide"])
@pytest.mark.parametrize(
    ("channels", "dtype"),
    [
        pytest.param(16, torch.bfloat16, id="16-bfloat16"),
        pytest.param(32, torch.float32, id="32-float32"),
        pytest.param(5, torch.float32, id="5-float32"),
    ],
)
def test_frames_may_be_in_separate_memory(backend: str, channels: int, dtype: torch.dtype) -> None:
    """Features `[B, 2, ...]` that are no view of one batch `[2B, ...]` give the same result and gradients."""
    torch.manual_seed(7)
    side_by_side = channels_last(torch.randn(2, 2, channels, 6, 7).to(dtype)).requires_grad_()
    separate = channels_last(side_by_side.transpose(0, 1)).transpose(0, 1)
    context = torch.randn(2, 3, 6, 7, requires_grad=True)
    times = torch.tensor([0.5, 0.3])
    outs = [
        cost_volume(features, radius=1, time=times, context=context, backend=backend)
        for features in (side_by_side, separate)
    ]
    assert torch.equal(*outs)
    grad = torch.randn_like(outs[0])
    gradients = [torch.autograd.grad(out, (side_by_side, context), grad) for out in outs]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, atol=0, rtol=0)


def test_the_gradient_of_channels_last_features_is_channels_last() -> None:
    features = torch.randn(4, 16, 5, 6).contiguous(memory_format=torch.channels_last).requires_grad_()
    (grad,) = torch.autograd.grad(cost_volume(features.unflatten(0, (2, 2)), radius=1).sum(), features)
    assert grad.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_registration_passes_opcheck(layout: torch.memory_format) -> None:
    features = torch.randn(4, 16, 5, 6).contiguous(memory_format=layout).requires_grad_()
    times = torch.tensor([0.5, 0.3])
    for context in (None, torch.randn(2, 3, 5, 6, requires_grad=True)):
        torch.library.opcheck(torch.ops.midframe.cost_volume, (features, times, context, 1, "halide"))
    grad = torch.randn(2, 9, 5, 6)
    torch.library.opcheck(torch.ops.midframe.cost_volume_gradient, (grad, features.detach(), times, 1, False, "halide"))


@pytest.mark.parametrize("backend", ["auto", "reference", "halide"])
def test_compiles_as_one_graph(backend: str) -> None:
    def loss(features: Tensor, context: Tensor) -> Tensor:
        cost = cost_volume(features, radius=1, time=0.4, context=context, backend=backend)
        return cost.square().sum()

    torch.manual_seed(4)
    inputs = torch.randn(1, 2, 4, 5, 6), torch.randn(1, 2, 5, 6)
    eager, compiled = ([tensor.clone().requires_grad_() for tensor in inputs] for _ in range(2))
    loss(*eager).backward()
    torch.compile(loss, fullgraph=True, backend="aot_eager")(*compiled).backward()
    for one, other in zip(eager, compiled, strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def test_channels_last_features_give_a_channels_last_concatenation() -> None:
    features, context = channels_last(torch.randn(2, 2, 16, 5, 6)), torch.randn(2, 5, 5, 6)
    out = cost_volume(features, radius=1, context=context)
    assert out.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(out[:, 9:], torch.cat((features[:, 0], features[:, 1], context), 1))


def test_under_autocast_the_result_has_the_type_of_the_features() -> None:
    features, context = torch.randn(1, 2, 16, 5, 6).bfloat16(), torch.zeros(1, 1, 5, 6)
    with torch.autocast("cpu", torch.bfloat16):
        out = cost_volume(features, radius=1, context=context)
    assert out.dtype == torch.bfloat16
    assert torch.equal(out, cost_volume(features, radius=1, context=context))


FEATURES = torch.zeros(2, 2, 4, 5, 6)


@pytest.mark.parametrize(
    ("features", "options", "message"),
    [
        pytest.param(FEATURES[:, 0], {}, r"two frames \[B, 2, C, H, W\]; got \[2, 4, 5, 6\]", id="four dimensions"),
        pytest.param(FEATURES[:, :1], {}, r"two frames \[B, 2, C, H, W\]; got \[2, 1,", id="one frame"),
        pytest.param(FEATURES[:, :, :0], {}, r"two frames \[B, 2, C, H, W\]; got \[2, 2, 0,", id="no channels"),
        pytest.param(FEATURES.int(), {}, "floating point features; got torch.int32", id="integers"),
        pytest.param(FEATURES, {"radius": 0}, "radius of cost_volume is 1 or more; got 0", id="radius 0"),
        pytest.param(FEATURES, {"time": 1.0}, "between 0 and 1; got 1.0", id="time 1"),
        pytest.param(
            FEATURES, {"time": torch.tensor([0.1, 0.2, 0.3])}, r"one per sample \(2\); got \[3\]", id="3 times"
        ),
        pytest.param(FEATURES, {"context": FEATURES[:1, 0]}, r"context .* is \[2, E, 5, 6\]; got", id="small context"),
        pytest.param(
            FEATURES, {"context": FEATURES[:, 0].to("meta")}, "one device; got cpu and meta", id="two devices"
        ),
        pytest.param(FEATURES, {"backend": "triton"}, "has no backend 'triton'", id="triton"),
        pytest.param(FEATURES.double(), {"backend": "halide"}, "a tensor is float64", id="float64 on halide"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(features: Tensor, options: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        cost_volume(features, **{"radius": 1, **options})


def test_halide_refuses_other_devices() -> None:
    with pytest.raises(DeviceError, match="runs on the CPU; the tensors are on meta"):
        cost_volume(FEATURES.to("meta"), radius=1, backend="halide")


def test_gradients_of_gradients_are_refused_on_halide() -> None:
    features = torch.randn(1, 2, 3, 4, 4, requires_grad=True)
    cost = cost_volume(features, radius=1, backend="halide")
    (grad,) = torch.autograd.grad(cost.square().sum(), features, create_graph=True)
    with pytest.raises(SettingError, match="gradients of gradients only on backend='reference'"):
        grad.sum().backward()
