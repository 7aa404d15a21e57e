"""`midframe dataset build` and `midframe dataset preview`."""

from __future__ import annotations

import re
import sys
import time
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from midframe.cli import Interrupted
from midframe.cli.report import check_json_file, emit, failed, say
from midframe.errors import SettingError
from midframe.training.build.settings import DatasetSettings

if TYPE_CHECKING:
    from midframe.training.build import BuildProgress, BuildSummary

USUAL = DatasetSettings()

app = typer.Typer(
    name="dataset", help="Make and look at data sets to train with.", no_args_is_help=True, rich_markup_mode=None
)


@app.command()
def build(
    films: Annotated[list[str], typer.Argument(metavar="FILMS...", help="Films, and folders of films.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the data set; an unfinished one goes on.")],
    window: Annotated[int, typer.Option(help="Frames of a sample: 3, 5 or 7.")] = USUAL.window,
    clips: Annotated[int, typer.Option(help="Clips of a film, evenly spaced (fewer where it is short).")] = USUAL.clips,
    seconds: Annotated[str, typer.Option(help="Length of a clip.")] = str(USUAL.seconds),
    size: Annotated[str, typer.Option(help="Larger frames are scaled down to fit: LONGxSHORT.")] = "1280x720",
    least_lines: Annotated[int, typer.Option(help="Films with a smaller short side are skipped.")] = USUAL.least_lines,
    least_difference: Annotated[
        float, typer.Option(help="Least mean squared difference of two frames; below it they are still.")
    ] = USUAL.least_difference,
    most_difference: Annotated[
        float, typer.Option(help="Most mean squared difference; above it there is a cut.")
    ] = USUAL.most_difference,
    most_distance: Annotated[
        float, typer.Option(help="Most distance by the cut detector; above it there is a cut.")
    ] = USUAL.most_distance,
    least_step: Annotated[
        float, typer.Option(help="Least difference as a share of the window's largest.")
    ] = USUAL.least_step,
    least_deviation: Annotated[
        float, typer.Option(help="Least mean standard deviation of a frame; below it is flat.")
    ] = USUAL.least_deviation,
    most_jitter: Annotated[
        float, typer.Option(help="Share by which times may differ from even ones.")
    ] = USUAL.most_jitter,
    jpeg: Annotated[int, typer.Option(help="Quality of the stored frames, 1 to 100.")] = USUAL.jpeg or 100,
    png: Annotated[bool, typer.Option("--png", help="Store them without loss instead.")] = False,
    shard_megabytes: Annotated[int, typer.Option(help="Largest size of a shard.")] = USUAL.shard_megabytes,
    held: Annotated[float, typer.Option(help="Share of the films held back from training.")] = USUAL.held,
    held_films: Annotated[
        list[str] | None, typer.Option(help="Hold back the films of this name (a pattern) instead; may be repeated.")
    ] = None,
    seed: Annotated[
        int, typer.Option(help="Decides which films are held back, and the order in the shards.")
    ] = USUAL.seed,
    exclude: Annotated[list[str] | None, typer.Option(help="Leave out films by a pattern; may be repeated.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes; one a core unless told otherwise.")] = None,
    ray: Annotated[str | None, typer.Option(help="Do the work on the Ray cluster at this address (or: local).")] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output at the end.")] = False,
    json_file: Annotated[Path | None, typer.Option(help="The same object to a file.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only errors.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Print tracebacks.")] = False,
) -> int:
    """Cut windows of frames out of films and store them as shards.

    midframe dataset build ~/films --out data
    """
    from midframe.training.build import build_dataset

    check_json_file(json_file)
    if workers is not None and workers < 1:
        raise SettingError(f"--workers {workers}: give 1 at least")
    settings = DatasetSettings(
        window=window,
        clips=clips,
        seconds=_fraction("--seconds", seconds),
        size=_size(size),
        least_lines=least_lines,
        least_difference=least_difference,
        most_difference=most_difference,
        most_distance=most_distance,
        least_step=least_step,
        least_deviation=least_deviation,
        most_jitter=most_jitter,
        jpeg=None if png else jpeg,
        shard_megabytes=shard_megabytes,
        held=held,
        held_films=tuple(held_films or ()),
        seed=seed,
    )
    try:
        with _Bar(quiet) as bar:
            summary = build_dataset(
                films, out, settings, exclude=exclude or (), workers=workers, ray=ray, progress=bar.show
            )
    except Interrupted as stop:
        message = f"interrupted; what is done is kept in {out}, and the same command goes on with it"
        return failed("interrupted", message, 128 + stop.number, sys.argv[1:])
    if not quiet:
        _print(summary)
    emit({"schema": "midframe.dataset/1", "ok": True, **summary.json()}, json, json_file)
    return 0


