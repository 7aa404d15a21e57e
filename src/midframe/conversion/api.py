"""The public function `midframe.convert`."""

from __future__ import annotations

import os
import threading
from fractions import Fraction
from pathlib import Path

from midframe.conversion.job import run_conversion
from midframe.conversion.progress import ProgressCallback
from midframe.conversion.settings import OddSizes, Settings, SlowMotionAudio
from midframe.conversion.summary import Summary
from midframe.video.deinterlace import Deinterlace


def convert(  # the keywords are the settings, each with its type, for editors to show
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    factor: int | None = None,
    fps: Fraction | None = None,
    slow_motion: bool = False,
    audio: SlowMotionAudio | None = None,
    start: Fraction | None = None,
    duration: Fraction | None = None,
    network: str = "default",
    shader: str = "default",
    shader_maps: Path | None = None,
    device: str = "auto",
    codec: str | None = None,
    encoder: str | None = None,
    crf: float | None = None,
    preset: str | None = None,
    pixel_format: str | None = None,
    odd: OddSizes = "pad",
    deinterlace: Deinterlace = "off",
    drop_alpha: bool = False,
    cuts: bool = True,
    keep_going: bool = False,
    overwrite: bool = False,
    input_rate: Fraction = Fraction(25),
    progress: ProgressCallback | None = None,
    cancel: threading.Event | None = None,
    dry_run: bool = False,
) -> Summary:
    """Convert a film into a smoother one, and keep everything else in it.

        summary = convert("in.mp4", "out.mkv", fps=Fraction(60), progress=print)

    Several conversions may run in one process at the same time.

    Args:
        source: A film, a folder or pattern of pictures, a .y4m file, or "-" for y4m on standard input.
        target: The output; its suffix names the container. A folder or pattern of pictures, or "-" for y4m.
        factor: Output frames for each source frame, 2 to 64; 2 if `fps` is not given either.
        fps: Output frame rate, instead of `factor`.
        slow_motion: Make the film `factor` times longer instead of smoother.
        audio: In slow motion, "drop" the sound (the default) or "stretch" it at its own pitch.
        start: Begin at this time of the film, in seconds.
        duration: Convert this many seconds.
        network: A name of `midframe models`, or a weights file (.safetensors).
        shader: Preset of the pixel shader: "default", "paper", "amplified" or "off".
        shader_maps: Write the shader's maps of each pair of frames to this folder.
        device: The PyTorch device; "auto" takes a GPU if there is one.
        codec: "h264", "h265", "av1", "vp9", "ffv1" or "prores"; by default chosen by container and bit depth.
        encoder: FFmpeg's name of an encoder, instead of `codec`.
        crf: Constant rate factor of the encoder; lower is better.
        preset: Speed preset of the encoder.
        pixel_format: Convert all frames to this pixel format, such as "yuv420p".
        odd: "pad" an odd size that the encoder cannot hold (the default), or raise an "error".
        deinterlace: "off", or one picture for each "frame" or for each "field".
        drop_alpha: Leave out transparency; otherwise a transparent film is refused.
        cuts: Detect cuts, and duplicate frames there instead of interpolating.
        keep_going: Duplicate a frame for each one that cannot be decoded, instead of raising an error.
        overwrite: Replace `target` if it exists.
        input_rate: Frame rate of a folder or pattern of pictures.
        progress: Called about ten times a second, from the calling thread.
        cancel: Set this event to stop the conversion.
        dry_run: Only plan the conversion; nothing is written.

    Returns:
        What was planned and done: counts of frames, warnings, streams and times.

    Raises:
        MidframeError: `InputError`, `OutputError`, `SettingError`, `DeviceError` or `Cancelled`. Nothing is left
            behind then, and a target that existed is unchanged.
    """
    settings = Settings(
        factor=factor,
        fps=fps,
        slow_motion=slow_motion,
        audio=audio,
        start=start,
        duration=duration,
        network=network,
        shader=shader,
        shader_maps=shader_maps,
        device=device,
        codec=codec,
        encoder=encoder,
        crf=crf,
        preset=preset,
        pixel_format=pixel_format,
        odd=odd,
        deinterlace=deinterlace,
        drop_alpha=drop_alpha,
        cuts=cuts,
        keep_going=keep_going,
        overwrite=overwrite,
        input_rate=input_rate,
    )
    return run_conversion(source, target, settings, progress=progress, cancel=cancel, dry_run=dry_run)
