"""The guided network: what it is before training, what its parts mean, and that it learns."""

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
from midframe.networks.guided import Guided, recursion_depth
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


def awake(network: Guided, size: float = 0.3, seed: int = 0) -> Guided:
    """The network with answers that depend on everything."""
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
def test_untrained_it_is_the_weighted_mean(untrained: Guided, size: tuple[int, int], time: float) -> None:
    first, second = frames(*size)
    times = torch.tensor([time])
    with torch.inference_mode():
        made = untrained(first, second, times)
    torch.testing.assert_close(made, weighted_mean(first, second, times), atol=1e-6, rtol=0)
    assert untrained.is_untrained_average
    assert not awake(Guided(**SMALL)).is_untrained_average


def test_parameter_count(untrained: Guided) -> None:
    assert sum(parameter.numel() for parameter in untrained.parameters()) == 3_506_841


def test_each_sample_has_its_own_time() -> None:
    network = awake(Guided(**SMALL, precision="float32"))
    first, second = frames(32, 48, batch=3)
    times = torch.tensor([0.5, 0.2, 0.9])
    with torch.inference_mode():
        together = network(first, second, times)
        for k in range(3):
            alone = network(first[k : k + 1], second[k : k + 1], times[k : k + 1])
            torch.testing.assert_close(together[k : k + 1], alone, atol=1e-5, rtol=0)


def test_a_known_motion_is_followed_at_every_time() -> None:
    """The coarsest decoder answers one motion everywhere, the others nothing: the frames come to it from both sides."""
    network = Guided(**SMALL, precision="float32").eval()
    across, down = 0.25, -0.125  # of the coarsest level's pixels: 4 and -2 of the picture's, to each side
    with torch.no_grad():
        network.decoders[3].output.bias.copy_(torch.tensor([-across, -down, across, down, 0]) / OUTPUT_SCALE)
    first, second = frames(64, 64)
    for time in (0.25, 0.5, 0.8):
        times = torch.tensor([time])
        with torch.inference_mode():
            levels = network.predict(first, second, times)
        motion = torch.tensor([16 * across, 16 * down]).view(1, 2, 1, 1).expand(1, 2, 64, 64)
        brought = warp(first, -2 * time * motion), warp(second, 2 * (1 - time) * motion)
        torch.testing.assert_close(levels.frame, weighted_mean(*brought, times), atol=1e-5, rtol=0)
        torch.testing.assert_close(levels.warped, torch.stack(brought, 1), atol=1e-5, rtol=0)
        for level, pixel in zip(levels.flows, (16, 8, 4, 2), strict=True):
            expected = torch.cat((-2 * time * motion, 2 * (1 - time) * motion), 1)[..., :1, :1] / pixel
            torch.testing.assert_close(level, expected.expand_as(level))


@pytest.mark.parametrize("depth", [1, 2])
def test_the_alignment_is_taken_as_far_as_the_number_says(depth: int) -> None:
    network = Guided(**SMALL, precision="float32").eval()
    motions, times = [(6.0, -2.0), (-3.0, 4.0)], torch.tensor([0.5, 0.25])
    first, second = drawn(0, motions), drawn(1, motions)
    found = estimate_flow(first, second, times)
    read: list[Tensor] = []
    network.decoders[0].read_costs.register_forward_pre_hook(lambda _, given: read.append(given[0]))
    for share in (0.5, 1.0):
        with torch.inference_mode():
            network.initial_flow_scale.fill_(share / LEARNING_RATE_MULTIPLIER)
            levels = network.predict(first, second, times, depth=depth)
        t = times.view(2, 1, 1, 1)
        expected = torch.cat((-2 * t * found, 2 * (1 - t) * found), 1) * share
        torch.testing.assert_close(levels.flows[-1], expected)
        coarsest = torch.nn.functional.avg_pool2d(expected, 8 << (depth - 1)) / (8 << (depth - 1))
        torch.testing.assert_close(levels.flows[0], coarsest, atol=1e-5, rtol=1e-4)
        # The finest decoder reads how far the frames that are now together are still apart.
        apart = torch.nn.functional.pixel_unshuffle(levels.warped[:, 0] - levels.warped[:, 1], 2)
        torch.testing.assert_close(read[-1][:, -12:], DIFFERENCE_SCALE * apart, atol=1e-5, rtol=0)
    assert not network.is_untrained_average
    for k, at in enumerate(times.tolist()):
        wanted = drawn(at, motions)[k, :, 8:-8, 8:-8]
        mean = weighted_mean(first, second, times)[k, :, 8:-8, 8:-8]
        assert psnr(levels.frame[k, :, 8:-8, 8:-8], wanted) > psnr(mean, wanted) + 3


