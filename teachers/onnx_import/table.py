"""The table of operators: ONNX's name → the function that turns such a node into torch.

An entry is one function, ``module:function`` below this package, and one line here; this module
imports nothing, so that a file is refused before torch loads. Operators on constants (FOLDED in
``folding``) stand here too, under the function that refuses them on images.
"""

from __future__ import annotations

OPERATORS: dict[str, str] = {
    # weights
    "Conv": "weights:conv",
    "Gemm": "weights:gemm",
    "MatMul": "weights:matmul",
    # normalisation
    "BatchNormalization": "norms:batch_norm",
    "GroupNormalization": "norms:group_norm",
    "InstanceNormalization": "norms:instance_norm",
    "LayerNormalization": "norms:layer_norm",
    "LRN": "norms:local_response_norm",
    # activations
    "Celu": "activations:celu",
    "Clip": "activations:clip",
    "Elu": "activations:elu",
    "Gelu": "activations:gelu",
    "HardSigmoid": "activations:hard_sigmoid",
    "HardSwish": "activations:hard_swish",
    "LeakyRelu": "activations:leaky_relu",
    "LogSoftmax": "activations:log_softmax",
    "Mish": "activations:mish",
    "PRelu": "activations:prelu",
    "Relu": "activations:relu",
    "Selu": "activations:selu",
    "Sigmoid": "activations:sigmoid",
    "Softmax": "activations:softmax",
    "Softplus": "activations:softplus",
    "Swish": "activations:swish",
    "Tanh": "activations:tanh",
    # parts that are known only inside a whole, such as GELU written with Erf
    "Abs": "parts:elementwise",
    "Erf": "parts:elementwise",
    "Exp": "parts:elementwise",
    "Log": "parts:elementwise",
    "Reciprocal": "parts:elementwise",
    "Sqrt": "parts:elementwise",
    "Greater": "parts:compare",
    "GreaterOrEqual": "parts:compare",
    "Less": "parts:compare",
    "LessOrEqual": "parts:compare",
    "Pow": "parts:power",
    "Where": "parts:where",
    # pooling
    "AveragePool": "pools:average_pool",
    "GlobalAveragePool": "pools:global_average_pool",
    "GlobalMaxPool": "pools:global_max_pool",
    "LpPool": "pools:lp_pool",
    "MaxPool": "pools:max_pool",
    "ReduceMax": "pools:reduce_max",
    "ReduceMean": "pools:reduce_mean",
    "ReduceSum": "pools:reduce_sum",
    # shapes
    "Expand": "shapes:expand",
    "Flatten": "shapes:flatten",
    "Reshape": "shapes:reshape",
    "Squeeze": "shapes:squeeze",
    "Transpose": "shapes:transpose",
    "Unsqueeze": "shapes:unsqueeze",
    # parts of tensors
    "Gather": "slicing:gather",
    "Pad": "slicing:pad",
    "Resize": "resizing:resize",
    "Slice": "slicing:slice_",
    "Split": "slicing:split",
    "Upsample": "resizing:upsample",
    # joins and arithmetic
    "Add": "arithmetic:add",
    "Concat": "arithmetic:concat",
    "Div": "arithmetic:div",
    "Max": "arithmetic:maximum",
    "Mean": "arithmetic:mean",
    "Min": "arithmetic:minimum",
    "Mul": "arithmetic:mul",
    "Neg": "arithmetic:neg",
    "Sub": "arithmetic:sub",
    "Sum": "arithmetic:sum_",
    # what leaves no trace
    "Cast": "passing:cast",
    "CastLike": "passing:identity",
    "Constant": "passing:on_constants",
    "Dropout": "passing:dropout",
    "Identity": "passing:identity",
    "If": "passing:branch",
    "Shape": "passing:shape",
    "Size": "passing:size",
    # on constants alone
    "And": "passing:on_constants",
    "Ceil": "passing:on_constants",
    "ConstantOfShape": "passing:on_constants",
    "Equal": "passing:on_constants",
    "Floor": "passing:on_constants",
    "Mod": "passing:on_constants",
    "Not": "passing:on_constants",
    "Or": "passing:on_constants",
    "Range": "passing:on_constants",
    "ReduceL1": "passing:on_constants",
    "ReduceL2": "passing:on_constants",
    "ReduceMin": "passing:on_constants",
    "ReduceProd": "passing:on_constants",
    "ReduceSumSquare": "passing:on_constants",
    "Tile": "passing:on_constants",
}

_LOGITS = "Cut the graph before this node (onnx.utils.extract_model), so that it ends in logits."
_FLOAT32 = "Export the teacher in float32, before quantisation."

#: a part of an operator's name → what to do about it
REMEDIES: dict[str, str] = {
    "QLinear": _FLOAT32,
    "Quantize": _FLOAT32,
    "Integer": _FLOAT32,
    "ArgMax": _LOGITS,
    "TopK": _LOGITS,
    "ZipMap": _LOGITS,
    "Loop": "Take loops out of the forward method, and export it again.",
    "Scan": "Take loops out of the forward method, and export it again.",
    "ConvTranspose": "Classifiers are compressed, not decoders: replace it by Resize and Conv.",
    "DepthToSpace": "Channels that turn into pixels cannot be narrowed: replace it by Resize.",
    "SpaceToDepth": "Pixels that turn into channels cannot be narrowed: use a strided Conv.",
}
