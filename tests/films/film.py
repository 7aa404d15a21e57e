"""What is to be drawn: plain descriptions, no drawing."""

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
    """A tone (or a click every half second), as long as the film unless `duration` says otherwise."""

    codec: str | None = None  # None: the usual one of the container
    rate: int = 48000
    channels: int = 2
    kind: str = "sine"  # or "clicks"
    start: Fraction = Fraction(0)  # after the start of the film; negative: an edit list in mp4
    duration: Fraction | None = None
    language: str | None = None
    title: str | None = None
    disposition: int | None = None  # av.stream.Disposition bits; None: what the container does
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class SubtitleTrack:
    """Lines of text: (start, end, text), times from the start of the film."""

    lines: tuple[tuple[Fraction, Fraction, str], ...] = ((Fraction(1, 10), Fraction(1, 2), "Grüße aus der Mitte"),)
    codec: str | None = None  # None: mov_text, subrip or webvtt by container; "ass" also works in Matroska
    language: str | None = None
    title: str | None = None
    disposition: int | None = None


@dataclass(frozen=True)
class Chapter:
    start: Fraction
    end: Fraction
    title: str


@dataclass(frozen=True)
class Hdr:
    """Static HDR10 metadata: chromaticities, luminances in cd/m², content light levels."""

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
    """How a film is drawn. By default one second of moving shapes, 160×96, 24 frames a second.

    Times: frame k is shown at `start + k / rate`, or at `times[k]` (then `frames` is ignored, and `start` too). The
    picture is a function of time: `speed` is the motion in pixels during 1/rate seconds, whatever the frames' times
    are. `last_duration` is how long the last frame stands (in mp4 and mov this needs a film without B frames, so they
    are left out then). A negative `start` makes, in mp4 and mov, an edit list that hides the frames before zero.

    Scenes: "shapes" (shapes before a moving background: occlusion), "texture" (one smooth texture, pure translation
    by `speed`), "still" (the texture, not moving), "half" (left half still, right half moving), "bars" (75 % colour
    bars, still), "edge" (a hard vertical edge between saturated red and blue, moving by speed[0]), "noise" (each
    frame new smooth noise).
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
    matrix: str | None = None  # "bt601" | "bt709" | "bt2020"; None: untagged, drawn by the rule for untagged films
    full_range: bool = False
    primaries: int | None = None  # code points of ITU-T H.273; None: those that go with the matrix
    transfer: int | str | None = None  # also "pq", "hlg"
    siting: str | None = None  # "left" | "topleft" | "centre"; None: top-left for BT.2020 PQ and HLG, else left

    codec: str | None = None  # None: the usual one of the container
    options: Mapping[str, str] = field(default_factory=dict)
    gop: int = 12
    b_frames: int = 2
    container_options: Mapping[str, str] = field(default_factory=dict)

    audio: tuple[AudioTrack, ...] = ()
    subtitles: tuple[SubtitleTrack, ...] = ()
    chapters: tuple[Chapter, ...] = ()
    attachments: tuple[tuple[str, str, bytes], ...] = ()  # (name, media type, contents); Matroska only
    cover: bool = False
    second_video: bool = False  # another, shorter video stream that is not the default one
    metadata: Mapping[str, str] = field(default_factory=dict)
    video_metadata: Mapping[str, str] = field(default_factory=dict)
    timecode: str | None = None
    rotation: int = 0  # degrees counter-clockwise, a multiple of 90
    display_matrix: tuple[int, ...] | None = None
    sample_aspect_ratio: Fraction | None = None
    hdr: Hdr | None = None

    @cached_property
    def frame_times(self) -> tuple[Fraction, ...]:
        if self.times is not None:
            return tuple(Fraction(time) for time in self.times)
        return tuple(Fraction(self.start) + k / Fraction(self.rate) for k in range(self.frames))

    @cached_property
    def durations(self) -> tuple[Fraction, ...]:
        times = self.frame_times
        gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
        return (*gaps, self.last_duration or (gaps[-1] if gaps and self.times else 1 / Fraction(self.rate)))

    @property
    def duration(self) -> Fraction:
        """From the first frame's time to the end of the last."""
        return self.frame_times[-1] + self.durations[-1] - self.frame_times[0]

    @cached_property
    def time_base(self) -> Fraction:
        """The coarsest time base that holds every time and duration exactly (at least 1/1000 fine)."""
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
