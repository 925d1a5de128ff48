"""Whole-volume mode: the exact equivalent of one pass over the whole volume, in slabs."""

from hounsfield.inference.whole.execute import Figures, WholeRun, WholeSettings
from hounsfield.inference.whole.network import Network, read_network
from hounsfield.inference.whole.segmenting import WholeSegmented, segment_whole

__all__ = ["Figures", "Network", "WholeRun", "WholeSegmented", "WholeSettings", "read_network", "segment_whole"]
