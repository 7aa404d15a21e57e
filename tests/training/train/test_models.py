"""Both players: who is moved by whom, gradients, clipping, types."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import midframe
from midframe.errors import SettingError
from midframe.networks.guided import Guided
from midframe.networks.weights import save_weights
from midframe.training.config import Config, Losses, Optimiser
from midframe.training.data.batch import Batch
from midframe.training.data.samples import make_batch
from midframe.training.distributed import World
from midframe.training.train.models import Players, discriminator_step, move, network_step, players
from midframe.training.train.validation import judged
from runs import GUIDED, PAPER, packed, same, shrink_paper, small_vgg

CPU = torch.device("cpu")


@pytest.fixture
def paper(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Config:
    shrink_paper(monkeypatch)
    return replace(PAPER, losses=replace(PAPER.losses, vgg=str(small_vgg(tmp_path / "vgg.pth"))))


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as threads:
        yield threads


def batch_of(config: Config, kind: torch.dtype = torch.float32) -> Batch:
    return make_batch(packed(), config, range(config.batch)).to(CPU, kind)


def weights_of(module: nn.Module | None) -> dict[str, Tensor]:
    assert module is not None
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def gradients_of(who: Players) -> list[Tensor | None]:
    modules: list[Any] = [who.network, who.discriminator, who.vgg]
    return [weight.grad for module in modules for weight in module.parameters()]


def test_each_player_moves_itself_alone_and_vgg_stays_as_it_is(paper: Config, pool: ThreadPoolExecutor) -> None:
    who = players(paper, CPU)
    batch = batch_of(paper)
    network, discriminator, vgg = (weights_of(each) for each in (who.network, who.discriminator, who.vgg))
    assert not any(weight.requires_grad for weight in who.vgg.parameters())  # type: ignore[union-attr]

    losses, gradients, seen = network_step(who, batch, paper, 0.0, None, World(), pool)
    assert losses.keys() == {"perceptual", "adversarial", "reconstruction", "total"}
    weights = paper.losses.weights
    assert losses["total"] == pytest.approx(sum(losses[name] * weights[name] for name in losses if name != "total"))
    judged_losses, against = discriminator_step(who, seen, paper, World())
    assert judged_losses.keys() == {"discriminator", "true_right", "made_right"}
    assert all(gradient is None for gradient in gradients_of(who))
    assert same(weights_of(who.network), network)

    assert move(who.optimiser, gradients, 0.01) > 0
    assert all(gradient is None for gradient in gradients_of(who))
    assert not same(weights_of(who.network), network)
    assert same(weights_of(who.discriminator), discriminator)
    moved = weights_of(who.network)
    assert who.discriminator_optimiser is not None
    assert move(who.discriminator_optimiser, against, 0.01) > 0
    assert same(weights_of(who.network), moved)
    assert not same(weights_of(who.discriminator), discriminator)
    assert same(weights_of(who.vgg), vgg)


def test_the_discriminator_learns_from_the_targets_and_the_frames_made_before_the_move(
    paper: Config, pool: ThreadPoolExecutor
) -> None:
    paper = replace(paper, discriminator=replace(paper.discriminator, dropout=0.0, smoothing=0.125))
    who = players(paper, CPU)
    batch = batch_of(paper)
    _, gradients, seen = network_step(who, batch, paper, 0.0, None, World(), pool)
    made = who.network(batch.first / 255, batch.second / 255, batch.time) * 255
    move(who.optimiser, gradients, 0.01)
    said, _ = discriminator_step(who, seen, paper, World())
    true, false = (who.judge(who.see(pictures)[who.base]).double() for pictures in (batch.target, made))
    cross = lambda logits, label: -(label * logits.sigmoid().log() + (1 - label) * (-logits).sigmoid().log()).mean()  # noqa: E731
    assert said["discriminator"] == pytest.approx((cross(true, 0.875) + cross(false, 0.0)).item(), rel=1e-5)
    assert said["true_right"] == float((true > 0).double().mean())
    assert said["made_right"] == float((false < 0).double().mean())


def test_after_some_steps_it_tells_true_from_made(paper: Config, pool: ThreadPoolExecutor) -> None:
    paper = replace(paper, discriminator=replace(paper.discriminator, dropout=0.0))
    who = players(paper, CPU)
    batch = batch_of(paper)
    _, _, seen = network_step(who, replace(batch, first=batch.first * 0.5), paper, 0.0, None, World(), pool)
    assert who.discriminator_optimiser is not None
    said = []
    for _ in range(12):
        losses, gradients = discriminator_step(who, seen, paper, World())
        move(who.discriminator_optimiser, gradients, 0.003)
        said.append(losses["discriminator"])
    assert said[-1] < 0.5 * said[0]
    assert losses["true_right"] == losses["made_right"] == 1


def test_shares_have_the_gradients_of_the_whole(pool: ThreadPoolExecutor) -> None:
    config = replace(GUIDED, precision="float64")
    batch = batch_of(config, torch.float64)
    found = []
    for shares in (1, 2, 4):
        who = players(config, CPU)
        found.append(network_step(who, batch, replace(config, shares=shares), 0.1, 1, World(), pool)[:2])
    for losses, gradients in found[1:]:
        assert losses == pytest.approx(found[0][0])
        for one, other in zip(gradients, found[0][1], strict=True):
            assert (one is None) == (other is None)
            if one is not None and other is not None:
                assert (one - other).norm() <= 1e-9 * other.norm() + 1e-15


@pytest.mark.parametrize("network", ["guided", "paper"])
def test_types_agree(network: str, paper: Config, pool: ThreadPoolExecutor) -> None:
    config = paper
    if network == "guided":
        config = replace(GUIDED, losses=replace(GUIDED.losses, perceptual=1.0, vgg=paper.losses.vgg), batch=2)
    config = replace(config, shares=1, discriminator=replace(config.discriminator, dropout=0.0))
    found, state = {}, players(config, CPU).network.state_dict()
    for precision in ("float64", "float32", "bfloat16"):
        kind = torch.float64 if precision == "float64" else torch.float32
        chosen = replace(config, precision=precision)  # type: ignore[arg-type]
        who = players(chosen, CPU)
        who.network.load_state_dict(state)
        losses, gradients, seen = network_step(who, batch_of(chosen, kind), chosen, 0.0, 1, World(), pool)
        assert {gradient.dtype for gradient in gradients if gradient is not None} == {kind}
        assert {features.dtype for features in seen} <= {kind}
        found[precision] = losses
    for precision, tolerance in (("float32", 1e-4), ("bfloat16", 0.05)):
        assert found[precision] == pytest.approx(found["float64"], rel=tolerance)
        assert found[precision] != found["float64"]


def plain(seed: int = 0) -> tuple[nn.Linear, list[Tensor | None]]:
    generator = torch.Generator().manual_seed(seed)
    layer = nn.Linear(4, 3)
    return layer, [
        torch.randn(weight.shape, generator=generator) * scale
        for weight, scale in zip(layer.parameters(), (9, 1), strict=True)
    ]


@pytest.fixture
def clipped(monkeypatch: pytest.MonkeyPatch) -> Callable[[Optimiser], tuple[float, list[np.ndarray]]]:
    """The norm that `move` says and the gradients that reach the optimiser."""

    def found(how: Optimiser) -> tuple[float, list[np.ndarray]]:
        layer, gradients = plain()
        optimiser = torch.optim.SGD(layer.parameters(), lr=1.0)
        before = [weight.detach().clone() for weight in layer.parameters()]
        norm = move(optimiser, [None if g is None else g.clone() for g in gradients], 0.5, how)
        moved = zip(before, layer.parameters(), strict=True)
        return norm, [((old - new) / 0.5).detach().numpy() for old, new in moved]

    return found


def test_clipping_by_the_norm_of_all_and_of_each(
    clipped: Callable[[Optimiser], tuple[float, list[np.ndarray]]],
) -> None:
    given = [gradient.numpy() for gradient in plain()[1] if gradient is not None]
    norms = [float(np.linalg.norm(gradient)) for gradient in given]
    whole = float(np.hypot(*norms))
    for how, factors in (
        (Optimiser(), (1.0, 1.0)),
        (Optimiser(clip=7.0), (7 / whole,) * 2),
        (Optimiser(clip=1000.0), (1.0, 1.0)),
        (Optimiser(clip_each=5.0), tuple(min(1.0, 5 / norm) for norm in norms)),
    ):
        norm, found = clipped(how)
        for gradient, factor, one in zip(given, factors, found, strict=True):
            np.testing.assert_allclose(one, gradient * factor, rtol=1e-4, atol=1e-5)
        if how.clip_each is None:
            assert norm == pytest.approx(whole)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
@pytest.mark.parametrize("how", [Optimiser(), Optimiser(clip=1.0), Optimiser(clip_each=5.0)])
def test_gradients_that_are_not_finite_move_nothing(wrong: float, how: Optimiser) -> None:
    layer, gradients = plain()
    assert gradients[1] is not None
    gradients[1][0] = wrong
    before = weights_of(layer)
    assert not np.isfinite(move(torch.optim.AdamW(layer.parameters()), gradients, 0.1, how))
    assert same(weights_of(layer), before)


def test_what_is_judged_is_the_average_in_whole_precision_without_dropout(paper: Config) -> None:
    who = players(replace(paper, precision="bfloat16"), CPU)
    average = [weight.detach() + 1 for weight in who.network.parameters()]
    before = weights_of(who.network)
    shown = judged(who, average)
    assert all(torch.equal(one, other) for one, other in zip(shown.network.parameters(), average, strict=True))
    assert (shown.network.precision, shown.mixed) == ("float32", False)
    features = torch.rand(2, 128, 12, 12)
    assert torch.equal(shown.judge(features), shown.judge(features))
    assert not torch.equal(who.judge(features), who.judge(features))
    assert same(weights_of(who.network), before)
    assert same(weights_of(judged(who, []).network), before)


def test_a_run_goes_on_from_weights_of_its_own_network(tmp_path: Path) -> None:
    torch.manual_seed(5)
    given = Guided(**GUIDED.settings)
    nn.init.normal_(given.decoders[0].output.weight)  # type: ignore[union-attr, arg-type]
    save_weights(given, tmp_path / "w.safetensors", training={}, licence="MIT", data="nothing")
    who = players(replace(GUIDED, settings={}, start=str(tmp_path / "w.safetensors")), CPU)
    for one, other in zip(who.network.parameters(), given.parameters(), strict=True):
        assert torch.equal(one, other.half().float())
    assert who.network.training
    with pytest.raises(SettingError, match="holds weights of guided; this run trains paper"):
        players(replace(PAPER, start=str(tmp_path / "w.safetensors")), CPU)


def test_a_run_goes_on_from_shipped_weights_by_name() -> None:
    who = players(replace(GUIDED, settings={}, start="default"), CPU)
    for one, other in zip(who.network.parameters(), midframe.load("default").parameters(), strict=True):
        assert torch.equal(one, other)
    with pytest.raises(SettingError, match="there is no network or weights file 'defualt'"):
        players(replace(GUIDED, settings={}, start="defualt"), CPU)


def test_what_cannot_be_trained_is_refused() -> None:
    with pytest.raises(SettingError, match="nothing to train"):
        players(Config(network="average", losses=Losses(reconstruction=1.0)), CPU)
    with pytest.raises(SettingError, match="does not take the settings"):
        players(replace(GUIDED, settings={"wings": 2}), CPU)


def test_the_same_seed_draws_the_same_weights() -> None:
    one, other, third = (players(replace(GUIDED, seed=seed), CPU) for seed in (1, 1, 2))
    assert same(weights_of(one.network), weights_of(other.network))
    assert not same(weights_of(one.network), weights_of(third.network))
