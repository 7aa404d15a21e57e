"""Everything in a film that is not its picture: what the new file takes of it."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import av
import av.container
import av.error
import av.stream

from midframe.video.audio import stretch_codec
from midframe.video.probe import Film, StreamInfo, open_container
from midframe.video.timeline import Timeline

Action = Literal["encode", "copy", "convert", "attach", "stretch", "drop"]
Audio = Literal["keep", "drop", "stretch"]


@dataclass(frozen=True)
class StreamPlan:
    """What becomes of one stream, and why where it is left out or changed."""

    info: StreamInfo
    action: Action
    codec: str
    reason: str = ""

    @property
    def kept(self) -> bool:
        return self.action != "drop"


def plan_streams(film: Film, container: str, audio: Audio = "keep") -> tuple[StreamPlan, ...]:
    """Decide for every stream of a film whether the target container takes it: copied, converted, or left out."""
    if not film.streams:
        return ()
    with open_container(film.path) as source:
        return tuple(_plan(film, info, source, container, audio) for info in film.streams)


def chapters_for(film: Film, container: str, timeline: Timeline) -> list[dict[str, Any]]:
    """The film's chapters at their output times, clipped to the part that is converted."""
    if container in _PICTURE_ONLY:
        return []
    kept = []
    for chapter in film.chapters:
        base = Fraction(chapter["time_base"])
        clipped = timeline.clip(chapter["start"] * base, chapter["end"] * base)
        if clipped is not None:
            start, end = (round(timeline.place(time) / base) for time in clipped)
            kept.append({**chapter, "start": start, "end": end, "time_base": base})
    return kept


def metadata_for(film: Film, container: str) -> dict[str, str]:
    """The film's own metadata, less what describes the old file."""
    stale = {"major_brand", "minor_version", "compatible_brands", "encoder"}
    if container in ("mp4", "mov"):
        stale.add("timecode")  # there it stands with the picture, see `film_metadata`
    return {k: v for k, v in film.metadata.items() if k.lower() not in stale}


def film_metadata(film: Film, container: str) -> dict[str, str]:
    """The metadata of the film's picture; in mp4 and mov its time code is there, which makes a track of its own."""
    kept = stream_metadata(film.stream_metadata, container)
    code = next(
        (v for k, v in (*film.stream_metadata.items(), *film.metadata.items()) if k.lower() == "timecode"), None
    )
    return kept if code is None else {**kept, "timecode": code}


def stream_metadata(metadata: Mapping[str, str], container: str) -> dict[str, str]:
    """A stream's metadata under the names that the target container writes, less what describes the old packets."""
    kept: dict[str, str] = {}
    for key, value in metadata.items():
        upper = key.upper()
        if upper == "TIMECODE" and container in ("mp4", "mov"):
            continue
        if upper.startswith(("BPS", "NUMBER_OF_", "_STATISTICS", "DURATION")) or upper in ("ENCODER", "VENDOR_ID"):
            continue
        if upper == "HANDLER_NAME" and container in ("matroska", "webm"):
            continue
        quicktime = upper == "LANGUAGE" and container == "mov"
        kept["title" if key == "name" else key] = _QUICKTIME.get(value, value) if quicktime else value
    return kept


def lost_metadata(film: Film, plans: tuple[StreamPlan, ...], container: str) -> list[str]:
    """The film's own metadata keys that the target cannot hold."""
    if needs_free_keys(film.metadata) and container in ("mp4", "mov") and holds_cover(plans):
        return sorted(key for key in metadata_for(film, container) if key.lower() not in _ITUNES)
    return []


def needs_free_keys(metadata: Mapping[str, str]) -> bool:
    """Whether metadata has keys beyond those that every mp4 has a place for."""
    return any(key.lower() not in _ITUNES for key in metadata)


def holds_cover(plans: Sequence[StreamPlan]) -> bool:
    return any(plan.kept and plan.info.cover for plan in plans)


def channel_layout(stream: av.AudioStream) -> str | None:
    """The layout of a stream's channels, the usual one where only their number is known; None where there is none."""
    layout = stream.codec_context.layout
    if layout.name.endswith("channels"):
        return {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}.get(layout.nb_channels)
    return layout.name


def spoken(container: str) -> str:
    """The name by which people know a container."""
    return {"matroska": "mkv"}.get(container, container)


