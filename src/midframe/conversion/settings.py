"""What a conversion is asked to do."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Literal

from midframe.errors import SettingError
from midframe.video.deinterlace import Deinterlace
from midframe.video.streams import AudioMode


@dataclass(frozen=True)
class Settings:
    """The settings of one conversion, each with the default a person would want.

    factor: frames for one (2 where neither it nor `fps` is given); fps: the target rate instead; slow_motion: the film
    becomes `factor` times longer; audio: for slow motion, "drop" or "stretch"; start, duration: the part to convert, in
    seconds; codec (a family) or encoder (FFmpeg's name), crf, preset, pixel_format: how it is encoded; odd: "pad" or
    "error" for sizes that the encoder cannot hold; cuts: hold frames at cuts; network, shader: what makes the frames;
    shader_maps: a folder for the shader's maps; input_rate: frames a second of a folder of pictures.
    """

    factor: int | None = None
    fps: Fraction | None = None
    slow_motion: bool = False
    audio: AudioMode | None = None
    start: Fraction | None = None
    duration: Fraction | None = None
    codec: str | None = None
    encoder: str | None = None
    crf: float | None = None
    preset: str | None = None
    pixel_format: str | None = None
    odd: Literal["pad", "error"] = "pad"
    drop_alpha: bool = False
    deinterlace: Deinterlace = "off"
    cuts: bool = True
    keep_going: bool = False
    overwrite: bool = False
    network: str = "default"
    shader: str = "default"
    shader_maps: Path | None = None
    device: str = "auto"
    input_rate: Fraction = Fraction(25)

    def __post_init__(self) -> None:
        if self.factor is not None and self.fps is not None and not self.slow_motion:
            raise SettingError("give --factor or --fps, not both (together they serve --slow-motion)")
        if self.factor is not None and not 2 <= self.factor <= 64:
            raise SettingError(f"a factor of {self.factor} is not possible; give 2 to 64")
        if self.audio is not None and not self.slow_motion:
            raise SettingError("--audio drop or stretch is for --slow-motion; else the sound is copied")
        if self.codec is not None and self.encoder is not None:
            raise SettingError("give --codec or --encoder, not both")
        if self.start is not None and self.start < 0:
            raise SettingError("--start cannot be negative")
        if self.duration is not None and self.duration <= 0:
            raise SettingError("--duration must be above 0")

    @property
    def frames_for_one(self) -> int:
        """The factor, 2 unless said otherwise."""
        return self.factor or 2

    def of_film(self, first_time: Fraction) -> Settings:
        """The same for a film that begins at that time: a duration without a start counts from there."""
        return replace(self, start=first_time) if self.start is None and self.duration is not None else self

    @property
    def end(self) -> Fraction | None:
        return None if self.duration is None else (self.start or Fraction(0)) + self.duration
