"""`midframe convert`: convert a film into a smoother one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from midframe.cli.options import parse_choice, parse_time
from midframe.cli.progress import ProgressDisplay
from midframe.cli.report import check_json_file, format_duration, print_message, write_json
from midframe.errors import SettingError

if TYPE_CHECKING:
    from midframe.conversion import Progress, Summary
    from midframe.video.probe import Film
    from midframe.video.writer import OutputFormat


def convert(  # one parameter for each option of the command
    source: Annotated[
        str, typer.Argument(metavar="IN", help="A film, a folder or pattern of pictures, a .y4m, or - .")
    ],
    target: Annotated[
        str, typer.Argument(metavar="OUT", help="mp4, mov, mkv, webm, gif, webp, y4m, a FOLDER/, or - .")
    ],
    factor: Annotated[
        int | None, typer.Option("--factor", "-f", help="Output frames for each source frame: 2 (default) to 64.")
    ] = None,
    fps: Annotated[str | None, typer.Option(help="Output frame rate instead: 60, 59.94, 60000/1001.")] = None,
    slow_motion: Annotated[bool, typer.Option("--slow-motion", help="Same rate, --factor times longer.")] = False,
    audio: Annotated[str | None, typer.Option(help="With --slow-motion: drop (default) or stretch.")] = None,
    start: Annotated[str | None, typer.Option(help="Begin here: seconds or [HH:]MM:SS.")] = None,
    duration: Annotated[str | None, typer.Option(help="Convert this long: seconds or [HH:]MM:SS.")] = None,
    network: Annotated[str, typer.Option(help="The network that interpolates the frames.")] = "default",
    shader: Annotated[str, typer.Option(help="Pixel shader: default, paper, amplified or off.")] = "default",
    shader_maps: Annotated[
        Path | None, typer.Option(help="Write the shader's maps of each pair of frames to this folder.")
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
    cuts: Annotated[
        bool, typer.Option("--cuts/--no-cuts", help="At cuts, duplicate frames instead of interpolating.")
    ] = True,
    keep_going: Annotated[
        bool, typer.Option("--keep-going", help="Duplicate a neighbour of frames that cannot be decoded.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", "-y", help="Replace OUT.")] = False,
    input_rate: Annotated[str, typer.Option(help="Frames a second of a folder of pictures.")] = "25",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print what would be written.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output at the end.")] = False,
    json_file: Annotated[Path | None, typer.Option(help="The same object to a file.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only errors.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Print tracebacks.")] = False,
) -> None:
    """Make a smoother film: twice the frames unless told otherwise, everything else kept as it is.

    midframe convert holiday.mp4 smooth.mp4
    """
    from midframe.conversion import Settings, run_conversion
    from midframe.video.timeline import parse_rate

    check_json_file(json_file)
    if json and target == "-":
        raise SettingError("--json and OUT = - both want standard output; use --json-file")
    settings = Settings(
        factor=factor,
        fps=None if fps is None else parse_rate(fps),
        slow_motion=slow_motion,
        audio=parse_choice("--audio", audio, "drop", "stretch"),
        start=parse_time("--start", start),
        duration=parse_time("--duration", duration),
        codec=codec,
        encoder=encoder,
        crf=crf,
        preset=preset,
        pixel_format=pixel_format,
        odd=parse_choice("--odd", odd, "pad", "error"),
        drop_alpha=drop_alpha,
        deinterlace=parse_choice("--deinterlace", deinterlace, "off", "frame", "field"),
        cuts=cuts,
        keep_going=keep_going,
        overwrite=overwrite,
        network=network,
        shader=shader,
        shader_maps=shader_maps,
        device=device,
        input_rate=parse_rate(input_rate),
    )
    with ProgressDisplay(quiet=quiet or dry_run) as display:
        summary = run_conversion(
            source, target, settings, progress=lambda progress: _show_progress(display, progress), dry_run=dry_run
        )
    if dry_run and not json:
        _print_plan(summary)
    elif not dry_run and not quiet:
        _print_summary(summary)
    write_json(summary.json(), json, json_file)


def _show_progress(display: ProgressDisplay, progress: Progress) -> None:
    """Show the progress of a conversion."""
    total = "" if progress.total is None else f" of {progress.total}"
    left = progress.seconds_left
    time_left = "" if left is None or left < 0 else f", {format_duration(left)} left"
    text = f"{progress.written}{total} frames, {progress.rate:.1f} a second{time_left}"
    display.show(progress.stage, text, done=progress.written, total=progress.total)


def _print_plan(summary: Summary) -> None:
    """Print the plan of a dry run on standard output, as rows of a label and a text."""
    plan = summary.plan
    film, output = plan.film, plan.format
    rows = [
        ("in", f"{film.path}: {film.codec}, {film.width}x{film.height} {film.pixel_format}, {film.container}"),
        ("", _describe_times(film.ticks, film.time_base, film.rate)),
        ("colour", _describe_colour(film)),
        ("out", f"{plan.target}: {_describe_encoding(output)}, {plan.container.name}"),
        ("", _describe_times(plan.ticks, plan.time_base, output.rate)),
        ("made by", f"{summary.names['network']}, shader {summary.names['shader']}, on {summary.names['device']}"),
        ("size", f"{plan.estimated_bytes / 1e6:.1f} MB or more, by a rough estimate"),
    ]
    if film.rotation:
        rows.append(("kept", f"rotation by {film.rotation} degrees"))
    if output.chapters:
        rows.append(("kept", f"{len(output.chapters)} chapters"))
    rows += [("stream", f"{s.info.describe()}: {s.action}{f' ({s.reason})' if s.reason else ''}") for s in plan.streams]
    rows += [("warning", warning) for warning in summary.warnings]
    for label, text in rows:
        print(f"{label:>8}  {text}")


def _describe_times(ticks: Sequence[int] | None, time_base: Fraction, rate: Fraction) -> str:
    """Describe how many frames there are, from when to when, and at what rate. ticks: None if not known."""
    if ticks is None:
        return f"as many frames as come, {float(rate):.3f} a second"
    intervals = [second - first for first, second in pairwise(ticks)]
    is_constant = not intervals or (max(intervals) - min(intervals)) * time_base <= Fraction(2, 1000)
    if not is_constant:
        rate = len(intervals) / ((ticks[-1] - ticks[0]) * time_base)
    pace = f"{float(rate):.3f} a second" + ("" if is_constant else " on average (the intervals vary)")
    span = f"from {float(ticks[0] * time_base):.3f} s to {float(ticks[-1] * time_base):.3f} s"
    return f"{len(ticks)} frames {span}, {pace}"


def _describe_colour(film: Film) -> str:
    """Describe the colour of the source, and whether it was assumed."""
    guessed = " (guessed in part, see the warnings)" if film.colour.guessed else ""
    has_hdr_metadata = film.hdr.mastering_display or film.hdr.content_light_level
    return film.colour.describe() + guessed + (", with HDR metadata" if has_hdr_metadata else "")


def _describe_encoding(output: OutputFormat) -> str:
    """Describe encoder, options, size and pixel format of the output."""
    options: Mapping[str, str] = output.encoder.options
    shown = ", ".join(f"{name} {options[name]}" for name in ("crf", "preset") if name in options)
    encoder = output.encoder.name + (f" ({shown})" if shown else "")
    return f"{encoder}, {output.width}x{output.height} {output.encoder.pixel_format}"


def _print_summary(summary: Summary) -> None:
    """Print the warnings and counts of a conversion on standard error."""
    for warning in summary.warnings:
        print_message(f"warning: {warning}")
    counts = summary.counts
    duplicated = counts.duplicated_at_cuts + counts.duplicated_at_gaps + counts.duplicated_for_lost
    seconds = summary.seconds.get("total", 0.0)
    print_message(
        f"{summary.plan.target}: {counts.written} frames from {counts.read} ({counts.interpolated} interpolated, "
        f"{counts.repeated} repeated, {duplicated} duplicated at cuts and gaps) in {format_duration(seconds)}, "
        f"{counts.written / max(seconds, 1e-9):.1f} a second" + ("" if summary.complete else "; NOT COMPLETE")
    )
