"""Stop a training run whose losses are not finite."""

from __future__ import annotations

import math

from midframe.errors import TrainingError
from midframe.training.data.batch import Batch
from midframe.training.train.checkpoints import save_checkpoint
from midframe.training.train.setup import Run
from midframe.training.train.state import TrainingState


def raise_if_not_finite(run: Run, state: TrainingState, batch: Batch, losses: dict[str, float]) -> None:
    """Raise `TrainingError` if a loss or gradient norm of the present step is not finite.

    Saves the batch in the run folder as `not-finite-STEP-RANK.pt` first. Losses and norms are means over all processes,
    so all of them raise at the same step.
    """
    name = next((name for name, value in losses.items() if not math.isfinite(value)), None)
    if name is None:
        return
    path = run.folder / f"not-finite-{state.step}-{run.world.rank}.pt"
    tensors = {key: tensor.cpu() for key, tensor in vars(batch).items()}
    save_checkpoint({"step": state.step, "losses": losses, "batch": tensors}, path)
    raise TrainingError(
        f"{name} is {losses[name]} after {state.step} steps, which is not finite; "
        f"the batch is kept in {path}, the last checkpoint stands"
    )
