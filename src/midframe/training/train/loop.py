"""The training loop: train a network on data sets, into a run folder with weights, log and checkpoint."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch

from midframe.errors import Cancelled, DeviceError
from midframe.training.config import TrainingConfig
from midframe.training.data.batch import Batch
from midframe.training.data.loader import prefetch_batches
from midframe.training.distributed import join_process_group
from midframe.training.train import curves, run_folder
from midframe.training.train.checkpoints import write_run_checkpoint
from midframe.training.train.divergence import raise_if_not_finite
from midframe.training.train.export import write_weights
from midframe.training.train.models import model_dtype
from midframe.training.train.peak_memory import PeakMemory
from midframe.training.train.schedule import learning_rate_at
from midframe.training.train.setup import Budget, Datasets, Run, open_run, plan_run, samples_in_budget
from midframe.training.train.state import Progress, Throughput, TrainingState
from midframe.training.train.steps import discriminator_step, generator_step, optimiser_step
from midframe.training.train.validation import tile_pictures, validate


def train(
    config: TrainingConfig | None,
    folder: str | Path,
    *,
    budget: Budget | None = None,
    device: str | torch.device = "cpu",
    report: Callable[[Progress], None] = lambda progress: None,
    cancelled: Callable[[], bool] = lambda: False,
    datasets: Datasets | None = None,
) -> Path:
    """Train a network and return the path of its weights in the run folder.

    The folder gets config.json, environment.json, log.jsonl (one line per logged step), TensorBoard events, pictures/,
    curves.png, checkpoint.pt, best.safetensors (the weights with the best validation PSNR) and weights.safetensors (the
    latest weights), each weights file with a model card.

    config: the settings of a new run; None continues the run in the folder from its checkpoint with its own settings.
    On a CPU a continued run ends with the same bits as an uninterrupted one. budget: the length of the run, counted
    from its beginning, in place of the one in the settings; a continued run with a new budget follows the learning rate
    schedule of the new length. report: called after each line of the log. cancelled: called after each step and after
    each window that is read. datasets: used in place of the data set folders of the settings.

    Each batch depends only on the settings and on the number of samples seen before it. If `torchrun` started several
    processes, each takes its part of the samples of every step and gradients are averaged, so n processes with batches
    of b samples are equivalent to one process with batches of n·b.

    Raises `SettingError`, `InputError`, `OutputError`, `DeviceError`; `TrainingError` if a loss or gradient is not
    finite, after saving the batch in the folder; `Cancelled` once `cancelled` returns true, after writing a checkpoint
    (none is written while data are still being read).
    """
    folder, device = Path(folder), torch.device(device)
    with join_process_group(device) as world:
        if device.type == "cuda" and world.world_size > 1:
            device = torch.device("cuda", world.local_rank)
        plan = plan_run(config, folder, budget or Budget(), world)
        if not plan.state.is_over:
            with open_run(plan, folder, device, world, datasets, cancelled) as run:
                _train_until_over(run, plan.state, report, cancelled)
    return folder / run_folder.WEIGHTS


def _train_until_over(
    run: Run, state: TrainingState, report: Callable[[Progress], None], cancelled: Callable[[], bool]
) -> None:
    """Train step by step until the run has seen all of its samples; see `train` for the callbacks."""
    config, world = run.config, run.world
    with prefetch_batches(run.training_data, config, state.samples, world) as batches:
        memory, throughput = PeakMemory(run.device), Throughput()
        while not state.is_over:
            start = time.perf_counter()
            batch = next(batches).to(run.device, model_dtype(config))
            waiting_seconds = time.perf_counter() - start
            learning_rate = learning_rate_at(
                config.optimiser, state.step, state.samples, state.total_samples or config.samples
            )
            losses = _train_step(run, state, batch, learning_rate)
            raise_if_not_finite(run, state, batch, losses)
            state.update_ema(list(run.models.generator.parameters()), config.ema_decay)

            seconds = time.perf_counter() - start
            state.record_step(losses, run.samples_per_step, seconds)
            throughput.record_step(run.samples_per_step, seconds, waiting_seconds)
            if state.total_samples is None and state.speed_is_known:
                state.total_samples = samples_in_budget(config, state, state.seconds_per_step, world)
            stop = world.any(cancelled())

            if run.log is not None and (state.is_due(config.log_every) or state.step == 1):
                progress = throughput.report(state)
                run.log.write_progress(progress, state.seconds, learning_rate, memory.peak())
                report(progress)
            if run.log is not None and state.is_due(config.validate_every):
                _validate_and_export(run, state, run.log)
            if world.is_main and (state.is_due(config.checkpoint_every) or stop):
                write_run_checkpoint(run.folder / run_folder.CHECKPOINT, config, state, run.models)
            if stop and not state.is_over:
                raise Cancelled(f"stopped after {state.samples} samples; --resume goes on from there")


def _train_step(run: Run, state: TrainingState, batch: Batch, learning_rate: float) -> dict[str, float]:
    """Update the generator, and the discriminator if there is one, on one batch; return losses and gradient norms."""
    config, world, models = run.config, run.world, run.models
    torch.manual_seed((config.seed * 1_000_003 + state.step) * world.world_size + world.rank)  # for dropout
    iterations = config.coarse_iterations
    generator = generator_step(
        models,
        batch,
        config,
        progress=state.progress,
        coarse_iterations=iterations[state.step % len(iterations)] if iterations else None,
        world=world,
        threads=run.threads,
    )
    discriminator = None
    if generator.features is not None:
        discriminator = discriminator_step(models, generator.features, config, world)
    losses = generator.losses | (discriminator.losses if discriminator is not None else {})
    losses["gradient_norm"] = optimiser_step(
        models.generator_optimiser, generator.gradients, learning_rate, config.optimiser
    )
    if discriminator is not None and models.discriminator_optimiser is not None:
        losses["discriminator_gradient_norm"] = optimiser_step(
            models.discriminator_optimiser, discriminator.gradients, config.discriminator.learning_rate
        )
    return losses


def _validate_and_export(run: Run, state: TrainingState, log: run_folder.RunLog) -> None:
    """Validate the averaged weights; write them as the latest, and as the best if their PSNR is the best so far."""
    models, psnr = run.models.evaluation_copy(state.ema_weights), None
    if run.validation_batch is not None:
        result = validate(models, run.validation_batch, run.config.losses)
        psnr = result.psnr
        log.write(state.step, "validation", {"samples": state.samples, "psnr": psnr, **result.losses})
        log.write_picture(state.step, tile_pictures(result.pictures))
    write_weights(run.folder / run_folder.WEIGHTS, models.generator, run, state, psnr)
    if psnr is not None and psnr > state.best_psnr:
        state.best_psnr = psnr
        write_weights(run.folder / run_folder.BEST_WEIGHTS, models.generator, run, state, psnr)
    with suppress(DeviceError):  # matplotlib is not installed; `midframe curves` can draw them elsewhere
        curves.draw_curves([run.folder], run.folder / run_folder.CURVES)
