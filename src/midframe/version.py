"""The version of Midframe."""

__version__ = "0.1.0"
