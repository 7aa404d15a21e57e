"""Plan which streams, chapters and metadata of a film are written into an output, apart from the picture itself."""

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

from midframe.video.audio import stretched_audio_encoder
from midframe.video.containers import Container
from midframe.video.ffmpeg import open_container
from midframe.video.probe import Film, StreamInfo
from midframe.video.timeline import Timeline

Action = Literal["encode", "copy", "convert", "attach", "stretch", "drop"]
"""What is done with a stream.

`encode`: it is the picture that is interpolated. `copy`: its packets are copied. `convert`: text subtitles are
rewritten for another codec. `attach`: it becomes an attachment. `stretch`: audio is slowed down at constant pitch and
encoded again. `drop`: it is left out.
"""

AudioMode = Literal["keep", "drop", "stretch"]
"""What is done with all audio streams."""


@dataclass(frozen=True)
class StreamPlan:
    """The planned treatment of one stream of the source film."""

    info: StreamInfo
    action: Action

    codec: str
    """The codec in the output; for audio that is encoded again, the name of the encoder."""

    reason: str = ""
    """Why the stream is dropped, converted, or copied with a loss; empty if it is copied as it is."""

    @property
    def included(self) -> bool:
        """Whether the output contains the stream."""
        return self.action != "drop"


def plan_streams(film: Film, container: Container, audio: AudioMode = "keep") -> tuple[StreamPlan, ...]:
    """Plan each stream of a film for an output in a container."""
    if not film.streams:
        return ()
    with open_container(film.path) as source:
        return tuple(_plan_stream(film, info, source.streams[info.index], container, audio) for info in film.streams)


def chapters_for(film: Film, container: Container, timeline: Timeline) -> list[dict[str, Any]]:
    """Return the film's chapters at their output times, clipped to the converted part, as PyAV takes them."""
    if container.video_only:
        return []
    chapters = []
    for chapter in film.chapters:
        base = Fraction(chapter["time_base"])
        clipped = timeline.clip(chapter["start"] * base, chapter["end"] * base)
        if clipped is not None:
            start, end = (round(timeline.output_time(time) / base) for time in clipped)
            chapters.append({**chapter, "start": start, "end": end, "time_base": base})
    return chapters


def container_metadata(film: Film, container: Container) -> dict[str, str]:
    """Return the film's global metadata without the keys that describe the source file."""
    left_out = {"major_brand", "minor_version", "compatible_brands", "encoder"}
    if container.timecode_stream:
        left_out.add("timecode")  # `film_stream_metadata` has it
    return {key: value for key, value in film.metadata.items() if key.lower() not in left_out}


def film_stream_metadata(film: Film, container: Container) -> dict[str, str]:
    """Return the metadata of the film's own video stream, with the time code from its stream or the global metadata."""
    metadata = stream_metadata(film.stream_metadata, container)
    for key, value in (*film.stream_metadata.items(), *film.metadata.items()):
        if key.lower() == "timecode":
            return {**metadata, "timecode": value}
    return metadata


def stream_metadata(metadata: Mapping[str, str], container: Container) -> dict[str, str]:
    """Return a stream's metadata in the terms of a container, without the keys that describe the source's packets."""
    written: dict[str, str] = {}
    for key, value in metadata.items():
        upper = key.upper()
        if upper == "TIMECODE" and container.timecode_stream:
            continue
        if upper.startswith(("BPS", "NUMBER_OF_", "_STATISTICS", "DURATION")) or upper in ("ENCODER", "VENDOR_ID"):
            continue
        if upper == "HANDLER_NAME" and not container.handler_names:
            continue
        translated = container.language_codes.get(value, value) if upper == "LANGUAGE" else value
        written["title" if key == "name" else key] = translated
    return written


def lost_metadata(film: Film, plans: Sequence[StreamPlan], container: Container) -> list[str]:
    """Return the keys of the film's global metadata that a container cannot hold beside the planned streams."""
    if container.metadata_keys is None or not includes_cover_art(plans):
        return []
    return sorted(key for key in container_metadata(film, container) if key.lower() not in container.metadata_keys)


def has_custom_keys(metadata: Mapping[str, str], container: Container) -> bool:
    """Return whether metadata has keys for which a container has no fixed place."""
    return container.metadata_keys is not None and any(key.lower() not in container.metadata_keys for key in metadata)


