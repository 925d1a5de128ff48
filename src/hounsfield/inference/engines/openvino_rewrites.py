"""Layers that OpenVINO's CPU plug-in runs slowly, written as others that it runs fast.

Both rewrites are exact in real arithmetic and differ in rounding only. They are applied where
less than fp32 was asked for, so that fp32 keeps the graph as the package has it.

- A transposed convolution with output padding has no bf16 kernel and falls back to fp32. It is a
  convolution that makes all voxels of a block at once, then depth-to-space (W. Shi et al.,
  "Is the deconvolution layer the same as a convolutional layer?", 2016).
- Normalising a few channels over all voxels is slow where channels lie innermost; over one
  flattened axis it is not.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_FEW_CHANNELS = 8


@dataclass(frozen=True)
class _Axis:
    """One axis of a transposed convolution: which tap makes which voxel of a block from which neighbour.

    Parameters
    ----------
    low, high
        Offsets of the first and last input voxel that is needed.
    taps
        (voxel of the block, offset of the input voxel) → tap of the kernel.
    """

    low: int
    high: int
    taps: dict[tuple[int, int], int]

    @classmethod
    def of(cls, stride: int, size: int, pad: int) -> _Axis:
        """Output voxel ``stride * m + r`` gets input voxel ``m + d`` by tap ``r + pad - stride * d``."""
        taps = {}
        for r, tap in itertools.product(range(stride), range(size)):
            offset, rest = divmod(r + pad - tap, stride)
            if rest == 0:
                taps[(r, offset)] = tap
        offsets = [offset for _, offset in taps]
        return cls(min(offsets), max(offsets), taps)


def rewrite(model: Any) -> int:
    """Rewrite such layers of a static OpenVINO model in place; returns how many."""
    done = 0
    for node in model.get_ordered_ops():
        if node.get_type_name() == "ConvolutionBackpropData":
            done += _as_convolution(node)
        elif node.get_type_name() == "MVN":
            done += _flattened(node)
    if done:
        model.validate_nodes_and_infer_types()
    return done


def _as_convolution(node: Any) -> bool:
    """Only output-padded, undilated, of one stride, with constant weights, and exactly filling its blocks."""
    given = node.get_attributes()
    weights = node.input_value(1).get_node()
    stride = given["strides"][0]
    wanted = {"strides": [stride] * 3, "dilations": [1, 1, 1], "auto_pad": "explicit"}
    if any(
        list(given[name]) != value if isinstance(value, list) else given[name] != value
        for name, value in wanted.items()
    ):
        return False
    if not any(given["output_padding"]) or weights.get_type_name() != "Constant" or node.get_input_size() != 2:
        return False
    inner, outer = (list(value.get_shape())[2:] for value in (node.input_value(0), node.output(0)))
    axes = [_Axis.of(stride, k, pad) for k, pad in zip(weights.shape[2:], given["pads_begin"], strict=True)]
    if [n * stride for n in inner] != outer or any(axis.low > 0 or axis.high < 0 for axis in axes):
        return False
    _replace(node, axes, stride, np.asarray(weights.data, np.float32))
    return True


def _replace(node: Any, axes: list[_Axis], stride: int, weights: NDArray[np.float32]) -> None:
    from openvino import opset13

    kernel = opset13.constant(block_kernel(axes, stride, weights))
    pads = [-axis.low for axis in axes], [axis.high for axis in axes]
    made = opset13.convolution(node.input_value(0), kernel, [1, 1, 1], *pads, [1, 1, 1])
    last, bias = node, _bias_after(node, weights.shape[1])
    if bias is not None:
        last, values = bias
        made = opset13.add(made, opset13.constant(np.tile(values, stride**3).reshape(1, -1, 1, 1, 1)))
    _put(last, opset13.depth_to_space(made, "blocks_first", stride))


def block_kernel(axes: list[_Axis], stride: int, weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Weights (in, out, k, j, i) of the transposed convolution as (blocks * out, in, k, j, i) of a convolution.

    The blocks' voxels vary slowest, their i fastest, as depth-to-space wants them ("blocks first").
    """
    sizes = [axis.high - axis.low + 1 for axis in axes]
    channels_in, channels_out = weights.shape[:2]
    kernel = np.zeros((stride, stride, stride, channels_out, channels_in, *sizes), np.float32)
    for each in itertools.product(*(axis.taps.items() for axis in axes)):
        (r0, r1, r2), (t0, t1, t2) = (r for (r, _), _ in each), (tap for _, tap in each)
        d0, d1, d2 = (d - axis.low for ((_, d), _), axis in zip(each, axes, strict=True))
        kernel[r0, r1, r2, :, :, d0, d1, d2] = weights[:, :, t0, t1, t2].T
    return kernel.reshape(-1, channels_in, *sizes)


def _bias_after(node: Any, channels: int) -> tuple[Any, NDArray[np.float32]] | None:
    """The addition of one constant per channel that alone uses the answer, and its values (channels,)."""
    users = list(node.output(0).get_target_inputs())
    if len(users) != 1 or users[0].get_node().get_type_name() != "Add":
        return None
    add = users[0].get_node()
    constants = [add.input_value(i).get_node() for i in range(2)]
    constants = [each for each in constants if each.get_type_name() == "Constant"]
    if len(constants) != 1 or list(constants[0].shape) != [1, channels, 1, 1, 1]:
        return None
    return add, np.asarray(constants[0].data, np.float32).reshape(-1)


def _flattened(node: Any) -> bool:
    """Only for few channels, over all three axes of the voxels."""
    from openvino import opset13

    shape = list(node.input_value(0).get_shape())
    axes = node.input_value(1).get_node()
    if len(shape) != 5 or shape[1] >= _FEW_CHANNELS or axes.get_type_name() != "Constant":
        return False
    if sorted(int(axis) % 5 for axis in axes.data.reshape(-1)) != [2, 3, 4]:
        return False
    given = node.get_attributes()
    flat = np.array([shape[0], shape[1], math.prod(shape[2:])], np.int64)
    lines = opset13.reshape(node.input_value(0), opset13.constant(flat), False)
    normed = opset13.mvn(
        lines, opset13.constant(np.array([2], np.int64)), given["normalize_variance"], given["eps"], given["eps_mode"]
    )
    _put(node, opset13.reshape(normed, opset13.constant(np.array(shape, np.int64)), False))
    return True


def _put(old: Any, new: Any) -> None:
    for user in list(old.output(0).get_target_inputs()):
        user.replace_source_output(new.output(0))
