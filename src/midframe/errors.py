"""The exceptions that Midframe raises on purpose, each with its exit code.

Every message is one line that says what was found, what was expected and what to do.
"""

from __future__ import annotations

from typing import ClassVar


class MidframeError(Exception):
    """Base class of all errors below.

    `code` names the kind of error in JSON output. `exit_code` is the exit status of the `midframe` command.
    """

    code: ClassVar[str] = "fault"
    exit_code: ClassVar[int] = 1


class SettingError(MidframeError, ValueError):
    """An option or argument is invalid, or contradicts another one. Exit code 2."""

    code = "setting"
    exit_code = 2


class InputError(MidframeError):
    """A film, picture or other input file cannot be read or is damaged. Exit code 3."""

    code = "input"
    exit_code = 3


class WeightsError(InputError):
    """A weights file is damaged or does not fit its network. Exit code 3."""

    code = "weights"


class OutputError(MidframeError):
    """The output cannot be written, or differs from the plan when read back. Exit code 4."""

    code = "output"
    exit_code = 4


class DeviceError(MidframeError):
    """A device, operator backend or optional package is missing. Exit code 5."""

    code = "device"
    exit_code = 5


class TrainingError(MidframeError):
    """A training run cannot continue, for example because a loss is not finite. Exit code 3."""

    code = "training"
    exit_code = 3


class Cancelled(MidframeError):  # noqa: N818 - the answer to a request, not a fault
    """The work was stopped by its cancel event or by a signal. Exit code 130."""

    code = "cancelled"
    exit_code = 130


def error_reason(error: BaseException) -> str:
    """Return why an operation failed, without the error number and without the path of an `OSError`.

    FFmpeg's errors (PyAV) are shortened to their first part: the log that PyAV appends is dropped.
    """
    text = getattr(error, "strerror", None) or str(error)
    return str(text).split("; last error log")[0].strip() or type(error).__name__
