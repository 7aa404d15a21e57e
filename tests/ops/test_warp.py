"""The backward warp: against a loop written from its formula, and every backend against the reference."""

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
from midframe.ops import warp

BACKENDS = ["reference", "torch", "halide"]


def warp_by_loop(image: Tensor, flow: Tensor) -> Tensor:
    """Warp pixel by pixel in Python floats, with flow of the image's size."""
    batch, _, height, width = image.shape
    out = torch.zeros_like(image)
    for b in range(batch):
        for y in range(height):
            for x in range(width):
                u, v = flow[b, :, y, x].tolist()
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


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("channels", [3, 16])
def test_result_follows_the_formula(backend: str, channels: int) -> None:
    torch.manual_seed(0)
    image, flow = torch.randn(2, channels, 7, 9), torch.randn(2, 2, 7, 9) * 4
    torch.testing.assert_close(warp(image, flow, backend=backend), warp_by_loop(image, flow), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_content_moves_against_the_flow(backend: str) -> None:
    image = torch.arange(12.0).view(1, 1, 3, 4)
    flow = torch.zeros(1, 2, 3, 4)
    flow[:, 0] = 1
    expected = torch.tensor([[[[1.0, 2, 3, 3], [5, 6, 7, 7], [9, 10, 11, 11]]]])
    torch.testing.assert_close(warp(image, flow, backend=backend), expected)
    assert torch.equal(warp(image, torch.zeros_like(flow), backend=backend), image)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_smaller_flow_is_upsampled(backend: str, scale: int) -> None:
    torch.manual_seed(1)
    image, flow = torch.randn(2, 3, 12, 24), torch.randn(2, 2, 12 // scale, 24 // scale) * 3
    upsampled = torch.nn.functional.interpolate(flow, scale_factor=float(scale), mode="bilinear")
    torch.testing.assert_close(
        warp(image, flow, backend=backend), warp(image, upsampled, backend="reference"), atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize("scale", [1, 2])
def test_gradients_of_the_reference_pass_gradcheck(scale: int) -> None:
    torch.manual_seed(2)
    image = torch.randn(2, 2, 4, 6, dtype=torch.float64, requires_grad=True)
    # Positions between whole pixels, where the derivative exists.
    whole = torch.randint(-3, 4, (2, 2, 4 // scale, 6 // scale)).double()
    flow = (whole + 0.2 + 0.6 * torch.rand_like(whole)).requires_grad_()
    if scale == 1:
        assert torch.autograd.gradcheck(lambda i, f: warp(i, f, backend="reference"), (image, flow))
    else:  # upsampled positions may be whole pixels: gradcheck for the image only, the chain rule for the flow
        assert torch.autograd.gradcheck(lambda i: warp(i, flow.detach(), backend="reference"), (image,))
        upsampled = torch.nn.functional.interpolate(flow, scale_factor=2.0, mode="bilinear")
        grads = [
            torch.autograd.grad(warp(image, f, backend="reference").square().sum(), flow, retain_graph=True)[0]
            for f in (flow, upsampled)
        ]
        torch.testing.assert_close(*grads)


@st.composite
def cases(draw: st.DrawFn) -> dict[str, Any]:
    scale = draw(st.sampled_from([1, 1, 2]))
    return {
        "shape": (
            draw(st.integers(1, 3)),
            draw(st.sampled_from([1, 2, 3, 4, 16, 32])),
            draw(st.integers(1, 70 // scale)) * scale,
            draw(st.integers(1, 70 // scale)) * scale,
        ),
        "scale": scale,
        "flow_std": draw(st.sampled_from([0.0, 0.7, 5.0, 200.0])),
        "dtype": draw(st.sampled_from([torch.float32, torch.float32, torch.bfloat16, torch.float16])),
        "layout": draw(st.sampled_from(["contiguous", "channels_last", "slice", "transposed"])),
        "seed": draw(st.integers(0, 2**16)),
    }


def in_layout(tensor: Tensor, layout: str) -> Tensor:
    """Return a tensor of equal values in another memory layout, with NaN in the memory between them."""
    if layout == "channels_last":
        return tensor.contiguous(memory_format=torch.channels_last)
    if layout == "transposed":
        return tensor.transpose(2, 3).contiguous().transpose(2, 3)
    if layout == "slice":
        batch, channels, height, width = tensor.shape
        storage = tensor.new_full((2 * batch, channels + 2, height + 1, width + 3), math.nan)
        storage[::2, 1:-1, 1:, 2:-1] = tensor
        return storage[::2, 1:-1, 1:, 2:-1]
    return tensor


def slope_is_defined(flow: Tensor, height: int, width: int) -> Tensor:
    """Return 0 for positions so close to a whole pixel that rounding decides which slope is taken, else 1."""
    upsampled = torch.nn.functional.interpolate(flow.double(), size=(height, width), mode="bilinear")
    rows, columns = torch.arange(height)[:, None], torch.arange(width)
    positions = upsampled + torch.stack((columns.expand(height, width), rows.expand(height, width)))
    return ((positions - positions.round()).abs() > 1e-3).all(1, keepdim=True).float()


@pytest.mark.parametrize("backend", ["halide", "torch"])
@settings(max_examples=30, deadline=None)
@given(case=cases())
def test_backends_agree_with_the_reference(backend: str, case: dict[str, Any]) -> None:
    generator = torch.Generator().manual_seed(case["seed"])
    batch, _, height, width = case["shape"]
    image = torch.randn(case["shape"], generator=generator).to(case["dtype"])
    size = (batch, 2, height // case["scale"], width // case["scale"])
    flow = case["flow_std"] * torch.randn(size, generator=generator)
    grad = torch.randn(case["shape"], generator=generator) * slope_is_defined(flow, height, width)
    grad = grad.to(case["dtype"])

    def result_and_gradients(name: str, dtype: torch.dtype, layout: str) -> tuple[Tensor, ...]:
        image_leaf = in_layout(image.to(dtype), layout).requires_grad_()
        flow_leaf = flow.to(torch.promote_types(dtype, torch.float32)).requires_grad_()
        out = warp(image_leaf, flow_leaf, backend=name)
        return out.detach(), *torch.autograd.grad(out, (image_leaf, flow_leaf), in_layout(grad.to(dtype), layout))

    exact = result_and_gradients("reference", torch.float64, "contiguous")
    results = result_and_gradients(backend, case["dtype"], case["layout"])
    rounding = 10 if case["flow_std"] > 100 else 1  # float32 rounds a position of 1000 by up to 1e-4
    for name, result, expected in zip(
        ("result", "gradient of the image", "gradient of the flow"), results, exact, strict=True
    ):
        dtype = torch.float32 if name == "gradient of the flow" else case["dtype"]
        tolerance = rounding * TOLERANCE[case["dtype"]]
        assert_close_in_norm(name, result, expected.to(dtype), dtype=dtype, tolerance=tolerance)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_result_has_the_memory_format_of_the_image(layout: torch.memory_format) -> None:
    image = torch.randn(2, 16, 6, 8).contiguous(memory_format=layout)
    for backend in BACKENDS:
        assert warp(image, torch.zeros(2, 2, 6, 8), backend=backend).is_contiguous(memory_format=layout)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_registration_passes_opcheck(layout: torch.memory_format) -> None:
    image = torch.randn(2, 16, 6, 8).contiguous(memory_format=layout).requires_grad_()
    flow = torch.randn(2, 2, 3, 4, requires_grad=True)
    torch.library.opcheck(torch.ops.midframe.warp, (image, flow, "halide"))
    image, flow = image.detach(), flow.detach()
    torch.library.opcheck(torch.ops.midframe.warp_gradient_image, (torch.randn_like(image), flow, "halide"))
    torch.library.opcheck(torch.ops.midframe.warp_gradient_flow, (torch.randn_like(image), image, flow, "halide"))


@pytest.mark.parametrize("backend", ["auto", *BACKENDS])
def test_compiles_as_one_graph(backend: str) -> None:
    def loss(image: Tensor, flow: Tensor) -> Tensor:
        return warp(image, flow, backend=backend).square().sum()

    torch.manual_seed(3)
    inputs = torch.randn(1, 3, 6, 8), torch.randn(1, 2, 6, 8)
    eager, compiled = ([tensor.clone().requires_grad_() for tensor in inputs] for _ in range(2))
    loss(*eager).backward()
    torch.compile(loss, fullgraph=True, backend="aot_eager")(*compiled).backward()
    for one, other in zip(eager, compiled, strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def test_autocast_does_not_round_positions() -> None:
    """bfloat16 would round a flow of 20.3 to 20.25."""
    image, flow = torch.randn(1, 3, 6, 60), torch.full((1, 2, 6, 60), 20.3)
    with torch.autocast("cpu", torch.bfloat16):
        out = warp(image, flow)
    torch.testing.assert_close(out, warp(image, flow, backend="reference"), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e30])
def test_flow_that_is_not_finite_reads_inside_of_the_image(
    value: float, layout: torch.memory_format, backend: str
) -> None:
    image, flow = torch.randn(1, 16, 5, 5).contiguous(memory_format=layout), torch.full((1, 2, 5, 5), value)
    assert warp(image, flow, backend=backend).shape == image.shape


IMAGE, FLOW = torch.zeros(1, 3, 6, 8), torch.zeros(1, 2, 6, 8)


@pytest.mark.parametrize(
    ("image", "flow", "message"),
    [
        pytest.param(IMAGE, torch.zeros(1, 3, 6, 8), r"and flow \[B, 2, h, w\]; got", id="flow of three channels"),
        pytest.param(IMAGE, torch.zeros(2, 2, 6, 8), r"and flow \[B, 2, h, w\]; got", id="flow of another batch"),
        pytest.param(IMAGE, torch.zeros(1, 2, 3, 8), "smaller by one whole factor; got 3x8", id="two factors"),
        pytest.param(IMAGE, torch.zeros(1, 2, 5, 7), "smaller by one whole factor; got 5x7", id="no whole factor"),
        pytest.param(IMAGE.int(), FLOW, "floating point tensors; got torch.int32", id="integers"),
        pytest.param(IMAGE[0], FLOW, r"takes an image \[B, C, H, W\]", id="image of three dimensions"),
        pytest.param(IMAGE, FLOW.to("meta"), "must be on one device; got cpu and meta", id="two devices"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(image: Tensor, flow: Tensor, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        warp(image, flow)


def test_unknown_backends_are_refused() -> None:
    with pytest.raises(SettingError, match="warp has no backend 'cuda'"):
        warp(IMAGE, FLOW, backend="cuda")


def test_halide_refuses_float64() -> None:
    with pytest.raises(SettingError, match="a tensor is float64"):
        warp(IMAGE.double(), FLOW.double(), backend="halide")


def test_halide_refuses_other_devices() -> None:
    with pytest.raises(DeviceError, match="runs on the CPU; the tensors are on meta"):
        warp(IMAGE.to("meta"), FLOW.to("meta"), backend="halide")


def test_gradients_of_gradients_are_refused_on_halide() -> None:
    image = torch.randn(1, 3, 4, 4, requires_grad=True)
    flow = torch.full((1, 2, 4, 4), 0.3, requires_grad=True)
    (grad,) = torch.autograd.grad(warp(image, flow, backend="halide").square().sum(), image, create_graph=True)
    with pytest.raises(SettingError, match="gradients of gradients only on backend='reference'"):
        grad.sum().backward()
