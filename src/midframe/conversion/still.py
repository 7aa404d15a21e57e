"""One picture from two."""

from __future__ import annotations
