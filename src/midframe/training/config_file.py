"""Read the settings of a training run from a preset, a TOML file or dictionaries."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

from midframe.errors import DeviceError, SettingError
from midframe.training.config import TrainingConfig, config_to_dict
from midframe.training.presets import PRESETS


def read_config(source: str | Path | dict[str, Any]) -> TrainingConfig:
    """Read a run's settings.

    source: the name of a preset, a TOML file, or the dictionaries that a TOML file holds. A file or dictionary may
    contain `preset = NAME`; its other entries override those of the preset.

    Raises `SettingError` for unknown names and values of the wrong type, `DeviceError` if a file or dictionary is given
    and pydantic is not installed.
    """
    if isinstance(source, dict):
        return _validate(source, "these settings")
    if str(source) in PRESETS:
        return PRESETS[str(source)]
    try:
        tables = tomllib.loads(Path(source).read_text("utf-8"))
    except OSError as error:
        presets = ", ".join(PRESETS)
        raise SettingError(
            f"'{source}' is no preset ({presets}) and no file that can be read: {error.strerror}"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingError(f"{source} is no TOML: {error}") from error
    return _validate(tables, str(source))


def _validate(tables: dict[str, Any], source_name: str) -> TrainingConfig:
    """Build the settings from untrusted dictionaries; errors start with `source_name`."""
    try:
        from pydantic import TypeAdapter, ValidationError
    except ImportError as error:
        raise DeviceError("settings are read by pydantic: pip install 'midframe[train]'") from error
    overrides = dict(tables)
    preset = overrides.pop("preset", None)
    if preset is not None and preset not in list(PRESETS):
        raise SettingError(f"{source_name}: there is no preset {preset!r}; there are: {', '.join(PRESETS)}")
    defaults = config_to_dict(PRESETS[preset]) if preset else {}
    try:
        # Validated as JSON: strict mode then converts no types, except that a list may become a tuple.
        text = json.dumps(_merge(defaults, overrides), default=str)
        return TypeAdapter(TrainingConfig).validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        if first["type"] == "value_error":  # raised by TrainingConfig itself, with a complete message
            raise SettingError(f"{source_name}: {first['ctx']['error']}") from error
        name = ".".join(map(str, first["loc"])) or "settings"
        raise SettingError(f"{source_name}: {name}: {first['msg']}; got {first['input']!r}") from error


def _merge(defaults: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    """Return nested dictionaries with some values overridden; `network_settings` is replaced as a whole."""
    merged = dict(defaults)
    for name, value in overrides.items():
        default = merged.get(name)
        if isinstance(value, dict) and isinstance(default, dict) and name != "network_settings":
            merged[name] = _merge(default, value)
        else:
            merged[name] = value
    return merged
