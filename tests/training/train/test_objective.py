"""The objective of a step against independent computations: losses of the flow, fading weights, micro-batches."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from films.scenes import texture
from midframe.networks.guided import Guided, Levels
from midframe.training.config import LossConfig
from midframe.training.data.batch import Batch
from midframe.training.train.objective import flow_losses, frame_losses, predict, total_loss
from runs import SMALL

SIDE = 64
"""Side of the frames in pixels."""

PIXEL_SIZES = (16, 8, 4, 2)
"""Width of a pixel of each level, in pixels of the frames."""

ALL_FLOW_LOSSES = LossConfig(blended_photometric=1.0, warped_photometric=1.0, flow=1.0, flow_distillation=1.0)


def moving_texture(dx: float, dy: float, time: float = 0.5, is_exact: float = 1.0) -> Batch:
    """Return a sample of a texture that moves by (dx, dy) from the first to the second frame, with its true flow."""

    def frame_at(t: float) -> Tensor:
        picture = texture(SIDE, SIDE, (dx * (t - time), dy * (t - time)), 3) * 255
        return torch.from_numpy(picture).permute(2, 0, 1)[None]

    flow = torch.tensor([-time * dx, -time * dy, (1 - time) * dx, (1 - time) * dy], dtype=torch.float64)
    return Batch(
        first=frame_at(0),
        target=frame_at(time),
        second=frame_at(1),
        time=torch.tensor([time]),
        flow=flow.view(1, 4, 1, 1).expand(1, 4, SIDE, SIDE),
        flow_confidence=torch.ones(1, 1, SIDE, SIDE, dtype=torch.float64),
        flow_is_exact=torch.tensor([is_exact]),
    )


def constant_output(flow: Tensor, visibility: float = 0.5) -> Levels:
    """Return an output of `guided` with one flow `[4]`, in pixels of the frames, and one visibility everywhere."""
    sizes = [SIDE // pixel_size for pixel_size in PIXEL_SIZES]
    flows = [
        (flow / pixel_size).view(1, 4, 1, 1).expand(1, 4, size, size)
        for pixel_size, size in zip(PIXEL_SIZES, sizes, strict=True)
    ]
    visibilities = [torch.full((1, 1, size, size), visibility, dtype=flow.dtype) for size in sizes]
    unused = torch.zeros(0)
    return Levels(unused, tuple(flows), tuple(visibilities), unused, unused, unused)


def test_losses_are_small_at_the_true_flow_and_larger_elsewhere() -> None:
    batch = moving_texture(16.0, -16.0)
    right = flow_losses(constant_output(batch.flow[0, :, 0, 0]), batch, ALL_FLOW_LOSSES)
    wrong = flow_losses(constant_output(batch.flow[0, :, 0, 0] + 6), batch, ALL_FLOW_LOSSES)
    assert right["flow"] == pytest.approx(len(PIXEL_SIZES) * 0.1)  # the square root of FLOW_EPSILON at each level
    assert wrong["flow"] == pytest.approx(len(PIXEL_SIZES) * np.sqrt(72 + 0.01))
    assert right["flow_distillation"] == wrong["flow_distillation"] == 0
    assert right["blended_photometric"] < 0.5 * wrong["blended_photometric"]
    assert right["warped_photometric"] < 0.5 * wrong["warped_photometric"]


def test_losses_of_the_finest_level_against_numpy() -> None:
    """The flow is in whole pixels of the finest level, so that slices can warp the frames."""
    batch = moving_texture(4.0, 8.0, time=0.25, is_exact=0.0)
    flow = torch.tensor([6.0, -2.0, 2.0, 4.0], dtype=torch.float64)
    output = constant_output(flow, visibility=0.3)
    finest = replace(output, motions=output.motions[-1:], blends=output.blends[-1:])
    losses = flow_losses(finest, batch, ALL_FLOW_LOSSES)

    first, target, second = [
        frame[0].numpy().reshape(3, 32, 2, 32, 2).mean((2, 4)) for frame in (batch.first, batch.target, batch.second)
    ]
    rows, columns = np.mgrid[:32, :32]

    def warp(picture: np.ndarray, x: int, y: int) -> np.ndarray:
        return picture[:, np.clip(rows + y, 0, 31), np.clip(columns + x, 0, 31)]

    def charbonnier(predicted: np.ndarray) -> float:
        return float(np.sqrt((predicted - target) ** 2 + 0.255**2).mean())

    warped_first, warped_second = warp(first, 3, -1), warp(second, 1, 2)
    blended = charbonnier(0.3 * warped_first + 0.7 * warped_second)
    assert losses["blended_photometric"].item() == pytest.approx(blended)
    warped = (charbonnier(warped_first) + charbonnier(warped_second)) / 2
    assert losses["warped_photometric"].item() == pytest.approx(warped)
    error = flow.numpy() - batch.flow[0, :, 0, 0].numpy()
    end_point_errors = [np.sqrt((error[k : k + 2] ** 2).sum() + 0.01) for k in (0, 2)]
    assert losses["flow_distillation"].item() == pytest.approx(np.mean(end_point_errors))
    assert losses["flow"] == 0


def test_the_flow_loss_is_weighted_by_confidence() -> None:
    batch = moving_texture(4.0, 0.0)
    batch = replace(batch, flow_confidence=batch.flow_confidence * 0.25)
    wrong = constant_output(batch.flow[0, :, 0, 0] + 3)
    assert flow_losses(wrong, batch, ALL_FLOW_LOSSES)["flow"] == pytest.approx(4 * 0.25 * np.sqrt(18.01))


def test_losses_without_a_weight_are_not_computed() -> None:
    batch = moving_texture(4.0, 0.0)
    output = constant_output(batch.flow[0, :, 0, 0])
    assert flow_losses(output, batch, LossConfig(blended_photometric=1.0)).keys() == {"blended_photometric"}
    predicted = batch.first
    without_inputs = LossConfig(perceptual=1.0, adversarial=1.0, census=1.0)
    assert frame_losses(predicted, batch.target, without_inputs).keys() == {"census"}
    losses = frame_losses(predicted, batch.target, LossConfig(reconstruction=1.0, luminosity=2.0))
    assert losses.keys() == {"reconstruction", "luminosity"}
    assert losses["reconstruction"].item() == pytest.approx((predicted - batch.target).abs().mean().item())


def test_weights_fade_linearly_to_their_final_fraction() -> None:
    config = LossConfig(charbonnier=2.0, warped_photometric=3.0, flow=5.0, flow_distillation=7.0, fade_until=0.4)
    values = dict.fromkeys(("charbonnier", "warped_photometric", "flow", "flow_distillation"), torch.tensor(1.0))
    for progress, expected in (
        (0.0, 2 + 3 + 5 + 7),
        (0.2, 2 + (3 + 5 + 7) / 2),
        (0.4, 2 + 5 / 4),
        (1.0, 2 + 5 / 4),
    ):
        assert total_loss(values, config, progress).item() == pytest.approx(expected)
    assert total_loss(values, replace(config, fade_until=0.0), 0.0).item() == pytest.approx(2 + 5 / 4)


def test_the_flow_losses_of_micro_batches_average_to_those_of_the_batch() -> None:
    samples = (moving_texture(4, 2), moving_texture(-6, 3, 0.3, 0.0))
    batch = Batch(**{name: torch.cat([vars(sample)[name] for sample in samples]) for name in vars(samples[0])})
    torch.manual_seed(0)
    network = Guided(**SMALL, precision="float32").double()
    predicted, output = predict(network, batch)
    assert output is not None
    expected = flow_losses(output, batch, ALL_FLOW_LOSSES)
    parts = []
    for index in range(2):
        micro_batch = batch.micro_batch(index, 2)
        _, output = predict(network, micro_batch)
        assert output is not None
        parts.append(flow_losses(output, micro_batch, ALL_FLOW_LOSSES))
    for name, loss in expected.items():
        assert loss.item() == pytest.approx((parts[0][name] + parts[1][name]).item() / 2)
    assert predicted.shape == batch.first.shape
    assert 50 < predicted.mean() < 200  # in 0..255


def test_predicted_frames_are_in_0_to_255() -> None:
    batch = moving_texture(0.0, 0.0)
    predicted, _ = predict(Guided(**SMALL, precision="float32").double(), batch)
    assert F.l1_loss(predicted, batch.target) < 1e-3
