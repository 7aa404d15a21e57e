"""Backward warp: against a loop written from its formula, and every backend against the reference."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from midframe.errors import DeviceError, SettingError
from midframe.ops import warp

TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 2e-3}
"""The norm of the error relative to the norm of what is right, by the image's type."""


def by_loop(image: Tensor, motion: Tensor) -> Tensor:
    """The formula, pixel by pixel in Python's floats; motion of the image's size."""
    batch, _, height, width = image.shape
    out = torch.zeros_like(image)
    for b in range(batch):
        for y in range(height):
            for x in range(width):
                u, v = motion[b, :, y, x].tolist()
                px, py = min(max(x + u, 0), width - 1), min(max(y + v, 0), height - 1)
                left, top = math.floor(px), math.floor(py)
                for row, column, weight in (
                    (top, left, (1 - px + left) * (1 - py + top)),
                    (top, left + 1, (px - left) * (1 - py + top)),
                    (top + 1, left, (1 - px + left) * (py - top)),
                    (top + 1, left + 1, (px - left) * (py - top)),
                ):
                    if weight:
                        out[b, :, y, x] += weight * image[b, :, row, column]
    return out


@pytest.mark.parametrize("backend", ["reference", "torch", "halide"])
@pytest.mark.parametrize("channels", [3, 16])
def test_is_the_formula(backend: str, channels: int) -> None:
    torch.manual_seed(0)
    image, motion = torch.randn(2, channels, 7, 9), torch.randn(2, 2, 7, 9) * 4
    torch.testing.assert_close(warp(image, motion, backend=backend), by_loop(image, motion), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("backend", ["reference", "torch", "halide"])
def test_moves_content_by_the_motion(backend: str) -> None:
    image = torch.arange(12.0).view(1, 1, 3, 4)
    motion = torch.zeros(1, 2, 3, 4)
    motion[:, 0] = 1
    expected = torch.tensor([[[[1.0, 2, 3, 3], [5, 6, 7, 7], [9, 10, 11, 11]]]])
    torch.testing.assert_close(warp(image, motion, backend=backend), expected)
    assert torch.equal(warp(image, torch.zeros_like(motion), backend=backend), image)


@pytest.mark.parametrize("backend", ["reference", "torch", "halide"])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_smaller_motion_is_read_as_upsampled(backend: str, scale: int) -> None:
    torch.manual_seed(1)
    image, motion = torch.randn(2, 3, 12, 24), torch.randn(2, 2, 12 // scale, 24 // scale) * 3
    upsampled = torch.nn.functional.interpolate(motion, scale_factor=float(scale), mode="bilinear")
    torch.testing.assert_close(
        warp(image, motion, backend=backend), warp(image, upsampled, backend="reference"), atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize("factor", [1, 2])
def test_reference_gradients(factor: int) -> None:
    torch.manual_seed(2)
    image = torch.randn(2, 2, 4, 6, dtype=torch.float64, requires_grad=True)
    # Between whole pixels, where the derivative exists.
    whole = torch.randint(-3, 4, (2, 2, 4 // factor, 6 // factor)).double()
    motion = (whole + 0.2 + 0.6 * torch.rand_like(whole)).requires_grad_()
    if factor == 1:
        assert torch.autograd.gradcheck(lambda i, m: warp(i, m, backend="reference"), (image, motion))
    else:  # upsampled motion may meet a whole pixel: the image's gradient only, and the motion's by the chain rule
        assert torch.autograd.gradcheck(lambda i: warp(i, motion.detach(), backend="reference"), (image,))
        full = torch.nn.functional.interpolate(motion, scale_factor=2.0, mode="bilinear")
        grads = [
            torch.autograd.grad(warp(image, m, backend="reference").square().sum(), motion, retain_graph=True)[0]
            for m in (motion, full)
        ]
        torch.testing.assert_close(*grads)


@st.composite
def cases(draw: st.DrawFn) -> dict[str, Any]:
    factor = draw(st.sampled_from([1, 1, 2]))
    return {
        "shape": (
            draw(st.integers(1, 3)),
            draw(st.sampled_from([1, 2, 3, 4, 16, 32])),
            draw(st.integers(1, 70 // factor)) * factor,
            draw(st.integers(1, 70 // factor)) * factor,
        ),
        "factor": factor,
        "reach": draw(st.sampled_from([0.0, 0.7, 5.0, 200.0])),
        "kind": draw(st.sampled_from([torch.float32, torch.float32, torch.bfloat16, torch.float16])),
        "layout": draw(st.sampled_from(["contiguous", "channels_last", "slice", "transposed"])),
        "seed": draw(st.integers(0, 2**16)),
    }


def laid_out(tensor: Tensor, layout: str) -> Tensor:
    """The same numbers, lying otherwise in memory; what lies between is poisoned."""
    if layout == "channels_last":
        return tensor.contiguous(memory_format=torch.channels_last)
    if layout == "transposed":
        return tensor.transpose(2, 3).contiguous().transpose(2, 3)
    if layout == "slice":
        batch, channels, height, width = tensor.shape
        room = tensor.new_full((2 * batch, channels + 2, height + 1, width + 3), math.nan)
        room[::2, 1:-1, 1:, 2:-1] = tensor
        return room[::2, 1:-1, 1:, 2:-1]
    return tensor


def away_from_whole_pixels(motion: Tensor, height: int, width: int) -> Tensor:
    """1 but where the slope jumps within the rounding of a place."""
    full = torch.nn.functional.interpolate(motion.double(), size=(height, width), mode="bilinear")
    rows, columns = torch.arange(height)[:, None], torch.arange(width)
    places = full + torch.stack((columns.expand(height, width), rows.expand(height, width)))
    return ((places - places.round()).abs() > 1e-3).all(1, keepdim=True).float()


def assert_near(got: Tensor, right: Tensor, tolerance: float, what: str) -> None:
    assert got.shape == right.shape
    assert got.dtype == right.dtype
    error = (got.double() - right.double()).norm()
    assert error <= tolerance * right.double().norm() + 1e-6, f"{what}: {error} for {right.double().norm()}"


@pytest.mark.parametrize("backend", ["halide", "torch"])
@settings(max_examples=30, deadline=None)
@given(case=cases())
def test_backends_are_the_reference(backend: str, case: dict[str, Any]) -> None:
    generator = torch.Generator().manual_seed(case["seed"])
    batch, _, height, width = case["shape"]
    image = torch.randn(case["shape"], generator=generator).to(case["kind"])
    size = (batch, 2, height // case["factor"], width // case["factor"])
    motion = case["reach"] * torch.randn(size, generator=generator)
    grad = torch.randn(case["shape"], generator=generator) * away_from_whole_pixels(motion, height, width)
    grad = grad.to(case["kind"])

    def run(which: str, kind: torch.dtype, layout: str) -> tuple[Tensor, ...]:
        i = laid_out(image.to(kind), layout).requires_grad_()
        m = motion.to(torch.promote_types(kind, torch.float32)).requires_grad_()
        out = warp(i, m, backend=which)
        return out.detach(), *torch.autograd.grad(out, (i, m), laid_out(grad.to(kind), layout))

    right = run("reference", torch.float64, "contiguous")
    got = run(backend, case["kind"], case["layout"])
    loose = 10 if case["reach"] > 100 else 1  # a place of 1e3 in float32 is 1e-4 off
    for one, other, what in zip(got, right, ("out", "image", "motion"), strict=True):
        kind = torch.float32 if what == "motion" else case["kind"]
        assert_near(one, other.to(kind), loose * TOLERANCE[case["kind"]], what)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_keeps_the_memory_format(layout: torch.memory_format) -> None:
    image = torch.randn(2, 16, 6, 8).contiguous(memory_format=layout)
    for backend in ("halide", "torch", "reference"):
        assert warp(image, torch.zeros(2, 2, 6, 8), backend=backend).is_contiguous(memory_format=layout)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_opcheck(layout: torch.memory_format) -> None:
    image = torch.randn(2, 16, 6, 8).contiguous(memory_format=layout).requires_grad_()
    motion = torch.randn(2, 2, 3, 4, requires_grad=True)
    torch.library.opcheck(torch.ops.midframe.warp, (image, motion))
    image, motion = image.detach(), motion.detach()
    torch.library.opcheck(torch.ops.midframe.warp_gradient_image, (torch.randn_like(image), motion))
    torch.library.opcheck(torch.ops.midframe.warp_gradient_motion, (torch.randn_like(image), image, motion))


@pytest.mark.parametrize("backend", ["auto", "reference", "torch", "halide"])
def test_compiled_whole(backend: str) -> None:
    def step(image: Tensor, motion: Tensor) -> Tensor:
        return warp(image, motion, backend=backend).square().sum()

    torch.manual_seed(3)
    tensors = torch.randn(1, 3, 6, 8), torch.randn(1, 2, 6, 8)
    plain, traced = ([t.clone().requires_grad_() for t in tensors] for _ in range(2))
    step(*plain).backward()
    torch.compile(step, fullgraph=True, backend="aot_eager")(*traced).backward()
    for one, other in zip(plain, traced, strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def test_autocast_keeps_places_exact() -> None:
    """In bfloat16 a motion of 20.3 would be 20.25."""
    image, motion = torch.randn(1, 3, 6, 60), torch.full((1, 2, 6, 60), 20.3)
    with torch.autocast("cpu", torch.bfloat16):
        out = warp(image, motion)
    torch.testing.assert_close(out, warp(image, motion, backend="reference"), atol=1e-4, rtol=1e-4)


def test_motion_that_is_no_number_stays_inside() -> None:
    for value in (math.nan, math.inf, -math.inf, 1e30):
        image, motion = torch.randn(1, 16, 5, 5), torch.full((1, 2, 5, 5), value)
        for backend in ("reference", "torch", "halide"):
            for layout in (torch.contiguous_format, torch.channels_last):
                assert warp(image.contiguous(memory_format=layout), motion, backend=backend).shape == image.shape


def test_refusals() -> None:
    image, motion = torch.zeros(1, 3, 6, 8), torch.zeros(1, 2, 6, 8)
    for wrong in (
        lambda: warp(image, torch.zeros(1, 3, 6, 8)),
        lambda: warp(image, torch.zeros(2, 2, 6, 8)),
        lambda: warp(image, torch.zeros(1, 2, 3, 8)),
        lambda: warp(image, torch.zeros(1, 2, 5, 7)),
        lambda: warp(image.int(), motion),
        lambda: warp(image[0], motion),
        lambda: warp(image, motion, backend="cuda"),
        lambda: warp(image.double(), motion.double(), backend="halide"),
    ):
        with pytest.raises(SettingError):
            wrong()
    with pytest.raises(DeviceError):
        warp(image.to("meta"), motion.to("meta"), backend="halide")


def test_no_gradients_of_gradients_in_silence() -> None:
    image = torch.randn(1, 3, 4, 4, requires_grad=True)
    motion = torch.full((1, 2, 4, 4), 0.3, requires_grad=True)
    (grad,) = torch.autograd.grad(warp(image, motion, backend="halide").square().sum(), image, create_graph=True)
    with pytest.raises(SettingError, match="reference"):
        grad.sum().backward()
