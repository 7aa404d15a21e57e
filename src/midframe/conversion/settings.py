"""The settings of a conversion."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Literal

from midframe.errors import SettingError
from midframe.video.deinterlace import Deinterlace

OddSizes = Literal["pad", "error"]
SlowMotionAudio = Literal["drop", "stretch"]

MAX_FACTOR = 64
"""The largest `Settings.factor`."""


@dataclass(frozen=True)
class Settings:
    """The settings of one conversion. The options of `midframe convert` have the same names.

    Raises `SettingError` if a value is out of range or two settings contradict each other.
    """

    factor: int | None = None
    """Output frames for each source frame, 2 to 64. None: 2, or whatever `fps` requires."""
    fps: Fraction | None = None
    """Output frame rate in frames a second, instead of `factor`. With `slow_motion` both may be given."""
    slow_motion: bool = False
    """Make the film `factor` times longer, at its own frame rate or at `fps`."""
    audio: SlowMotionAudio | None = None
    """What slow motion does with the sound: leave it out ("drop", the default) or stretch it at its own pitch."""
    start: Fraction | None = None
    """Convert frames from this time of the film on, in seconds. None: from the first frame."""
    duration: Fraction | None = None
    """Convert this many seconds, counted from `start` or from the first frame. None: to the end."""
    codec: str | None = None
    """Codec of the picture: a key of `midframe.video.encoders.CODECS`, such as "h264". None: chosen by container."""
    encoder: str | None = None
    """FFmpeg's name of the encoder, instead of `codec`, such as "libx264"."""
    crf: float | None = None
    """Constant rate factor of the encoder; lower is better. None: Midframe's default for the encoder."""
    preset: str | None = None
    """Speed preset of the encoder. None: Midframe's default for the encoder."""
    pixel_format: str | None = None
    """Pixel format, by FFmpeg's name, to which all frames are converted. None: the film's own."""
    odd: OddSizes = "pad"
    """What to do if the encoder cannot hold an odd size: repeat the last column or row ("pad"), or refuse ("error")."""
    drop_alpha: bool = False
    """Leave out transparency; otherwise a transparent film is refused."""
    deinterlace: Deinterlace = "off"
    """Deinterlace the film into one progressive picture for each frame ("frame") or for each field ("field")."""
    cuts: bool = True
    """Detect cuts between shots; at a cut, frames are duplicated instead of interpolated."""
    keep_going: bool = False
    """Duplicate the frame before one that cannot be decoded; otherwise the conversion ends with an `InputError`."""
    overwrite: bool = False
    """Replace the output if it exists."""
    network: str = "default"
    """The network that interpolates: a name of `midframe models`, or a weights file (.safetensors)."""
    shader: str = "default"
    """Preset of the pixel shader: "default", "paper", "amplified" or "off"."""
    shader_maps: Path | None = None
    """A folder to which the maps of the pixel shader are written as pictures, four for each pair of frames."""
    device: str = "auto"
    """The PyTorch device, such as "cpu" or "cuda:1". "auto" takes a GPU if there is one."""
    input_rate: Fraction = Fraction(25)
    """Frame rate of an input that is a folder or pattern of pictures, in frames a second."""

    def __post_init__(self) -> None:
        if self.factor is not None and self.fps is not None and not self.slow_motion:
            raise SettingError("give --factor or --fps, not both (together they serve --slow-motion)")
        if self.factor is not None and not 2 <= self.factor <= MAX_FACTOR:
            raise SettingError(f"a factor of {self.factor} is not possible; give 2 to {MAX_FACTOR}")
        if self.audio is not None and not self.slow_motion:
            raise SettingError("--audio drop or stretch is for --slow-motion; else the sound is copied")
        if self.codec is not None and self.encoder is not None:
            raise SettingError("give --codec or --encoder, not both")
        if self.start is not None and self.start < 0:
            raise SettingError("--start cannot be negative")
        if self.duration is not None and self.duration <= 0:
            raise SettingError("--duration must be above 0")

    @property
    def effective_factor(self) -> int:
        """`factor`, or its default of 2."""
        return self.factor or 2

    @property
    def end(self) -> Fraction | None:
        """The time of the film, in seconds, before which the last frame lies; None for the end of the film."""
        return None if self.duration is None else (self.start or Fraction(0)) + self.duration

    def with_start(self, first_time: Fraction) -> Settings:
        """Return these settings with `start` set if only `duration` was given.

        first_time: the time of the film's first frame, from which such a duration counts.
        """
        return replace(self, start=first_time) if self.start is None and self.duration is not None else self
