"""Test the definition of separable convolution: an independent loop, gradients, options and errors."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from midframe.errors import DeviceError, SettingError
from midframe.ops import TapPattern, separable_convolution

PATTERNS = [
    *(TapPattern.dense(size) for size in (1, 3, 5)),
    *(TapPattern.composite(3, 2, variant) for variant in ("rings", "axes", "literal")),
]
BORDERS = ["zero", "replicate"]


def pattern_name(taps: TapPattern) -> str:
    return f"dense {taps.size}" if taps.is_dense else f"{taps.variant} {taps.inner}/{taps.outer}"


def random_normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def random_inputs(size: int, batch: int = 2, channels: int = 2, height: int = 6, width: int = 5) -> tuple[Tensor, ...]:
    kernel = (batch, size, height, width)
    return random_normal(batch, channels, height, width), random_normal(*kernel, seed=1), random_normal(*kernel, seed=2)


def convolve_by_formula(
    image: Tensor, vertical: Tensor, horizontal: Tensor, taps: TapPattern, border: str
) -> np.ndarray:
    """Evaluate the report's sums pixel by pixel and tap by tap."""
    pixels, v, h = image.numpy(), vertical.numpy(), horizontal.numpy()
    batch, channels, height, width = pixels.shape
    out = np.zeros(pixels.shape)
    for b, z, y, x in np.ndindex(batch, channels, height, width):
        for i, j, dy, dx in taps.taps():
            row, column = y + dy, x + dx
            if border == "replicate":
                row, column = min(max(row, 0), height - 1), min(max(column, 0), width - 1)
            if 0 <= row < height and 0 <= column < width:
                out[b, z, y, x] += pixels[b, z, row, column] * v[b, i, y, x] * h[b, j, y, x]
    return out


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("taps", PATTERNS, ids=pattern_name)
def test_reference_equals_the_formula(taps: TapPattern, border: str) -> None:
    image, vertical, horizontal = random_inputs(taps.size)
    out = separable_convolution(image, vertical, horizontal, taps=taps, border=border, backend="reference")
    np.testing.assert_allclose(out.numpy(), convolve_by_formula(image, vertical, horizontal, taps, border), atol=1e-12)


def test_reference_with_51_taps_equals_the_formula() -> None:
    image, vertical, horizontal = random_inputs(51, batch=1, channels=1, height=4, width=5)
    out = separable_convolution(image, vertical, horizontal, backend="reference")
    expected = convolve_by_formula(image, vertical, horizontal, TapPattern.dense(51), "zero")
    np.testing.assert_allclose(out.numpy(), expected, atol=1e-12)


@pytest.mark.parametrize(
    "flags",
    [
        pytest.param({}, id="plain"),
        pytest.param({"normalise": True, "return_weights": True}, id="normalised with weights"),
        pytest.param({"scale": 2}, id="scale 2"),
    ],
)
@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("taps", PATTERNS, ids=pattern_name)
def test_gradients_of_the_reference(taps: TapPattern, border: str, flags: dict[str, object]) -> None:
    scale = flags.get("scale", 1)
    assert isinstance(scale, int)
    image, vertical, horizontal = random_inputs(taps.size, batch=1, height=2 * scale, width=3 * scale)
    vertical, horizontal = vertical[:, :, :2, :3].abs() + 0.1, horizontal[:, :, :2, :3].abs() + 0.1

    def operator(*tensors: Tensor) -> object:
        return separable_convolution(*tensors, taps=taps, border=border, backend="reference", **flags)  # type: ignore[call-overload]

    assert gradcheck(operator, [t.clone().requires_grad_() for t in (image, vertical, horizontal)])


def test_gradients_of_the_reference_with_51_taps() -> None:
    tensors = [t.requires_grad_() for t in random_inputs(51, batch=1, height=3, width=4)]
    assert gradcheck(lambda *t: separable_convolution(*t, backend="reference"), tensors, fast_mode=True)


def test_gradients_of_gradients_of_the_reference() -> None:
    tensors = [t.requires_grad_() for t in random_inputs(3, batch=1, height=2, width=2)]
    assert gradgradcheck(lambda *t: separable_convolution(*t, backend="reference"), tensors)


def test_a_delta_kernel_shifts_the_image() -> None:
    """A kernel whose only tap is up and right of the centre reads that pixel; above the top row there is none."""
    image = random_normal(1, 2, 5, 6)
    vertical, horizontal = torch.zeros(1, 3, 5, 6).double(), torch.zeros(1, 3, 5, 6).double()
    vertical[:, 0], horizontal[:, 2] = 1, 1
    shifted = separable_convolution(image, vertical, horizontal)
    assert torch.equal(shifted[..., 1:, :-1], image[..., :-1, 1:])
    assert not shifted[..., 0, :].any()
    assert not shifted[..., -1].any()
    replicated = separable_convolution(image, vertical, horizontal, border="replicate")
    assert torch.equal(replicated[..., 0, :-1], image[..., 0, 1:])


@pytest.mark.parametrize("taps", PATTERNS, ids=pattern_name)
@pytest.mark.parametrize("border", BORDERS)
def test_weight_sum_is_the_convolution_of_an_image_of_ones(taps: TapPattern, border: str) -> None:
    image, vertical, horizontal = random_inputs(taps.size)
    _, weights = separable_convolution(
        image, vertical, horizontal, taps=taps, border=border, return_weights=True, backend="reference"
    )
    ones = convolve_by_formula(torch.ones_like(image[:, :1]), vertical, horizontal, taps, border)
    np.testing.assert_allclose(weights.numpy(), ones, atol=1e-12)


