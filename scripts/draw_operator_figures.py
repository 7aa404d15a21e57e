"""Draw the figures of docs/operator.md after the report's Fig. 1 (the operator) and Fig. 11 (composite dilation).

    python scripts/draw_operator_figures.py [--film ../shared/data/films/dog-play.mp4] [--images docs/images]

The first figure shows a pixel of a real frame and its two kernels. One pair of kernels is fitted by gradient descent
through the operator, so that the convolution of the 41 x 41 pixels around this pixel gives the same pixels of the next
frame. Needs matplotlib.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import get_args

import av
import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from midframe.ops import TapPattern, separable_convolution
from midframe.ops.taps import Variant

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.patches import ConnectionPatch, Rectangle

TAPS = 51
"""Taps per side of the fitted kernels."""
PATCH_MARGIN = 20
"""Pixels around the shown pixel on each side that the kernels are fitted to."""
SPARSITY = 2e-4
"""Weight of the kernels' absolute sum in the loss, which keeps them from fitting noise."""
LINES, DENSE_TAPS, ODD_RINGS, EVEN_RINGS = "#222222", "#222222", "#d1495b", "#2e86ab"
"""Colours of outlines, and of the taps in the dense square and in odd and even rings around it."""


def main() -> None:
    """Draw both figures into a folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--film", type=Path, default=Path("../shared/data/films/dog-play.mp4"))
    parser.add_argument("--frame", type=int, default=60, help="index of the frame that is convolved to give the next")
    parser.add_argument("--pixel", type=int, nargs=2, default=(365, 528), metavar=("X", "Y"), help="shown pixel")
    parser.add_argument("--images", type=Path, default=Path("docs/images"), help="output folder")
    options = parser.parse_args()
    draw_composite(options.images / "operator-composite.png")
    first, second = read_pair(options.film, options.frame)
    draw_operator(first, second, *options.pixel, options.images / "operator.png")


def read_pair(film: Path, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return a frame of a film and the next as RGB."""
    with av.open(film) as container:
        frames = [
            frame.to_ndarray(format="rgb24")
            for _, frame in zip(range(index + 2), container.decode(video=0), strict=False)
        ]
    return frames[-2], frames[-1]


