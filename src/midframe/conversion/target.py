"""The output that a plan asks for."""

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
from midframe.video.images.y4m import Y4mFormat, Y4mWriter
from midframe.video.remuxer import Remuxer
from midframe.video.sink import Sink
from midframe.video.writer import FilmWriter


def open_sink(plan: Plan, settings: Settings) -> Sink:
    """Open the output of a plan, under the name of its part."""
    form, target, again = plan.form, plan.target, settings.overwrite
    size = {"width": form.width, "height": form.height}
    if plan.container.writer == "images":
        return ImageWriter(target, form.layout, form.colour, **size, overwrite=again)
    if plan.container.writer == "gif":
        return GifWriter(target, **size, plays=_plays(plan), overwrite=again)
    if plan.container.writer == "webp":
        return WebpWriter(target, **size, plays=_plays(plan), overwrite=again)
    if plan.container.writer == "y4m":
        y4m = Y4mFormat(form.layout, form.colour, **size, rate=form.rate, aspect=form.aspect)
        return Y4mWriter(target, y4m, overwrite=again)
    remuxer = Remuxer(plan.film, plan.streams, plan.container, plan.timeline)
    return FilmWriter(target, form, remuxer, overwrite=again)


def _plays(plan: Plan) -> int:
    """How often an animation plays: as often as the one it is made from, else without end."""
    if plan.film.path == "-" or not Path(plan.film.path).is_file():
        return 0
    return loop_count(plan.film.path) or 0


def remove_part(target: str) -> None:
    """Delete what an unfinished conversion has left on the disk, even while a thread still writes to it."""
    if target == "-":
        return
    part = part_path(target)
    if part.is_dir():
        shutil.rmtree(part, ignore_errors=True)
    else:
        part.unlink(missing_ok=True)