_PICTURE_ONLY = ("gif", "webp", "yuv4mpegpipe", "pictures")
_TEXT = {"mov_text": "subrip", "subrip": "mov_text"}
# What mp4 keeps under names of its own (iTunes); other keys need QuickTime's form, which has no place for cover art.
_ITUNES = frozenset(
    (
        *("title", "artist", "album_artist", "composer", "album", "date", "encoding_tool", "comment", "genre"),
        *("copyright", "grouping", "lyrics", "description", "synopsis", "show", "episode_id", "network", "keywords"),
        *("track", "disc", "compilation", "gapless_playback", "hd_video", "media_type", "sort_name", "sort_artist"),
        *("sort_album", "creation_time", "timecode", "episode_sort", "season_number"),
    )
)
# QuickTime has its own list of languages, some of them by their bibliographic code.
_QUICKTIME = {"deu": "ger", "nld": "dut", "swe": "sve", "ell": "gre", "isl": "ice", "zho": "chi", "fre": "fra"}
_QUICKTIME |= {"sqi": "alb", "cze": "ces", "slo": "slk", "mkd": "mac", "rum": "ron"}


def _plan(
    film: Film, info: StreamInfo, source: av.container.InputContainer, container: str, audio: Audio
) -> StreamPlan:
    if info.index == film.index:
        return StreamPlan(info, "encode", info.codec)
    if container in _PICTURE_ONLY:
        return StreamPlan(info, "drop", info.codec, "the target holds pictures only")
    stream = source.streams[info.index]
    if info.kind in ("data", "unknown"):
        return StreamPlan(info, "drop", info.codec, _data_reason(film, stream, container))
    if info.kind == "attachment" or (info.cover and container == "matroska"):
        if container != "matroska":
            return StreamPlan(info, "drop", info.codec, f"{spoken(container)} has no attachments")
        return StreamPlan(info, "attach", info.codec)
    if info.cover and container == "webm":
        return StreamPlan(info, "drop", info.codec, "webm has no cover art")
    if info.cover and (container == "mov" or info.codec not in ("mjpeg", "png", "bmp")):
        return StreamPlan(info, "drop", info.codec, f"{spoken(container)} has no cover art of this kind")
    if info.kind == "audio" and audio == "drop":
        return StreamPlan(info, "drop", info.codec, "sound is left out of slow motion (--audio stretch keeps it)")
    if info.kind == "audio" and audio == "stretch":
        return StreamPlan(info, "stretch", stretch_codec(info.codec, container), "played slower at its own pitch")
    if info.packets == 0:
        return StreamPlan(info, "drop", info.codec, "it is empty")
    refusal = _refusal(stream, container)
    if refusal is None:
        marks = stream.disposition & ~av.stream.Disposition.default
        lost = marks.name if container == "mov" and marks and not info.cover else None
        return StreamPlan(info, "copy", info.codec, f"mov cannot mark it as {lost}" if lost else "")
    other = _TEXT.get(info.codec)
    if other is not None and container in {"subrip": ("matroska",), "mov_text": ("mp4", "mov")}[other]:
        return StreamPlan(info, "convert", other, f"{spoken(container)} holds subtitles as {other}")
    return StreamPlan(info, "drop", info.codec, f"{spoken(container)} cannot hold {info.codec}")


def _data_reason(film: Film, stream: av.stream.Stream, container: str) -> str:
    if stream.metadata.get("timecode"):
        written = "written anew" if container in ("mp4", "mov") else "kept as metadata"
        return f"the time code ({stream.metadata['timecode']}) is {written}"
    if film.chapters and stream.name == "bin_data":
        return "the chapters are written anew"
    return "data streams are not carried"


def _refusal(stream: av.stream.Stream, container: str) -> str | None:
    """Why a container does not take a stream, None where it does: tried out on an empty file in memory."""
    try:
        with av.open(io.BytesIO(), "w", format=container) as trial:
            trial.add_stream_from_template(stream)
            trial.start_encoding()
    except (av.error.FFmpegError, ValueError, OSError, KeyError) as error:
        return str(error)
    if (
        container == "mp4"
        and isinstance(stream, av.AudioStream)
        and stream.codec_context.name.startswith("pcm")
        and channel_layout(stream) is None
    ):
        return "mp4 needs to know what each channel is"
    return None
