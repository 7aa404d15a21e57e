"""Describe every container that Midframe writes (`CONTAINERS`) or reads (`DEMUXERS`), each in one row of a table.

To support one more container as an output, add a row to `CONTAINERS`: FFmpeg's name of the muxer, the file name
suffixes, and the properties that differ from the defaults of `Container`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from midframe.errors import SettingError
from midframe.video.image_names import is_image_sequence

Writer = Literal["ffmpeg", "gif", "webp", "y4m", "images"]
"""The writers of outputs: `ffmpeg` is `video.writer`, with any encoder of FFmpeg; the others are in `video.images`."""


@dataclass(frozen=True)
class Clock:
    """The clock of a container that rounds times to ticks coarser than 1/10000 s."""

    ticks_per_second: int

    least_ticks_per_frame: int = 1
    """The shortest duration of a frame, in ticks."""


@dataclass(frozen=True)
class Container:
    """A container that Midframe writes, with everything that depends on the choice of container."""

    name: str
    """FFmpeg's name of the muxer; `images` for an image sequence."""

    suffixes: tuple[str, ...]
    """File name suffixes, in lower case; empty if the container is not recognised by a suffix."""

    spoken_name: str
    """The name used in messages to the user."""

    writer: Writer = "ffmpeg"
    """The writer of outputs in this container."""

    default_encoders: tuple[str, ...] = ("libx264", "libx264rgb", "libx265", "ffv1")
    """Encoders for pictures of 8 bits; the first that takes the film's pixel format is used."""

    default_encoders_deep: tuple[str, ...] = ("libx265", "libx264", "ffv1")
    """Encoders for pictures of more than 8 bits; the first that takes the film's pixel format is used."""

    encoders: frozenset[str] | None = None
    """The encoders that messages may recommend; None: all that Midframe knows."""

    codec_tags: Mapping[str, str] = field(default_factory=dict)
    """Codec tags (FourCC) to use instead of FFmpeg's defaults, by encoder, because players expect them."""

    muxer_options: Mapping[str, str] = field(default_factory=dict)
    """Options that the muxer is always opened with."""

    clock: Clock | None = None
    """The clock of the container; None if times are exact or nearly so."""

    constant_rate: bool = False
    """Whether the container has one frame rate and no time for each frame."""

    negative_times: bool = True
    """Whether packets may start before 0. If not, Midframe shifts all times, as muxers would not shift the chapters."""

    exact_duration: bool = True
    """Whether the duration that the demuxer reports covers the last frame. For mp4 with B-frames it does not."""

    movie_timescale: bool = False
    """Whether the start times of all streams are stored in one common clock (muxer option `movie_timescale`)."""

    empty_streams: bool = True
    """Whether the file has an entry for a stream without packets."""

    pixel_aspect: Literal["container", "codec", "none"] = "none"
    """Where the pixel aspect ratio is stored.

    `container`: in the container. `codec`: only in the bitstream, which H.264 and H.265 allow. `none`: nowhere.
    """

    rotation: bool = False
    """Whether the display matrix is stored."""

    dispositions: bool = True
    """Whether copied streams keep dispositions other than `default`, such as `comment` or `forced`."""

    cover_art: Literal["stream", "attachment", "none"] = "stream"
    """How cover art is stored: as a video stream (MJPEG, PNG or BMP), as an attachment, or not at all."""

    attachments: bool = False
    """Whether attachments (fonts, for example) are stored."""

    text_subtitles: str | None = None
    """The codec to which SubRip and mov_text subtitles are converted losslessly; None: they are not converted."""

    audio_encoder: str = "aac"
    """The encoder for audio that cannot be copied."""

    lossless_audio_encoder: str | None = None
    """The encoder for lossless audio that cannot be copied; None: `audio_encoder` is used."""

    pcm_needs_layout: bool = False
    """Whether PCM audio is refused unless the position of each channel is known."""

    metadata_keys: frozenset[str] | None = None
    """The metadata keys, in lower case, with a fixed place in the file; None: any key can be written.

    With other keys the muxer option `use_metadata_tags` is needed, and then the file cannot hold cover art.
    """

    timecode_stream: bool = False
    """Whether a time code becomes a stream of its own, made by the muxer from the metadata of the film's stream."""

    handler_names: bool = True
    """Whether the stream metadata key `handler_name`, which describes QuickTime tracks, is written."""

    language_codes: Mapping[str, str] = field(default_factory=dict)
    """Replacements for ISO 639-2 language codes that the container does not know."""

    @property
    def video_only(self) -> bool:
        """Whether the container holds nothing but pictures: no other streams, no chapters, times from 0."""
        return self.writer != "ffmpeg"

    @property
    def needs_encoder(self) -> bool:
        """Whether one of FFmpeg's encoders must be chosen; the writers in `video.images` each have a fixed one."""
        return self.writer == "ffmpeg"


_ITUNES_KEYS = frozenset(
    (
        *("title", "artist", "album_artist", "composer", "album", "date", "encoding_tool", "comment", "genre"),
        *("copyright", "grouping", "lyrics", "description", "synopsis", "show", "episode_id", "network", "keywords"),
        *("track", "disc", "compilation", "gapless_playback", "hd_video", "media_type", "sort_name", "sort_artist"),
        *("sort_album", "creation_time", "timecode", "episode_sort", "season_number"),
    )
)
"""The metadata keys for which mp4 and mov have an iTunes atom."""

