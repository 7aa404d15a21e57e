"""Write static HDR metadata as parameters of the encoders."""

from __future__ import annotations

from .film import Hdr


def x265_hdr(hdr: Hdr) -> str:
    """Return static HDR metadata as parameters of x265."""
    return f"hdr10=1:repeat-headers=1:master-display={_display(hdr)}:max-cll={hdr.max_content},{hdr.max_average}"


def x264_hdr(hdr: Hdr) -> str:
    """Return static HDR metadata as parameters of x264."""
    return f"mastering-display={_display(hdr)}:cll={hdr.max_content},{hdr.max_average}"


def svt_hdr(hdr: Hdr) -> str:
    """Return static HDR metadata as parameters of SVT-AV1."""
    primaries = {"G": hdr.green, "B": hdr.blue, "R": hdr.red, "WP": hdr.white}
    points = "".join(f"{name}({x},{y})" for name, (x, y) in primaries.items())
    return (
        f"mastering-display={points}L({hdr.brightest},{hdr.darkest}):content-light={hdr.max_content},{hdr.max_average}"
    )


def _display(hdr: Hdr) -> str:
    """Return the mastering display in the integer units of x264 and x265."""
    primaries = {"G": hdr.green, "B": hdr.blue, "R": hdr.red, "WP": hdr.white}
    points = "".join(f"{name}({round(x * 50000)},{round(y * 50000)})" for name, (x, y) in primaries.items())
    return f"{points}L({round(hdr.brightest * 10000)},{round(hdr.darkest * 10000)})"
