"""From film to film: what will come out, making it, and holding it against the plan."""

from midframe.conversion.job import Progress, convert
from midframe.conversion.settings import Settings
from midframe.conversion.summary import Summary

__all__ = ["Progress", "Settings", "Summary", "convert"]
