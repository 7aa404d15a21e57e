"""The network `guided`: untrained output, flow and kernels, sizes and types, settings, and short trainings."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from films.scenes import texture
from midframe.errors import SettingError
from midframe.flow import estimate_flow
from midframe.networks.base import pad, unpad, weighted_mean
from midframe.networks.guided import Guided, default_depth
from midframe.networks.guided.layers import LEARNING_RATE_MULTIPLIER, OUTPUT_SCALE
from midframe.networks.guided.network import DIFFERENCE_SCALE
from midframe.ops import warp

SMALL = {
    "feature_channels": (16, 16, 16, 16),
    "decoder_channels": (16, 16, 16, 16),
    "decoder_convolutions": (1, 1, 1, 1),
}
"""Settings of a network of a few thousand weights."""


def frames(height: int, width: int, batch: int = 1, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    first, second = torch.rand(2, batch, 3, height, width, generator=generator)
    return first, second


def with_random_outputs(network: Guided, size: float = 0.3, seed: int = 0) -> Guided:
    """Give the decoders random output weights, so that the frame depends on every input and weight."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for decoder in network.decoders:
            weight = decoder.output.weight
            weight.normal_(0, size / math.sqrt(weight[0].numel()), generator=generator)
    return network.eval()


def psnr(one: Tensor, other: Tensor) -> float:
    return -10 * math.log10(float((one - other).square().mean()) + 1e-12)


@pytest.fixture(scope="module")
def untrained() -> Guided:
    torch.manual_seed(0)
    return Guided().eval()


@pytest.mark.parametrize("size", [(16, 16), (17, 33), (45, 16), (70, 101)])
@pytest.mark.parametrize("time", [0.5, 0.3, 0.875])
def test_the_untrained_network_returns_the_weighted_mean(untrained: Guided, size: tuple[int, int], time: float) -> None:
    first, second = frames(*size)
    times = torch.tensor([time])
    with torch.inference_mode():
        frame = untrained(first, second, times)
    torch.testing.assert_close(frame, weighted_mean(first, second, times), atol=1e-6, rtol=0)
    assert untrained.is_untrained_average
    assert not with_random_outputs(Guided(**SMALL)).is_untrained_average


def test_parameter_count(untrained: Guided) -> None:
    assert sum(parameter.numel() for parameter in untrained.parameters()) == 3_506_841


def test_each_sample_has_its_own_time() -> None:
    network = with_random_outputs(Guided(**SMALL, precision="float32"))
    first, second = frames(32, 48, batch=3)
    times = torch.tensor([0.5, 0.2, 0.9])
    with torch.inference_mode():
        together = network(first, second, times)
        for k in range(3):
            alone = network(first[k : k + 1], second[k : k + 1], times[k : k + 1])
            torch.testing.assert_close(together[k : k + 1], alone, atol=1e-5, rtol=0)


def test_frames_are_warped_by_a_known_flow_at_every_time() -> None:
    """The coarsest decoder outputs one flow everywhere, the others nothing; both frames are warped by it."""
    network = Guided(**SMALL, precision="float32").eval()
    across, down = 0.25, -0.125  # of the coarsest level's pixels: 4 and -2 of the picture's, to each side
    with torch.no_grad():
        network.decoders[3].output.bias.copy_(torch.tensor([-across, -down, across, down, 0]) / OUTPUT_SCALE)
    first, second = frames(64, 64)
    for time in (0.25, 0.5, 0.8):
        times = torch.tensor([time])
        with torch.inference_mode():
            output = network.predict(first, second, times)
        motion = torch.tensor([16 * across, 16 * down]).view(1, 2, 1, 1).expand(1, 2, 64, 64)
        warped = warp(first, -2 * time * motion), warp(second, 2 * (1 - time) * motion)
        torch.testing.assert_close(output.frame, weighted_mean(*warped, times), atol=1e-5, rtol=0)
        torch.testing.assert_close(output.warped, torch.stack(warped, 1), atol=1e-5, rtol=0)
        for flow, pixel in zip(output.flows, (16, 8, 4, 2), strict=True):
            expected = torch.cat((-2 * time * motion, 2 * (1 - time) * motion), 1)[..., :1, :1] / pixel
            torch.testing.assert_close(flow, expected.expand_as(flow))


