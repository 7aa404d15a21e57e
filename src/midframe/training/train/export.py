"""Write the weights of a training run with their metadata and model card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from midframe.errors import OutputError
from midframe.networks.base import InterpolationNetwork
from midframe.networks.weights import save_weights
from midframe.training.config import TrainingConfig
from midframe.training.train.run_folder import environment
from midframe.training.train.setup import Run
from midframe.training.train.state import TrainingState


def write_weights(
    path: Path, network: InterpolationNetwork, run: Run, state: TrainingState, psnr: float | None
) -> None:
    """Write weights to a safetensors file and their model card beside it (suffix `.md`). Raises `OutputError`.

    psnr: of these weights on the validation set, in dB; None if there is none.
    """
    training = training_metadata(run.config, state, psnr)
    films = run.training_data.film_names
    source = ", ".join(films) or "synthetic samples"
    save_weights(network, path, training=training, licence=run.config.licence, data=source)
    card = model_card(path.stem, run.config, training, films, environment())
    try:
        path.with_suffix(".md").write_text(card, "utf-8")
    except OSError as error:
        raise OutputError(f"{path.with_suffix('.md')} cannot be written: {error.strerror}") from error


def training_metadata(config: TrainingConfig, state: TrainingState, psnr: float | None) -> dict[str, Any]:
    """Return what the metadata of a weights file tell of its training."""
    return {
        "steps": state.step,
        "samples": state.samples,
        "minutes": round(state.seconds / 60, 1),
        "validation_psnr": psnr,
        "seed": config.seed,
    }


def model_card(
    name: str, config: TrainingConfig, training: Mapping[str, Any], films: Sequence[str], environment: Mapping[str, Any]
) -> str:
    """Return the model card of a weights file in Markdown: network, training, data and limits.

    training: from `training_metadata`. films: names of the films trained on. environment: of `run_folder.environment`.
    """
    weights = ", ".join(f"{loss} {weight:g}" for loss, weight in config.losses.weights.items() if weight)
    psnr = training.get("validation_psnr")
    validation = "There was no validation set."
    if psnr is not None:
        validation = f"Mean PSNR on the validation set, films that it was not trained on: {psnr:.2f} dB."
    synthetic = config.data.synthetic
    textures = f", {synthetic:.0%} of the samples are synthetic scenes with their textures" if synthetic else ""
    hardware = ", ".join(environment["devices"]) or f"{environment['cores']} cores of {environment['processor']}"
    optimiser = config.optimiser
    film_list = "".join(f"- {film}\n" for film in films)
    return f"""# {name}

Weights of the network `{config.network}` of Midframe, for frame interpolation. Licence: {config.licence}.

## Training

- {training["samples"]:,} samples in {training["steps"]:,} steps; {training["minutes"]:.0f} minutes on {hardware}.
- Losses and their weights: {weights}.
- Batch {config.batch_size}, optimiser AdamW, learning rate {optimiser.learning_rate:g} ({optimiser.schedule}), \
moving average {config.ema_decay:g}, seed {config.seed}.
- {validation}

## Data

{len(films)} films{textures}:

{film_list}
## Limits

Made frames are guesses: where things appear, vanish or move far between two frames they may be wrong. \
They are not for evidence or measurement.
"""