@app.command()
def preview(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A data set that was built.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The picture that is drawn: a .png.")],
    split: Annotated[str, typer.Option(help="train or validation.")] = "train",
    batches: Annotated[int, typer.Option(help="How many batches are drawn.")] = 2,
    augmentation: Annotated[str, typer.Option(help="Whose: paper, repository or guided.")] = "paper",
    seed: Annotated[int, typer.Option(help="Decides how the samples are augmented.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Print tracebacks.")] = False,
) -> None:
    """Draw sample training batches, and histograms of motion and difference.

    midframe dataset preview data --out data.png
    """
    from midframe.training.build.preview import draw_preview

    if batches < 1:
        raise SettingError(f"--batches {batches}: give 1 at least")
    chosen_split: Any = _one_of("--split", split, "train", "validation")
    way: Any = _one_of("--augmentation", augmentation, "paper", "repository", "guided")
    found = draw_preview(folder, out, split=chosen_split, batches=batches, seed=seed, way=way)
    if not json:
        say(f"{out}: {found['samples']} samples ({split}), median motion {found['motion'].get('p50', 0):g} pixels")
    emit({"schema": "midframe.dataset/1", "ok": True, "output": {"path": str(out)}, **found}, json, None)


def _one_of(option: str, value: str, *allowed: str) -> str:
    if value not in allowed:
        raise SettingError(f"{option} is {' or '.join(allowed)}, not '{value}'")
    return value


def _fraction(option: str, text: str) -> Fraction:
    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError):
        raise SettingError(f"{option} '{text}' is not a number; give 1, 0.5 or 1/3") from None


def _size(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)[xX×](\d+)", text)
    if found is None:
        raise SettingError(f"--size '{text}' is not a size; give LONGxSHORT, such as 1280x720")
    return int(found[1]), int(found[2])


class _Bar:
    """Progress on standard error: a bar on a terminal, a line now and then elsewhere."""

    EVERY = 5.0

    def __init__(self, silent: bool) -> None:
        self.silent = silent
        self.bar: Any = None
        self.task: Any = None
        self.said = time.monotonic()

    def __enter__(self) -> _Bar:
        if not self.silent and sys.stderr is not None and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn

            columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[words]}"))
            self.bar = Progress(*columns, console=Console(stderr=True), transient=True)
            self.task = self.bar.add_task("films", total=None, words="")
            self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.stop()

    def show(self, progress: BuildProgress) -> None:
        words = f"{progress.done} of {progress.total}, {progress.samples} samples, {progress.seconds:.0f} s"
        if self.bar is not None:
            self.bar.update(
                self.task, description=progress.stage, total=progress.total, completed=progress.done, words=words
            )
        elif not self.silent and time.monotonic() - self.said >= self.EVERY:
            self.said = time.monotonic()
            say(f"{progress.stage}: {words}")


def _print(summary: BuildSummary) -> None:
    counts = summary.counts
    for name, why in counts["left_out"].items():
        say(f"left out: {name}: {why}")
    samples = counts["samples"]
    films = ", ".join(f"{number} {what}" for what, number in counts["films"].items())
    split = f"{samples['train']} samples for training, {samples['validation']} for validation"
    say(f"{summary.out}: {split}; films: {films}")
    for title, reasons in (
        ("windows rejected", counts["rejected_windows"]),
        ("clips without a sample", counts["clips_without_sample"]),
    ):
        if reasons:
            say(f"{title}: " + ", ".join(f"{number} {why}" for why, number in reasons.items()))
    if not summary.jobs:
        say("it was there already, built from these films by these settings")
    elif summary.decoding is not None:
        say(f"{summary.wall:.1f} s; {100 * summary.decoding:.0f} % of the work was decoding")