_QUICKTIME_LANGUAGES = {
    **{"deu": "ger", "nld": "dut", "swe": "sve", "ell": "gre", "isl": "ice", "zho": "chi", "fre": "fra"},
    **{"sqi": "alb", "cze": "ces", "slo": "slk", "mkd": "mac", "rum": "ron"},
}
"""The language codes that FFmpeg's mov muxer knows, by the ISO 639-2 codes of these languages that it does not know."""

CONTAINERS = (
    Container(
        name="mp4",
        suffixes=(".mp4", ".m4v"),
        spoken_name="mp4",
        encoders=frozenset(("libx264", "libx264rgb", "libx265", "libsvtav1", "libvpx-vp9")),
        codec_tags={"libx265": "hvc1"},
        exact_duration=False,
        movie_timescale=True,
        empty_streams=False,
        pixel_aspect="container",
        rotation=True,
        text_subtitles="mov_text",
        pcm_needs_layout=True,
        metadata_keys=_ITUNES_KEYS,
        timecode_stream=True,
    ),
    Container(
        name="mov",
        suffixes=(".mov",),
        spoken_name="mov",
        encoders=frozenset(("libx264", "libx264rgb", "libx265", "prores_ks")),
        codec_tags={"libx265": "hvc1"},
        exact_duration=False,
        movie_timescale=True,
        empty_streams=False,
        pixel_aspect="container",
        rotation=True,
        dispositions=False,
        cover_art="none",
        text_subtitles="mov_text",
        metadata_keys=_ITUNES_KEYS,
        timecode_stream=True,
        language_codes=_QUICKTIME_LANGUAGES,
    ),
    Container(
        name="matroska",
        suffixes=(".mkv",),
        spoken_name="mkv",
        muxer_options={"avoid_negative_ts": "disabled"},
        clock=Clock(1000),
        negative_times=False,
        pixel_aspect="codec",
        rotation=True,
        cover_art="attachment",
        attachments=True,
        text_subtitles="subrip",
        lossless_audio_encoder="flac",
        handler_names=False,
    ),
    Container(
        name="webm",
        suffixes=(".webm",),
        spoken_name="webm",
        default_encoders=("libvpx-vp9", "libsvtav1"),
        default_encoders_deep=("libsvtav1", "libvpx-vp9"),
        encoders=frozenset(("libsvtav1", "libvpx-vp9")),
        clock=Clock(1000),
        negative_times=False,
        pixel_aspect="codec",
        rotation=True,
        cover_art="none",
        audio_encoder="libopus",
        handler_names=False,
    ),
    # Players show a GIF frame of less than 2/100 s for 10/100 s.
    Container(name="gif", suffixes=(".gif",), spoken_name="gif", writer="gif", clock=Clock(100, 2)),
    Container(name="webp", suffixes=(".webp",), spoken_name="webp", writer="webp", clock=Clock(1000)),
    Container(
        name="yuv4mpegpipe",
        suffixes=(".y4m",),
        spoken_name="y4m",
        writer="y4m",
        constant_rate=True,
        pixel_aspect="container",
    ),
    Container(name="images", suffixes=(), spoken_name="pictures", writer="images", constant_rate=True),
)
"""The containers that Midframe writes."""


@dataclass(frozen=True)
class Demuxer:
    """A container that Midframe reads. The defaults hold for every demuxer without a row in `DEMUXERS`."""

    name: str
    """FFmpeg's name of the demuxer."""

    text: bool = False
    """Whether the demuxer opens plain text files, some of which FFmpeg renders as video."""

    free_running_clock: bool = False
    """Whether times count from an arbitrary moment, as in broadcasts, so that a film may start at any time."""

    frames_indexed: bool = True
    """Whether a lost frame still has an index entry or a chunk. If not, its only trace is a gap in the times."""

    stores_codec_delay: bool = False
    """Whether audio before time 0 is priming samples that players skip, as the file states them as codec delay."""

    packets_rewritten: bool = False
    """Whether packets may change when they are copied, because other containers omit the headers that they repeat."""


DEMUXERS = (
    Demuxer("matroska,webm", frames_indexed=False, stores_codec_delay=True),
    Demuxer("mpegts", free_running_clock=True, frames_indexed=False, packets_rewritten=True),
    Demuxer("mpeg", free_running_clock=True, frames_indexed=False, packets_rewritten=True),
    Demuxer("avi", packets_rewritten=True),
    *(Demuxer(name, text=True) for name in ("tty", "txt", "srt", "ass", "webvtt")),
)
"""The demuxers whose containers differ from the defaults of `Demuxer`."""


def container_for(path: str) -> Container:
    """Return the container that an output name asks for; `-` is y4m.

    Raises `SettingError` if Midframe does not write such files.
    """
    if path == "-":
        return container_named("yuv4mpegpipe")
    if is_image_sequence(path):
        return container_named("images")
    suffix = Path(path).suffix.lower()
    for container in CONTAINERS:
        if suffix in container.suffixes:
            return container
    known = " ".join(suffix for container in CONTAINERS for suffix in container.suffixes)
    raise SettingError(f"cannot tell from '{Path(path).name}' what to write; name it with one of {known}")


def container_named(name: str) -> Container:
    """Return the container with FFmpeg's muxer name `name`; raises `KeyError` if Midframe does not write it."""
    for container in CONTAINERS:
        if container.name == name:
            return container
    raise KeyError(name)


def demuxer_named(name: str) -> Demuxer:
    """Return the row of FFmpeg's demuxer `name`, or the defaults if it has none."""
    return next((demuxer for demuxer in DEMUXERS if demuxer.name == name), Demuxer(name))
