"""Open the output of a plan, and delete it if the conversion fails."""

from __future__ import annotations

import shutil
from pathlib import Path

from midframe.conversion.plan import Plan
from midframe.conversion.settings import Settings
from midframe.files import part_path
from midframe.video.images.animation import loop_count
from midframe.video.images.gif import GifWriter
from midframe.video.images.webp_writer import WebpWriter
from midframe.video.images.writer import ImageWriter
from midframe.video.images.y4m import Y4mHeader, Y4mWriter
from midframe.video.remuxer import Remuxer
from midframe.video.sink import Sink
from midframe.video.writer import FilmWriter


def open_sink(plan: Plan, settings: Settings) -> Sink:
    """Open the output of a plan for writing, under its unfinished name (`part_path`). Raises `OutputError`."""
    output, target, overwrite = plan.format, plan.target, settings.overwrite
    layout, colour, width, height = output.layout, output.colour, output.width, output.height
    match plan.container.writer:
        case "images":
            return ImageWriter(target, layout, colour, width=width, height=height, overwrite=overwrite)
        case "gif":
            return GifWriter(target, width=width, height=height, plays=_loop_count(plan), overwrite=overwrite)
        case "webp":
            return WebpWriter(target, width=width, height=height, plays=_loop_count(plan), overwrite=overwrite)
        case "y4m":
            y4m = Y4mHeader(layout, colour, width, height, rate=output.rate, aspect=output.aspect)
            return Y4mWriter(target, y4m, overwrite=overwrite)
        case "ffmpeg":
            remuxer = Remuxer(plan.film, plan.streams, plan.container, plan.timeline)
            return FilmWriter(target, output, remuxer, overwrite=overwrite)


def delete_part(target: str) -> None:
    """Delete the unfinished output of a target, even if a thread still writes to it."""
    if target == "-":
        return
    part = part_path(target)
    if part.is_dir():
        shutil.rmtree(part, ignore_errors=True)
    else:
        part.unlink(missing_ok=True)


def _loop_count(plan: Plan) -> int:
    """Return how often the output animation plays: as often as the source, 0 (endlessly) if that is no animation."""
    if plan.film.path == "-" or not Path(plan.film.path).is_file():
        return 0
    return loop_count(plan.film.path) or 0