def fit_kernels(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Fit one vertical and one horizontal kernel with Adam, so that the convolved first patch equals the second."""
    height, width = second.shape[-2:]
    start = torch.hann_window(TAPS + 2, periodic=False)[1:-1].view(1, -1, 1, 1)
    vertical, horizontal = ((start / start.sum()).requires_grad_() for _ in range(2))
    optimiser = torch.optim.Adam([vertical, horizontal], 0.004)
    for _ in range(600):
        maps = (kernel.expand(1, TAPS, height, width) for kernel in (vertical, horizontal))
        predicted = separable_convolution(first, *maps, border="replicate", backend="halide")
        inside = slice(TAPS // 2, -(TAPS // 2))
        error = (predicted - second)[..., inside, inside].abs().mean()
        loss = error + SPARSITY * (vertical.abs().sum() + horizontal.abs().sum())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return vertical.detach().flatten(), horizontal.detach().flatten()


def draw_operator(first: NDArray[np.uint8], second: NDArray[np.uint8], x: int, y: int, path: Path) -> None:
    """Draw the pixel (x, y) of the first frame, its patch, its fitted kernels and the convolved pixel."""
    half, around = TAPS // 2, TAPS // 2 + PATCH_MARGIN
    rows, columns = slice(y - around, y + around + 1), slice(x - around, x + around + 1)
    source, target = (
        torch.from_numpy(frame[rows, columns].copy()).permute(2, 0, 1)[None] / 255 for frame in (first, second)
    )
    vertical, horizontal = fit_kernels(source, target)
    patch = first[y - half : y + half + 1, x - half : x + half + 1]
    weights = torch.outer(vertical, horizontal).numpy()
    value = np.clip(np.einsum("ijc,ij->c", patch / 255, weights), 0, 1)

    figure = plt.figure(figsize=(10, 3.9), dpi=110)
    panels = [*draw_patch(figure, first, patch, x, y), *draw_kernels(figure, vertical, horizontal, weights)]
    for left, title, colour in ((0.80, "$\\hat I(x, y)$", value), (0.90, "second", second[y, x])):
        panel = figure.add_axes((left, 0.06, 0.05, 0.14))
        panel.imshow(colour[None, None])
        panel.set_title(title, fontsize=10)
        panels.append(panel)
    remove_ticks(*panels)
    figure.savefig(path, pil_kwargs={"optimize": True})


def draw_patch(figure: Figure, frame: NDArray[np.uint8], patch: NDArray[np.uint8], x: int, y: int) -> list[Axes]:
    """Draw the frame with the patch framed, and the patch enlarged beside it."""
    half = TAPS // 2
    whole = figure.add_axes((0.01, 0.06, 0.36, 0.8))
    whole.imshow(frame)
    whole.add_patch(Rectangle((x - half, y - half), TAPS, TAPS, fill=False, edgecolor="#ffd23f", linewidth=1.5))
    whole.set_title("first frame $I$", fontsize=10)
    enlarged = figure.add_axes((0.45, 0.06, 0.24, 0.62))
    enlarged.imshow(patch)
    enlarged.set_xlabel("patch $P(x, y)$, 51 × 51", fontsize=9)
    for corner_a, corner_b in (((x + half, y - half), (0, 0)), ((x + half, y + half), (0, TAPS - 1))):
        line = ConnectionPatch(
            corner_a, corner_b, "data", "data", axesA=whole, axesB=enlarged, color="#e0a800", linewidth=0.8
        )
        figure.add_artist(line)
    return [whole, enlarged]


def draw_kernels(figure: Figure, vertical: Tensor, horizontal: Tensor, weights: NDArray[np.float32]) -> list[Axes]:
    """Draw the horizontal kernel above the patch, the vertical kernel to its right, and their outer product."""
    top = figure.add_axes((0.45, 0.71, 0.24, 0.15))
    top.bar(range(TAPS), horizontal, width=1, color=EVEN_RINGS)
    top.set_title("$K^h$", fontsize=10)
    right = figure.add_axes((0.70, 0.06, 0.06, 0.62))
    right.barh(range(TAPS), vertical, height=1, color=ODD_RINGS)
    right.set_title("$K^v$", fontsize=10)
    right.invert_yaxis()
    top.set_xlim(-0.5, TAPS - 0.5)
    right.set_ylim(TAPS - 0.5, -0.5)
    product = figure.add_axes((0.785, 0.4, 0.14, 0.36))
    product.imshow(weights, cmap="PuOr_r", vmin=-abs(weights).max(), vmax=abs(weights).max())
    product.set_title("$K^v K^h$", fontsize=10)
    return [top, right, product]


def draw_composite(path: Path) -> None:
    """Draw the taps of the three variants of composite dilation, coloured by the ring of the kernel."""
    inner, outer = 11, 10
    figure, panels = plt.subplots(1, 3, figsize=(10, 3.9), dpi=110)
    for panel, variant in zip(panels, get_args(Variant), strict=True):
        pattern = TapPattern.composite(inner, outer, variant)
        taps = np.array(list(pattern.taps()))
        ring = np.abs(taps[:, :2] - pattern.size // 2).max(1) - inner // 2
        dense = (np.abs(taps[:, 2:]).max(1) <= inner // 2) & (ring <= 0)
        for chosen, colour in (
            (dense, DENSE_TAPS),
            (~dense & (ring % 2 == 1), ODD_RINGS),
            (~dense & (ring % 2 == 0), EVEN_RINGS),
        ):
            panel.scatter(taps[chosen, 3], taps[chosen, 2], s=9, c=colour, marker="s", linewidths=0)
        panel.set_title(f"{variant}: {len(taps)} taps", fontsize=10)
        limit = pattern.reach + 1
        panel.set(xlim=(-limit, limit), ylim=(limit, -limit), aspect="equal")
    remove_ticks(*panels)
    figure.tight_layout()
    figure.savefig(path, pil_kwargs={"optimize": True})


def remove_ticks(*panels: Axes) -> None:
    """Leave only thin frames around panels."""
    for panel in panels:
        panel.set(xticks=[], yticks=[])
        for side in panel.spines.values():
            side.set(linewidth=0.5, color=LINES)


if __name__ == "__main__":
    main()