@pytest.mark.parametrize("depth", [1, 2])
def test_the_initial_flow_is_scaled_by_its_parameter(depth: int) -> None:
    network = Guided(**SMALL, precision="float32").eval()
    motions, times = [(6.0, -2.0), (-3.0, 4.0)], torch.tensor([0.5, 0.25])
    first, second = moving_textures(0, motions), moving_textures(1, motions)
    found = estimate_flow(first, second, times)
    inputs: list[Tensor] = []
    network.decoders[0].read_costs.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
    for scale in (0.5, 1.0):
        with torch.inference_mode():
            network.initial_flow_scale.fill_(scale / LEARNING_RATE_MULTIPLIER)
            output = network.predict(first, second, times, depth=depth)
        t = times.view(2, 1, 1, 1)
        expected = torch.cat((-2 * t * found, 2 * (1 - t) * found), 1) * scale
        torch.testing.assert_close(output.flows[-1], expected)
        coarsest = torch.nn.functional.avg_pool2d(expected, 8 << (depth - 1)) / (8 << (depth - 1))
        torch.testing.assert_close(output.flows[0], coarsest, atol=1e-5, rtol=1e-4)
        # The finest decoder reads the difference of the warped frames.
        difference = torch.nn.functional.pixel_unshuffle(output.warped[:, 0] - output.warped[:, 1], 2)
        torch.testing.assert_close(inputs[-1][:, -12:], DIFFERENCE_SCALE * difference, atol=1e-5, rtol=0)
    assert not network.is_untrained_average
    for k, at in enumerate(times.tolist()):
        expected = moving_textures(at, motions)[k, :, 8:-8, 8:-8]
        mean = weighted_mean(first, second, times)[k, :, 8:-8, 8:-8]
        assert psnr(output.frame[k, :, 8:-8, 8:-8], expected) > psnr(mean, expected) + 3


