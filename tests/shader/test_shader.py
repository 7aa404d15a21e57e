"""The shader against Algorithm 1 written out in numpy, pixel by pixel."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from midframe.errors import OutputError, SettingError
from midframe.shader import DEFAULT_PRESET, PRESETS, apply_shader, blend_map, find_preset, prediction_weight
from midframe.shader.maps import shader_maps, write_maps

PARAMETERS = {"paper": (2.0, 6.0, None), "amplified": (2.0, 8.1, (32.0, 8.0))}
"""low, high, (clip, factor) as the report and the author's code print them."""


def blend_by_numpy(first: NDArray[np.float64], second: NDArray[np.float64], name: str) -> NDArray[np.float64]:
    """Frames `[H, W, 3]` in 0..255; one full 21x21 Gaussian, numpy's own mirrored padding."""
    difference = np.abs(first - second).mean(axis=2)
    if PARAMETERS[name][2] is not None:
        clip, factor = PARAMETERS[name][2]
        difference = np.minimum(np.minimum(difference, clip) * factor, 255.0)
    y, x = np.mgrid[-10:11, -10:11]
    gaussian = np.exp(-(x**2 + y**2) / (2 * 10.0**2))
    gaussian /= gaussian.sum()
    padded = np.pad(difference, 10, mode="symmetric")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (21, 21))
    return np.einsum("yxij,ij->yx", windows, gaussian)


def shade_by_numpy(
    prediction: NDArray[np.float64],
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    time: float,
    name: str,
) -> NDArray[np.float64]:
    low, high, _ = PARAMETERS[name]
    blend = blend_by_numpy(first, second, name)
    out = np.empty_like(prediction)
    for y in range(prediction.shape[0]):
        for x in range(prediction.shape[1]):
            if blend[y, x] < high:
                mean = (1 - time) * first[y, x] + time * second[y, x]
                weight = (min(max(blend[y, x], low), high) - low) / (high - low)
                out[y, x] = mean + weight * (prediction[y, x] - mean)
            else:
                out[y, x] = prediction[y, x]
    return out


