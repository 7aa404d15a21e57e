"""Set up a training run: its settings, data, models and folder, new or from a checkpoint."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch

from midframe.errors import Cancelled, InputError, OutputError, SettingError
from midframe.training.config import TrainingConfig, config_from_dict
from midframe.training.data.batch import Batch
from midframe.training.data.dataset import InMemoryDataset, load_dataset
from midframe.training.data.samples import check_windows
from midframe.training.distributed import World
from midframe.training.train import run_folder
from midframe.training.train.checkpoints import load_checkpoint, restore_models, write_run_checkpoint
from midframe.training.train.models import Models, build_models
from midframe.training.train.state import TrainingState
from midframe.training.train.validation import validation_batch


@dataclass(frozen=True)
class Budget:
    """The length of a run from its beginning, in place of the one in the settings. At most one field is set."""

    samples: int | None = None
    """Length in samples."""
    minutes: float | None = None
    """Length in minutes."""


@dataclass(frozen=True)
class Datasets:
    """The data of a run in memory."""

    training: InMemoryDataset
    """Windows to train on."""
    validation: InMemoryDataset | None = None
    """Windows of other films, for validation by the main process; None for no validation."""


@dataclass(frozen=True)
class RunPlan:
    """What a run is going to do; made before data are read and models are built."""

    config: TrainingConfig
    """The settings, with their length replaced by the budget's if one was given."""
    state: TrainingState
    """The state that the run begins or continues with."""
    checkpoint: dict[str, Any] | None
    """The checkpoint that the run continues from; None for a new run."""


@dataclass(frozen=True)
class Run:
    """Everything that a training run works with and that stays the same from step to step."""

    config: TrainingConfig
    """The settings."""
    folder: Path
    """The run folder."""
    device: torch.device
    """The device of this process."""
    world: World
    """The processes of the run."""
    models: Models
    """Generator, VGG-19 and discriminator with their optimisers, on the device."""
    training_data: InMemoryDataset
    """Windows to train on."""
    validation_batch: Batch | None
    """Triplets to validate on; None in other processes than the main one, and if there is no validation set."""
    log: run_folder.RunLog | None
    """The log; None in other processes than the main one."""
    threads: ThreadPoolExecutor
    """One thread per micro-batch."""

    @property
    def samples_per_step(self) -> int:
        """Samples of a step of all processes together."""
        return self.config.batch_size * self.world.world_size


def plan_run(config: TrainingConfig | None, folder: Path, budget: Budget, world: World) -> RunPlan:
    """Decide what a run is going to do.

    config: the settings of a new run; None continues the run in the folder.

    Raises `OutputError` if a new run would overwrite one, `InputError` if there is no checkpoint to continue from or it
    cannot be read, `SettingError` if the run has already reached the new budget.
    """
    path = folder / run_folder.CHECKPOINT
    if config is not None:
        if world.any(path.exists()):  # a barrier too: nothing is written until all processes have checked
            raise OutputError(f"{folder} holds a run; --resume goes on with it, or name another folder")
        config = _apply_budget(config, budget)
        return RunPlan(config, TrainingState(total_samples=None if config.minutes else config.samples), None)
    if not path.is_file():
        raise InputError(f"{folder} holds no {run_folder.CHECKPOINT} to go on from")
    checkpoint = load_checkpoint(path)
    try:
        config = _apply_budget(config_from_dict(checkpoint["config"]), budget)
        state = TrainingState(**{field.name: checkpoint["state"][field.name] for field in fields(TrainingState)})
    except (KeyError, TypeError) as error:
        raise InputError(f"{path} was written by another version of Midframe: {error}") from error
    if budget.samples is not None:
        state.total_samples = budget.samples
    elif budget.minutes is not None and not state.speed_is_known:
        state.total_samples = None
    elif budget.minutes is not None:
        state.total_samples = samples_in_budget(config, state, state.seconds / state.step, world)
    if state.is_over and (budget.samples or budget.minutes):
        raise SettingError(f"the run has already seen {state.samples} samples in {state.seconds / 60:.1f} minutes")
    return RunPlan(config, state, checkpoint)


@contextmanager
def open_run(
    plan: RunPlan,
    folder: Path,
    device: torch.device,
    world: World,
    datasets: Datasets | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Iterator[Run]:
    """Read the data, build or restore the models and write the run folder with a first checkpoint.

    datasets: instead of the data set folders of the settings. Nothing is written before all data are read and all
    models are built. Raises as `train` does.
    """
    config = plan.config
    datasets = datasets or _load_datasets(config, world, cancelled)
    check_windows(datasets.training, config)
    training_data = datasets.training.to(device) if config.data.on_device else datasets.training
    validation = None if datasets.validation is None else validation_batch(datasets.validation)
    models = _prepare_models(plan, folder, device)
    with ExitStack() as stack:
        log = None
        if world.is_main:
            run_folder.create(folder, config)
            write_run_checkpoint(folder / run_folder.CHECKPOINT, config, plan.state, models)
            log = stack.enter_context(run_folder.RunLog(folder, plan.state.step))
        threads = stack.enter_context(ThreadPoolExecutor(config.micro_batches, "micro-batch"))
        yield Run(config, folder, device, world, models, training_data, validation, log, threads)


def samples_in_budget(config: TrainingConfig, state: TrainingState, seconds_per_step: float, world: World) -> int:
    """Return the length in samples, in whole steps, of a run that is to take `config.minutes` minutes at this speed.

    All processes return the main process's result.
    """
    seconds_left = max(0.0, (config.minutes or 0.0) * 60 - state.seconds)
    steps_left = int(world.broadcast(math.ceil(seconds_left / seconds_per_step)))
    return state.samples + config.batch_size * world.world_size * steps_left


def _apply_budget(config: TrainingConfig, budget: Budget) -> TrainingConfig:
    """Return the settings with their length replaced by the budget's, if it has one."""
    if budget.minutes is not None:
        return replace(config, minutes=budget.minutes)
    return config if budget.samples is None else replace(config, samples=budget.samples, minutes=None)


def _load_datasets(config: TrainingConfig, world: World, cancelled: Callable[[], bool]) -> Datasets:
    """Read the data set folders of the settings; only the main process reads the validation split."""

    def stop_if_cancelled(windows: int) -> None:
        if cancelled():
            raise Cancelled(f"stopped after reading {windows} windows; nothing was trained yet")

    training = load_dataset(config.data.folders, "train", progress=stop_if_cancelled)
    if not world.is_main:
        return Datasets(training)
    return Datasets(training, load_dataset(config.data.folders, "validation", progress=stop_if_cancelled))


def _prepare_models(plan: RunPlan, folder: Path, device: torch.device) -> Models:
    """Build the models, and restore them and the moving average from the plan's checkpoint if it has one."""
    config, state, checkpoint = plan.config, plan.state, plan.checkpoint
    if checkpoint is None:
        models = build_models(config, device)
        if config.ema_decay:
            state.ema_weights = [weight.detach().clone() for weight in models.generator.parameters()]
        return models
    settings = checkpoint["network_settings"]
    models = build_models(replace(config, init_from=None, network_settings=settings), device)
    try:
        restore_models(models, checkpoint)
    except (KeyError, RuntimeError, ValueError) as error:
        path, reason = folder / run_folder.CHECKPOINT, " ".join(str(error).split())[:200]
        raise InputError(f"{path} does not fit the network {config.network} as it is now: {reason}") from error
    state.ema_weights = [weight.to(device) for weight in state.ema_weights]
    return models
