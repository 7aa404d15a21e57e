"""The commands `midframe dataset build` and `midframe dataset preview`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from midframe.cli.interrupts import Interrupted
from midframe.cli.options import parse_choice, parse_fraction
from midframe.cli.progress import ProgressDisplay
from midframe.cli.report import check_json_file, print_message, write_json
from midframe.errors import SettingError
from midframe.training.build.settings import DatasetSettings

if TYPE_CHECKING:
    from midframe.training.build import BuildProgress, BuildSummary

DEFAULTS = DatasetSettings()
"""The settings that hold for options that are not given."""

app = typer.Typer(
    name="dataset", help="Build and preview data sets for training.", no_args_is_help=True, rich_markup_mode=None
)


@app.command()
def build(
    films: Annotated[list[str], typer.Argument(metavar="FILMS...", help="Films, and folders of films.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the data set; an unfinished build is continued.")],
    window: Annotated[int, typer.Option(help="Frames of a sample: 3, 5 or 7.")] = DEFAULTS.window,
    clips: Annotated[int, typer.Option(help="Clips of a film, evenly spaced (fewer if it is short).")] = DEFAULTS.clips,
    seconds: Annotated[str, typer.Option(help="Length of a clip in seconds.")] = str(DEFAULTS.seconds),
    size: Annotated[str, typer.Option(help="Larger frames are scaled down to fit: LONGxSHORT.")] = "1280x720",
    least_lines: Annotated[
        int, typer.Option(help="Films with a smaller short side are skipped.")
    ] = DEFAULTS.least_lines,
    least_difference: Annotated[
        float, typer.Option(help="Smallest mean squared difference of neighbouring frames; below it they are still.")
    ] = DEFAULTS.least_difference,
    most_difference: Annotated[
        float, typer.Option(help="Largest mean squared difference of neighbouring frames; above it is a cut.")
    ] = DEFAULTS.most_difference,
    most_distance: Annotated[
        float, typer.Option(help="Largest distance of neighbouring frames by the cut detector; above it is a cut.")
    ] = DEFAULTS.most_distance,
    least_step: Annotated[
        float, typer.Option(help="Smallest difference as a fraction of the window's largest.")
    ] = DEFAULTS.least_step,
    least_deviation: Annotated[
        float, typer.Option(help="Smallest standard deviation of a frame; below it the frame is flat.")
    ] = DEFAULTS.least_deviation,
    most_jitter: Annotated[
        float, typer.Option(help="Fraction by which a time step may differ from the mean step.")
    ] = DEFAULTS.most_jitter,
    jpeg: Annotated[int, typer.Option(help="Quality of the stored frames, 1 to 100.")] = DEFAULTS.jpeg or 100,
    png: Annotated[bool, typer.Option("--png", help="Store the frames as PNG, without loss.")] = False,
    shard_megabytes: Annotated[int, typer.Option(help="Largest size of a shard in MB.")] = DEFAULTS.shard_megabytes,
    validation_fraction: Annotated[
        float, typer.Option("--held", help="Fraction of the films for the validation split.")
    ] = DEFAULTS.validation_fraction,
    validation_films: Annotated[
        list[str] | None,
        typer.Option("--held-films", help="Films of the validation split by a name pattern, instead; may be repeated."),
    ] = None,
    seed: Annotated[
        int, typer.Option(help="Decides the validation films and the order in the shards.")
    ] = DEFAULTS.seed,
    exclude: Annotated[list[str] | None, typer.Option(help="Leave out films by a pattern; may be repeated.")] = None,
    workers: Annotated[int | None, typer.Option(help="Worker processes; by default one for each core.")] = None,
    ray: Annotated[str | None, typer.Option(help="Run on the Ray cluster at this address (or: local).")] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output at the end.")] = False,
    json_file: Annotated[Path | None, typer.Option(help="The same object to a file.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only errors.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Print tracebacks.")] = False,
) -> None:
    """Store windows of consecutive frames of films as shards.

    midframe dataset build ~/films --out data
    """
    from midframe.training.build import build_dataset

    check_json_file(json_file)
    if workers is not None and workers < 1:
        raise SettingError(f"--workers {workers}: give 1 at least")
    settings = DatasetSettings(
        window=window,
        clips=clips,
        seconds=parse_fraction("--seconds", seconds),
        size=_parse_size(size),
        least_lines=least_lines,
        least_difference=least_difference,
        most_difference=most_difference,
        most_distance=most_distance,
        least_step=least_step,
        least_deviation=least_deviation,
        most_jitter=most_jitter,
        jpeg=None if png else jpeg,
        shard_megabytes=shard_megabytes,
        validation_fraction=validation_fraction,
        validation_films=tuple(validation_films or ()),
        seed=seed,
    )
    try:
        with ProgressDisplay(quiet=quiet) as display:
            summary = build_dataset(
                films,
                out,
                settings,
                exclude=exclude or (),
                workers=workers,
                ray=ray,
                progress=lambda progress: _show_progress(display, progress),
            )
    except Interrupted as stop:
        message = f"interrupted; what is done is kept in {out}, and the same command goes on with it"
        raise Interrupted(stop.number, message) from None
    if not quiet:
        _print_summary(summary)
    write_json({"schema": "midframe.dataset/1", "ok": True, **summary.json()}, json, json_file)


@app.command()
def preview(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a data set.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The picture file to draw, .png.")],
    split: Annotated[str, typer.Option(help="train or validation.")] = "train",
    batches: Annotated[int, typer.Option(help="Number of batches to draw.")] = 2,
    augmentation: Annotated[str, typer.Option(help="Preset: paper, repository or guided.")] = "paper",
    seed: Annotated[int, typer.Option(help="Seed of the augmentation.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Print tracebacks.")] = False,
) -> None:
    """Draw sample training batches, and histograms of motion and difference.

    midframe dataset preview data --out data.png
    """
    from midframe.training.build.preview import draw_preview

    if batches < 1:
        raise SettingError(f"--batches {batches}: give 1 at least")
    chosen_split: Any = parse_choice("--split", split, "train", "validation")
    preset: Any = parse_choice("--augmentation", augmentation, "paper", "repository", "guided")
    statistics = draw_preview(folder, out, split=chosen_split, batches=batches, seed=seed, augmentation=preset)
    if not json:
        median = statistics["motion"].get("p50", 0)
        print_message(f"{out}: {statistics['samples']} samples ({split}), median motion {median:g} pixels")
    write_json({"schema": "midframe.dataset/1", "ok": True, "output": {"path": str(out)}, **statistics}, json, None)


def _parse_size(text: str) -> tuple[int, int]:
    """Parse LONGxSHORT as (long side, short side). Raises `SettingError`."""
    match = re.fullmatch(r"(\d+)[xX×](\d+)", text)
    if match is None:
        raise SettingError(f"--size '{text}' is not a size; give LONGxSHORT, such as 1280x720")
    return int(match[1]), int(match[2])


def _show_progress(display: ProgressDisplay, progress: BuildProgress) -> None:
    """Show how far the build has come."""
    text = f"{progress.done} of {progress.total}, {progress.samples} samples, {progress.seconds:.0f} s"
    display.show(progress.stage, text, done=progress.done, total=progress.total)


def _print_summary(summary: BuildSummary) -> None:
    """Print the result of a build for a person."""
    counts = summary.counts
    for name, reason in counts["left_out"].items():
        print_message(f"left out: {name}: {reason}")
    samples = counts["samples"]
    films = ", ".join(f"{number} {status}" for status, number in counts["films"].items())
    splits = f"{samples['train']} samples for training, {samples['validation']} for validation"
    print_message(f"{summary.out}: {splits}; films: {films}")
    for title, reasons in (
        ("windows rejected", counts["rejected_windows"]),
        ("clips without a sample", counts["clips_without_sample"]),
    ):
        if reasons:
            print_message(f"{title}: " + ", ".join(f"{number} {reason}" for reason, number in reasons.items()))
    if not summary.jobs:
        print_message("it was there already, built from these films by these settings")
    elif summary.decoding_fraction is not None:
        print_message(f"{summary.wall_seconds:.1f} s; {100 * summary.decoding_fraction:.0f} % of the work was decoding")