def film_pair(bits: int, height: int = 40, width: int = 60) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Two frames of code values: noise of one code value, a patch that changes slightly, a patch that changes much."""
    rng = np.random.default_rng(7)
    peak = 2**bits - 1
    first = rng.integers(0, peak + 1, (height, width, 3))
    second = first + rng.integers(0, 2, first.shape) * (rng.random((height, width, 1)) < 0.3)
    second[:, 25:40] += peak // 60
    second[5:20, 45:] = rng.integers(0, peak + 1, second[5:20, 45:].shape)
    return first, second.clip(0, peak)


def to_tensor(codes: NDArray[np.int64], bits: int, kind: torch.dtype = torch.float32) -> torch.Tensor:
    return (torch.from_numpy(codes).to(torch.float64) / (2**bits - 1)).permute(2, 0, 1)[None].to(kind)


@pytest.mark.parametrize("bits", [8, 10])
@pytest.mark.parametrize("name", PRESETS)
def test_the_blend_map_agrees_with_numpy(name: str, bits: int) -> None:
    first, second = film_pair(bits)
    scale = 255.0 / (2**bits - 1)
    expected = blend_by_numpy(first * scale, second * scale, name)
    got = blend_map(to_tensor(first, bits), to_tensor(second, bits), PRESETS[name])
    assert got.shape == (1, 1, 40, 60)
    assert got.dtype == torch.float32
    np.testing.assert_allclose(got[0, 0].numpy(), expected, atol=2e-4)
    low, high, _ = PARAMETERS[name]
    assert expected.min() < low, "the pair must reach all three branches"
    assert expected.max() > high
    assert ((expected > low) & (expected < high)).any()


@pytest.mark.parametrize("bits", [8, 10])
@pytest.mark.parametrize("time", [0.5, 0.25])
@pytest.mark.parametrize("name", PRESETS)
def test_the_shader_agrees_with_algorithm_1(name: str, time: float, bits: int) -> None:
    first, second = film_pair(bits)
    prediction = np.random.default_rng(8).integers(0, 2**bits, first.shape)
    scale = 255.0 / (2**bits - 1)
    expected = shade_by_numpy(prediction * scale, first * scale, second * scale, time, name)
    frames = [to_tensor(codes, bits) for codes in (prediction, first, second)]
    blend = blend_map(frames[1], frames[2], PRESETS[name])
    got = apply_shader(*frames, time, blend, PRESETS[name])
    np.testing.assert_allclose(got[0].permute(1, 2, 0).numpy() * 255, expected, atol=0.02)


def test_double_precision_agrees_to_rounding() -> None:
    first, second = film_pair(10)
    expected = blend_by_numpy(first * (255 / 1023), second * (255 / 1023), "amplified")
    got = blend_map(*(to_tensor(codes, 10, torch.float64) for codes in (first, second)), PRESETS["amplified"])
    np.testing.assert_allclose(got[0, 0].numpy(), expected, atol=1e-11)


@pytest.mark.parametrize("size", [(16, 16), (17, 23), (5, 3), (1, 40)])
def test_border_of_small_pictures_is_mirrored(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(9)
    first, second = rng.integers(0, 256, (2, *size, 3))
    expected = blend_by_numpy(first, second, "paper")
    got = blend_map(to_tensor(first, 8), to_tensor(second, 8), PRESETS["paper"])
    np.testing.assert_allclose(got[0, 0].numpy(), expected, atol=1e-3)


@pytest.mark.parametrize("name", PRESETS)
def test_a_static_region_is_exact(name: str) -> None:
    first = torch.rand(1, 3, 48, 64)
    second = first.clone()
    second[..., 40:] = torch.rand(1, 3, 48, 24)
    prediction = torch.rand(1, 3, 48, 64)
    blend = blend_map(first, second, PRESETS[name])
    assert torch.equal(blend[..., :30], torch.zeros(1, 1, 48, 30)), "the frames are equal within the radius"
    for time in (0.5, 0.3, torch.tensor([0.7])):
        shown = apply_shader(prediction, first, second, time, blend, PRESETS[name])
        assert torch.equal(shown[..., :30], first[..., :30])
        assert torch.equal(shown[..., 45:], prediction[..., 45:]), "moving regions show the prediction"


def test_each_sample_has_its_own_time() -> None:
    first, second, prediction = torch.rand(3, 2, 3, 16, 16)
    blend = torch.zeros(2, 1, 16, 16)
    shown = apply_shader(prediction, first, second, torch.tensor([0.25, 0.75]), blend)
    torch.testing.assert_close(shown[0], 0.75 * first[0] + 0.25 * second[0])
    torch.testing.assert_close(shown[1], 0.25 * first[1] + 0.75 * second[1])


def test_half_precision_frames_have_a_single_precision_map() -> None:
    first, second = (to_tensor(codes, 8) for codes in film_pair(8))
    exact = blend_map(first.half().float(), second.half().float())
    got = blend_map(first.half(), second.half())
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, exact)
    assert apply_shader(first.half(), first.half(), second.half(), 0.5, got).dtype == torch.float16


def test_inputs_are_not_modified() -> None:
    first, second, prediction = torch.rand(3, 1, 3, 20, 20)
    copies = [frame.clone() for frame in (first, second, prediction)]
    blend = blend_map(first, second)
    blend_copy = blend.clone()
    apply_shader(prediction, first, second, 0.5, blend)
    assert all(
        torch.equal(*pair) for pair in zip((first, second, prediction, blend), (*copies, blend_copy), strict=True)
    )


@pytest.mark.parametrize("name", PRESETS)
def test_written_maps_are_those_of_the_shader(name: str, tmp_path: Path) -> None:
    preset = PRESETS[name]
    first, second = (to_tensor(codes, 8) for codes in film_pair(8))
    maps = shader_maps(first, second, preset)
    assert torch.equal(maps.blend, blend_map(first, second, preset))
    assert torch.equal(maps.prediction_weight, prediction_weight(maps.blend, preset))
    paths = write_maps(maps, tmp_path / "new" / "folder", "0007", preset)
    assert [path.name for path in paths] == [f"0007-{k}.png" for k in ("difference", "processed", "blend", "share")]
    pictures = [np.asarray(Image.open(path)) for path in paths]
    assert all(picture.shape == (40, 60) and picture.dtype == np.uint8 for picture in pictures)
    np.testing.assert_allclose(pictures[0], maps.difference[0, 0].numpy(), atol=0.51)
    np.testing.assert_allclose(pictures[3], maps.prediction_weight[0, 0].numpy() * 255, atol=0.51)
    assert (pictures[2] == 255).any()
    assert (pictures[2] < 255).any()


def test_maps_that_cannot_be_written_are_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    frames = torch.rand(2, 1, 3, 16, 16)
    with pytest.raises(OutputError, match="cannot be written"):
        write_maps(shader_maps(frames[0], frames[1]), tmp_path / "file", "0")


def test_presets_by_name() -> None:
    assert find_preset("default") is DEFAULT_PRESET
    assert all(find_preset(name) == replace(preset) for name, preset in PRESETS.items())
    with pytest.raises(SettingError, match=r"'sharp'.*paper"):
        find_preset("sharp")