def test_types_of_frames_and_strides_of_times() -> None:
    network = with_random_outputs(Guided(**SMALL, precision="float32"))
    first, second = frames(32, 48)
    with torch.inference_mode():
        network.initial_flow_scale.fill_(1 / LEARNING_RATE_MULTIPLIER)
        predicted = network(first, second, torch.tensor([0.25]))
        for time in (torch.tensor(0.25), torch.full((4,), 0.25)[::4]):
            assert torch.equal(network(first, second, time), predicted)
        for dtype in (torch.bfloat16, torch.float16):
            half = network(first.to(dtype), second.to(dtype), torch.tensor([0.25]))
            assert half.dtype == dtype
            assert psnr(half.float(), predicted) > 25


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_shapes_of_the_output(depth: int) -> None:
    network = with_random_outputs(Guided(**SMALL, taps=7))
    first, second = frames(70, 90, batch=2)
    with torch.inference_mode():
        output = network.predict(first, second, torch.tensor([0.4, 0.6]), depth=depth)
    block = 16 << (depth - 1)
    height, width = -(-70 // block) * block, -(-90 // block) * block
    sizes = [(height >> k, width >> k) for k in range(3 + depth, 0, -1)]
    assert output.frame.shape == (2, 3, 70, 90)
    assert [tuple(m.shape) for m in output.flows] == [(2, 4, *size) for size in sizes]
    assert [tuple(m.shape) for m in output.visibilities] == [(2, 1, *size) for size in sizes]
    assert output.warped.shape == (2, 2, 3, height, width)
    assert output.vertical.shape == output.horizontal.shape == (2, 2, 7, *sizes[-1])


def test_recursion_depth_grows_with_the_picture() -> None:
    assert [default_depth(*size) for size in ((16, 16), (720, 1280), (1920, 1080), (2160, 4096))] == [1, 1, 2, 3]


def test_kernel_weights_of_a_pixel_sum_to_one() -> None:
    output = with_random_outputs(Guided(**SMALL), size=3).predict(*frames(32, 32), torch.tensor([0.5]))
    ones = torch.ones(1, 1, 16, 16)
    torch.testing.assert_close(output.vertical.sum((1, 2)), ones[:, 0])
    torch.testing.assert_close(output.horizontal.sum(2), ones.expand(1, 2, 16, 16))
    assert output.horizontal.std() > 0.1  # not all of them are deltas


def test_flat_frames_do_not_change() -> None:
    """The kernel weights sum to one everywhere, also at the edges, for any output of the decoders."""
    network = with_random_outputs(Guided(**SMALL), size=3)
    flat = torch.full((1, 3, 37, 50), 0.7)
    with torch.inference_mode():
        predicted = network(flat, flat, torch.tensor([0.3]))
    torch.testing.assert_close(predicted, flat, atol=2e-6, rtol=0)


@settings(max_examples=50, deadline=None)
@given(height=st.integers(1, 70), width=st.integers(1, 70), multiple=st.sampled_from([1, 8, 16, 32]))
def test_pad_and_its_inverse(height: int, width: int, multiple: int) -> None:
    picture = torch.rand(2, 3, height, width)
    padded = pad(picture, multiple)
    assert padded.shape[2] % multiple == padded.shape[3] % multiple == 0
    assert padded.shape[2] < height + multiple
    assert padded.shape[3] < width + multiple
    assert torch.equal(unpad(padded, (height, width)), picture)
    assert torch.equal(padded[:, :, height:], padded[:, :, height - 1 : height].expand_as(padded[:, :, height:]))
    assert torch.equal(padded[..., width:], padded[..., width - 1 : width].expand_as(padded[..., width:]))


def test_an_odd_size_gives_the_frame_of_the_padded_picture() -> None:
    network = with_random_outputs(Guided(**SMALL))
    first, second = frames(37, 50)
    times = torch.tensor([0.5])
    with torch.inference_mode():
        predicted = network(first, second, times)
        padded = network(pad(first, 16), pad(second, 16), times)
    assert torch.equal(predicted, padded[:, :, :37, :50])


def test_a_picture_inside_a_larger_one_gives_the_same_frame() -> None:
    """Shifted by a multiple of 16, both agree in float64 where the receptive field does not reach the edges."""
    torch.manual_seed(3)
    none, one = (0, 0, 0, 0), (1, 1, 1, 1)
    shape = {**SMALL, "encoder_convolutions": none, "decoder_convolutions": none, "search_radii": one}
    network = Guided(**shape, taps=3)
    network = with_random_outputs(network, size=1).double()
    generator = torch.Generator().manual_seed(4)
    first, second = torch.rand(2, 1, 3, 480, 480, generator=generator, dtype=torch.float64)
    times = torch.tensor([0.4], dtype=torch.float64)
    with torch.inference_mode():
        output = network.predict(first, second, times)
        inner = network(first[:, :, 32:448, 48:464], second[:, :, 32:448, 48:464], times)
    assert output.flows[-1].abs().max() > 0.05
    far = 192
    one, other = output.frame[:, :, 32:448, 48:464], inner
    torch.testing.assert_close(one[..., far:-far, far:-far], other[..., far:-far, far:-far], atol=1e-10, rtol=0)
    assert (one - other).abs().max() > 1e-6  # near the edges the surroundings have an effect


def test_bfloat16_is_close_to_float32() -> None:
    network = with_random_outputs(Guided(**SMALL))
    first, second = frames(64, 96)
    first, second = (torch.nn.functional.avg_pool2d(pad(f, 32), 5, 1, 2) for f in (first, second))
    predicted = []
    for precision in ("float32", "bfloat16"):
        network.precision = precision
        with torch.inference_mode():
            predicted.append(network(first, second, torch.tensor([0.5])))
    assert predicted[1].dtype == torch.float32
    assert 45 < psnr(*predicted) < 110


def test_every_parameter_gets_a_gradient() -> None:
    network = with_random_outputs(Guided(**SMALL)).train()
    network(*frames(64, 64), torch.tensor([0.4])).square().mean().backward()
    for name, parameter in network.named_parameters():
        if not name.startswith("decoders.3.read_coarser"):  # which is used only from depth 2 on
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name
    network.zero_grad()
    network.predict(*frames(64, 64), torch.tensor([0.4]), depth=2).frame.square().mean().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_it_compiles_without_graph_breaks() -> None:
    network = with_random_outputs(Guided(**SMALL, precision="float32"))
    first, second, times = *frames(32, 48), torch.tensor([0.3])
    compiled = torch.compile(network, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        torch.testing.assert_close(compiled(first, second, times), network(first, second, times), atol=1e-5, rtol=0)


def test_settings_rebuild_the_network() -> None:
    network = with_random_outputs(Guided(**SMALL, taps=7))
    again = Guided(**network.settings)
    again.load_state_dict(network.state_dict())
    first, second = frames(32, 32)
    with torch.inference_mode():
        assert torch.equal(network(first, second, torch.tensor([0.5])), again(first, second, torch.tensor([0.5])))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        pytest.param({"taps": 4}, "taps must be odd; got 4", id="even taps"),
        pytest.param({"taps": 53}, "taps is a whole number from 1 to 51; got 53", id="too many taps"),
        pytest.param({"taps": 5.0}, r"taps is a whole number from 1 to 51; got 5\.0", id="taps as a float"),
        pytest.param({"feature_channels": (16, 16)}, "feature_channels is four whole numbers", id="two levels"),
        pytest.param({"decoder_channels": "1111"}, "decoder_channels is four whole numbers", id="a string"),
        pytest.param({"decoder_convolutions": (0, 0, 0, -1)}, "from 0 to 32; got -1", id="a negative number"),
        pytest.param({"feature_channels": (16, 16, 16, 10**9)}, "from 1 to 1024", id="too many channels"),
        pytest.param({"search_radii": (1, 1, 1, 99)}, "search_radii is a whole number from 1 to 8", id="large radius"),
        pytest.param({"depth": 0}, "depth is a whole number from 1 to 6", id="no depth"),
        pytest.param({"precision": "float8"}, "precision is auto, float32 or bfloat16", id="unknown precision"),
    ],
)
def test_invalid_settings_are_refused(setting: dict[str, object], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        Guided(**setting)  # type: ignore[arg-type]


def train_on_middle(network: Guided, steps: int, rate: float, triplet: tuple[Tensor, Tensor, Tensor]) -> None:
    """Train with AdamW on the middle frame, with a photometric loss of the warped frames at every level."""
    first, middle, second = triplet
    optimiser = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, steps, pct_start=0.1)
    both = torch.stack((first, second), 1).flatten(0, 1)
    for _ in range(steps):
        output = network.predict(first, second, torch.tensor([0.5]))
        loss = (output.frame - middle).square().add(1e-6).sqrt().mean()
        for motion in output.flows:
            pixel = first.shape[-1] // motion.shape[-1]
            small = torch.nn.functional.avg_pool2d(both, pixel)
            expected = torch.nn.functional.avg_pool2d(middle, pixel).repeat_interleave(2, 0)
            warped = warp(small, motion.reshape(-1, 2, *motion.shape[2:]))
            loss = loss + 0.2 * (warped - expected).abs().mean()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()


