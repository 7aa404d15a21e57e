"""The errors of Midframe: one hierarchy, each class with its exit code.

Every message is one line that says what was found, what was expected and what to do.
"""

from __future__ import annotations

from typing import ClassVar


class MidframeError(Exception):
    """The root of the hierarchy. `code` names the kind in JSON, `exit_code` is what the command returns."""

    code: ClassVar[str] = "fault"
    exit_code: ClassVar[int] = 1


class SettingError(MidframeError, ValueError):
    """An option or argument that cannot be meant: exit code 2."""

    code = "setting"
    exit_code = 2


class InputError(MidframeError):
    """A film, picture or file that cannot be read, or is damaged: exit code 3."""

    code = "input"
    exit_code = 3


class WeightsError(InputError):
    """A weights file that is not what it should be."""

    code = "weights"


class OutputError(MidframeError):
    """A target that cannot be written, or that did not come out as planned: exit code 4."""

    code = "output"
    exit_code = 4


class DeviceError(MidframeError):
    """A device, backend or optional package that is missing: exit code 5."""

    code = "device"
    exit_code = 5


class TrainingError(MidframeError):
    """A training run that cannot go on, such as at a loss that is not finite: exit code 3."""

    code = "training"
    exit_code = 3


class Cancelled(MidframeError):  # noqa: N818 - it is an answer to a request, not a fault
    """The work was stopped by its cancel token or by a signal: exit code 130."""

    code = "cancelled"
    exit_code = 130
