"""The output that a plan asks for."""

from __future__ import annotations

import shutil

from midframe.conversion.plan import Plan
from midframe.conversion.settings import Settings
from midframe.video.sink import Sink, part_path
from midframe.video.streams import Carrier
from midframe.video.writer import FilmWriter


def open_sink(plan: Plan, settings: Settings) -> Sink:
    """Open the output of a plan, under the name of its part."""
    carrier = Carrier(plan.film, plan.streams, plan.container, plan.timeline)
    return FilmWriter(plan.target, plan.form, carrier, overwrite=settings.overwrite)


def remove_part(target: str) -> None:
    """Delete what an unfinished conversion has left on the disk, even while a thread still writes to it."""
    if target == "-":
        return
    part = part_path(target)
    if part.is_dir():
        shutil.rmtree(part, ignore_errors=True)
    else:
        part.unlink(missing_ok=True)
