"""Test separable convolution as an operator of torch: opcheck, torch.compile, autocast, memory formats, gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from midframe.errors import SettingError
from midframe.ops import TapPattern, separable_convolution

BACKENDS = ["halide", "torch"]


def random_inputs(taps: int = 3, requires_grad: bool = True) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = ((2, 3, 10, 20), (2, taps, 10, 20), (2, taps, 10, 20))
    return [torch.randn(shape, generator=generator).requires_grad_(requires_grad) for shape in shapes]


@pytest.mark.parametrize(
    "memory_format", [torch.contiguous_format, torch.channels_last], ids=["contiguous", "channels last"]
)
@pytest.mark.parametrize("backend", BACKENDS)
def test_opcheck(backend: str, memory_format: torch.memory_format) -> None:
    options = (3, 0, "rings", False, backend)
    image, vertical, horizontal = (
        t.detach().contiguous(memory_format=memory_format).requires_grad_() for t in random_inputs()
    )
    operators = torch.ops.midframe
    torch.library.opcheck(operators.separable_convolution, (image, vertical, horizontal, *options))
    image, vertical, horizontal = (t.detach() for t in (image, vertical, horizontal))
    grad, grad_sum = torch.randn_like(image), torch.randn_like(image[:, :1])
    torch.library.opcheck(
        operators.separable_convolution_gradient_kernels, (grad, grad_sum, image, vertical, horizontal, *options)
    )
    torch.library.opcheck(operators.separable_convolution_gradient_image, (grad, vertical, horizontal, *options))


@pytest.mark.parametrize(
    "memory_format", [torch.contiguous_format, torch.channels_last], ids=["contiguous", "channels last"]
)
def test_opcheck_of_upsampled_maps(memory_format: torch.memory_format) -> None:
    image, maps = torch.randn(2, 3, 8, 10), torch.randn(2, 2, 5, 4, 5)
    image = image.contiguous(memory_format=memory_format).requires_grad_()
    vertical, horizontal = (kernels.contiguous(memory_format=memory_format).requires_grad_() for kernels in maps)
    operators = torch.ops.midframe
    torch.library.opcheck(operators.separable_convolution_upsampled, (image, vertical, horizontal, 2, True))


@pytest.mark.parametrize("backend", ["auto", "reference", *BACKENDS])
def test_small_maps_compile_to_one_graph(backend: str) -> None:
    def step(image: Tensor, vertical: Tensor, horizontal: Tensor) -> Tensor:
        out = separable_convolution(
            image, vertical, horizontal, border="replicate", scale=2, backend=backend  # type: ignore[call-overload]
        )  # fmt: skip
        return torch.sin(out).sum()

    torch.manual_seed(2)
    tensors = torch.randn(1, 3, 8, 6), torch.randn(1, 5, 4, 3), torch.randn(1, 5, 4, 3)
    eager, compiled = ([t.clone().requires_grad_() for t in tensors] for _ in range(2))
    step(*eager).backward()
    torch.compile(step, fullgraph=True, backend="aot_eager")(*compiled).backward()
    for expected, actual in zip(eager, compiled, strict=True):
        torch.testing.assert_close(actual.grad, expected.grad)


@pytest.mark.parametrize("backend", ["auto", "reference", *BACKENDS])
def test_all_options_compile_to_one_graph(backend: str) -> None:
    def step(image: Tensor, vertical: Tensor, horizontal: Tensor) -> Tensor:
        out, weights = separable_convolution(
            image, vertical, horizontal, taps=TapPattern.composite(1, 2), border="replicate", normalise=True,
            return_weights=True, backend=backend,  # type: ignore[call-overload]
        )  # fmt: skip
        return torch.sin(out).sum() + weights.square().sum()

    eager, compiled = random_inputs(), random_inputs()
    step(*eager).backward()
    torch.compile(step, fullgraph=True, backend="aot_eager")(*compiled).backward()
    for expected, actual in zip(eager, compiled, strict=True):
        torch.testing.assert_close(actual.grad, expected.grad)


@pytest.mark.slow
def test_compiles_with_inductor() -> None:
    compiled = torch.compile(lambda *t: separable_convolution(*t, normalise=True, scale=1), fullgraph=True)
    tensors = random_inputs(5)
    expected = separable_convolution(*tensors, normalise=True)  # type: ignore[call-overload]
    torch.testing.assert_close(compiled(*tensors), expected)


@pytest.mark.parametrize("backend", BACKENDS)
def test_runs_in_float32_under_autocast(backend: str) -> None:
    tensors = random_inputs(5)
    kernels = [t.bfloat16() for t in tensors[1:]]
    with torch.autocast("cpu", torch.bfloat16):
        out = separable_convolution(tensors[0], *kernels, backend=backend)  # type: ignore[call-overload]
    assert out.dtype == torch.float32
    exact = separable_convolution(tensors[0], *(k.float() for k in kernels), backend="reference")  # type: ignore[call-overload]
    torch.testing.assert_close(out, exact)
    out.sum().backward()
    assert all(t.grad is not None and t.grad.isfinite().all() for t in tensors)


@pytest.mark.parametrize("backend", BACKENDS)
def test_output_and_gradients_have_the_memory_format_of_their_tensors(backend: str) -> None:
    image, vertical, horizontal = (
        t.detach().contiguous(memory_format=torch.channels_last).requires_grad_() for t in random_inputs()
    )
    out = separable_convolution(image, vertical, horizontal, backend=backend)  # type: ignore[call-overload]
    out.square().sum().backward()
    for tensor in (out, image.grad, vertical.grad, horizontal.grad):
        assert tensor is not None
        assert tensor.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "expanded"])
def test_halide_copies_no_kernel_maps(layout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pipeline reads the memory of the maps themselves, whatever their strides."""
    from midframe.ops.separable import halide

    _, vertical, horizontal = (t.detach() for t in random_inputs())
    if layout == "channels_last":
        vertical, horizontal = (t.contiguous(memory_format=torch.channels_last) for t in (vertical, horizontal))
    if layout == "expanded":
        vertical, horizontal = (t[:1, :, :1, :1].expand(2, 3, 10, 20) for t in (vertical, horizontal))
    image = random_inputs()[0].detach().contiguous(memory_format=torch.channels_last)
    addresses: list[int] = []
    load_dense = halide._dense

    def record_addresses(which: str, kernels: torch.dtype, channels: int) -> object:
        run = load_dense(which, kernels, channels)
        return lambda *values: (addresses.extend(v.data_ptr() for v in values[:3]), run(*values))

    monkeypatch.setattr(halide, "_dense", record_addresses)
    separable_convolution(image, vertical, horizontal, backend="halide")
    assert addresses == [t[b].data_ptr() for b in range(2) for t in (image, vertical, horizontal)]


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients_of_gradients_are_refused(backend: str) -> None:
    tensors = random_inputs()
    out = separable_convolution(*tensors, backend=backend)  # type: ignore[call-overload]
    (grad,) = torch.autograd.grad(out.square().sum(), tensors[0], create_graph=True)
    with pytest.raises(SettingError, match="has gradients of gradients only with backend='reference'"):
        torch.autograd.grad(grad.sum(), tensors[1])


@pytest.mark.parametrize("required", [0, 1, 2], ids=["image", "vertical", "horizontal"])
def test_only_the_required_gradients_are_computed(required: int) -> None:
    tensors = [t.requires_grad_(n == required) for n, t in enumerate(random_inputs(requires_grad=False))]
    separable_convolution(*tensors, backend="halide").sum().backward()  # type: ignore[call-overload]
    assert [t.grad is not None for t in tensors] == [n == required for n in range(3)]


def test_a_single_tap_has_gradients() -> None:
    tensors = random_inputs(1)
    separable_convolution(*tensors).square().sum().backward()  # type: ignore[call-overload]
    image, vertical, horizontal = (t.detach() for t in tensors)
    torch.testing.assert_close(tensors[0].grad, 2 * image * (vertical * horizontal) ** 2)
