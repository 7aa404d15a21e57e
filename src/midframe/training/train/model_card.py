"""The model card beside a weights file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from midframe.training.config import Config


def model_card(
    name: str, config: Config, training: Mapping[str, Any], films: Sequence[str], environment: Mapping[str, Any]
) -> str:
    """What the weights are, how they came to be and on what, in Markdown.

    training: what the weights file says of its training. films: names of those trained on.
    """
    weights = ", ".join(f"{name} {weight:g}" for name, weight in config.losses.weights.items() if weight)
    psnr = training.get("held_psnr")
    held = "No film was held back." if psnr is None else f"Mean PSNR on held-back films: {psnr:.2f} dB."
    drawn = f", {config.data.drawn:.0%} of the samples drawn from their textures" if config.data.drawn else ""
    where = ", ".join(environment["devices"]) or f"{environment['cores']} cores of {environment['processor']}"
    lines = [
        f"# {name}",
        "",
        f"Weights of the network `{config.network}` of Midframe, for frame interpolation. Licence: {config.licence}.",
        "",
        "## Training",
        "",
        f"- {training['samples']:,} samples in {training['steps']:,} steps; "
        f"{training['minutes']:.0f} minutes on {where}.",
        f"- Losses and their weights: {weights}.",
        f"- Batch {config.batch}, optimiser AdamW, rate {config.optimiser.rate:g} ({config.optimiser.schedule}), "
        f"moving average {config.average:g}, seed {config.seed}.",
        f"- {held}",
        "",
        "## Data",
        "",
        f"{len(films)} films{drawn}:",
        "",
        *(f"- {film}" for film in films),
        "",
        "## Limits",
        "",
        "Made frames are guesses: where things appear, vanish or move far between two frames they may be wrong. "
        "They are not for evidence or measurement.",
        "",
    ]
    return "\n".join(lines)
