"""Functions of neural networks."""

from paramserve._ops.elementary import log_sigmoid as log_sigmoid
from paramserve._ops.elementary import sigmoid as sigmoid
from paramserve._ops.elementary import tanh as tanh
from paramserve._ops.embedding import embedding_lookup as embedding_lookup
from paramserve._ops.nn import batch_normalization as batch_normalization
from paramserve._ops.nn import bias_add as bias_add
from paramserve._ops.nn import dropout as dropout
from paramserve._ops.nn import elu as elu
from paramserve._ops.nn import in_top_k as in_top_k
from paramserve._ops.nn import l2_loss as l2_loss
from paramserve._ops.nn import l2_normalize as l2_normalize
from paramserve._ops.nn import leaky_relu as leaky_relu
from paramserve._ops.nn import moments as moments
from paramserve._ops.nn import normalize_moments as normalize_moments
from paramserve._ops.nn import relu as relu
from paramserve._ops.nn import relu6 as relu6
from paramserve._ops.nn import relu_layer as relu_layer
from paramserve._ops.nn import selu as selu
from paramserve._ops.nn import softplus as softplus
from paramserve._ops.nn import softsign as softsign
from paramserve._ops.nn import sufficient_statistics as sufficient_statistics
from paramserve._ops.nn import top_k as top_k
from paramserve._ops.nn import xw_plus_b as xw_plus_b
from paramserve._ops.nn import zero_fraction as zero_fraction
from paramserve._ops.nn_conv import atrous_conv2d as atrous_conv2d
from paramserve._ops.nn_conv import avg_pool as avg_pool
from paramserve._ops.nn_conv import conv2d as conv2d
from paramserve._ops.nn_conv import conv2d_backprop_filter as conv2d_backprop_filter
from paramserve._ops.nn_conv import conv2d_backprop_input as conv2d_backprop_input
from paramserve._ops.nn_conv import conv2d_transpose as conv2d_transpose
from paramserve._ops.nn_conv import depthwise_conv2d as depthwise_conv2d
from paramserve._ops.nn_conv import depthwise_conv2d_native as depthwise_conv2d_native
from paramserve._ops.nn_conv import max_pool as max_pool
from paramserve._ops.nn_conv import separable_conv2d as separable_conv2d
from paramserve._ops.nn_softmax import log_softmax as log_softmax
from paramserve._ops.nn_softmax import (
    sigmoid_cross_entropy_with_logits as sigmoid_cross_entropy_with_logits,
)
from paramserve._ops.nn_softmax import softmax as softmax
from paramserve._ops.nn_softmax import (
    softmax_cross_entropy_with_logits as softmax_cross_entropy_with_logits,
)
from paramserve._ops.nn_softmax import (
    softmax_cross_entropy_with_logits_v2 as softmax_cross_entropy_with_logits_v2,
)
from paramserve._ops.nn_softmax import (
    sparse_softmax_cross_entropy_with_logits as sparse_softmax_cross_entropy_with_logits,
)
from paramserve._ops.nn_softmax import (
    weighted_cross_entropy_with_logits as weighted_cross_entropy_with_logits,
)