def moving_textures(at: float, motions: list[tuple[float, float]]) -> Tensor:
    """Return one texture for each motion (x, y, in pixels between the frames), as it is at a time in 0..1."""
    pictures = [texture(64, 64, (dx * at, dy * at), seed) for seed, (dx, dy) in enumerate(motions)]
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float()


def test_times_that_it_was_not_trained_on() -> None:
    """Trained on the middle of moving textures only, the network also predicts the frames at 1/4 and 3/4."""
    torch.manual_seed(0)
    motions = [(6.0, 0.0), (-5.0, 3.0), (2.0, -6.0), (0.0, 4.0)]
    network = Guided(**SMALL)
    first, middle, second = (moving_textures(at, motions) for at in (0, 0.5, 1))
    train_on_middle(network, 120, 1e-3, (first, middle, second))
    network.eval()
    for time in (0.25, 0.5, 0.75):
        with torch.inference_mode():
            predicted = network(first, second, torch.full((4,), time))
        predicted = predicted[..., 8:-8, 8:-8]
        times = (0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1)
        scores = {at: psnr(predicted, moving_textures(at, motions)[..., 8:-8, 8:-8]) for at in times}
        mean = weighted_mean(first, second, torch.tensor([time]))[..., 8:-8, 8:-8]
        assert max(scores, key=lambda at: scores[at]) == time, scores
        assert scores[time] > psnr(mean, moving_textures(time, motions)[..., 8:-8, 8:-8]) + 3


@pytest.mark.slow
def test_it_can_overfit_a_real_triplet(shared_data: Path) -> None:
    torch.manual_seed(0)
    folder = shared_data / "triplets" / "ucf101" / "ucf_1841"

    def read(name: str) -> Tensor:
        pixels = np.array(Image.open(folder / f"{name}.png").convert("RGB"))
        return torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255

    first, middle, second = (read(name) for name in ("first", "middle", "last"))
    network = Guided()
    train_on_middle(network, 250, 1e-3, (first, middle, second))
    network.eval()
    with torch.inference_mode():
        predicted = network(first, second, torch.tensor([0.5])).clamp(0, 1).mul(255).round() / 255
    assert psnr(predicted, middle) > 35
