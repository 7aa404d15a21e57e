"""The bilateral cost volume: against a loop written from its formula, and every backend against the reference."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from midframe.errors import DeviceError, SettingError
from midframe.ops import cost_volume

TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 2e-3}


def by_loop(first: Tensor, second: Tensor, radius: int, time: float) -> Tensor:
    """cost(p, k) = matches(p + (1 - 2t) k, k), bilinear, matches(q, k) = mean of first(q - k) * second(q + k)."""
    batch, _, height, width = first.shape
    side = 2 * radius + 1
    out = first.new_zeros(batch, side * side, height, width)

    def match(b: int, x: int, y: int, kx: int, ky: int) -> float:
        places = (x - kx, width), (y - ky, height), (x + kx, width), (y + ky, height), (x, width), (y, height)
        if not all(0 <= place < size for place, size in places):
            return 0.0
        return float((first[b, :, y - ky, x - kx] * second[b, :, y + ky, x + kx]).mean())

    for b in range(batch):
        for k in range(side * side):
            kx, ky = k % side - radius, k // side - radius
            for y in range(height):
                for x in range(width):
                    qx, qy = x + (1 - 2 * time) * kx, y + (1 - 2 * time) * ky
                    left, top = math.floor(qx), math.floor(qy)
                    a, c = qx - left, qy - top
                    out[b, k, y, x] = (
                        (1 - a) * (1 - c) * match(b, left, top, kx, ky)
                        + a * (1 - c) * match(b, left + 1, top, kx, ky)
                        + (1 - a) * c * match(b, left, top + 1, kx, ky)
                        + a * c * match(b, left + 1, top + 1, kx, ky)
                    )
    return out


@pytest.mark.parametrize("backend", ["reference", "halide"])
@pytest.mark.parametrize("time", [0.5, 0.25, 0.8])
def test_is_the_formula(backend: str, time: float) -> None:
    torch.manual_seed(0)
    first, second = torch.randn(2, 2, 5, 5, 7)
    got = cost_volume(first, second, radius=2, time=time, backend=backend)
    torch.testing.assert_close(got, by_loop(first, second, 2, time), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("time", "shift"), [(0.5, (4, -2)), (0.25, (4, -4)), (0.75, (4, 0))])
def test_the_motion_there_is_matches_best_where_it_passes(time: float, shift: tuple[int, int]) -> None:
    """A dot at p in the first frame and at p + d in the second is found at p + t d with k = d / 2, and nowhere else."""
    dx, dy = shift
    first, second = torch.zeros(2, 1, 1, 24, 24)
    first[0, 0, 12, 10] = second[0, 0, 12 + dy, 10 + dx] = 1
    cost = cost_volume(first, second, radius=2, time=time)
    k = (dy // 2 + 2) * 5 + dx // 2 + 2
    where = (cost[0] > 0).nonzero().tolist()
    assert where == [[k, round(12 + time * dy), round(10 + time * dx)]]
    assert cost[0].max() == 1


def test_each_sample_has_its_own_time() -> None:
    torch.manual_seed(1)
    first, second = torch.randn(2, 3, 4, 6, 8)
    times = torch.tensor([0.5, 0.3, 0.9])
    together = cost_volume(first, second, radius=1, time=times)
    for k, time in enumerate(times):
        alone = cost_volume(first[k : k + 1], second[k : k + 1], radius=1, time=float(time), backend="reference")
        torch.testing.assert_close(together[k : k + 1], alone, atol=1e-5, rtol=1e-4)


def test_frames_swapped_and_time_reversed_is_the_same_reversed() -> None:
    torch.manual_seed(2)
    first, second = torch.randn(2, 1, 4, 6, 8)
    forwards = cost_volume(first, second, radius=2, time=0.3)
    torch.testing.assert_close(forwards, cost_volume(second, first, radius=2, time=0.7).flip(1), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("time", [0.5, 0.3])
def test_reference_gradients(time: float) -> None:
    torch.manual_seed(3)
    first, second, context = torch.randn(3, 2, 3, 4, 5, dtype=torch.float64).requires_grad_().unbind()
    for joined in (None, context):
        inputs = (first, second) if joined is None else (first, second, joined)
        assert torch.autograd.gradcheck(
            lambda a, b, c=None: cost_volume(a, b, radius=2, time=time, context=c, backend="reference"),
            inputs,
            fast_mode=True,
        )


@st.composite
def cases(draw: st.DrawFn) -> dict[str, Any]:
    return {
        "shape": (
            draw(st.integers(1, 3)),
            draw(st.sampled_from([1, 3, 4, 16, 32])),
            draw(st.integers(1, 40)),
            draw(st.integers(1, 40)),
        ),
        "radius": draw(st.integers(1, 4)),
        "times": draw(st.sampled_from([[0.5] * 3, [0.5, 0.25, 0.9], [0.3] * 3])),
        "context": draw(st.sampled_from([None, 1, 6])),
        "kind": draw(st.sampled_from([torch.float32, torch.float32, torch.bfloat16, torch.float16])),
        "layout": draw(st.sampled_from(["contiguous", "channels_last", "slice", "interleaved"])),
        "seed": draw(st.integers(0, 2**16)),
    }


def laid_out(tensor: Tensor, layout: str) -> Tensor:
    """The same numbers, lying otherwise in memory; what lies between is poisoned."""
    if layout == "channels_last":
        return tensor.contiguous(memory_format=torch.channels_last)
    batch, channels, height, width = tensor.shape
    if layout == "slice":
        room = tensor.new_full((batch, channels + 2, height + 1, width + 3), math.nan)
        room[:, 1:-1, 1:, 2:-1] = tensor
        return room[:, 1:-1, 1:, 2:-1]
    if layout == "interleaved":  # as the network has them: every other sample of a channels-last batch
        room = tensor.new_full((2 * batch, channels, height, width), math.nan)
        room = room.contiguous(memory_format=torch.channels_last)
        room[::2] = tensor
        return room[::2]
    return tensor


@settings(max_examples=40, deadline=None)
@given(case=cases())
def test_halide_is_the_reference(case: dict[str, Any]) -> None:
    generator = torch.Generator().manual_seed(case["seed"])
    batch, channels, height, width = case["shape"]
    tensors = [torch.randn(case["shape"], generator=generator) for _ in range(2)]
    if case["context"]:
        tensors.append(torch.randn((batch, case["context"], height, width), generator=generator))
    tensors = [tensor.to(case["kind"]) for tensor in tensors]
    times = torch.tensor(case["times"][:batch])
    side = 2 * case["radius"] + 1
    planes = side * side + (2 * channels + case["context"] if case["context"] else 0)
    grad = torch.randn((batch, planes, height, width), generator=generator).to(case["kind"])

    def run(backend: str, kind: torch.dtype, layout: str) -> list[Tensor]:
        given = [laid_out(tensor.to(kind), layout).requires_grad_() for tensor in tensors]
        context = given[2] if case["context"] else None
        out = cost_volume(*given[:2], radius=case["radius"], time=times, context=context, backend=backend)
        return [out.detach(), *torch.autograd.grad(out, given, laid_out(grad.to(kind), layout))]

    for got, right in zip(
        run("halide", case["kind"], case["layout"]), run("reference", torch.float64, "contiguous"), strict=True
    ):
        assert got.shape == right.shape
        assert got.dtype == case["kind"]
        error, size = (got.double() - right).norm(), right.norm()
        assert error <= TOLERANCE[case["kind"]] * size + 1e-6, f"{error} for {size}"


@pytest.mark.parametrize("backend", ["reference", "halide"])
@pytest.mark.parametrize(("channels", "kind"), [(16, torch.bfloat16), (32, torch.float32), (5, torch.float32)])
def test_features_in_turn_are_the_same(backend: str, channels: int, kind: torch.dtype) -> None:
    torch.manual_seed(7)
    pairs = torch.randn(4, channels, 6, 7).to(kind).contiguous(memory_format=torch.channels_last).requires_grad_()
    context = torch.randn(2, 3, 6, 7, requires_grad=True)
    times = torch.tensor([0.5, 0.3])
    out = cost_volume(pairs, radius=1, time=times, context=context, backend=backend)
    apart = cost_volume(pairs[0::2], pairs[1::2], radius=1, time=times, context=context, backend=backend)
    assert torch.equal(out, apart)
    grad = torch.randn_like(out)
    for one, other in zip(*(torch.autograd.grad(o, (pairs, context), grad) for o in (out, apart)), strict=True):
        torch.testing.assert_close(one, other, atol=0, rtol=0)


def test_the_gradient_of_features_in_turn_is_channels_last() -> None:
    pairs = torch.randn(4, 16, 5, 6).contiguous(memory_format=torch.channels_last).requires_grad_()
    (grad,) = torch.autograd.grad(cost_volume(pairs, radius=1).sum(), pairs)
    assert grad.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_opcheck(layout: torch.memory_format) -> None:
    first, second = (torch.randn(2, 16, 5, 6).contiguous(memory_format=layout).requires_grad_() for _ in range(2))
    times = torch.tensor([0.5, 0.3])
    for context in (None, torch.randn(2, 3, 5, 6, requires_grad=True)):
        torch.library.opcheck(torch.ops.midframe.cost_volume, (first, second, times, context, 1))
        pairs = torch.randn(4, 16, 5, 6).contiguous(memory_format=layout).requires_grad_()
        torch.library.opcheck(torch.ops.midframe.cost_volume_of_pairs, (pairs, times, context, 1))
    grad = torch.randn(2, 9, 5, 6)
    torch.library.opcheck(
        torch.ops.midframe.cost_volume_gradients, (grad, first.detach(), second.detach(), times, 1, False)
    )


@pytest.mark.parametrize("backend", ["auto", "reference", "halide"])
def test_compiled_whole(backend: str) -> None:
    def step(first: Tensor, second: Tensor, context: Tensor) -> Tensor:
        cost = cost_volume(first, second, radius=1, time=0.4, context=context, backend=backend)
        return cost.square().sum()

    torch.manual_seed(4)
    tensors = torch.randn(1, 4, 5, 6), torch.randn(1, 4, 5, 6), torch.randn(1, 2, 5, 6)
    plain, traced = ([t.clone().requires_grad_() for t in tensors] for _ in range(2))
    step(*plain).backward()
    torch.compile(step, fullgraph=True, backend="aot_eager")(*traced).backward()
    for one, other in zip(plain, traced, strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def test_channels_last_stays() -> None:
    first, second = (torch.randn(2, 16, 5, 6).contiguous(memory_format=torch.channels_last) for _ in range(2))
    context = torch.randn(2, 5, 5, 6)
    joined = cost_volume(first, second, radius=1, context=context)
    assert joined.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(joined[:, 9:], torch.cat((first, second, context), 1))


def test_autocast() -> None:
    """Features keep their type; context comes to them."""
    first, second = torch.randn(2, 1, 16, 5, 6).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        out = cost_volume(first, second, radius=1, context=torch.zeros(1, 1, 5, 6))
    assert out.dtype == torch.bfloat16
    assert torch.equal(out, cost_volume(first, second, radius=1, context=torch.zeros(1, 1, 5, 6)))


def test_refusals() -> None:
    maps = torch.zeros(2, 4, 5, 6)
    for wrong in (
        lambda: cost_volume(maps, maps[:, :3], radius=1),
        lambda: cost_volume(maps, maps.bfloat16(), radius=1),
        lambda: cost_volume(maps[:1], radius=1),
        lambda: cost_volume(maps.int(), maps.int(), radius=1),
        lambda: cost_volume(maps, maps, radius=0),
        lambda: cost_volume(maps, maps, radius=1, time=1.0),
        lambda: cost_volume(maps, maps, radius=1, time=torch.tensor([0.1, 0.2, 0.3])),
        lambda: cost_volume(maps, maps, radius=1, context=maps[:1]),
        lambda: cost_volume(maps, maps, radius=1, backend="triton"),
        lambda: cost_volume(maps.double(), maps.double(), radius=1, backend="halide"),
    ):
        with pytest.raises(SettingError):
            wrong()
    with pytest.raises(DeviceError):
        cost_volume(maps.to("meta"), maps.to("meta"), radius=1, backend="halide")


def test_no_gradients_of_gradients_in_silence() -> None:
    first = torch.randn(1, 3, 4, 4, requires_grad=True)
    second = torch.randn(1, 3, 4, 4, requires_grad=True)
    cost = cost_volume(first, second, radius=1, backend="halide")
    (grad,) = torch.autograd.grad(cost.square().sum(), first, create_graph=True)
    with pytest.raises(SettingError, match="reference"):
        grad.sum().backward()
