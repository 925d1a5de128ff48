"""The closed list of ONNX operators that a package's graph may use.

All are of the domain ``ai.onnx`` and pure functions of numbers. Left out on purpose: control
flow and sequences (If, Loop, Scan, Sequence*, Optional*), texts and files (String*, RegexFullMatch,
TfIdfVectorizer, ImageDecoder), randomness (Random*, Bernoulli, Multinomial: the same scan must give
the same answer), and training losses. Other domains (``com.microsoft``, ``ai.onnx.ml``) are left
out too: each engine has its own set of them, so a graph that uses them is not portable, and a
domain is how libraries with code of their own are reached.
"""

from __future__ import annotations

DOMAINS = frozenset({"", "ai.onnx"})
OLDEST_OPSET = 11

_ARITHMETIC = """
Abs Add Ceil Clip CumSum Div Exp Floor Log Max Mean Min Mod Mul Neg Pow Reciprocal Round Sign Sqrt Sub Sum
Acos Acosh Asin Asinh Atan Atanh Cos Cosh Erf Sin Sinh Tan Tanh
"""
_LOGIC = "And Equal Greater GreaterOrEqual IsInf IsNaN Less LessOrEqual Not Or Where Xor"
_ACTIVATION = """
Celu Elu Gelu HardSigmoid HardSwish Hardmax LeakyRelu LogSoftmax Mish PRelu Relu Selu Shrink Sigmoid Softmax
Softplus Softsign SwiGLU Swish ThresholdedRelu
"""
_CONVOLUTION = """
AveragePool Col2Im Conv ConvInteger ConvTranspose DeformConv Gemm GlobalAveragePool GlobalLpPool GlobalMaxPool
LpPool MatMul MatMulInteger MaxPool MaxRoiPool MaxUnpool RoiAlign
"""
_NORM = """
BatchNormalization Dropout GroupNormalization InstanceNormalization LRN LayerNormalization LpNormalization
MeanVarianceNormalization RMSNormalization
"""
_SHAPE = """
Cast CastLike CenterCropPad Compress Concat Constant ConstantOfShape DepthToSpace Expand EyeLike Flatten Gather
GatherElements GatherND Identity NonZero OneHot Pad Range Reshape Resize ReverseSequence ScatterElements ScatterND
Shape Size Slice SpaceToDepth Split Squeeze Tile Transpose Trilu Unsqueeze Upsample
"""
_REDUCTION = """
ArgMax ArgMin NonMaxSuppression ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin
ReduceProd ReduceSum ReduceSumSquare TopK
"""
_ATTENTION = "AffineGrid Attention Einsum GRU GridSample LSTM RNN RotaryEmbedding"
_QUANTISED = "DequantizeLinear DynamicQuantizeLinear QLinearConv QLinearMatMul QuantizeLinear"

OPERATORS = frozenset(
    " ".join(
        (_ARITHMETIC, _LOGIC, _ACTIVATION, _CONVOLUTION, _NORM, _SHAPE, _REDUCTION, _ATTENTION, _QUANTISED)
    ).split()
)

#: Operators whose constant integer inputs decide how large the answer is: name -> input positions.
SIZED_BY_INPUT: dict[str, tuple[int, ...]] = {
    "ConstantOfShape": (0,),
    "Expand": (1,),
    "Tile": (1,),
    "Reshape": (1,),
    "Resize": (2, 3),
    "Upsample": (1,),
    "Pad": (1,),
    "Range": (0, 1, 2),
    "CenterCropPad": (1,),
    "OneHot": (1,),
    "TopK": (1,),
    "Col2Im": (0, 1),
    "AffineGrid": (1,),
}
MOST_SIZE = 2**20
MOST_ELEMENTS = 2**31
#: Attributes of whole numbers that decide sizes, for every operator that has them.
SIZED_BY_ATTRIBUTE = frozenset(
    {"kernel_shape", "pads", "strides", "dilations", "output_padding", "output_shape", "blocksize", "group"}
    | {"hidden_size", "shape", "output_height", "output_width", "sampling_ratio", "repeats", "pooled_shape"}
)
MOST_ATTRIBUTE = 65536
