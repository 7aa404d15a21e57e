"""Resized crops compared with independent implementations of the filters."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from midframe.training.data.resampling import resized_crops


def noise(frames: int = 3, height: int = 120, width: int = 200) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (frames, 3, height, width), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("kind", ["bilinear", "antialiased", "area"])
@pytest.mark.parametrize("size", [(52, 87), (119, 200), (75, 120)])
def test_resizing_against_independent_computations(kind: str, size: tuple[int, int]) -> None:
    window = noise().double()
    resized = resized_crops(window, size, [(0, 0)] * 3, size, kind)  # type: ignore[arg-type]
    if kind == "area":
        expected = resize_by_area(window.numpy(), size)
    else:
        expected = torch.nn.functional.interpolate(
            window, size=size, mode="bilinear", antialias=kind == "antialiased", align_corners=False
        ).numpy()
    assert np.abs(resized.numpy() - expected).max() < 1e-4


def resize_by_area(window: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Average over the area of each new pixel: differences of the integral, which is linear between pixel edges."""
    for axis, count in ((-2, size[0]), (-1, size[1])):
        along = np.moveaxis(window, axis, -1)
        integral = np.concatenate((np.zeros((*along.shape[:-1], 1)), along.cumsum(-1)), -1)
        at = np.linspace(0, along.shape[-1], count + 1)
        edges = np.apply_along_axis(lambda row, at=at: np.interp(at, np.arange(len(row)), row), -1, integral)
        window = np.moveaxis(np.diff(edges, axis=-1) * count / along.shape[-1], -1, axis)
    return window


def test_bilinear_and_area_equal_opencvs() -> None:
    cv2 = pytest.importorskip("cv2")
    window = noise(1).float()
    for kind, flag in (("bilinear", cv2.INTER_LINEAR), ("area", cv2.INTER_AREA)):
        resized = resized_crops(window, (70, 110), [(0, 0)], (70, 110), kind)  # type: ignore[arg-type]
        expected = cv2.resize(window[0].permute(1, 2, 0).numpy(), (110, 70), interpolation=flag)
        assert np.abs(resized[0].permute(1, 2, 0).numpy() - expected).max() < 0.02
