"""Instance normalisation that stays exact over large windows.

OpenVINO's kernel adds up one voxel after another in fp32, and its error grows with the window: over
96^3 voxels it is the largest in a network (benchmarks/normalisation.py). Here mean and variance are
means of means over blocks of up to 8^3 voxels, which is exact in real arithmetic and keeps every sum
short (N. J. Higham, "The accuracy of floating point summation", 1993: the error grows with the length
of the chain of additions).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

_ENOUGH_VOXELS = 20**3
_LONGEST_EDGE = 8


def sum_in_blocks(model: Any) -> int:
    """Rewrite large normalisations of a static OpenVINO model in place; returns how many."""
    done = sum(_in_blocks(node) for node in model.get_ordered_ops() if node.get_type_name() == "MVN")
    if done:
        model.validate_nodes_and_infer_types()
    return done


def _in_blocks(node: Any) -> bool:
    """Only where mean and variance are taken over all axes after the channels."""
    from openvino import opset13

    shape = list(node.input_value(0).get_shape())
    axes, given = node.input_value(1).get_node(), node.get_attributes()
    if len(shape) not in (4, 5) or math.prod(shape[2:]) < _ENOUGH_VOXELS or axes.get_type_name() != "Constant":
        return False
    spatial = sorted(int(axis) % len(shape) for axis in axes.data.reshape(-1)) == list(range(2, len(shape)))
    if not spatial or not given["normalize_variance"] or given["eps_mode"].lower() != "inside_sqrt":
        return False
    centred = opset13.subtract(node.input_value(0), _mean(node.input_value(0)))
    variance = _mean(opset13.multiply(centred, centred).output(0))
    epsilon, one = (opset13.constant(np.float32(value)) for value in (given["eps"], 1))
    scale = opset13.divide(one, opset13.sqrt(opset13.add(variance, epsilon)))
    normed = opset13.multiply(centred, scale)
    for user in list(node.output(0).get_target_inputs()):
        user.replace_source_output(normed.output(0))
    return True


def _mean(values: Any) -> Any:
    """Mean over all axes after the channels, block by block; the axes stay, with length 1."""
    from openvino import opset13

    while True:
        lengths = list(values.get_shape())[2:]
        edges = [max(edge for edge in range(1, _LONGEST_EDGE + 1) if length % edge == 0) for length in lengths]
        if math.prod(edges) == 1:
            break
        none = [0] * len(edges)
        values = opset13.avg_pool(values, edges, none, none, edges, True, "floor", "explicit").output(0)
    for axis in range(len(lengths) + 1, 1, -1):
        values = opset13.reduce_mean(values, opset13.constant(np.array([axis], np.int64)), True).output(0)
    return values
