"""The training loop: from a data set to a run folder with weights in it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from torch import Tensor

from midframe.errors import Cancelled, DeviceError, InputError, OutputError, SettingError, TrainingError
from midframe.networks.weights import save_weights
from midframe.training.config import Config, from_tables, tables
from midframe.training.data.batch import Batch
from midframe.training.data.dataset import InMemoryDataset, load_dataset
from midframe.training.data.loader import prefetch_batches
from midframe.training.data.samples import check_windows
from midframe.training.distributed import World, joined
from midframe.training.train import run_folder
from midframe.training.train.checkpoints import load_checkpoint, save_checkpoint
from midframe.training.train.model_card import model_card
from midframe.training.train.models import Players, discriminator_step, move, network_step, players
from midframe.training.train.peak_memory import PeakMemory
from midframe.training.train.schedule import rate_at
from midframe.training.train.validation import evaluate, held_batch, judged

TIMED = (10, 50)
"""A run that is told its minutes counts its samples from the time that the steps between these took."""


@dataclass(frozen=True)
class Progress:
    """How far a run has come."""

    step: int
    samples: int
    total: int | None
    """Samples of the whole run; none while the speed is not yet known."""
    per_second: float
    """Samples a second lately, of all processes."""
    waited: float
    """The part of that time that was spent waiting for samples, 0..1."""
    losses: dict[str, float]
    """The mean of each loss lately."""

    @property
    def seconds_left(self) -> float | None:
        """Until the end, at the present speed."""
        return None if self.total is None or not self.per_second else (self.total - self.samples) / self.per_second


def train(
    config: Config | None,
    out: str | Path,
    *,
    samples: int | None = None,
    minutes: float | None = None,
    device: str | torch.device = "cpu",
    report: Callable[[Progress], None] = lambda progress: None,
    cancelled: Callable[[], bool] = lambda: False,
    data: InMemoryDataset | None = None,
    held: InMemoryDataset | None = None,
) -> Path:
    """Train a network; returns the weights file in the run folder `out`.

    The folder gets config.json, environment.json, log.jsonl (one line a logged step), TensorBoard's events, pictures/,
    curves.png, checkpoint.pt, best.safetensors (by PSNR on held-back films) and weights.safetensors (the last), each
    with its model card.

    config: none to go on with the run in the folder from its checkpoint, by its own settings; on a CPU it ends with the
    same bits as a run that was never stopped. samples, minutes: when the run ends, from its beginning, instead of what
    the settings say; a run that goes on may be given another end, which moves its rate.
    data, held: instead of reading `config.data.shards`.

    Each batch is a pure function of how many samples were seen before it (`samples`). Started by `torchrun`, each
    process takes its own part of every step's samples and gradients are averaged: n processes with a batch of b do
    what one does with n·b.

    Raises `SettingError`, `InputError`, `OutputError`, `DeviceError`; `TrainingError` where a loss or gradient is not
    finite, with the batch kept in the folder; `Cancelled` after `cancelled` said so and a checkpoint was written (none
    where data is still being read).
    """
    out, device = Path(out), torch.device(device)
    with ExitStack() as stack:
        world = stack.enter_context(joined(device))
        if device.type == "cuda" and world.size > 1:
            device = torch.device("cuda", world.local)
        config, state, checkpoint = _begin(config, out, samples, minutes, world)
        if state.is_over:
            return out / run_folder.LAST

        def still(windows: int) -> None:
            if cancelled():
                raise Cancelled(f"stopped after reading {windows} windows; nothing was trained yet")

        data = data or load_dataset(config.data.shards, "train", progress=still)
        if held is None and config.data.shards and world.leads:
            held = load_dataset(config.data.shards, "validation", progress=still)
        check_windows(data, config)
        if config.data.on_device:
            data = data.to(device)
        examined = held_batch(held) if held is not None else None
        if checkpoint is not None:
            who = players(replace(config, start=None, settings=checkpoint["settings"]), device)
            try:
                _restore(who, state, checkpoint)
            except (KeyError, RuntimeError, ValueError) as error:
                kept, reason = out / run_folder.CHECKPOINT, " ".join(str(error).split())[:200]
                raise InputError(f"{kept} does not fit the network {config.network} as it is now: {reason}") from error
        else:
            who = players(config, device)
            state.average = [weight.detach().clone() for weight in who.network.parameters()] if config.average else []
        if world.leads:
            run_folder.begin(out, config)
            _keep(state, who, config, out)

        kind = torch.float64 if config.precision == "float64" else torch.float32
        log = stack.enter_context(run_folder.Log(out, state.step)) if world.leads else None
        threads = stack.enter_context(ThreadPoolExecutor(config.shares, "share"))
        coming = stack.enter_context(prefetch_batches(data, config, state.samples, world))
        memory, pace, a_step = PeakMemory(device), _Pace(), config.batch * world.size
        while not state.is_over:
            began = time.perf_counter()
            batch = next(coming).to(device, kind)
            waited = time.perf_counter() - began
            torch.manual_seed((config.seed * 1_000_003 + state.step) * world.size + world.rank)  # of dropout
            progress = state.samples / state.total if state.total else 0.0
            rate = rate_at(config.optimiser, state.step, state.samples, state.total or config.samples)
            depth = config.depths[state.step % len(config.depths)] if config.depths else None
            losses, gradients, seen = network_step(who, batch, config, progress, depth, world, threads)
            judged_losses, against = discriminator_step(who, seen, config, world)
            losses |= judged_losses
            losses["norm"] = move(who.optimiser, gradients, rate, config.optimiser)
            if who.discriminator_optimiser is not None:
                losses["discriminator_norm"] = move(who.discriminator_optimiser, against, config.discriminator.rate)
            _stop_if_not_finite(losses, batch, state, out, world)

            _follow(state, who, config)
            took = time.perf_counter() - began
            state.note(losses, a_step, took)
            pace.note(a_step, took, waited)
            if state.total is None and state.step >= TIMED[1]:
                state.total = _fitting(config, state, a_step, mean(state.times[TIMED[0] :]), world)
            stop = world.any(cancelled())
            if log is not None and (state.step % config.log_every == 0 or state.step == 1 or state.is_over):
                said = pace.progress(state)
                log.write(state.step, "train", {**_line(said, state), "rate": rate, "memory": memory.peak()})
                report(said)
            if log is not None and (state.step % config.evaluate_every == 0 or state.is_over):
                _judge(state, who, config, data, examined, out, log)
            if log is not None and (state.step % config.checkpoint_every == 0 or state.is_over or stop):
                _keep(state, who, config, out)
            if stop and not state.is_over:
                raise Cancelled(f"stopped after {state.samples} samples; --resume goes on from there")
    return out / run_folder.LAST


@dataclass
class _State:
    """What a run is at between two steps; with the players, all of it: a checkpoint holds both."""

    step: int = 0
    samples: int = 0
    total: int | None = None
    """Samples of the whole run; none while its minutes are not yet turned into samples."""
    seconds: float = 0.0
    """That the steps have taken."""
    average: list[Tensor] = field(default_factory=list)
    """The moving average of the network's weights."""
    best: float = -math.inf
    """The best PSNR on held-back films, dB."""
    times: list[float] = field(default_factory=list)
    """Seconds of the first steps."""
    sums: dict[str, float] = field(default_factory=dict)
    """Of each loss, over the steps since the last line of the log."""
    unsaid: int = 0
    """How many steps these are."""

    @property
    def is_over(self) -> bool:
        """Whether the run has seen its samples."""
        return self.total is not None and self.samples >= self.total

    def note(self, losses: dict[str, float], samples: int, seconds: float) -> None:
        """A step is done."""
        self.step += 1
        self.samples += samples
        self.seconds += seconds
        if len(self.times) < TIMED[1]:
            self.times.append(seconds)
        self.sums = {name: self.sums.get(name, 0.0) + value for name, value in losses.items()}
        self.unsaid += 1

    def means(self) -> dict[str, float]:
        """The mean of each loss since this was last asked."""
        means = {name: value / self.unsaid for name, value in self.sums.items()}
        self.sums, self.unsaid = {}, 0
        return means


