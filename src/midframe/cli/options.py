"""Parse the values of options, with one-line errors that name the option."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from midframe.errors import SettingError


def parse_choice(option: str, value: str | None, *choices: str) -> Any:
    """Return `value` if it is None or one of `choices`; otherwise raise `SettingError`."""
    if value is not None and value not in choices:
        raise SettingError(f"{option} is {' or '.join(choices)}, not '{value}'")
    return value


def parse_fraction(option: str, text: str) -> Fraction:
    """Return the exact value of a decimal number or a fraction such as 1/3. Raises `SettingError`."""
    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError):
        raise SettingError(f"{option} '{text}' is not a number; give one such as 0.25 or 1/4") from None


def parse_time(option: str, text: str | None) -> Fraction | None:
    """Return the exact seconds of a time given as seconds, MM:SS or HH:MM:SS; None for None. Raises `SettingError`."""
    if text is None:
        return None
    seconds = Fraction(0)
    try:
        for part in text.split(":"):
            seconds = seconds * 60 + Fraction(part)
    except (ValueError, ZeroDivisionError):
        raise SettingError(f"{option} '{text}' is not a time; give seconds or [HH:]MM:SS") from None
    return seconds
