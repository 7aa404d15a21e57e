"""Draw the figures of docs/operator.md: the report's Fig. 1 (the operator) and Fig. 11 (composite dilation).

    python scripts/draw_operator_figures.py [--film ../shared/data/films/dog-play.mp4] [--images docs/images]

Fig. 1 shows a pixel of a real frame: its kernels are those that the operator's own gradients find when the frame has to
give the next one, with one pair of kernels for the 41 x 41 pixels around. Needs matplotlib.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import av
import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from numpy.typing import NDArray
from torch import Tensor

from midframe.ops import TapPattern, separable_convolution

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.patches import ConnectionPatch, Rectangle

TAPS = 51
SPARSE = 2e-3
"""What a unit of kernel costs, in units of mean absolute error: without it the kernels fit noise."""
INK, DENSE, ODD, EVEN = "#222222", "#222222", "#d1495b", "#2e86ab"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--film", type=Path, default=Path("../shared/data/films/dog-play.mp4"))
    parser.add_argument(
        "--frame", type=int, default=60, help="the frame that is convolved; the one after it is the aim"
    )
    parser.add_argument("--pixel", type=int, nargs=2, default=(365, 528), metavar=("X", "Y"))
    parser.add_argument("--images", type=Path, default=Path("docs/images"))
    options = parser.parse_args()
    draw_composite(options.images / "operator-composite.png")
    first, second = read_pair(options.film, options.frame)
    draw_operator(first, second, *options.pixel, options.images / "operator.png")


def read_pair(film: Path, number: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    with av.open(film) as container:
        frames = [
            frame.to_ndarray(format="rgb24")
            for _, frame in zip(range(number + 2), container.decode(video=0), strict=False)
        ]
    return frames[-2], frames[-1]


def fit(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """One pair of kernels for a whole patch, found by Adam through the operator: first convolved gives second."""
    height, width = second.shape[-2:]
    start = torch.hann_window(TAPS + 2, periodic=False)[1:-1].view(1, -1, 1, 1)
    vertical, horizontal = ((start / start.sum()).requires_grad_() for _ in range(2))
    optimiser = torch.optim.Adam([vertical, horizontal], 0.004)
    for _ in range(600):
        maps = (kernel.expand(1, TAPS, height, width) for kernel in (vertical, horizontal))
        made = separable_convolution(first, *maps, border="replicate", backend="halide")
        inside = slice(TAPS // 2, -(TAPS // 2))
        loss = (made - second)[..., inside, inside].abs().mean() + 2e-4 * (
            vertical.abs().sum() + horizontal.abs().sum()
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return vertical.detach().flatten(), horizontal.detach().flatten()


def draw_operator(first: NDArray[np.uint8], second: NDArray[np.uint8], x: int, y: int, path: Path) -> None:
    half, around = TAPS // 2, TAPS // 2 + 20
    rows, columns = slice(y - around, y + around + 1), slice(x - around, x + around + 1)
    source, aim = (
        torch.from_numpy(frame[rows, columns].copy()).permute(2, 0, 1)[None] / 255 for frame in (first, second)
    )
    vertical, horizontal = fit(source, aim)
    patch = first[y - half : y + half + 1, x - half : x + half + 1]
    weights = torch.outer(vertical, horizontal).numpy()
    value = np.clip(np.einsum("ijc,ij->c", patch / 255, weights), 0, 1)

    figure = plt.figure(figsize=(10, 3.9), dpi=110)
    whole = figure.add_axes((0.01, 0.06, 0.36, 0.8))
    whole.imshow(first)
    whole.add_patch(Rectangle((x - half, y - half), TAPS, TAPS, fill=False, edgecolor="#ffd23f", linewidth=1.5))
    whole.set_title("first frame $I$", fontsize=10)
    near = figure.add_axes((0.45, 0.06, 0.24, 0.62))
    near.imshow(patch)
    near.set_xlabel("patch $P(x, y)$, 51 × 51", fontsize=9)
    for corner_a, corner_b in (((x + half, y - half), (0, 0)), ((x + half, y + half), (0, TAPS - 1))):
        line = ConnectionPatch(
            corner_a, corner_b, "data", "data", axesA=whole, axesB=near, color="#e0a800", linewidth=0.8
        )
        figure.add_artist(line)
    across = figure.add_axes((0.45, 0.71, 0.24, 0.15))
    across.bar(range(TAPS), horizontal, width=1, color=EVEN)
    across.set_title("$K^h$", fontsize=10)
    down = figure.add_axes((0.70, 0.06, 0.06, 0.62))
    down.barh(range(TAPS), vertical, height=1, color=ODD)
    down.set_title("$K^v$", fontsize=10)
    down.invert_yaxis()
    across.set_xlim(-0.5, TAPS - 0.5)
    down.set_ylim(TAPS - 0.5, -0.5)
    product = figure.add_axes((0.785, 0.4, 0.14, 0.36))
    product.imshow(weights, cmap="PuOr_r", vmin=-abs(weights).max(), vmax=abs(weights).max())
    product.set_title("$K^v K^h$", fontsize=10)
    made = figure.add_axes((0.80, 0.06, 0.05, 0.14))
    made.imshow(value[None, None])
    made.set_title("$\\hat I(x, y)$", fontsize=10)
    true = figure.add_axes((0.90, 0.06, 0.05, 0.14))
    true.imshow(second[y, x][None, None])
    true.set_title("second", fontsize=10)
    bare(whole, near, across, down, product, made, true)
    figure.savefig(path, pil_kwargs={"optimize": True})


def draw_composite(path: Path) -> None:
    inner, outer = 11, 10
    figure, panels = plt.subplots(1, 3, figsize=(10, 3.9), dpi=110)
    for panel, variant in zip(panels, ("rings", "axes", "literal"), strict=True):
        pattern = TapPattern.composite(inner, outer, variant)
        taps = np.array(list(pattern.taps()))
        dense = (np.abs(taps[:, 2:]).max(1) <= inner // 2) & (
            np.abs(taps[:, :2] - pattern.size // 2).max(1) <= inner // 2
        )
        ring = np.abs(taps[:, :2] - pattern.size // 2).max(1) - inner // 2
        for chosen, colour in ((dense, DENSE), (~dense & (ring % 2 == 1), ODD), (~dense & (ring % 2 == 0), EVEN)):
            panel.scatter(taps[chosen, 3], taps[chosen, 2], s=9, c=colour, marker="s", linewidths=0)
        panel.set_title(f"{variant}: {len(taps)} taps", fontsize=10)
        limit = pattern.reach + 1
        panel.set(xlim=(-limit, limit), ylim=(limit, -limit), aspect="equal")
    bare(*panels)
    figure.tight_layout()
    figure.savefig(path, pil_kwargs={"optimize": True})


def bare(*panels: Axes) -> None:
    for panel in panels:
        panel.set(xticks=[], yticks=[])
        for side in panel.spines.values():
            side.set(linewidth=0.5, color=INK)


if __name__ == "__main__":
    main()