@dataclass
class _Pace:
    """Samples, time and waiting of the steps since the last report."""

    samples: int = 0
    seconds: float = 0.0
    waited: float = 0.0

    def note(self, samples: int, seconds: float, waited: float) -> None:
        """A step is done."""
        self.samples += samples
        self.seconds += seconds
        self.waited += waited

    def progress(self, state: _State) -> Progress:
        """What is reported; counting starts again."""
        said = Progress(
            state.step,
            state.samples,
            state.total,
            self.samples / self.seconds,
            self.waited / self.seconds,
            state.means(),
        )
        self.samples, self.seconds, self.waited = 0, 0.0, 0.0
        return said


def _begin(
    config: Config | None, out: Path, samples: int | None, minutes: float | None, world: World
) -> tuple[Config, _State, dict[str, Any] | None]:
    """The settings that hold, where the run stands, and its checkpoint if it goes on."""
    path = out / run_folder.CHECKPOINT
    if config is not None:
        if world.any(path.exists()):  # all have looked before one of them writes it
            raise OutputError(f"{out} holds a run; --resume goes on with it, or name another folder")
        config = _ending(config, samples, minutes)
        return config, _State(total=None if config.minutes else config.samples), None
    if not path.is_file():
        raise InputError(f"{out} holds no {run_folder.CHECKPOINT} to go on from")
    checkpoint = load_checkpoint(path)
    try:
        config = _ending(from_tables(checkpoint["config"]), samples, minutes)
        state = _State(**{part.name: checkpoint[part.name] for part in fields(_State)})
    except (KeyError, TypeError) as error:
        raise InputError(f"{path} was written by another version of Midframe: {error}") from error
    if samples is not None:
        state.total = samples
    elif minutes is not None and state.step < TIMED[1]:
        state.total = None
    elif minutes is not None:
        state.total = _fitting(config, state, config.batch * world.size, state.seconds / state.step, world)
    if state.is_over and (samples or minutes):
        raise SettingError(f"the run has already seen {state.samples} samples in {state.seconds / 60:.1f} minutes")
    return config, state, checkpoint


