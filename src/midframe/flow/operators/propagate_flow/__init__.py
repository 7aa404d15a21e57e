"""PatchMatch propagation: pixels take over the flow of neighbours."""

from __future__ import annotations

import torch
from torch import Tensor

from midframe.flow.operators.checks import check_frames_flow_time
from midframe.flow.operators.propagate_flow import op


@torch.no_grad()
def propagate_flow(frames: Tensor, flow: Tensor, time: Tensor, *, backend: str = "auto") -> Tensor:
    """Replace the flow of each pixel by the flow of a neighbour if that has a lower photometric cost at the pixel.

    The first pass tries the flows of the pixels 3 to the left, right, above and below. The second pass tries, in the
    result of the first, those at a distance of 9. A neighbour's flow is penalised by 0.02. Of flows with equal costs
    the pixel's own is preferred, then the left, right, upper and lower neighbour's, in this order. The cost is that of
    `photometric_cost`.

    frames: `[2B, 1, H, W]` with normalised local contrast. Returns flow `[B, 2, H, W]`.
    Conventions and errors: see the package.
    Source: Barnes et al., PatchMatch, SIGGRAPH 2009; here all pixels are updated in parallel.
    """
    frames, flow, time = check_frames_flow_time("propagate_flow", frames, flow, time)
    return op.run(frames, flow, time, backend=backend)
