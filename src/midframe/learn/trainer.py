"""The training loop: from a data set to a run folder with weights in it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from midframe.errors import Cancelled, InputError, OutputError, TrainingError
from midframe.learn import run_folder
from midframe.learn.card import model_card
from midframe.learn.checkpoints import load_checkpoint, save_checkpoint
from midframe.learn.config import Config, read_config, tables
from midframe.learn.distributed import World, joined
from midframe.learn.evaluation import evaluate, held_batch
from midframe.learn.loader import batches
from midframe.learn.memory import PeakMemory
from midframe.learn.objective import Batch
from midframe.learn.packed import Packed, read_packed
from midframe.learn.players import Players, discriminator_step, move, network_step, players
from midframe.learn.schedule import rate_at
from midframe.networks.weights import save_weights

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
    data: Packed | None = None,
    held: Packed | None = None,
) -> Path:
    """Train a network; returns the weights file in the run folder `out`.

    The folder gets config.json, environment.json, log.jsonl (one line a logged step), TensorBoard's events, pictures/,
    curves.png, checkpoint.pt, best.safetensors (by PSNR on held-back films) and weights.safetensors (the last), each
    with its model card.

    config: none to go on with the run in the folder from its checkpoint, by its own settings; on a CPU it ends with the
    same bits as a run that was never stopped. samples, minutes: when the run ends, instead of what the settings say; a
    run that goes on may be given another end, which moves its rate.
    data, held: instead of reading `config.data.shards`.

    Each batch is a pure function of the step (`samples`). Started by `torchrun`, each process takes its own part of
    every step's samples and gradients are averaged: n processes with a batch of b do what one does with n·b.

    Raises `SettingError`, `InputError`, `OutputError`, `DeviceError`; `TrainingError` where a loss or gradient is not
    finite, with the batch kept in the folder; `Cancelled` after `cancelled` said so and a checkpoint was written.
    """
    out, device = Path(out), torch.device(device)
    with ExitStack() as stack:
        world = stack.enter_context(joined(device))
        if device.type == "cuda" and world.size > 1:
            device = torch.device("cuda", world.local)
        config, state, checkpoint = _begin(config, out, samples, minutes, world)
        data = data or read_packed(config.data.shards, "train")
        if held is None and config.data.shards and world.leads:
            held = read_packed(config.data.shards, "held")
        who = players(config, device)
        if checkpoint is not None:
            _restore(who, state, checkpoint)
        elif config.average:
            state.average = [weight.detach().clone() for weight in who.network.parameters()]
        examined = held_batch(held) if held is not None and held.windows else None

        kind = torch.float64 if config.precision == "float64" else torch.float32
        log = stack.enter_context(run_folder.Log(out, state.step)) if world.leads else None
        threads = stack.enter_context(ThreadPoolExecutor(config.shares, "share"))
        coming = stack.enter_context(batches(data, config, state.step, world))
        memory, pace = PeakMemory(device), _Pace()
        while state.total is None or state.samples < state.total:
            pace.waits()
            batch = next(coming).to(device, kind)
            pace.works()
            torch.manual_seed((config.seed * 1_000_003 + state.step) * world.size + world.rank)  # of dropout
            progress = state.samples / state.total if state.total else 0.0
            rate = rate_at(config.optimiser, state.step, state.samples, state.total or config.samples)
            depth = config.depths[state.step % len(config.depths)] if config.depths else None
            losses, made, gradients = network_step(who, batch, config, progress, depth, world, threads)
            judged, against = discriminator_step(who, batch, made, config, world)
            losses |= judged
            losses["norm"] = move(who.optimiser, gradients, rate, config.optimiser)
            if who.discriminator_optimiser is not None:
                losses["discriminator_norm"] = move(who.discriminator_optimiser, against, config.discriminator.rate)
            _stop_if_not_finite(losses, batch, state, out, world)

            state.step += 1
            state.samples += config.batch * world.size
            _follow(state, who, config)
            state.seconds += pace.stepped(losses, config.batch * world.size)
            if state.total is None and state.step >= TIMED[1]:
                state.total = _total(config, pace, state, world)
            last = state.total is not None and state.samples >= state.total
            stop = world.any(cancelled())
            if log is not None and (state.step % config.log_every == 0 or state.step == 1 or last):
                said = pace.progress(state)
                log.write(state.step, "train", {**_line(said, state), "rate": rate, "memory": memory.peak()})
                report(said)
            if log is not None and (state.step % config.evaluate_every == 0 or last):
                _judge(state, who, config, data, examined, out, log)
            if log is not None and (state.step % config.checkpoint_every == 0 or last or stop):
                save_checkpoint(_checkpoint(state, who, config), out / run_folder.CHECKPOINT)
            if stop and not last:
                raise Cancelled(f"stopped after {state.samples} samples; --resume goes on from there")
    return out / run_folder.LAST


@dataclass
class _State:
    """What a run is at between two steps; with the players, all of it: a checkpoint holds both."""

    step: int = 0
    samples: int = 0
    total: int | None = None
    """Samples of the whole run."""
    seconds: float = 0.0
    """That the steps have taken."""
    average: list[Tensor] = field(default_factory=list)
    """The moving average of the network's weights."""
    best: float = -math.inf
    """The best PSNR on held-back films, dB."""


