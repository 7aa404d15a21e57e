"""What of a film will not be in its conversion as it was, or needs a word, in words."""

from __future__ import annotations

from fractions import Fraction
from itertools import islice
from typing import TYPE_CHECKING

from midframe.conversion.settings import Settings
from midframe.video.colour import HLG, PQ
from midframe.video.encoders import writes_hdr_metadata
from midframe.video.streams import lost_metadata

if TYPE_CHECKING:
    from midframe.conversion.plan import Plan


def notes(plan: Plan, settings: Settings) -> list[str]:
    """Everything that will not be as in the film, in words."""
    film, form = plan.film, plan.form
    said = [
        f"{s.info.describe()} {'not copied' if s.info.kind == 'data' else 'left out'}: {s.reason}"
        for s in plan.streams
        if not s.included
    ]
    said += [f"{s.info.describe()} converted: {s.reason}" for s in plan.streams if s.action in ("convert", "stretch")]
    said += [f"{s.info.describe()}: {s.reason}" for s in plan.streams if s.action == "copy" and s.reason]
    keys = lost_metadata(film, plan.streams, plan.container)
    if keys:
        said.append(f"beside cover art mp4 has no place for the metadata {', '.join(keys)}")
    if film.duplicate_frames:
        said.append(f"{film.duplicate_frames} frames have the time of another one and are dropped")
    if not film.has_timestamps:
        said.append(f"the film has no times; its frames are taken as {film.rate} a second")
    if film.interlaced and settings.deinterlace == "off":
        said.append("the film is interlaced, and made frames will show combs; --deinterlace makes it progressive first")
    if film.colour.guessed and film.colour.matrix not in ("rgb", "gray"):
        said.append("the film does not say its colours: " + "; ".join(film.colour.guessed))
    if film.lost_side_data:
        said.append(f"{', '.join(film.lost_side_data)} cannot be kept")
    hdr = film.colour.tags.transfer in (PQ, HLG) or film.hdr.mastering_display is not None
    if hdr and film.hdr.present and not writes_hdr_metadata(form.encoder.name):
        said.append(f"{form.encoder.name} does not write the film's HDR metadata (libx265, libx264 and libsvtav1 do)")
    in_codec = form.encoder.name in ("libx264", "libx264rgb", "libx265")
    keeps_aspect = {"container": True, "codec": in_codec, "none": False}[plan.container.pixel_aspect]
    if form.aspect is not None and not keeps_aspect:
        said.append(f"the pixel aspect {form.aspect.numerator}:{form.aspect.denominator} cannot be written here")
    if form.display_matrix is not None and not plan.container.rotation:
        said.append("the film's rotation cannot be written here; pictures come out as they are stored")
    if (form.width, form.height) != (film.width, film.height):
        said.append(
            f"{film.width}x{film.height} padded to {form.width}x{form.height} by repeating the last line, "
            f"as {form.encoder.name} needs even sizes"
        )
    if form.layout != film.layout:
        said.append(f"pictures are converted from {film.layout.describe()} to {form.layout.describe()}")
    if form.encoder.name == "libx264rgb":
        said.append("the film is RGB and stays so, which few players show; --pixel-format yuv420p makes one for all")
    shift = plan.timeline.output_start - plan.timeline.source_start
    if shift and settings.start is None and plan.container.writer not in ("images", "gif", "webp"):
        said.append(f"picture, sound and chapters all start {float(shift):+.3f} s later than in the film")
    if plan.container.constant_rate and _varies(plan):
        have = "have" if plan.container.writer == "images" else "has"
        said.append(f"{plan.container.spoken_name} {have} one frame rate for all; the film's variable times are lost")
    if plan.container.writer == "gif" and film.container != "gif":
        said.append("a GIF frame has at most 256 colours: pictures with more are dithered")
    if film.metadata.get("timecode") and not any(s.info.kind == "data" for s in plan.streams):
        said.append("the time code is kept as metadata")
    return said


def _varies(plan: Plan) -> bool:
    times = plan.times
    if times is None or len(times) < 3:
        return False
    steps = {b - a for a, b in zip(times, islice(times, 1, None), strict=False)}
    return (max(steps) - min(steps)) * plan.time_base > Fraction(3, 1000)
