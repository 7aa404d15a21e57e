"""`guided`, the network that Midframe is meant to be used with: short adaptive kernels on flow-warped frames.

Read `network.py` first. `state.py` explains the maps that are refined from level to level, `layers.py` has the
convolutional parts, and `kernels.py` the adaptive kernels.
"""

from midframe.networks.guided.network import Guided, GuidedOutput, GuidedPair, default_depth

__all__ = ["Guided", "GuidedOutput", "GuidedPair", "default_depth"]
