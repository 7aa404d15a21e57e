"""The discriminator, with VGG-19 as its input."""

from __future__ import annotations

import logging

import pytest
import torch
import torch.nn.functional as F

from midframe.errors import SettingError
from midframe.networks.discriminator import BASE_LAYER, Discriminator, layer_channels
from midframe.networks.vgg import LAYERS, Vgg19, choose_layer, random_vgg19
from midframe.training.train.losses import adversarial_loss, discriminator_loss


def small(**options: object) -> Discriminator:
    torch.manual_seed(0)
    return Discriminator(width=16, dense=8, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def vgg() -> Vgg19:
    return random_vgg19()


def test_it_has_the_authors_size_and_pooling_changes_nothing_at_160() -> None:
    discriminator = Discriminator()
    assert sum(parameter.numel() for parameter in discriminator.parameters()) == 13_114_369
    features = torch.rand(2, 512, 5, 5)
    assert torch.equal(F.adaptive_avg_pool2d(features, 5), features)
    assert discriminator(features).shape == (2,)
    assert discriminator.eval()(torch.rand(2, 512, 7, 9)).shape == (2,)


def test_it_agrees_with_the_authors_layers_written_out() -> None:
    discriminator = small().eval()
    features = torch.randn(3, 512, 5, 5)
    leaky = torch.nn.LeakyReLU(0.2)
    x = leaky(discriminator.first(features))
    x = leaky(discriminator.second(x)) + x
    x = torch.stack([x[..., i : i + 3, j : j + 3].amax((-1, -2)) for i in (0, 2) for j in (0, 2)], -1).flatten(1)
    x = leaky(discriminator.dense2(leaky(discriminator.dense1(x))))
    assert torch.allclose(discriminator(features), discriminator.logit(x)[:, 0], atol=1e-6)


def test_dropout_is_active_only_in_training() -> None:
    discriminator, features = small(), torch.randn(4, 512, 5, 5)
    assert not torch.equal(discriminator(features), discriminator(features))
    discriminator.eval()
    assert torch.equal(discriminator(features), discriminator(features))


def test_normalised_input_makes_it_independent_of_the_scale_of_activations() -> None:
    discriminator, features = small(normalise_input=True).eval(), torch.randn(4, 512, 7, 7).relu()
    logits = discriminator(features)
    assert torch.allclose(discriminator(features * 700), logits, atol=1e-5)
    factors = torch.tensor([1.0, 10.0, 0.1, 400.0]).view(4, 1, 1, 1)
    assert torch.allclose(discriminator(features * factors), logits, atol=1e-5)
    assert discriminator(features * 0).isfinite().all()


def test_layers_by_name_and_their_channels(vgg: Vgg19, caplog: pytest.LogCaptureFixture) -> None:
    assert choose_layer(vgg, BASE_LAYER) == BASE_LAYER == "pool5"
    features = vgg(torch.rand(1, 3, 32, 32) * 255, LAYERS)
    assert {layer: layer_channels(layer) for layer in LAYERS} == {layer: f.shape[1] for layer, f in features.items()}
    with pytest.raises(SettingError, match="no layer 'fc6'"):
        layer_channels("fc6")
    short = Vgg19({k: v for k, v in state_of(vgg).items() if int(k.split(".")[1]) <= 16}, "caffe")
    with caplog.at_level(logging.WARNING, "midframe"):
        assert choose_layer(short, BASE_LAYER) == "pool3"
    assert "do not reach pool5; pool3 is taken instead" in caplog.text
    assert choose_layer(short, "relu2_1") == "relu2_1"


@pytest.mark.parametrize("base", ["pool5", "pool3", "relu2_2"])
def test_gradients_reach_the_picture_but_not_the_weights_of_vgg(vgg: Vgg19, base: str) -> None:
    before = {name: tensor.clone() for name, tensor in vgg.state_dict().items()}
    discriminator = Discriminator(
        layer_channels(base), normalise_input=base != BASE_LAYER, width=16, dense=8, dropout=0.0
    )
    predicted = (torch.rand(1, 3, 64, 64) * 255).requires_grad_()
    adversarial_loss(discriminator(vgg(predicted, (base,))[base])).backward()
    assert predicted.grad is not None
    assert predicted.grad.isfinite().all()
    assert predicted.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in vgg.parameters())
    everything = [*vgg.parameters(), *discriminator.parameters()]
    optimiser = torch.optim.Adam(everything, 0.1, weight_decay=0.1)
    optimiser.step()
    assert all(torch.equal(tensor, before[name]) for name, tensor in vgg.state_dict().items())


def test_a_step_of_the_discriminator_gives_the_network_no_gradient(vgg: Vgg19) -> None:
    discriminator = small(dropout=0.0)
    factor = torch.ones(1, requires_grad=True)  # stands for the network
    predicted, target = torch.rand(1, 3, 32, 32) * 255 * factor, torch.rand(1, 3, 32, 32) * 255
    logits = [discriminator(vgg(picture, (BASE_LAYER,))[BASE_LAYER]) for picture in (target, predicted.detach())]
    discriminator_loss(*logits).backward()
    assert factor.grad is None
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in discriminator.parameters())


def test_it_learns_to_separate_two_distributions_of_features() -> None:
    discriminator = small()
    optimiser = torch.optim.Adam(discriminator.parameters(), 1e-3)
    generator = torch.Generator().manual_seed(1)
    for _ in range(40):
        target, predicted = (torch.randn(8, 512, 5, 5, generator=generator) + shift for shift in (0.2, -0.2))
        optimiser.zero_grad()
        loss = discriminator_loss(discriminator(target), discriminator(predicted))
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.5 * 2 * torch.tensor(2.0).log().item()


def state_of(vgg: Vgg19) -> dict[str, torch.Tensor]:
    """The weights under torchvision's names."""
    index, found = 0, {}
    for layer in LAYERS:
        if layer.startswith("relu"):
            convolution = vgg.convolutions[layer.replace("relu", "conv")]
            found[f"features.{index}.weight"] = convolution.weight.detach()
            found[f"features.{index}.bias"] = convolution.bias.detach()
        index += 2 if layer.startswith("relu") else 1
    return found