class _Pace:
    """Time, waiting and losses of the steps since the last report."""

    def __init__(self) -> None:
        self.marks: list[float] = []
        self.times: list[float] = []
        self.sums: dict[str, float] = {}
        self.spent = self.waited = 0.0
        self.samples = self.steps = 0

    def waits(self) -> None:
        self.began = time.perf_counter()

    def works(self) -> None:
        self.worked = time.perf_counter()

    def stepped(self, losses: dict[str, float], samples: int) -> float:
        """Note a step; returns its seconds."""
        took = time.perf_counter() - self.began
        self.spent += took
        self.waited += self.worked - self.began
        self.samples += samples
        self.steps += 1
        for name, value in losses.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        if len(self.times) < TIMED[1]:
            self.times.append(took)
        return took

    def progress(self, state: _State) -> Progress:
        """What is reported; counting starts again."""
        said = Progress(
            state.step,
            state.samples,
            state.total,
            self.samples / max(self.spent, 1e-9),
            self.waited / max(self.spent, 1e-9),
            {name: value / self.steps for name, value in self.sums.items()},
        )
        self.sums, self.spent, self.waited, self.samples, self.steps = {}, 0.0, 0.0, 0, 0
        return said


def _begin(
    config: Config | None, out: Path, samples: int | None, minutes: float | None, world: World
) -> tuple[Config, _State, dict[str, Any] | None]:
    """The settings that hold, where the run stands, and its checkpoint if it goes on."""
    path = out / run_folder.CHECKPOINT
    if config is not None:
        if path.exists() or (out / run_folder.LOG).exists():
            raise OutputError(f"{out} holds a run; --resume goes on with it, or name another folder")
        config = _ending(config, samples, minutes)
        if world.leads:
            run_folder.begin(out, config)
        return config, _State(total=None if config.minutes else config.samples), None
    if not path.is_file():
        raise InputError(f"{out} holds no {run_folder.CHECKPOINT} to go on from")
    checkpoint = load_checkpoint(path)
    config = read_config(checkpoint["config"])
    state = _State(**{name: checkpoint[name] for name in ("step", "samples", "total", "seconds", "best")})
    if minutes is not None:
        a_step = config.batch * world.size
        left = max(0.0, minutes * 60 - state.seconds) * state.samples / max(state.seconds, 1e-9)
        state.total = state.samples + math.ceil(left / a_step) * a_step
    elif samples is not None:
        state.total = samples
    return _ending(config, samples, minutes), state, checkpoint


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


def _checkpoint(state: _State, who: Players, config: Config) -> dict[str, Any]:
    """All that a run needs to go on as if it had not stopped."""
    kept = {
        "config": tables(config),
        **vars(state),
        "network": who.network.state_dict(),
        "optimiser": who.optimiser.state_dict(),
    }
    if who.discriminator is not None and who.discriminator_optimiser is not None:
        kept["discriminator"] = who.discriminator.state_dict()
        kept["discriminator_optimiser"] = who.discriminator_optimiser.state_dict()
    return kept


def _total(config: Config, pace: _Pace, state: _State, world: World) -> int:
    """The samples that fit into the run's minutes, from the steps timed so far; the same in all processes."""
    timed = sorted(pace.times[TIMED[0] : TIMED[1]])
    per_step = sum(timed) / len(timed)
    more = max(0.0, (config.minutes or 0.0) * 60 - state.seconds) / per_step
    steps = world.share([float(state.step + math.ceil(more))])[0]
    return int(steps) * config.batch * world.size


def _follow(state: _State, who: Players, config: Config) -> None:
    """Move the average of the weights: by more at first, when there is little to average."""
    if config.average:
        share = min(config.average, state.step / (state.step + 9))
        torch._foreach_lerp_(state.average, [weight.detach() for weight in who.network.parameters()], 1 - share)


def _stop_if_not_finite(losses: dict[str, float], batch: Batch, state: _State, out: Path, world: World) -> None:
    wrong = [name for name, value in losses.items() if not math.isfinite(value)]
    if not world.any(bool(wrong)):
        return
    kept = out / f"not-finite-{state.step}-{world.rank}.pt"
    save_checkpoint({"step": state.step, "losses": losses, "batch": {k: v.cpu() for k, v in vars(batch).items()}}, kept)
    which = f"the {wrong[0]} of step {state.step} is {losses[wrong[0]]}" if wrong else "another process found a number"
    raise TrainingError(f"{which}, not finite; its batch is kept in {kept}, the last checkpoint stands")


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
    data: Packed,
    examined: Batch | None,
    out: Path,
    log: run_folder.Log,
) -> None:
    """Evaluate the averaged weights on the held-back films, and write them: the last, and the best if they are."""
    now = [weight.detach().clone() for weight in who.network.parameters()]
    weights = list(who.network.parameters())
    if state.average:
        _put(weights, state.average)
    try:
        score = None
        if examined is not None:
            score = evaluate(who, examined, config.losses)
            log.write(state.step, "held", {"samples": state.samples, "psnr": score.psnr, **score.losses})
            log.show(state.step, run_folder.sheet(score.pictures))
        _write_weights(out / run_folder.LAST, who, state, config, data, score.psnr if score else None)
        if score is not None and score.psnr > state.best:
            state.best = score.psnr
            _write_weights(out / run_folder.BEST, who, state, config, data, score.psnr)
    finally:
        _put(weights, now)
    run_folder.draw_curves([out], out / run_folder.CURVES)


@torch.no_grad()
def _put(weights: list[Any], values: list[Tensor]) -> None:
    for weight, value in zip(weights, values, strict=True):
        weight.copy_(value)


def _write_weights(path: Path, who: Players, state: _State, config: Config, data: Packed, psnr: float | None) -> None:
    training = {
        "steps": state.step,
        "samples": state.samples,
        "minutes": round(state.seconds / 60, 1),
        "held_psnr": psnr,
        "seed": config.seed,
    }
    films = ", ".join(data.names) or "drawn samples"
    save_weights(who.network, path, training=training, licence=config.licence, data=films)
    card = model_card(path.stem, config, training, data.names, run_folder.environment())
    path.with_suffix(".md").write_text(card, "utf-8")
