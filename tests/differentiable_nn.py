"""Functions of neural networks, and of control flow, whose gradients are checked."""

from __future__ import annotations

from typing import Any

import numpy as np

from expressions import add, distinct, normal, positive, raw

# Families nn and nn_softmax.

for _name in ("relu", "relu6", "leaky_relu", "elu", "selu", "softplus", "softsign"):
    add(_name, lambda ns, x, name=_name: getattr(ns.nn, name)(x), normal(6) * 3)
add("bias_add", lambda ns, x, y: ns.nn.bias_add(x, y), normal(2, 2, 3), normal(3))
add(
    "bias_add NCHW",
    lambda ns, x, y: raw("BiasAdd", ns, value=x, bias=y, data_format="NCHW"),
    normal(2, 3, 2, 2),
    normal(3),
)
add("BiasAddV1", lambda ns, x, y: raw("BiasAddV1", ns, value=x, bias=y), normal(2, 2, 3), normal(3))
add("l2_loss", lambda ns, x: ns.nn.l2_loss(x), normal(2, 3))
add("l2_normalize", lambda ns, x: ns.nn.l2_normalize(x, 1), normal(2, 3))
add("moments", lambda ns, x: list(ns.nn.moments(x, [0])), normal(3, 2))
add("top_k", lambda ns, x: ns.nn.top_k(x, 2)[0], distinct(2, 2, 3))
add("TopK", lambda ns, x: raw("TopK", ns, input=x, k=2)[0], distinct(2, 3), oracle=False)
add("clip_by_value", lambda ns, x: ns.clip_by_value(x, -0.5, 0.5), normal(5))
add("clip_by_norm", lambda ns, x: ns.clip_by_norm(x, 0.5), normal(5))
add("clip_by_average_norm", lambda ns, x: ns.clip_by_average_norm(x, 0.1), normal(5), oracle=False)
add(
    "clip_by_global_norm",
    lambda ns, x, y: ns.clip_by_global_norm([x, y], 0.5)[0],
    normal(3),
    normal(2),
)
add("softmax", lambda ns, x: ns.nn.softmax(x), normal(2, 3))
add("softmax, first axis", lambda ns, x: ns.nn.softmax(x, 0), normal(2, 3))
add("log_softmax", lambda ns, x: ns.nn.log_softmax(x), normal(2, 3))
add(
    "softmax_cross_entropy_with_logits",
    lambda ns, x: ns.nn.softmax_cross_entropy_with_logits(
        logits=x, labels=[[0.2, 0.8], [1.0, 0.0]]
    ),
    normal(2, 2),
)
add(
    "softmax_cross_entropy_with_logits_v2",
    lambda ns, x, y: ns.nn.softmax_cross_entropy_with_logits_v2(logits=x, labels=y),
    normal(2, 3),
    np.array([[0.2, 0.3, 0.5], [0.7, 0.2, 0.1]]),
)
add(
    "sparse_softmax_cross_entropy_with_logits",
    lambda ns, x: ns.nn.sparse_softmax_cross_entropy_with_logits(logits=x, labels=[2, 0]),
    normal(2, 3),
)
add(
    "sigmoid_cross_entropy_with_logits",
    lambda ns, x, y: ns.nn.sigmoid_cross_entropy_with_logits(logits=x, labels=y),
    normal(4),
    positive(4),
)
add(
    "weighted_cross_entropy_with_logits",
    lambda ns, x, y: ns.nn.weighted_cross_entropy_with_logits(logits=x, labels=y, pos_weight=2.0),
    normal(4),
    positive(4),
)

# Family nn_conv.


def _moved_by(ns: Any, function: Any, x: Any, v: Any) -> Any:
    """How `function(x)` moves as x moves by `v`: the gradient of the gradient by its weights."""
    y = function(x)
    weights = ns.zeros_like(y)
    (back,) = ns.gradients(y, x, weights)
    return ns.gradients(back, weights, v)


for _padding in ("SAME", "VALID"):
    add(
        f"conv2d {_padding}",
        lambda ns, x, w, p=_padding: ns.nn.conv2d(x, w, [1, 2, 1, 1], p),
        normal(1, 4, 3, 2),
        normal(2, 2, 2, 2),
    )
    add(
        f"depthwise_conv2d {_padding}",
        lambda ns, x, w, p=_padding: ns.nn.depthwise_conv2d(x, w, [1, 2, 2, 1], p),
        normal(1, 4, 3, 2),
        normal(2, 2, 2, 2),
        twice=_padding == "VALID",
    )
    add(
        f"max_pool {_padding}",
        lambda ns, x, p=_padding: ns.nn.max_pool(x, [1, 3, 2, 1], [1, 2, 1, 1], p),
        distinct(1, 4, 3, 2),
    )
    add(
        f"max_pool {_padding}, what moves its largest elements",
        lambda ns, x, v, p=_padding: _moved_by(
            ns, lambda x: ns.nn.max_pool(x, [1, 3, 2, 1], [1, 2, 1, 1], p), x, v
        ),
        distinct(1, 4, 3, 2),
        normal(1, 4, 3, 2),
        oracle=False,
    )
    add(
        f"avg_pool {_padding}",
        lambda ns, x, p=_padding: ns.nn.avg_pool(x, [1, 3, 2, 1], [1, 2, 1, 1], p),
        normal(1, 4, 3, 2),
    )
add(
    "conv2d, padded by numbers",
    lambda ns, x, w: ns.nn.conv2d(x, w, [1, 1, 1, 1], [[0, 0], [1, 0], [0, 2], [0, 0]]),
    normal(1, 3, 2, 1),
    normal(2, 2, 1, 2),
)
add(
    "conv2d, dilated",
    lambda ns, x, w: ns.nn.conv2d(x, w, [1, 1, 1, 1], "VALID", dilations=[1, 2, 1, 1]),
    normal(1, 4, 2, 1),
    normal(2, 2, 1, 2),
    oracle=False,  # its kernel of the gradient takes no dilations
)

# Family control.

add("cond taken", lambda ns, x: ns.cond(x[0] < 9.0, lambda: x * x, lambda: x), normal(3))
add(
    "cond not taken",
    lambda ns, x: ns.cond(x[0] > 9.0, lambda: ns.exp(x), lambda: x * 2.0),
    normal(3),
)
add(
    "cond of a constant",
    lambda ns, x: ns.cond(x[0] > 9.0, lambda: x, lambda: ns.zeros_like(x)) + x,
    normal(3),
)
add(
    "cond in cond",
    lambda ns, x: ns.cond(
        x[0] < 9.0,
        lambda: ns.cond(x[0] < 8.0, lambda: ns.sin(x) * x, lambda: x),
        lambda: ns.zeros_like(x),
    ),
    normal(3),
)
add(
    "case",
    lambda ns, x: ns.case(
        [(x[0] > 9.0, lambda: x), (x[0] > 8.0, lambda: x * 2.0)], default=lambda: x * x
    ),
    normal(3),
)