def test_types_of_frames_and_times_however_they_lie() -> None:
    network = awake(Guided(**SMALL, precision="float32"))
    first, second = frames(32, 48)
    with torch.inference_mode():
        network.initial_flow_scale.fill_(1 / LEARNING_RATE_MULTIPLIER)
        made = network(first, second, torch.tensor([0.25]))
        for time in (torch.tensor(0.25), torch.full((4,), 0.25)[::4]):
            assert torch.equal(network(first, second, time), made)
        for dtype in (torch.bfloat16, torch.float16):
            half = network(first.to(dtype), second.to(dtype), torch.tensor([0.25]))
            assert half.dtype == dtype
            assert psnr(half.float(), made) > 25


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_levels(depth: int) -> None:
    network = awake(Guided(**SMALL, taps=7))
    first, second = frames(70, 90, batch=2)
    with torch.inference_mode():
        levels = network.predict(first, second, torch.tensor([0.4, 0.6]), depth=depth)
    block = 16 << (depth - 1)
    height, width = -(-70 // block) * block, -(-90 // block) * block
    sizes = [(height >> k, width >> k) for k in range(3 + depth, 0, -1)]
    assert levels.frame.shape == (2, 3, 70, 90)
    assert [tuple(m.shape) for m in levels.flows] == [(2, 4, *size) for size in sizes]
    assert [tuple(m.shape) for m in levels.visibilities] == [(2, 1, *size) for size in sizes]
    assert levels.warped.shape == (2, 2, 3, height, width)
    assert levels.vertical.shape == levels.horizontal.shape == (2, 2, 7, *sizes[-1])


def test_depth_grows_with_the_picture() -> None:
    assert [recursion_depth(*size) for size in ((16, 16), (720, 1280), (1920, 1080), (2160, 4096))] == [1, 1, 2, 3]


def test_weights_of_a_pixel_add_up_to_one() -> None:
    levels = awake(Guided(**SMALL), size=3).predict(*frames(32, 32), torch.tensor([0.5]))
    ones = torch.ones(1, 1, 16, 16)
    torch.testing.assert_close(levels.vertical.sum((1, 2)), ones[:, 0])
    torch.testing.assert_close(levels.horizontal.sum(2), ones.expand(1, 2, 16, 16))
    assert levels.horizontal.std() > 0.1  # they are no mere deltas


def test_equal_flat_frames_stay() -> None:
    """Weights that add up to one everywhere, edges too, leave a flat picture alone, whatever the network says."""
    network = awake(Guided(**SMALL), size=3)
    flat = torch.full((1, 3, 37, 50), 0.7)
    with torch.inference_mode():
        made = network(flat, flat, torch.tensor([0.3]))
    torch.testing.assert_close(made, flat, atol=2e-6, rtol=0)


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


def test_odd_sizes_are_those_of_the_padded_picture() -> None:
    network = awake(Guided(**SMALL))
    first, second = frames(37, 50)
    times = torch.tensor([0.5])
    with torch.inference_mode():
        made = network(first, second, times)
        padded = network(pad(first, 16), pad(second, 16), times)
    assert torch.equal(made, padded[:, :, :37, :50])


def test_a_picture_within_a_larger_one() -> None:
    """Shifted by a multiple of 16 they agree in float64, as far from the edges as the network sees."""
    torch.manual_seed(3)
    none, one = (0, 0, 0, 0), (1, 1, 1, 1)
    shape = {**SMALL, "encoder_convolutions": none, "decoder_convolutions": none, "search_radii": one}
    network = Guided(**shape, taps=3)
    network = awake(network, size=1).double()
    generator = torch.Generator().manual_seed(4)
    first, second = torch.rand(2, 1, 3, 480, 480, generator=generator, dtype=torch.float64)
    times = torch.tensor([0.4], dtype=torch.float64)
    with torch.inference_mode():
        levels = network.predict(first, second, times)
        inner = network(first[:, :, 32:448, 48:464], second[:, :, 32:448, 48:464], times)
    assert levels.flows[-1].abs().max() > 0.05
    far = 192
    one, other = levels.frame[:, :, 32:448, 48:464], inner
    torch.testing.assert_close(one[..., far:-far, far:-far], other[..., far:-far, far:-far], atol=1e-10, rtol=0)
    assert (one - other).abs().max() > 1e-6  # at the edges they cannot


def test_bfloat16_is_float32_but_for_rounding() -> None:
    network = awake(Guided(**SMALL))
    first, second = frames(64, 96)
    first, second = (torch.nn.functional.avg_pool2d(pad(f, 32), 5, 1, 2) for f in (first, second))
    made = []
    for precision in ("float32", "bfloat16"):
        network.precision = precision
        with torch.inference_mode():
            made.append(network(first, second, torch.tensor([0.5])))
    assert made[1].dtype == torch.float32
    assert 45 < psnr(*made) < 110


def test_every_weight_is_learnt() -> None:
    network = awake(Guided(**SMALL)).train()
    network(*frames(64, 64), torch.tensor([0.4])).square().mean().backward()
    for name, parameter in network.named_parameters():
        if not name.startswith("decoders.3.read_coarser"):  # which is read from depth 2 on
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name
    network.zero_grad()
    network.predict(*frames(64, 64), torch.tensor([0.4]), depth=2).frame.square().mean().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_compiled_whole() -> None:
    network = awake(Guided(**SMALL, precision="float32"))
    first, second, times = *frames(32, 48), torch.tensor([0.3])
    compiled = torch.compile(network, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        torch.testing.assert_close(compiled(first, second, times), network(first, second, times), atol=1e-5, rtol=0)


def test_its_settings_build_it_again() -> None:
    network = awake(Guided(**SMALL, taps=7))
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


def learn(network: Guided, steps: int, rate: float, triplet: tuple[Tensor, Tensor, Tensor]) -> None:
    """Adam on the middle alone, each level's motion led by what it brings together; the rate goes to zero."""
    first, middle, second = triplet
    optimiser = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, steps, pct_start=0.1)
    both = torch.stack((first, second), 1).flatten(0, 1)
    for _ in range(steps):
        levels = network.predict(first, second, torch.tensor([0.5]))
        loss = (levels.frame - middle).square().add(1e-6).sqrt().mean()
        for motion in levels.flows:
            pixel = first.shape[-1] // motion.shape[-1]
            small = torch.nn.functional.avg_pool2d(both, pixel)
            wanted = torch.nn.functional.avg_pool2d(middle, pixel).repeat_interleave(2, 0)
            brought = warp(small, motion.reshape(-1, 2, *motion.shape[2:]))
            loss = loss + 0.2 * (brought - wanted).abs().mean()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()


def drawn(at: float, motions: list[tuple[float, float]]) -> Tensor:
    """A texture for each motion (pixels between the frames), at a time between the frames."""
    pictures = [texture(64, 64, (dx * at, dy * at), seed) for seed, (dx, dy) in enumerate(motions)]
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float()


def test_other_times_than_it_was_trained_on() -> None:
    """Trained on the middle alone of a drawn film, it puts the content where it belongs at 1/4 and 3/4."""
    torch.manual_seed(0)
    motions = [(6.0, 0.0), (-5.0, 3.0), (2.0, -6.0), (0.0, 4.0)]
    network = Guided(**SMALL)
    first, middle, second = (drawn(at, motions) for at in (0, 0.5, 1))
    learn(network, 120, 1e-3, (first, middle, second))
    network.eval()
    for time in (0.25, 0.5, 0.75):
        with torch.inference_mode():
            made = network(first, second, torch.full((4,), time))
        made = made[..., 8:-8, 8:-8]
        times = (0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1)
        near = {at: psnr(made, drawn(at, motions)[..., 8:-8, 8:-8]) for at in times}
        mean = weighted_mean(first, second, torch.tensor([time]))[..., 8:-8, 8:-8]
        assert max(near, key=lambda at: near[at]) == time, near
        assert near[time] > psnr(mean, drawn(time, motions)[..., 8:-8, 8:-8]) + 3


@pytest.mark.slow
def test_overfits_a_real_triplet(shared_data: Path) -> None:
    torch.manual_seed(0)
    folder = shared_data / "triplets" / "ucf101" / "ucf_1841"

    def read(name: str) -> Tensor:
        pixels = np.array(Image.open(folder / f"{name}.png").convert("RGB"))
        return torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255

    first, middle, second = (read(name) for name in ("first", "middle", "last"))
    network = Guided()
    learn(network, 250, 1e-3, (first, middle, second))
    network.eval()
    with torch.inference_mode():
        made = network(first, second, torch.tensor([0.5])).clamp(0, 1).mul(255).round() / 255
    assert psnr(made, middle) > 35