def _ending(config: Config, samples: int | None, minutes: float | None) -> Config:
    if minutes is not None:
        return replace(config, minutes=minutes)
    return config if samples is None else replace(config, samples=samples, minutes=None)


def _restore(who: Players, state: _State, checkpoint: dict[str, Any]) -> None:
    """Put both players where the checkpoint left them."""
    who.network.load_state_dict(checkpoint["network"])
    who.optimiser.load_state_dict(checkpoint["optimiser"])
    device = next(who.network.parameters()).device
    state.average = [weight.to(device) for weight in checkpoint["average"]]
    if who.discriminator is not None and who.discriminator_optimiser is not None:
        who.discriminator.load_state_dict(checkpoint["discriminator"])
        who.discriminator_optimiser.load_state_dict(checkpoint["discriminator_optimiser"])


def _keep(state: _State, who: Players, config: Config, out: Path) -> None:
    """Write a checkpoint: all that a run needs to go on as if it had not stopped."""
    kept = {
        "config": tables(config),
        "settings": who.network.settings,
        **vars(state),
        "network": who.network.state_dict(),
        "optimiser": who.optimiser.state_dict(),
    }
    if who.discriminator is not None and who.discriminator_optimiser is not None:
        kept["discriminator"] = who.discriminator.state_dict()
        kept["discriminator_optimiser"] = who.discriminator_optimiser.state_dict()
    save_checkpoint(kept, out / run_folder.CHECKPOINT)


def _fitting(config: Config, state: _State, a_step: int, per_step: float, world: World) -> int:
    """The samples of a run that fit into its minutes at this speed, whole steps of them; the same in all processes."""
    left = max(0.0, (config.minutes or 0.0) * 60 - state.seconds)
    return state.samples + a_step * int(world.share(math.ceil(left / per_step)))


def _follow(state: _State, who: Players, config: Config) -> None:
    """Move the average of the weights: by more at first, when there is little to average."""
    if config.average:
        share = min(config.average, (state.step + 1) / (state.step + 10))
        torch._foreach_lerp_(state.average, [weight.detach() for weight in who.network.parameters()], 1 - share)


def _stop_if_not_finite(losses: dict[str, float], batch: Batch, state: _State, out: Path, world: World) -> None:
    wrong = next((name for name, value in losses.items() if not math.isfinite(value)), None)
    if wrong is None:  # in any process: losses and norms are means over them
        return
    kept = out / f"not-finite-{state.step}-{world.rank}.pt"
    save_checkpoint({"step": state.step, "losses": losses, "batch": {k: v.cpu() for k, v in vars(batch).items()}}, kept)
    raise TrainingError(
        f"{wrong} is {losses[wrong]} after {state.step} steps, which is not finite; "
        f"the batch is kept in {kept}, the last checkpoint stands"
    )


def _line(said: Progress, state: _State) -> dict[str, Any]:
    """What a report says, for the log."""
    return {
        "samples": said.samples,
        "seconds": round(state.seconds, 3),
        "left": said.seconds_left,
        "per_second": said.per_second,
        "waited": said.waited,
        **said.losses,
    }


def _judge(
    state: _State,
    who: Players,
    config: Config,
    data: InMemoryDataset,
    examined: Batch | None,
    out: Path,
    log: run_folder.Log,
) -> None:
    """Evaluate the averaged weights on the held-back films, and write them: the last, and the best if they are."""
    shown, psnr = judged(who, state.average), None
    if examined is not None:
        score = evaluate(shown, examined, config.losses)
        psnr = score.psnr
        log.write(state.step, "held", {"samples": state.samples, "psnr": psnr, **score.losses})
        log.show(state.step, run_folder.sheet(score.pictures))
    _write_weights(out / run_folder.LAST, shown, state, config, data, psnr)
    if psnr is not None and psnr > state.best:
        state.best = psnr
        _write_weights(out / run_folder.BEST, shown, state, config, data, psnr)
    with suppress(DeviceError):  # without matplotlib; `midframe curves` draws them elsewhere
        run_folder.draw_curves([out], out / run_folder.CURVES)


def _write_weights(
    path: Path, who: Players, state: _State, config: Config, data: InMemoryDataset, psnr: float | None
) -> None:
    training = {
        "steps": state.step,
        "samples": state.samples,
        "minutes": round(state.seconds / 60, 1),
        "held_psnr": psnr,
        "seed": config.seed,
    }
    films = ", ".join(data.film_names) or "drawn samples"
    save_weights(who.network, path, training=training, licence=config.licence, data=films)
    card = model_card(path.stem, config, training, data.film_names, run_folder.environment())
    try:
        path.with_suffix(".md").write_text(card, "utf-8")
    except OSError as error:
        raise OutputError(f"{path.with_suffix('.md')} cannot be written: {error.strerror}") from error
