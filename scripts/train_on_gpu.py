"""Train on a machine with a GPU that has no network and is there for ten minutes a start.

    python PACK/train_on_gpu.py --out OUT [--minutes 9] [--run-minutes 27] [--finish]
    python PACK/train_on_gpu.py --out OUT --dry-run        a few steps of a small network on the CPU

PACK is a folder of `pack_training.py`; needed is Python 3.11 or newer with torch, numpy, safetensors and OpenCV, not
PyAV, Halide or pydantic. Within --minutes, reading, evaluation and collecting included, it trains, measures the network
on the triplets that were packed along and writes pieces of at most 15 MB to OUT (see pieces.py), with results.json.

A run that takes several starts is told --run-minutes at the first one; its folder (--run, by default PACK/run) goes on
where it stands. If the machine does not keep it between two starts, join the pieces and bring them as PACK/run:

    python pieces.py join OUT --out PACK/run

--finish brings the run to its end within this start, with the learning rate that belongs there. What is carried has the
optimiser's moments in bfloat16 and the average of the weights in float16; so a run that was carried does not go on bit
for bit.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import sys
import time
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ASIDE = 75.0
"""Seconds of a start that are kept for measuring and collecting."""
SAFETY = 0.9
"""The part of the time left that a run which ends in this start is given: speeds vary, evaluation takes its time."""
CARRIED = "carried.pt"
"""The checkpoint as it travels."""
SMALL = {
    "feature_channels": [8, 8, 8, 8],
    "encoder_convolutions": [0, 0, 0, 0],
    "decoder_channels": [8, 8, 8, 8],
    "decoder_convolutions": [1, 1, 1, 1],
    "search_radii": [1, 1, 1, 1],
}
"""The guided network of a dry run."""


def main() -> int:
    began = time.monotonic()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pack", type=Path, default=HERE)
    parser.add_argument(
        "--out", type=Path, required=True, help="a folder for the pieces; those of an earlier start are replaced"
    )
    parser.add_argument("--run", type=Path, help="the run's folder; if not given, PACK/run, of a dry run PACK/dry-run")
    parser.add_argument("--minutes", type=float, default=9.0, help="this start may take")
    parser.add_argument("--run-minutes", type=float, help="of training altogether, if that is more than this start has")
    parser.add_argument("--finish", action="store_true", help="end the run within this start")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rate", type=float, help="of the network's optimiser, instead of the packed one")
    parser.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 3) - 2))
    parser.add_argument("--compile", action="store_true", help="the guided network by torch.compile")
    parser.add_argument("--megabytes", type=float, default=60, help="that may be carried back at most")
    parser.add_argument("--dry-run", action="store_true", help="8 samples, small network, CPU")
    given = parser.parse_args()
    given.pack, given.out = given.pack.resolve(), given.out.resolve()
    given.run = (given.run or given.pack / ("dry-run" if given.dry_run else "run")).resolve()
    try:
        given.out.mkdir(parents=True, exist_ok=True)  # before the time is spent
    except OSError as error:
        raise SystemExit(f"{given.out} cannot hold the pieces: {error.strerror}") from None
    os.chdir(given.pack)  # the settings name what is in the pack
    check(given.pack)
    paths = [str(given.pack / "src"), str(given.pack), *map(str, sorted(given.pack.glob("wheels/*.whl")))]
    sys.path[:0] = paths
    os.environ["PYTHONPATH"] = os.pathsep.join([*paths, os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)

    result: dict[str, Any] = {"failures": []}
    for name, part in (("training", training), ("triplets", measured)):
        try:
            result[name] = part(given, began)
        except Exception as error:  # what was trained until then is still to be collected
            traceback.print_exc()
            result["failures"].append(f"{name}: {type(error).__name__}: {' '.join(str(error).split())[:500]}")
    collect(given, result, began)
    print(json.dumps({name: value for name, value in result.items() if name != "training"}, indent=1))
    return 1 if result["failures"] else 0


def check(pack: Path) -> None:
    """Every file of the pack is there and is what was packed."""
    try:
        files = json.loads((pack / "pack.json").read_text("utf-8"))["files"]
    except (OSError, ValueError, KeyError) as error:
        raise SystemExit(f"{pack} is no folder of pack_training.py: {error}") from None
    for name, listed in files.items():
        path = pack / name
        content = path.read_bytes() if path.is_file() else b""
        if hashlib.sha256(content).hexdigest() != listed["sha256"]:
            raise SystemExit(f"{path} is not what was packed: {len(content)} of {listed['bytes']} bytes")


def training(given: argparse.Namespace, began: float) -> dict[str, Any]:
    """Train until the run or this start's time is over; returns what was done."""
    import torch

    import midframe
    from midframe.errors import Cancelled
    from midframe.training.data.dataset import load_dataset
    from midframe.training.train.loop import Progress, train
    from midframe.training.train.run_folder import environment, read_log

    package = Path(midframe.__file__).parent.relative_to(given.pack)  # no other one
    device = torch.device("cpu" if given.dry_run else given.device)
    if device.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
        torch.backends.cudnn.benchmark = True
    if given.compile:
        from midframe.networks.guided import Guided

        Guided.predict = torch.compile(Guided.predict, dynamic=False)  # type: ignore[method-assign]
    expand(given.run)
    going_on = (given.run / "checkpoint.pt").is_file()
    data, held = (load_dataset(["data"], split, threads=os.cpu_count() or 2) for split in ("train", "validation"))
    deadline = began + 60 * given.minutes - (0 if given.dry_run else ASIDE)
    config, ending = ends(given, deadline, going_on)
    before = read_log(given.run) if going_on else []
    read = time.monotonic() - began

    def say(progress: Progress) -> None:
        losses = " ".join(f"{name} {value:.4g}" for name, value in progress.losses.items())
        left = "" if progress.seconds_left is None else f", {progress.seconds_left / 60:.1f} minutes left"
        speed = f"{progress.per_second:.1f} a second, waited {progress.waited:.1%}"
        print(f"step {progress.step}, {progress.samples} samples, {speed}{left}: {losses}", flush=True)

    try:
        train(
            config,
            given.run,
            **ending,
            device=device,
            report=say,
            cancelled=lambda: time.monotonic() > deadline,
            data=data,
            held=held if held.windows else None,
        )
        over = True
    except Cancelled:
        over = False
        write_unfinished(given.run, data.film_names)
    lines = [line for line in read_log(given.run) if line["kind"] == "train"]
    own = [line for line in lines if line["samples"] > max((line["samples"] for line in before), default=0)]
    return {
        "environment": environment(),
        "package": package.as_posix(),
        "device": str(device),
        "windows": {"train": len(data.windows), "held": len(held.windows)},
        "over": over,
        "seconds_until_training": round(read, 1),
        "last": lines[-1] if lines else None,
        "samples_per_second": sorted(line["per_second"] for line in own)[len(own) // 2] if own else None,
        "waited": sum(line["waited"] for line in own) / len(own) if own else None,
        "held": [line for line in read_log(given.run) if line["kind"] == "held"],
    }


def ends(given: argparse.Namespace, deadline: float, going_on: bool) -> tuple[Any, dict[str, Any]]:
    """The run's settings (none for one that goes on), and when it is to end, as the trainer takes it."""
    from midframe.training.config import from_tables
    from midframe.training.train.checkpoints import load_checkpoint

    minutes = SAFETY * max(0.0, deadline - time.monotonic()) / 60
    if going_on:
        done = load_checkpoint(given.run / "checkpoint.pt")["seconds"] / 60
        return None, {"minutes": done + minutes} if given.finish and not given.dry_run else {}
    config = from_tables(json.loads(Path("config.json").read_text("utf-8")))
    rate = given.rate or config.optimiser.rate
    config = replace(
        config,
        batch=given.batch,
        shares=1,
        workers=given.workers,
        data=replace(config.data, on_device=False),
        optimiser=replace(config.optimiser, rate=rate),
    )
    if not given.dry_run:
        return config, {"minutes": given.run_minutes or max(0.1, minutes)}
    settings = SMALL if config.network == "guided" else config.settings
    every = dict.fromkeys(("log_every", "evaluate_every", "checkpoint_every"), 2)
    config = replace(config, **every, settings=settings, batch=2, data=replace(config.data, crop=64))
    return config, {"samples": 8}


def expand(run: Path) -> None:
    """Make a checkpoint of one that was carried, where there is none."""
    from midframe.training.train.checkpoints import load_checkpoint, save_checkpoint

    if (run / "checkpoint.pt").is_file() or not (run / CARRIED).is_file():
        return
    state = load_checkpoint(run / CARRIED)
    state["average"] = [weight.float() for weight in state["average"]]
    save_checkpoint(state, run / "checkpoint.pt")


def carried(run: Path) -> Path:
    """The checkpoint in a little more than half its size: moments in bfloat16, the average in float16."""
    import torch

    from midframe.training.train.checkpoints import load_checkpoint, save_checkpoint

    state = load_checkpoint(run / "checkpoint.pt")
    for name in ("optimiser", "discriminator_optimiser"):
        for moments in state.get(name, {"state": {}})["state"].values():
            for kind in ("exp_avg", "exp_avg_sq"):
                moments[kind] = moments[kind].to(torch.bfloat16)
    state["average"] = [weight.to(torch.float16) for weight in state["average"]]
    save_checkpoint(state, run / CARRIED)
    return run / CARRIED


def write_unfinished(run: Path, films: tuple[str, ...]) -> None:
    """The averaged weights of a run that is not over, from its checkpoint, with their card."""
    import torch

    from midframe.networks import network_class
    from midframe.networks.weights import save_weights
    from midframe.training.config import from_tables
    from midframe.training.train.checkpoints import load_checkpoint
    from midframe.training.train.model_card import model_card
    from midframe.training.train.run_folder import environment

    state = load_checkpoint(run / "checkpoint.pt")
    config = from_tables(state["config"])
    network = network_class(config.network)(**state["settings"])
    network.load_state_dict(state["network"])
    with torch.no_grad():
        for weight, value in zip(network.parameters() if state["average"] else (), state["average"], strict=True):
            weight.copy_(value)
    told = {
        "steps": state["step"],
        "samples": state["samples"],
        "minutes": round(state["seconds"] / 60, 1),
        "held_psnr": None,
        "seed": config.seed,
        "unfinished": True,
    }
    save_weights(network, run / "weights.safetensors", training=told, licence=config.licence, data=", ".join(films))
    (run / "weights.md").write_text(model_card("weights", config, told, films, environment()), "utf-8")


def measured(given: argparse.Namespace, began: float) -> dict[str, Any]:
    """PSNR on the triplets that were packed along, beside averaging and DIS, as long as there is time."""
    folders = sorted(path for path in given.pack.glob("triplets/*") if path.is_dir())
    if not folders:
        return {}
    import triplets

    import midframe

    device = "cpu" if given.dry_run else given.device
    network = midframe.load(given.run / "weights.safetensors").to(device)
    until = began + 60 * given.minutes - ASIDE / 3
    found: dict[str, Any] = {}
    for folder in folders:
        rows: dict[str, dict[str, float]] = {}
        for name, first, middle, last in triplets.folder_triplets(folder):
            if rows and not given.dry_run and time.monotonic() > until:
                break
            made = midframe.interpolate(first, last, network=network, shader="off")
            pictures = {"average": triplets.average(first, last), **triplets.dis(first, last), "network": made}
            rows[name] = {label: round(triplets.psnr(picture, middle), 3) for label, picture in pictures.items()}
        labels = next(iter(rows.values()), {})
        mean = {label: round(sum(row[label] for row in rows.values()) / len(rows), 3) for label in labels}
        found[folder.name] = {"count": len(rows), "mean": mean, "triplets": rows}
    return found


def collect(given: argparse.Namespace, result: dict[str, Any], began: float) -> None:
    """Write results.json and the pieces: what is worth most first, until no more may be carried."""
    import pieces

    run: Path = given.run
    wanted = [run / name for name in ("config.json", "environment.json", "log.jsonl", "weights.safetensors")]
    wanted += [run / name for name in ("weights.md", "curves.png", "best.safetensors", "best.md")]
    wanted += sorted((run / "pictures").glob("*.png"))[-1:]
    wanted += sorted(run.glob("not-finite-*.pt"))
    try:
        wanted.append(carried(run))
    except Exception as error:
        result["failures"].append(f"checkpoint: {type(error).__name__}: {error}")
    room, taken = given.megabytes * 1e6 - 100_000, []
    for path in wanted:
        if path.is_file() and path.stat().st_size + 1024 < room:
            taken.append(path)
            room -= path.stat().st_size + 1024
    result["left_behind"] = [path.name for path in wanted if path.is_file() and path not in taken]
    result["minutes"] = round((time.monotonic() - began) / 60, 2)
    (run / "results.json").write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    shutil.copy(run / "results.json", given.out)
    pieces.split(run, [*taken, run / "results.json"], given.out, 15_000_000)


if __name__ == "__main__":
    sys.exit(main())
