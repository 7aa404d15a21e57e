"""Describe the films that are drawn."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property

from av.video.format import VideoFormat


@dataclass(frozen=True)
class AudioTrack:
    """An audio track: a tone, or a click every half second. All times are in seconds."""

    codec: str | None = None  # None: the default of the container
    rate: int = 48000
    channels: int = 2
    kind: str = "sine"  # or "clicks"
    start: Fraction = Fraction(0)  # relative to the start of the film; negative: an edit list in mp4
    duration: Fraction | None = None  # None: that of the film
    language: str | None = None
    title: str | None = None
    disposition: int | None = None  # bits of av.stream.Disposition; None: the default of the container
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class SubtitleTrack:
    """A subtitle track. lines: start, end and text, with times from the start of the film in seconds."""

    lines: tuple[tuple[Fraction, Fraction, str], ...] = ((Fraction(1, 10), Fraction(1, 2), "Grüße aus der Mitte"),)
    codec: str | None = None  # None: mov_text, subrip or webvtt by container; "ass" also works in Matroska
    language: str | None = None
    title: str | None = None
    disposition: int | None = None


@dataclass(frozen=True)
class Chapter:
    """A chapter, with times in seconds."""

    start: Fraction
    end: Fraction
    title: str


@dataclass(frozen=True)
class Hdr:
    """Static HDR10 metadata: chromaticities (x, y), luminances and light levels in cd/m²."""

    red: tuple[float, float] = (0.68, 0.32)
    green: tuple[float, float] = (0.265, 0.69)
    blue: tuple[float, float] = (0.15, 0.06)
    white: tuple[float, float] = (0.3127, 0.329)
    brightest: float = 1000.0
    darkest: float = 0.005
    max_content: int = 1000
    max_average: int = 400


@dataclass(frozen=True)
class Film:
    """The description of a film; by default one second of moving shapes, 160×96, 24 frames a second.

    Times: frame k is shown at `start + k / rate`, or at `times[k]`; then `frames` and `start` are ignored. The picture
    is a function of time: `speed` is the motion in pixels during 1/rate seconds, whatever the times of the frames.
    `last_duration` is the duration of the last frame; in mp4 and mov it needs a film without B-frames, which are then
    left out. A negative `start` makes, in mp4 and mov, an edit list that hides the frames before 0.

    Scenes: "shapes" (shapes before a moving background, with occlusion), "texture" (a smooth texture, translated by
    `speed`), "static" (the same texture without motion), "half" (left half static, right half moving), "bars" (75 %
    colour bars, static), "edge" (a hard vertical edge between saturated red and blue, moving by speed[0]), "noise"
    (new smooth noise in each frame).
    """

    width: int = 160
    height: int = 96
    frames: int = 24
    rate: Fraction = Fraction(24)
    times: tuple[Fraction, ...] | None = None
    last_duration: Fraction | None = None
    start: Fraction = Fraction(0)

    scene: str = "shapes"
    speed: tuple[float, float] = (3.0, 1.0)
    cuts: tuple[int, ...] = ()  # frames at which a new shot begins
    caption: bool = False
    interlaced: bool = False  # top field first, the bottom field half a frame later

    pixel_format: str = "yuv420p"
    matrix: str | None = None  # "bt601" | "bt709" | "bt2020"; None: untagged, BT.709 from 720 lines up, else BT.601
    full_range: bool = False
    primaries: int | None = None  # code points of ITU-T H.273; None: those of the matrix
    transfer: int | str | None = None  # also "pq", "hlg"
    siting: str | None = None  # "left" | "topleft" | "centre"; None: top-left for BT.2020 PQ and HLG, else left

    codec: str | None = None  # None: the default of the container
    options: Mapping[str, str] = field(default_factory=dict)
    gop: int = 12
    b_frames: int = 2
    container_options: Mapping[str, str] = field(default_factory=dict)

    audio: tuple[AudioTrack, ...] = ()
    subtitles: tuple[SubtitleTrack, ...] = ()
    chapters: tuple[Chapter, ...] = ()
    attachments: tuple[tuple[str, str, bytes], ...] = ()  # (name, media type, contents); Matroska only
    cover: bool = False
    second_video: bool = False  # add a shorter video stream that is not the default one
    metadata: Mapping[str, str] = field(default_factory=dict)
    video_metadata: Mapping[str, str] = field(default_factory=dict)
    timecode: str | None = None
    rotation: int = 0  # degrees counter-clockwise, a multiple of 90
    display_matrix: tuple[int, ...] | None = None
    sample_aspect_ratio: Fraction | None = None
    hdr: Hdr | None = None

    @cached_property
    def frame_times(self) -> tuple[Fraction, ...]:
        """The time of each frame in seconds."""
        if self.times is not None:
            return tuple(Fraction(time) for time in self.times)
        return tuple(Fraction(self.start) + k / Fraction(self.rate) for k in range(self.frames))

    @cached_property
    def durations(self) -> tuple[Fraction, ...]:
        """The duration of each frame in seconds."""
        times = self.frame_times
        gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
        return (*gaps, self.last_duration or (gaps[-1] if gaps and self.times else 1 / Fraction(self.rate)))

    @property
    def duration(self) -> Fraction:
        """Seconds from the first frame to the end of the last one."""
        return self.frame_times[-1] + self.durations[-1] - self.frame_times[0]

    @cached_property
    def time_base(self) -> Fraction:
        """The coarsest time base that holds every time and duration exactly, but 1/1000 s or finer."""
        ticks = math.lcm(*(time.denominator for time in (*self.frame_times, *self.durations)))
        if ticks >= 2**31:
            raise ValueError(f"the times of the film need a time base of 1/{ticks}, which no container holds")
        return Fraction(1, ticks * -(-1000 // ticks))

    @cached_property
    def format(self) -> VideoFormat:
        return VideoFormat(self.pixel_format, self.width, self.height)

    @property
    def is_full_range(self) -> bool:
        return self.full_range or self.pixel_format.startswith("yuvj")

    @property
    def matrix_used(self) -> str:
        return self.matrix or ("bt709" if self.height >= 720 else "bt601")

    @property
    def transfer_code(self) -> int | None:
        codes = {"pq": 16, "hlg": 18, "bt601": 6, "bt709": 1, "bt2020": 14}
        transfer = self.matrix if self.transfer is None else self.transfer
        return transfer if isinstance(transfer, int) else codes[transfer] if transfer else None

    @property
    def siting_used(self) -> str:
        if self.siting:
            return self.siting
        return "topleft" if self.matrix == "bt2020" and self.transfer_code in (16, 18) else "left"
