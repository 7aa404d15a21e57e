"""Train on a machine with a GPU that has no network and that is available for about ten minutes per session.

    python PACK/train_on_gpu.py --out OUT [--minutes 9] [--run-minutes 27] [--finish]
    python PACK/train_on_gpu.py --out OUT --dry-run        a few steps of a small network on the CPU

PACK is a folder written by `pack_training.py`. Python 3.11 or newer with torch, numpy, safetensors and OpenCV is
needed; PyAV, Halide and pydantic are not. A session takes at most --minutes, including reading, validation and
collecting. It trains, measures the network on the packed triplets, and writes results.json and pieces of at most 15 MB
to OUT (see pieces.py).

A run over several sessions gets --run-minutes in the first one. Later sessions continue the run in its folder (--run,
by default PACK/run). If the machine does not keep that folder between sessions, join the pieces and bring them back:

    python pieces.py join OUT --out PACK/run

--finish ends the run within this session, with the learning rates that follow. The checkpoint among the pieces has the
optimisers' moments in bfloat16 and the moving average of the weights in float16, so a run that is brought back does not
continue bit for bit.
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
FINAL_SECONDS = 75.0
"""Time of a session that is reserved for measuring and collecting."""
TIME_FRACTION = 0.9
"""Fraction of the remaining time given to a run that ends in this session, because speeds vary."""
COMPACT_CHECKPOINT = "carried.pt"
"""Name of the compact checkpoint that is brought back among the pieces."""
PIECE_SIZE = 15_000_000
"""Largest size of a piece in bytes."""
MANIFEST_SIZE = 100_000
"""Bytes reserved for results.json and the manifest of the pieces."""
TAR_HEADER_SIZE = 1024
"""Bytes that a file in a tar file takes besides its contents, at most."""
DRY_RUN_NETWORK = {
    "feature_channels": [8, 8, 8, 8],
    "encoder_convolutions": [0, 0, 0, 0],
    "decoder_channels": [8, 8, 8, 8],
    "decoder_convolutions": [1, 1, 1, 1],
    "search_radii": [1, 1, 1, 1],
}
"""Settings of the network `guided` in a dry run."""


def main() -> int:
    """Train, measure, collect the results and return the exit code."""
    start = time.monotonic()
    options = parse_options()
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SystemExit(f"{options.out} cannot hold the pieces: {error.strerror}") from None
    os.chdir(options.pack)  # the settings have paths relative to the pack
    verify_pack(options.pack)
    paths = [str(options.pack / "src"), str(options.pack), *map(str, sorted(options.pack.glob("wheels/*.whl")))]
    sys.path[:0] = paths
    os.environ["PYTHONPATH"] = os.pathsep.join([*paths, os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)

    result: dict[str, Any] = {"failures": []}
    for name, part in (("training", run_training), ("triplets", measure_triplets)):
        try:
            result[name] = part(options, start)
        except Exception as error:  # results so far must be collected all the same
            traceback.print_exc()
            result["failures"].append(describe(name, error))
    collect(options, result, start)
    print(json.dumps({name: value for name, value in result.items() if name != "training"}, indent=1))
    return 1 if result["failures"] else 0


def parse_options() -> argparse.Namespace:
    """Return the options of the command line, with absolute paths."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pack", type=Path, default=HERE)
    parser.add_argument("--out", type=Path, required=True, help="folder for the pieces; those in it are replaced")
    parser.add_argument("--run", type=Path, help="the run's folder; by default PACK/run, for a dry run PACK/dry-run")
    parser.add_argument("--minutes", type=float, default=9.0, help="length of this session")
    parser.add_argument("--run-minutes", type=float, help="length of the run, if it takes more than this session")
    parser.add_argument("--finish", action="store_true", help="end the run within this session")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--batch", type=int, default=64, help="batch size")
    parser.add_argument("--rate", type=float, help="the generator's learning rate, instead of the packed one")
    parser.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 3) - 2))
    parser.add_argument("--compile", action="store_true", help="apply torch.compile to the network guided")
    parser.add_argument("--megabytes", type=float, default=60, help="largest size of all pieces together")
    parser.add_argument("--dry-run", action="store_true", help="8 samples, small network, CPU")
    options = parser.parse_args()
    options.pack, options.out = options.pack.resolve(), options.out.resolve()
    options.run = (options.run or options.pack / ("dry-run" if options.dry_run else "run")).resolve()
    return options