@pytest.mark.parametrize("border", BORDERS)
def test_normalised_kernels_keep_a_constant_image(border: str) -> None:
    _, vertical, horizontal = random_inputs(5)
    image = torch.full((2, 3, 6, 5), 0.7, dtype=torch.float64)
    out = separable_convolution(image, vertical.abs(), horizontal.abs(), border=border, normalise=True)
    torch.testing.assert_close(out, image)


def test_a_weight_sum_near_zero_is_not_divided_by() -> None:
    image = torch.ones(1, 1, 1, 4, dtype=torch.float64)
    horizontal = torch.ones(1, 1, 1, 4, dtype=torch.float64)
    vertical = torch.tensor([0.0, 0.9e-6, 1.1e-6, -2.0], dtype=torch.float64).view(1, 1, 1, 4)
    out = separable_convolution(image, vertical, horizontal, normalise=True)
    torch.testing.assert_close(out.flatten(), torch.tensor([0.0, 0.9e-6, 1.0, 1.0], dtype=torch.float64))


@pytest.mark.parametrize("scale", [2, 4])
def test_small_maps_are_upsampled_bilinearly(scale: int) -> None:
    """Compute the upsampled maps independently: half-pixel centres, clamped at the edges."""
    image, *_ = random_inputs(3, height=3 * scale, width=2 * scale)
    _, vertical, horizontal = random_inputs(3, height=3, width=2)

    def upsample(values: np.ndarray, axis: int) -> np.ndarray:
        count = values.shape[axis]
        positions = np.clip((np.arange(count * scale) + 0.5) / scale - 0.5, 0, count - 1)
        low = np.floor(positions).astype(int)
        weight = (positions - low).reshape([-1 if n == axis else 1 for n in range(4)])
        return values.take(low, axis) * (1 - weight) + values.take(np.minimum(low + 1, count - 1), axis) * weight

    large = [torch.from_numpy(upsample(upsample(maps.numpy(), 2), 3)) for maps in (vertical, horizontal)]
    scaled = separable_convolution(image, vertical, horizontal, scale=scale)
    torch.testing.assert_close(scaled, separable_convolution(image, *large))


def test_half_precision_is_summed_in_float32() -> None:
    """With 51 x 51 taps of 1, a bfloat16 sum would stop growing at 256."""
    ones = torch.ones(1, 51, 60, 60, dtype=torch.bfloat16)
    image = torch.ones(1, 1, 60, 60, dtype=torch.bfloat16)
    for backend in ("reference", "torch", "halide"):
        out, weights = separable_convolution(image, ones, ones, return_weights=True, backend=backend)  # type: ignore[call-overload]
        assert out.dtype == torch.bfloat16
        assert weights.dtype == torch.float32
        assert weights[0, 0, 30, 30] == 51 * 51
        assert out[0, 0, 30, 30] == torch.tensor(51 * 51.0).bfloat16()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"image": torch.zeros(3, 6, 5)}, "image has 3 dimensions", id="3 dimensions"),
        pytest.param({"vertical": torch.zeros(1, 4, 6, 5)}, "vertical has 4 taps; .* odd number", id="even taps"),
        pytest.param(
            {"horizontal": torch.zeros(1, 5, 6, 5)},
            r"horizontal has shape \[1, 5, 6, 5\].*takes \[1, 3, 6, 5\]",
            id="taps differ",
        ),
        pytest.param(
            {"vertical": torch.zeros(2, 3, 6, 5)}, r"vertical has shape \[2, 3, 6, 5\]", id="batch sizes differ"
        ),
        pytest.param({"taps": TapPattern.composite(3, 2)}, "5 taps a side", id="pattern of another size"),
        pytest.param({"border": "mirror"}, "no border 'mirror'", id="unknown border"),
        pytest.param({"scale": 3}, "scale is 3", id="unknown scale"),
        pytest.param({"scale": 2}, "scale 2 does not divide", id="width is no multiple of scale"),
        pytest.param({"backend": "cudnn"}, "no backend 'cudnn'", id="unknown backend"),
        pytest.param({"image": torch.zeros(1, 3, 6, 5).double()}, "float64 goes with float64", id="float64 image only"),
        pytest.param({"vertical": torch.zeros(1, 3, 6, 5).half()}, "one type", id="kernel types differ"),
        pytest.param({"image": torch.zeros(1, 3, 6, 5).int()}, "floating point", id="integer image"),
    ],
)
def test_invalid_arguments_are_refused(change: dict[str, object], message: str) -> None:
    arguments: dict[str, object] = {
        "image": torch.zeros(1, 3, 6, 5),
        "vertical": torch.zeros(1, 3, 6, 5),
        "horizontal": torch.zeros(1, 3, 6, 5),
    }
    with pytest.raises(SettingError, match=message):
        separable_convolution(**(arguments | change))  # type: ignore[call-overload]


def test_a_named_backend_that_cannot_run_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    image, vertical, horizontal = random_inputs(3)
    with pytest.raises(SettingError, match="halide backend takes float32"):
        separable_convolution(image, vertical, horizontal, backend="halide")
    with pytest.raises(DeviceError, match=r"the triton backend (needs the package|runs on a CUDA)"):
        separable_convolution(image.float(), vertical.float(), horizontal.float(), backend="triton")


def test_one_tap_needs_no_compiler() -> None:
    """A single tap, as in the averaging network, is a plain multiplication: Halide is not imported."""
    program = """
import sys, torch
from midframe.ops import separable_convolution
delta = torch.ones(1, 1, 1, 1).expand(2, 1, 4, 6)
image = torch.rand(2, 3, 4, 6)
assert torch.equal(separable_convolution(image, 0.5 * delta, delta), 0.5 * image)
assert not [name for name in sys.modules if name.startswith("halide") or name == "midframe.ops.separable.triton"]
"""
    subprocess.run([sys.executable, "-c", program], check=True)
