"""`midframe convert`: a film in, a smoother film out."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from midframe.cli.report import check_json_file, clock, emit, say
from midframe.errors import SettingError

if TYPE_CHECKING:
    from midframe.conversion import Progress, Summary


def convert(
    source: Annotated[
        str, typer.Argument(metavar="IN", help="A film, a folder or pattern of pictures, a .y4m, or - .")
    ],
    target: Annotated[
        str, typer.Argument(metavar="OUT", help="mp4, mov, mkv, webm, gif, webp, y4m, a FOLDER/, or - .")
    ],
    factor: Annotated[int | None, typer.Option("--factor", "-f", help="Frames for one: 2 (default), 4, 8, ...")] = None,
    fps: Annotated[str | None, typer.Option(help="Target rate instead: 60, 59.94, 60000/1001.")] = None,
    slow_motion: Annotated[bool, typer.Option("--slow-motion", help="Same rate, --factor times longer.")] = False,
    audio: Annotated[str | None, typer.Option(help="With --slow-motion: drop (default) or stretch.")] = None,
    start: Annotated[str | None, typer.Option(help="Begin here: seconds or [HH:]MM:SS.")] = None,
    duration: Annotated[str | None, typer.Option(help="Convert this long: seconds or [HH:]MM:SS.")] = None,
    network: Annotated[str, typer.Option(help="The network that makes the frames.")] = "default",
    shader: Annotated[str, typer.Option(help="Pixel shader: default, paper, amplified or off.")] = "default",
    shader_maps: Annotated[
        Path | None, typer.Option(help="Write the shader's maps of each pair to this folder.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    codec: Annotated[str | None, typer.Option(help="h264, h265, av1, vp9, ffv1 or prores.")] = None,
    encoder: Annotated[str | None, typer.Option(help="FFmpeg's encoder instead; ffv1 is lossless.")] = None,
    crf: Annotated[float | None, typer.Option(help="Quality; lower is better (18 for h264 and h265).")] = None,
    preset: Annotated[str | None, typer.Option(help="The encoder's speed (medium for h264 and h265).")] = None,
    pixel_format: Annotated[str | None, typer.Option(help="Convert all pictures, e.g. to yuv420p.")] = None,
    odd: Annotated[str, typer.Option(help="Odd sizes that the encoder cannot hold: pad or error.")] = "pad",
    deinterlace: Annotated[
        str, typer.Option(help="Interlaced films: off, frame (one picture a frame) or field (two).")
    ] = "off",
    drop_alpha: Annotated[bool, typer.Option("--drop-alpha", help="Leave transparency out.")] = False,
    cuts: Annotated[bool, typer.Option("--cuts/--no-cuts", help="Hold frames at cuts.")] = True,
    keep_going: Annotated[bool, typer.Option("--keep-going", help="Hold over frames that cannot be decoded.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", "-y", help="Replace OUT.")] = False,
    input_rate: Annotated[str, typer.Option(help="Frames a second of a folder of pictures.")] = "25",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would come out.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output at the end.")] = False,
    json_file: Annotated[Path | None, typer.Option(help="The same object to a file.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only errors.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Print tracebacks.")] = False,
) -> None:
    """Make a smoother film: twice the frames unless told otherwise, everything else kept as it is.

    midframe convert holiday.mp4 smooth.mp4
    """
    from midframe.conversion import Settings
    from midframe.conversion import convert as run
    from midframe.video.timeline import parse_rate

    check_json_file(json_file)
    if json and target == "-":
        raise SettingError("--json and OUT = - both want standard output; use --json-file")
    settings = Settings(
        factor=factor,
        fps=None if fps is None else parse_rate(fps),
        slow_motion=slow_motion,
        audio=_one_of("--audio", audio, "drop", "stretch"),
        start=_seconds("--start", start),
        duration=_seconds("--duration", duration),
        codec=codec,
        encoder=encoder,
        crf=crf,
        preset=preset,
        pixel_format=pixel_format,
        odd=_one_of("--odd", odd, "pad", "error"),
        drop_alpha=drop_alpha,
        deinterlace=_one_of("--deinterlace", deinterlace, "off", "frame", "field"),
        cuts=cuts,
        keep_going=keep_going,
        overwrite=overwrite,
        network=network,
        shader=shader,
        shader_maps=shader_maps,
        device=device,
        input_rate=parse_rate(input_rate),
    )
    with _Bar(quiet or dry_run) as bar:
        summary = run(source, target, settings, progress=bar.show, dry_run=dry_run)
    if dry_run and not json:
        _print_plan(summary)
    elif not dry_run and not quiet:
        _print_summary(summary)
    emit(summary.json(), json, json_file)


def _one_of(option: str, value: str | None, *allowed: str) -> Any:
    if value is not None and value not in allowed:
        raise SettingError(f"{option} is {' or '.join(allowed)}, not '{value}'")
    return value


def _seconds(option: str, text: str | None) -> Fraction | None:
    """Seconds, minutes and seconds, or hours, minutes and seconds, exactly."""
    if text is None:
        return None
    total = Fraction(0)
    try:
        for part in text.split(":"):
            total = total * 60 + Fraction(part)
    except (ValueError, ZeroDivisionError):
        raise SettingError(f"{option} '{text}' is not a time; give seconds or [HH:]MM:SS") from None
    return total


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

            self.bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.fields[words]}"),
                console=Console(stderr=True),
                transient=True,
            )
            self.task = self.bar.add_task("convert", total=None, words="")
            self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.stop()

    def show(self, progress: Progress) -> None:
        if self.silent:
            return
        if self.bar is not None:
            self.bar.update(
                self.task,
                description=progress.stage,
                total=progress.total,
                completed=progress.written,
                words=_words(progress),
            )
        elif time.monotonic() - self.said >= self.EVERY:
            self.said = time.monotonic()
            say(f"{progress.stage}: {_words(progress)}")


def _words(progress: Progress) -> str:
    total = "" if progress.total is None else f" of {progress.total}"
    left = progress.seconds_left
    rest = "" if left is None or left < 0 else f", {clock(left)} left"
    return f"{progress.written}{total} frames, {progress.rate:.1f} a second{rest}"


def _print_plan(summary: Summary) -> None:
    plan, film, form = summary.plan, summary.plan.film, summary.plan.form
    colour = film.colour.describe() + (" (guessed in part, see the notes)" if film.colour.guessed else "")
    rows = [
        ("in", f"{film.path}: {film.codec}, {film.width}x{film.height} {film.pixel_format}, {film.container}"),
        ("", _times(film.ticks, film.time_base, film.rate)),
        ("colour", colour + (", with HDR metadata" if film.hdr.present else "")),
        (
            "out",
            f"{plan.target}: {form.encoder.name}{_options(form.encoder.options)}, {form.width}x{form.height} "
            f"{form.encoder.pixel_format}, {plan.container.name}",
        ),
        ("", _times(plan.times, plan.time_base, form.rate)),
        ("made by", f"{summary.names['network']}, shader {summary.names['shader']}, on {summary.names['device']}"),
        ("size", f"{plan.estimated_bytes / 1e6:.1f} MB or more, by a rough estimate"),
    ]
    if film.rotation:
        rows.append(("kept", f"rotation by {film.rotation} degrees"))
    if form.chapters:
        rows.append(("kept", f"{len(form.chapters)} chapters"))
    rows += [("stream", f"{s.info.describe()}: {s.action}{f' ({s.reason})' if s.reason else ''}") for s in plan.streams]
    rows += [("note", warning) for warning in summary.warnings]
    for name, text in rows:
        print(f"{name:>8}  {text}")


def _times(ticks: Sequence[int] | None, base: Fraction, rate: Fraction) -> str:
    """How many frames there are, when, and how evenly."""
    if ticks is None:
        return f"as many frames as come, {float(rate):.3f} a second"
    steps = [b - a for a, b in pairwise(ticks)]
    even = not steps or (max(steps) - min(steps)) * base <= Fraction(2, 1000)
    if not even:
        rate = len(steps) / ((ticks[-1] - ticks[0]) * base)
    pace = f"{float(rate):.3f} a second" + ("" if even else " on average (the steps vary)")
    span = f"from {float(ticks[0] * base):.3f} s to {float(ticks[-1] * base):.3f} s"
    return f"{len(ticks)} frames {span}, {pace}"


def _options(options: Mapping[str, str]) -> str:
    """Quality and speed of an encoder, as far as they are set."""
    said = ", ".join(f"{name} {options[name]}" for name in ("crf", "preset") if name in options)
    return f" ({said})" if said else ""


def _print_summary(summary: Summary) -> None:
    counts = summary.counts
    for warning in summary.warnings:
        say(f"note: {warning}")
    held = counts.held_at_cuts + counts.held_at_gaps + counts.held_at_lost
    seconds = summary.seconds.get("total", 0.0)
    say(
        f"{summary.target}: {counts.written} frames from {counts.read} ({counts.made} made, "
        f"{counts.repeated} repeated, {held} held) in {clock(seconds)}, "
        f"{counts.written / max(seconds, 1e-9):.1f} a second" + ("" if summary.complete else "; NOT COMPLETE")
    )