def verify_pack(pack: Path) -> None:
    """Exit with an error unless every file of the pack is present and has its SHA-256."""
    try:
        files = json.loads((pack / "pack.json").read_text("utf-8"))["files"]
    except (OSError, ValueError, KeyError) as error:
        raise SystemExit(f"{pack} is no folder of pack_training.py: {error}") from None
    for name, listed in files.items():
        path = pack / name
        content = path.read_bytes() if path.is_file() else b""
        if hashlib.sha256(content).hexdigest() != listed["sha256"]:
            raise SystemExit(f"{path} is not what was packed: {len(content)} of {listed['bytes']} bytes")


def run_training(options: argparse.Namespace, start: float) -> dict[str, Any]:
    """Train until the run or the session is over; return a summary."""
    import torch

    import midframe
    from midframe.errors import Cancelled
    from midframe.training.data.dataset import load_dataset
    from midframe.training.train.loop import train
    from midframe.training.train.run_folder import read_log
    from midframe.training.train.setup import Datasets

    package = Path(midframe.__file__).parent.relative_to(options.pack)  # fails if another copy was imported
    device = torch.device("cpu" if options.dry_run else options.device)
    prepare_torch(device, compile_guided=options.compile)
    expand_checkpoint(options.run)
    resumes = (options.run / "checkpoint.pt").is_file()
    training, validation = (
        load_dataset(["data"], split, threads=os.cpu_count() or 2) for split in ("train", "validation")
    )
    deadline = start + 60 * options.minutes - (0 if options.dry_run else FINAL_SECONDS)
    config, budget = choose_run(options, deadline, resumes)
    previous_log = read_log(options.run) if resumes else []
    seconds_until_training = time.monotonic() - start

    try:
        train(
            config,
            options.run,
            budget=budget,
            device=device,
            report=print_progress,
            cancelled=lambda: time.monotonic() > deadline,
            datasets=Datasets(training, validation),
        )
        is_over = True
    except Cancelled:
        is_over = False
        write_unfinished_weights(options.run, training.film_names)
    return {
        "package": package.as_posix(),
        "device": str(device),
        "windows": {"train": len(training.windows), "validation": len(validation.windows)},
        "over": is_over,
        "seconds_until_training": round(seconds_until_training, 1),
        **summarise_log(options.run, previous_log),
    }


def print_progress(progress: Any) -> None:
    """Print one line about the state of a run, a `Progress` of midframe.training.train.state."""
    losses = " ".join(f"{name} {value:.4g}" for name, value in progress.losses.items())
    left = "" if progress.seconds_left is None else f", {progress.seconds_left / 60:.1f} minutes left"
    speed = f"{progress.samples_per_second:.1f} a second, waited {progress.data_wait:.1%}"
    print(f"step {progress.step}, {progress.samples} samples, {speed}{left}: {losses}", flush=True)


def prepare_torch(device: Any, *, compile_guided: bool) -> None:
    """Allow TF32 on a GPU, and compile the network `guided` if asked."""
    import torch

    if device.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
        torch.backends.cudnn.benchmark = True
    if compile_guided:
        from midframe.networks.guided import Guided

        Guided.predict = torch.compile(Guided.predict, dynamic=False)  # type: ignore[method-assign]


