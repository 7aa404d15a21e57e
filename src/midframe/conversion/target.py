"""Check, before anything is written, that the output can be written to its target."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from midframe.conversion.settings import Settings
from midframe.errors import OutputError
from midframe.video.image_names import is_image_sequence, list_images, matching_names, output_pattern
from midframe.video.sink import check_target as check_target_file


def check_target(source: str, target: str, settings: Settings) -> None:
    """Raise `OutputError` if the target is the input, exists already, or lies in a folder that cannot be written to."""
    if target == "-":
        return
    path = Path(target)
    if source != "-" and path.exists() and Path(source).exists() and path.samefile(source):
        raise OutputError(f"the output {target} is the input itself; give another name")
    if is_image_sequence(source) and is_image_sequence(target):
        _check_images_differ(source, target)
    folder = path.absolute().parent
    if not folder.is_dir():
        raise OutputError(f"the folder {folder} does not exist, so {path.name} cannot be written there")
    if not is_image_sequence(target):
        check_target_file(target, settings.overwrite)
    if not os.access(folder, os.W_OK):
        raise OutputError(f"the folder {folder} cannot be written to: permission denied")


def check_free_space(target: str, estimated_bytes: int) -> None:
    """Raise `OutputError` if the file system of the target has less free space than the output needs."""
    if target == "-":
        return
    free_bytes = shutil.disk_usage(Path(target).absolute().parent).free
    if estimated_bytes > free_bytes:
        raise OutputError(
            f"about {estimated_bytes / 1e6:.0f} MB are needed for {target}, but only {free_bytes / 1e6:.0f} MB are free"
        )


def _check_images_differ(source: str, target: str) -> None:
    """Raise `OutputError` if the output images would replace images of the input."""
    folder, pattern = output_pattern(target)
    images = list_images(source)
    if (
        folder.exists()
        and folder.samefile(images[0].parent)
        and matching_names(pattern, [image.name for image in images])
    ):
        raise OutputError(f"the pictures {target} would replace the input's own; give another folder or pattern")
