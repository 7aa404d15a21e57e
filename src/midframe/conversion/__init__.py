"""Convert a film: plan the output, interpolate and write it, and verify it against the plan."""

from midframe.conversion.api import convert
from midframe.conversion.job import run_conversion
from midframe.conversion.progress import Progress
from midframe.conversion.settings import Settings
from midframe.conversion.summary import Summary

__all__ = ["Progress", "Settings", "Summary", "convert", "run_conversion"]