def summarise_log(run: Path, previous_log: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the environment, last line, speed and validations of a run; the speed is that of this session alone."""
    from midframe.training.train.run_folder import environment, read_log

    log = read_log(run)
    lines = [line for line in log if line["kind"] == "train"]
    samples_before = max((line["samples"] for line in previous_log), default=0)
    new_lines = [line for line in lines if line["samples"] > samples_before]
    speeds = sorted(line["samples_per_second"] for line in new_lines)
    return {
        "environment": environment(),
        "last": lines[-1] if lines else None,
        "samples_per_second": speeds[len(speeds) // 2] if speeds else None,
        "data_wait": sum(line["data_wait"] for line in new_lines) / len(new_lines) if new_lines else None,
        "validation": [line for line in log if line["kind"] == "validation"],
    }


def choose_run(options: argparse.Namespace, deadline: float, resumes: bool) -> tuple[Any, Any]:
    """Return the settings of a new run (None to continue one) and the budget, as `train` takes them."""
    from midframe.training.config import config_from_dict
    from midframe.training.train.checkpoints import load_checkpoint
    from midframe.training.train.setup import Budget

    minutes_left = TIME_FRACTION * max(0.0, deadline - time.monotonic()) / 60
    if resumes:
        minutes_done = load_checkpoint(options.run / "checkpoint.pt")["state"]["seconds"] / 60
        finish = options.finish and not options.dry_run
        return None, Budget(minutes=minutes_done + minutes_left) if finish else Budget()
    config = config_from_dict(json.loads(Path("config.json").read_text("utf-8")))
    learning_rate = options.rate or config.optimiser.learning_rate
    config = replace(
        config,
        batch_size=options.batch,
        micro_batches=1,
        workers=options.workers,
        data=replace(config.data, on_device=False),
        optimiser=replace(config.optimiser, learning_rate=learning_rate),
    )
    if not options.dry_run:
        return config, Budget(minutes=options.run_minutes or max(0.1, minutes_left))
    config = replace(
        config,
        network_settings=DRY_RUN_NETWORK if config.network == "guided" else config.network_settings,
        batch_size=2,
        log_every=2,
        validate_every=2,
        checkpoint_every=2,
        data=replace(config.data, crop_size=64),
    )
    return config, Budget(samples=8)


def expand_checkpoint(run: Path) -> None:
    """Write the checkpoint from a compact one, unless there is a checkpoint or no compact one."""
    from midframe.training.train.checkpoints import load_checkpoint, save_checkpoint

    if (run / "checkpoint.pt").is_file() or not (run / COMPACT_CHECKPOINT).is_file():
        return
    checkpoint = load_checkpoint(run / COMPACT_CHECKPOINT)
    state = checkpoint["state"]
    state["ema_weights"] = [weight.float() for weight in state["ema_weights"]]
    save_checkpoint(checkpoint, run / "checkpoint.pt")


def write_compact_checkpoint(run: Path) -> Path:
    """Write the checkpoint in about half its size: moments in bfloat16, moving average in float16; return its path."""
    import torch

    from midframe.training.train.checkpoints import load_checkpoint, save_checkpoint

    checkpoint = load_checkpoint(run / "checkpoint.pt")
    for optimiser in ("generator_optimiser", "discriminator_optimiser"):
        for moments in checkpoint.get(optimiser, {"state": {}})["state"].values():
            for name in ("exp_avg", "exp_avg_sq"):
                moments[name] = moments[name].to(torch.bfloat16)
    state = checkpoint["state"]
    state["ema_weights"] = [weight.to(torch.float16) for weight in state["ema_weights"]]
    save_checkpoint(checkpoint, run / COMPACT_CHECKPOINT)
    return run / COMPACT_CHECKPOINT


def write_unfinished_weights(run: Path, films: tuple[str, ...]) -> None:
    """Write the averaged weights and model card of a run that is not over, from its checkpoint."""
    import torch

    from midframe.networks import network_class
    from midframe.networks.weights import save_weights
    from midframe.training.config import config_from_dict
    from midframe.training.train.checkpoints import load_checkpoint
    from midframe.training.train.export import model_card, training_metadata
    from midframe.training.train.run_folder import environment
    from midframe.training.train.state import TrainingState

    checkpoint = load_checkpoint(run / "checkpoint.pt")
    config, state = config_from_dict(checkpoint["config"]), TrainingState(**checkpoint["state"])
    network = network_class(config.network)(**checkpoint["network_settings"])
    network.load_state_dict(checkpoint["generator"])
    if state.ema_weights:
        with torch.no_grad():
            for weight, average in zip(network.parameters(), state.ema_weights, strict=True):
                weight.copy_(average)
    training = {**training_metadata(config, state, psnr=None), "unfinished": True}
    save_weights(network, run / "weights.safetensors", training=training, licence=config.licence, data=", ".join(films))
    (run / "weights.md").write_text(model_card("weights", config, training, films, environment()), "utf-8")


def measure_triplets(options: argparse.Namespace, start: float) -> dict[str, Any]:
    """Return the PSNR of the network, of the mean of both frames and of DIS on the packed triplets.

    Measures as many triplets as the time allows, at least one per folder.
    """
    folders = sorted(path for path in options.pack.glob("triplets/*") if path.is_dir())
    if not folders:
        return {}
    import triplets

    import midframe

    device = "cpu" if options.dry_run else options.device
    network = midframe.load(options.run / "weights.safetensors").to(device)
    deadline = start + 60 * options.minutes - FINAL_SECONDS / 3
    results: dict[str, Any] = {}
    for folder in folders:
        rows: dict[str, dict[str, float]] = {}
        for name, first, middle, last in triplets.folder_triplets(folder):
            if rows and not options.dry_run and time.monotonic() > deadline:
                break
            predicted = midframe.interpolate(first, last, network=network, shader="off")
            pictures = {"average": triplets.average(first, last), **triplets.dis(first, last), "network": predicted}
            rows[name] = {label: round(triplets.psnr(picture, middle), 3) for label, picture in pictures.items()}
        labels = next(iter(rows.values()), {})
        mean = {label: round(sum(row[label] for row in rows.values()) / len(rows), 3) for label in labels}
        results[folder.name] = {"count": len(rows), "mean": mean, "triplets": rows}
    return results


def collect(options: argparse.Namespace, result: dict[str, Any], start: float) -> None:
    """Write results.json and the pieces; files beyond `--megabytes` are left behind, the most important come first."""
    import pieces

    run: Path = options.run
    wanted = [run / name for name in ("config.json", "environment.json", "log.jsonl", "weights.safetensors")]
    wanted += [run / name for name in ("weights.md", "curves.png", "best.safetensors", "best.md")]
    wanted += sorted((run / "pictures").glob("*.png"))[-1:]
    wanted += sorted(run.glob("not-finite-*.pt"))
    try:
        wanted.append(write_compact_checkpoint(run))
    except Exception as error:  # results so far must be collected all the same
        result["failures"].append(describe("checkpoint", error))
    space, chosen = options.megabytes * 1e6 - MANIFEST_SIZE, []
    for path in wanted:
        if path.is_file() and path.stat().st_size + TAR_HEADER_SIZE < space:
            chosen.append(path)
            space -= path.stat().st_size + TAR_HEADER_SIZE
    result["left_behind"] = [path.name for path in wanted if path.is_file() and path not in chosen]
    result["minutes"] = round((time.monotonic() - start) / 60, 2)
    (run / "results.json").write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    shutil.copy(run / "results.json", options.out)
    pieces.split(run, [*chosen, run / "results.json"], options.out, PIECE_SIZE)


def describe(part: str, error: Exception) -> str:
    """Return one line about the failure of a part."""
    return f"{part}: {type(error).__name__}: {' '.join(str(error).split())[:500]}"


if __name__ == "__main__":
    sys.exit(main())