def includes_cover_art(plans: Sequence[StreamPlan]) -> bool:
    """Return whether the output contains cover art."""
    return any(plan.included and plan.info.is_cover_art for plan in plans)


def channel_layout(stream: av.AudioStream) -> str | None:
    """Return FFmpeg's name of a stream's channel layout.

    If only the number of channels is known, it is the usual layout of so many, or None if there is no usual one.
    """
    layout = stream.codec_context.layout
    if layout.name.endswith("channels"):
        return {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}.get(layout.nb_channels)
    return layout.name


_COVER_CODECS = ("mjpeg", "png", "bmp")
"""The codecs of cover art that is stored as a video stream."""

_TEXT_SUBTITLES = ("subrip", "mov_text")
"""The subtitle codecs that can be converted into each other without loss."""


def _plan_stream(
    film: Film, info: StreamInfo, stream: av.stream.Stream, container: Container, audio: AudioMode
) -> StreamPlan:
    if info.index == film.stream_index:
        return StreamPlan(info, "encode", info.codec)
    if container.video_only:
        return StreamPlan(info, "drop", info.codec, "the target holds pictures only")
    if info.kind in ("data", "unknown"):
        return StreamPlan(info, "drop", info.codec, _why_data_is_dropped(film, stream, container))
    if info.kind == "attachment" or info.is_cover_art:
        plan = _plan_attached(info, container)
        if plan is not None:
            return plan
    if info.kind == "audio" and audio != "keep":
        if audio == "drop":
            return StreamPlan(info, "drop", info.codec, "sound is left out of slow motion (--audio stretch keeps it)")
        encoder = stretched_audio_encoder(info.codec, container)
        return StreamPlan(info, "stretch", encoder, "played slower at its own pitch")
    if info.packets == 0:
        return StreamPlan(info, "drop", info.codec, "it is empty")
    return _plan_copied(info, stream, container)


def _plan_copied(info: StreamInfo, stream: av.stream.Stream, container: Container) -> StreamPlan:
    """Plan a stream that is copied if the container takes it, converted if it is a text subtitle, or else dropped."""
    name = container.spoken_name
    if _can_hold(container, stream):
        marks = stream.disposition & ~av.stream.Disposition.default
        lost = marks.name if not container.dispositions and marks and not info.is_cover_art else None
        return StreamPlan(info, "copy", info.codec, f"{name} cannot mark it as {lost}" if lost else "")
    converted = container.text_subtitles
    if converted is not None and info.codec in _TEXT_SUBTITLES and info.codec != converted:
        return StreamPlan(info, "convert", converted, f"{name} holds subtitles as {converted}")
    return StreamPlan(info, "drop", info.codec, f"{name} cannot hold {info.codec}")


def _plan_attached(info: StreamInfo, container: Container) -> StreamPlan | None:
    """Plan an attachment or cover art; return None for cover art that is copied as a video stream."""
    name = container.spoken_name
    if info.kind == "attachment":
        if container.attachments:
            return StreamPlan(info, "attach", info.codec)
        return StreamPlan(info, "drop", info.codec, f"{name} has no attachments")
    if container.cover_art == "attachment":
        return StreamPlan(info, "attach", info.codec)
    if container.cover_art == "none":
        return StreamPlan(info, "drop", info.codec, f"{name} has no cover art")
    if info.codec not in _COVER_CODECS:
        return StreamPlan(info, "drop", info.codec, f"{name} has no cover art of this kind")
    return None


def _why_data_is_dropped(film: Film, stream: av.stream.Stream, container: Container) -> str:
    if stream.metadata.get("timecode"):
        written = "written anew" if container.timecode_stream else "kept as metadata"
        return f"the time code ({stream.metadata['timecode']}) is {written}"
    if film.chapters and stream.name == "bin_data":
        return "the chapters are written anew"
    return "data streams are not carried"


def _can_hold(container: Container, stream: av.stream.Stream) -> bool:
    """Return whether a container takes a stream, by writing the header of a file in memory."""
    try:
        with av.open(io.BytesIO(), "w", format=container.name) as trial:
            trial.add_stream_from_template(stream)
            trial.start_encoding()
    except (av.error.FFmpegError, ValueError, OSError, KeyError):
        return False
    return not (
        container.pcm_needs_layout
        and isinstance(stream, av.AudioStream)
        and stream.codec_context.name.startswith("pcm")
        and channel_layout(stream) is None
    )
