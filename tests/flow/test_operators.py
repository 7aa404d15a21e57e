"""The operators of `estimate_flow`: their effect, and the Halide backend against the reference."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from midframe.errors import SettingError
from midframe.flow import estimate_flow
from midframe.flow.operators import (
    downsampled_luma,
    lucas_kanade_update,
    median_filter,
    normalise_local_contrast,
    photometric_cost,
    propagate_flow,
)
from midframe.ops import warp

SHAPES = [
    pytest.param((1, 6, 6), id="less than a vector"),
    pytest.param((2, 7, 33), id="two vectors and a pixel"),
    pytest.param((1, 40, 16), id="one vector and two tasks"),
    pytest.param((3, 21, 50), id="three samples"),
    pytest.param((1, 70, 97), id="three tasks"),
]
"""Batch, height, width."""
INPUT_KINDS = ["smooth", "random", "far outside"]
HALF = torch.tensor([0.5])


def smooth(batch: int, channels: int, height: int, width: int, seed: int) -> Tensor:
    """Return noise of several wavelengths, in 0..1."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.zeros(batch, channels, height, width)
    for step in (1, 3, 9):
        size = -(-height // step) + 1, -(-width // step) + 1
        octave = torch.randn(batch, channels, *size, generator=generator) * step**0.5
        noise += F.interpolate(octave, size=(height, width), mode="bicubic", align_corners=False)
    return torch.sigmoid(noise / 2)


def inputs(shape: tuple[int, int, int], kind: str) -> tuple[Tensor, Tensor, Tensor]:
    """Return frames with normalised contrast, flow and times. far outside: most of the flow leads out of the frames."""
    batch, height, width = shape
    generator = torch.Generator().manual_seed(1)
    frames = smooth(2 * batch, 1, height, width, 2)
    flow = (smooth(batch, 2, height, width, 3) - 0.5) * 4
    if kind != "smooth":
        frames = torch.rand(frames.shape, generator=generator)
        flow = torch.randn(flow.shape, generator=generator) * (2 if kind == "random" else 100)
    time = torch.rand(batch, generator=generator) * 0.8 + 0.1
    return normalise_local_contrast(frames, backend="reference"), flow, time


def in_float64(operator: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
    """Return the result of the reference in float64, rounded to float32."""
    result = operator(*(tensor.double() for tensor in tensors), backend="reference")
    assert result.dtype == torch.float64
    return result.float()


def warped_frames(frames: Tensor, flow: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
    """Return both frames warped to the time by `warp`."""
    scale = torch.cat((-2 * time, 2 * (1 - time))).view(-1, 1, 1, 1)
    first, second = warp(frames, torch.cat((flow, flow)) * scale, backend="reference").chunk(2)
    return first, second


def cost_in_float64(frames: Tensor, flow: Tensor, time: Tensor) -> Tensor:
    """Return the photometric cost of one-channel frames, computed from its formula in float64."""
    first, second = warped_frames(frames.double(), flow.double(), time.double())
    squares = (second - first).square()
    return F.avg_pool2d(F.pad(squares / (squares + 0.6), (2, 2, 2, 2), mode="replicate"), 5, stride=1)


class TestHalideAgainstTheReference:
    @pytest.mark.parametrize("shape", SHAPES)
    @pytest.mark.parametrize("kind", INPUT_KINDS)
    def test_lucas_kanade_update(self, shape: tuple[int, int, int], kind: str) -> None:
        tensors = inputs(shape, kind)
        updated = lucas_kanade_update(*tensors, backend="halide")
        tolerance = 2e-3 if kind == "far outside" else 2e-4
        torch.testing.assert_close(updated, in_float64(lucas_kanade_update, *tensors), atol=tolerance, rtol=1e-5)

    @pytest.mark.parametrize("shape", SHAPES)
    @pytest.mark.parametrize("kind", INPUT_KINDS)
    def test_median_filter(self, shape: tuple[int, int, int], kind: str) -> None:
        _, flow, _ = inputs(shape, kind)
        assert torch.equal(median_filter(flow, backend="halide"), median_filter(flow, backend="reference"))

    @pytest.mark.parametrize("shape", SHAPES)
    def test_normalise_local_contrast(self, shape: tuple[int, int, int]) -> None:
        frames = smooth(shape[0], 1, *shape[1:], 4)
        normalised = normalise_local_contrast(frames, backend="halide")
        torch.testing.assert_close(normalised, in_float64(normalise_local_contrast, frames), atol=2e-5, rtol=1e-5)

    @pytest.mark.parametrize("shape", SHAPES)
    def test_downsampled_luma_in_every_layout(self, shape: tuple[int, int, int]) -> None:
        rgb = smooth(shape[0], 3, *shape[1:], 5)
        expected = downsampled_luma(rgb, backend="reference")
        for layout in (rgb, rgb.contiguous(memory_format=torch.channels_last), rgb.repeat_interleave(2, 0)[::2]):
            torch.testing.assert_close(downsampled_luma(layout, backend="halide"), expected)

    @pytest.mark.parametrize("shape", SHAPES)
    @pytest.mark.parametrize("kind", INPUT_KINDS)
    def test_propagate_flow(self, shape: tuple[int, int, int], kind: str) -> None:
        frames, flow, time = inputs(shape, kind)
        propagated = propagate_flow(frames, flow, time, backend="halide")
        expected = propagate_flow(frames, flow, time, backend="reference")
        # If the costs of two candidates are equal apart from rounding, either may be chosen.
        differs = (propagated != expected).any(1)
        assert differs.sum() <= 1 + 2e-3 * differs.numel()
        costs = [cost_in_float64(frames, candidate, time) for candidate in (propagated, expected)]
        assert (costs[0] - costs[1]).mean().abs() < 2e-3

    @pytest.mark.parametrize("shape", [(1, 1, 1), (2, 1, 19), (1, 37, 1)])
    @pytest.mark.parametrize("kind", ["smooth", "far outside"])
    def test_maps_of_one_row_or_column(self, shape: tuple[int, int, int], kind: str) -> None:
        frames, flow, time = inputs(shape, kind)
        updated = lucas_kanade_update(frames, flow, time, backend="halide")
        expected = in_float64(lucas_kanade_update, frames, flow, time)
        torch.testing.assert_close(updated, expected, atol=2e-3, rtol=1e-5)
        assert torch.equal(median_filter(flow, backend="halide"), median_filter(flow, backend="reference"))
        propagated = [propagate_flow(frames, flow, time, backend=backend) for backend in ("halide", "reference")]
        assert (propagated[0] != propagated[1]).any(1).sum() <= 1
        gray = smooth(shape[0], 1, *shape[1:], 4)
        normalised = normalise_local_contrast(gray, backend="halide")
        torch.testing.assert_close(normalised, in_float64(normalise_local_contrast, gray), atol=2e-5, rtol=1e-5)

    def test_estimate_flow(self) -> None:
        image = smooth(2, 3, 140, 200, 10)
        first, second = image[..., 6:-6, 8:-8], image[..., 4:-8, 11:-5]
        times = torch.tensor([0.5, 0.3])
        flow = estimate_flow(first, second, times, backend="halide")
        difference = (flow - estimate_flow(first, second, times, backend="reference")).abs()
        assert difference.median() < 1e-4
        assert (difference < 0.01).float().mean() > 0.99


class TestHalide:
    @pytest.mark.parametrize("operator", [propagate_flow, lucas_kanade_update])
    def test_inputs_may_have_any_strides(self, operator: Callable[..., Tensor]) -> None:
        """torch calls a dimension of size 1 contiguous with any stride, also the times of a batch of one."""
        frames, flow, time = inputs((1, 9, 20), "smooth")
        expected = operator(frames, flow, time, backend="halide")
        for strided_time in (time.repeat_interleave(4)[::4], time[0].expand(1)):
            assert torch.equal(operator(frames, flow, strided_time, backend="halide"), expected)
        strided = [tensor.repeat_interleave(2, 3)[..., ::2] for tensor in (frames, flow)]
        assert torch.equal(operator(*strided, time, backend="halide"), expected)

    def test_median_filter_of_a_channels_last_pixel(self) -> None:
        pixel = torch.randn(1, 2, 1, 1).contiguous(memory_format=torch.channels_last)
        assert torch.equal(median_filter(pixel, backend="halide"), pixel)

    def test_threads_do_not_share_state(self) -> None:
        cases = [inputs((1, 40, 50), kind) for kind in ("smooth", "random")]
        expected = [lucas_kanade_update(*case) for case in cases]
        with ThreadPoolExecutor(2) as threads:
            results = list(threads.map(lambda case: lucas_kanade_update(*case), cases * 8))
        assert all(torch.equal(*pair) for pair in zip(results, expected * 8, strict=True))

    def test_registration_passes_opcheck(self) -> None:
        frames, flow, time = inputs((1, 6, 18), "smooth")
        operators = torch.ops.midframe
        torch.library.opcheck(operators.downsampled_luma, (smooth(1, 3, 7, 18, 15), "halide"))
        torch.library.opcheck(operators.normalise_local_contrast, (frames, "halide"))
        torch.library.opcheck(operators.propagate_flow, (frames, flow, time, "halide"))
        torch.library.opcheck(operators.lucas_kanade_update, (frames, flow, time, "halide"))
        torch.library.opcheck(operators.median_filter, (flow, "halide"))


@pytest.mark.parametrize("backend", ["halide", "reference"])
def test_results_have_no_gradients(backend: str) -> None:
    frames, flow, time = (tensor.requires_grad_() for tensor in inputs((1, 6, 18), "smooth"))
    rgb = smooth(1, 3, 6, 18, 16).requires_grad_()
    results = (
        downsampled_luma(rgb, backend=backend),
        normalise_local_contrast(frames, backend=backend),
        propagate_flow(frames, flow, time, backend=backend),
        lucas_kanade_update(frames, flow, time, backend=backend),
        median_filter(flow, backend=backend),
    )
    assert not any(result.requires_grad for result in results)


def test_propagation_spreads_the_flow_that_fits() -> None:
    image = smooth(1, 1, 40, 56, 6)
    first, second = (
        image[..., 4:-4, 8:-8],
        image[..., 4:-4, 4:-12],
    )  # the content of the second is 4 pixels to the right
    frames = normalise_local_contrast(torch.cat((first, second)))
    flow = torch.zeros(1, 2, 32, 40)
    flow[:, 0, :, :20] = 2.0
    propagated = propagate_flow(frames, flow, HALF)
    assert (propagated[0, 0, :, :30] == 2).float().mean() > 0.9  # it spreads by up to 3 + 9 pixels
    assert ((propagated == 2) | (propagated == 0)).all()
    assert cost_in_float64(frames, propagated, HALF).mean() < 0.7 * cost_in_float64(frames, flow, HALF).mean()


@pytest.mark.parametrize("backend", ["reference", "halide", "torch"])
def test_photometric_cost_of_two_channels_is_the_mean_of_both(backend: str) -> None:
    frames, flow, time = inputs((2, 21, 50), "random")
    other_frames = inputs((2, 21, 50), "smooth")[0]
    both = photometric_cost(torch.cat((frames, other_frames), 1), flow, time, backend=backend)
    costs = [photometric_cost(channel, flow, time, backend=backend) for channel in (frames, other_frames)]
    torch.testing.assert_close(both, (costs[0] + costs[1]) / 2)


@pytest.mark.parametrize("backend", ["reference", "halide", "torch"])
def test_photometric_cost_at_one_pixel(backend: str) -> None:
    frames, flow, time = inputs((2, 21, 50), "random")
    cost = photometric_cost(frames, flow, time, backend=backend)
    first, second = warped_frames(frames, flow, time)
    squares = (second - first).square()[1, 0, 8:13, 28:33]
    assert cost[1, 0, 10, 30].item() == pytest.approx((squares / (squares + 0.6)).mean().item(), rel=1e-4)


@pytest.mark.parametrize("backend", ["reference", "halide", "torch"])
def test_photometric_cost_is_low_only_for_the_flow_that_fits(backend: str) -> None:
    image = normalise_local_contrast(smooth(1, 1, 30, 60, 6))
    frames = torch.cat((image, image.roll(-4, 3)))  # the content moves by -4, so the flow is -2
    right, wrong = (
        photometric_cost(frames, torch.tensor([x, 0.0]).view(1, 2, 1, 1).expand(1, 2, 30, 60), HALF, backend=backend)
        for x in (-2.0, 2.0)
    )
    inner = (..., slice(6, -6), slice(10, -10))
    assert right[inner].max() < 1e-3 < wrong[inner].min()


def test_lucas_kanade_updates_converge() -> None:
    image = smooth(1, 1, 48, 64, 7)
    first, second = image[..., 4:-4, 4:-4], image[..., 3:-5, 4:-4]  # the content moves down by 1 pixel
    frames, time = normalise_local_contrast(torch.cat((first, second))), torch.tensor([0.3])
    flow = torch.zeros(1, 2, 40, 56)
    for _ in range(4):
        flow = lucas_kanade_update(frames, flow, time)
    inner = flow[..., 6:-6, 6:-6]
    assert (inner[:, 1] - 0.5).abs().median() < 0.05
    assert inner[:, 0].abs().median() < 0.05


@pytest.mark.parametrize("backend", ["halide", "reference"])
def test_median_filter_returns_the_thirteenth_of_25_values(backend: str) -> None:
    flow = torch.randn(1, 2, 9, 19, generator=torch.Generator().manual_seed(8))
    filtered = median_filter(flow, backend=backend)
    for y in range(9):
        for x in range(19):
            rows = [min(max(y + j, 0), 8) for j in range(-2, 3)]
            columns = [min(max(x + i, 0), 18) for i in range(-2, 3)]
            window = flow[0, 1][rows][:, columns].flatten().sort().values
            assert filtered[0, 1, y, x] == window[12]


def test_normalised_contrast_is_one_at_any_brightness() -> None:
    frames = smooth(1, 1, 48, 48, 9)
    normalised = normalise_local_contrast(frames)
    assert normalised[..., 8:-8, 8:-8].mean().abs() < 0.1
    assert normalised[..., 8:-8, 8:-8].std() == pytest.approx(1, abs=0.25)
    torch.testing.assert_close(normalise_local_contrast(frames * 0.7 + 0.2), normalised, atol=0.1, rtol=0)
    assert normalise_local_contrast(torch.full((1, 1, 8, 20), 0.3)).abs().max() < 1e-4


def test_estimate_flow_compiles_as_one_graph() -> None:
    first, second, time = smooth(1, 3, 32, 48, 11), smooth(1, 3, 32, 48, 12), torch.tensor([0.4])
    compiled = torch.compile(estimate_flow, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(first, second, time), estimate_flow(first, second, time), atol=1e-5, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_estimate_flow_computes_in_at_least_float32(dtype: torch.dtype) -> None:
    first, second = smooth(1, 3, 32, 32, 13).to(dtype), smooth(1, 3, 32, 32, 14).to(dtype)
    time = torch.tensor([0.4], dtype=dtype)
    flow = estimate_flow(first, second, time)
    assert flow.dtype == torch.promote_types(dtype, torch.float32)
    expected = estimate_flow(first.double(), second.double(), time.double(), backend="reference")
    assert (flow - expected).abs().median() < 1e-3


FRAMES, FLOW = torch.rand(2, 1, 8, 8), torch.zeros(1, 2, 8, 8)


@pytest.mark.parametrize("operator", [propagate_flow, lucas_kanade_update, photometric_cost])
@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        pytest.param((FRAMES[:1], FLOW, HALF), r"takes frames \[2B, 1, H, W\], flow", id="one frame"),
        pytest.param((FRAMES, FLOW[:, :1], HALF), r"takes flow \[B, 2, H, W\]; got", id="flow of one channel"),
        pytest.param((FRAMES, FLOW, HALF.view(1, 1)), r"and time \[B\]; got", id="time of two dimensions"),
        pytest.param((FRAMES.long(), FLOW, HALF), "floating point tensors; got torch.int64", id="integer frames"),
        pytest.param((FRAMES, FLOW.to("meta"), HALF), "must be on one device; got cpu, meta", id="two devices"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(
    operator: Callable[..., Tensor], tensors: tuple[Tensor, ...], message: str
) -> None:
    with pytest.raises(SettingError, match=message):
        operator(*tensors)


@pytest.mark.parametrize(
    ("operator", "maps", "message"),
    [
        pytest.param(
            normalise_local_contrast, torch.rand(1, 3, 8, 8), r"takes floats \[N, 1, H, W\]", id="contrast of RGB"
        ),
        pytest.param(
            normalise_local_contrast, torch.rand(8, 8), r"takes floats \[N, 1, H, W\]", id="contrast without batch"
        ),
        pytest.param(
            normalise_local_contrast, torch.ones(1, 1, 8, 8).int(), "got torch.int32", id="contrast of integers"
        ),
        pytest.param(median_filter, torch.rand(8, 8), r"takes floats \[B, C, H, W\]", id="median without batch"),
        pytest.param(downsampled_luma, torch.rand(1, 1, 8, 8), r"takes floats \[N, 3, H, W\]", id="luma of gray"),
        pytest.param(downsampled_luma, torch.rand(1, 3, 1, 8), "at least 2x2", id="luma of one row"),
    ],
)
def test_maps_that_do_not_fit_are_refused(operator: Callable[..., Tensor], maps: Tensor, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        operator(maps)
