"""A parameter server's client: graphs, variables, sessions and savers.

`import paramserve as ps` is the one import that a program needs. The names are those of early
TensorFlow (0.8 to 1.x), so that a program moves here by changing its import:

- here: graphs, variables, ops, sessions;
- `ps.train`: savers, optimizers, clusters and servers;
- `ps.nn`: layers and losses; `ps.summary`: values for TensorBoard; `ps.errors`: what is raised;
- `ps.test`: a test case with sessions, for tests of programs.
"""

import typing as _typing

from paramserve import errors as errors
from paramserve import nn as nn
from paramserve import summary as summary
from paramserve import test as test
from paramserve import train as train
from paramserve._framework.collections import GraphKeys as GraphKeys
from paramserve._framework.convert import convert_n_to_tensor as convert_n_to_tensor
from paramserve._framework.convert import convert_to_tensor as convert_to_tensor
from paramserve._framework.convert import (
    convert_to_tensor_or_indexed_slices as convert_to_tensor_or_indexed_slices,
)
from paramserve._framework.convert import (
    register_tensor_conversion_function as register_tensor_conversion_function,
)
from paramserve._framework.gradient_registry import NoGradient as NoGradient
from paramserve._framework.gradient_registry import NotDifferentiable as NotDifferentiable
from paramserve._framework.gradient_registry import RegisterGradient as RegisterGradient
from paramserve._framework.graph import Graph as Graph
from paramserve._framework.graph import get_default_graph as get_default_graph
from paramserve._framework.graph import reset_default_graph as reset_default_graph
from paramserve._framework.importer import import_graph_def as import_graph_def
from paramserve._framework.indexed_slices import IndexedSlices as IndexedSlices
from paramserve._framework.operation import Operation as Operation
from paramserve._framework.scopes import add_to_collection as add_to_collection
from paramserve._framework.scopes import add_to_collections as add_to_collections
from paramserve._framework.scopes import colocate_with as colocate_with
from paramserve._framework.scopes import container as container
from paramserve._framework.scopes import control_dependencies as control_dependencies
from paramserve._framework.scopes import device as device
from paramserve._framework.scopes import get_collection as get_collection
from paramserve._framework.scopes import get_collection_ref as get_collection_ref
from paramserve._framework.scopes import name_scope as name_scope
from paramserve._framework.scopes import op_scope as op_scope
from paramserve._framework.seeds import get_seed as get_seed
from paramserve._framework.seeds import set_random_seed as set_random_seed
from paramserve._framework.shape_inference import RegisterShape as RegisterShape
from paramserve._framework.tensor import Tensor as Tensor
from paramserve._framework.tensor_messages import make_ndarray as make_ndarray
from paramserve._framework.tensor_messages import make_tensor_proto as make_tensor_proto
from paramserve._gradients.custom import custom_gradient as custom_gradient
from paramserve._gradients.hessians import hessians as hessians
from paramserve._gradients.walk import AggregationMethod as AggregationMethod
from paramserve._gradients.walk import UnconnectedGradients as UnconnectedGradients
from paramserve._gradients.walk import gradients as gradients
from paramserve._ops import operators as _operators  # noqa: F401 # puts them into Tensor
from paramserve._ops.arrangement import diag as diag
from paramserve._ops.arrangement import diag_part as diag_part
from paramserve._ops.arrangement import eye as eye
from paramserve._ops.arrangement import invert_permutation as invert_permutation
from paramserve._ops.arrangement import matrix_band_part as matrix_band_part
from paramserve._ops.arrangement import matrix_diag as matrix_diag
from paramserve._ops.arrangement import matrix_diag_part as matrix_diag_part
from paramserve._ops.arrangement import matrix_set_diag as matrix_set_diag
from paramserve._ops.arrangement import matrix_transpose as matrix_transpose
from paramserve._ops.arrangement import pad as pad
from paramserve._ops.arrangement import reverse as reverse
from paramserve._ops.arrangement import reverse_sequence as reverse_sequence
from paramserve._ops.arrangement import reverse_v2 as reverse_v2
from paramserve._ops.arrangement import tile as tile
from paramserve._ops.arrangement import trace as trace
from paramserve._ops.arrangement import transpose as transpose
from paramserve._ops.array import bitcast as bitcast
from paramserve._ops.array import broadcast_dynamic_shape as broadcast_dynamic_shape
from paramserve._ops.array import broadcast_static_shape as broadcast_static_shape
from paramserve._ops.array import broadcast_to as broadcast_to
from paramserve._ops.array import cast as cast
from paramserve._ops.array import check_numerics as check_numerics
from paramserve._ops.array import constant as constant
from paramserve._ops.array import ensure_shape as ensure_shape
from paramserve._ops.array import expand_dims as expand_dims
from paramserve._ops.array import fill as fill
from paramserve._ops.array import identity as identity
from paramserve._ops.array import identity_n as identity_n
from paramserve._ops.array import ones as ones
from paramserve._ops.array import ones_like as ones_like
from paramserve._ops.array import placeholder as placeholder
from paramserve._ops.array import placeholder_with_default as placeholder_with_default
from paramserve._ops.array import rank as rank
from paramserve._ops.array import reshape as reshape
from paramserve._ops.array import saturate_cast as saturate_cast
from paramserve._ops.array import shape as shape
from paramserve._ops.array import shape_n as shape_n
from paramserve._ops.array import size as size
from paramserve._ops.array import squeeze as squeeze
from paramserve._ops.array import stop_gradient as stop_gradient
from paramserve._ops.array import to_bfloat16 as to_bfloat16
from paramserve._ops.array import to_double as to_double
from paramserve._ops.array import to_float as to_float
from paramserve._ops.array import to_int32 as to_int32
from paramserve._ops.array import to_int64 as to_int64
from paramserve._ops.array import zeros as zeros
from paramserve._ops.array import zeros_like as zeros_like
from paramserve._ops.checks import Assert as Assert
from paramserve._ops.checks import assert_equal as assert_equal
from paramserve._ops.checks import assert_greater as assert_greater
from paramserve._ops.checks import assert_greater_equal as assert_greater_equal
from paramserve._ops.checks import assert_integer as assert_integer
from paramserve._ops.checks import assert_less as assert_less
from paramserve._ops.checks import assert_less_equal as assert_less_equal
from paramserve._ops.checks import assert_negative as assert_negative
from paramserve._ops.checks import assert_non_negative as assert_non_negative
from paramserve._ops.checks import assert_non_positive as assert_non_positive
from paramserve._ops.checks import assert_none_equal as assert_none_equal
from paramserve._ops.checks import assert_positive as assert_positive
from paramserve._ops.checks import assert_rank as assert_rank
from paramserve._ops.checks import assert_rank_at_least as assert_rank_at_least
from paramserve._ops.checks import assert_scalar as assert_scalar
from paramserve._ops.checks import assert_type as assert_type
from paramserve._ops.checks import is_non_decreasing as is_non_decreasing
from paramserve._ops.checks import is_numeric_tensor as is_numeric_tensor
from paramserve._ops.checks import is_strictly_increasing as is_strictly_increasing
from paramserve._ops.clip import clip_by_average_norm as clip_by_average_norm
from paramserve._ops.clip import clip_by_global_norm as clip_by_global_norm
from paramserve._ops.clip import clip_by_norm as clip_by_norm
from paramserve._ops.clip import clip_by_value as clip_by_value
from paramserve._ops.clip import global_norm as global_norm
from paramserve._ops.conditional import case as case
from paramserve._ops.conditional import cond as cond
from paramserve._ops.control import group as group
from paramserve._ops.control import no_op as no_op
from paramserve._ops.control import tuple as tuple
from paramserve._ops.elementary import abs as abs
from paramserve._ops.elementary import acos as acos
from paramserve._ops.elementary import acosh as acosh
from paramserve._ops.elementary import angle as angle
from paramserve._ops.elementary import asin as asin
from paramserve._ops.elementary import asinh as asinh
from paramserve._ops.elementary import atan as atan
from paramserve._ops.elementary import atanh as atanh
from paramserve._ops.elementary import ceil as ceil
from paramserve._ops.elementary import complex_abs as complex_abs
from paramserve._ops.elementary import conj as conj
from paramserve._ops.elementary import cos as cos
from paramserve._ops.elementary import cosh as cosh
from paramserve._ops.elementary import digamma as digamma
from paramserve._ops.elementary import erf as erf
from paramserve._ops.elementary import erfc as erfc
from paramserve._ops.elementary import exp as exp
from paramserve._ops.elementary import expm1 as expm1
from paramserve._ops.elementary import floor as floor
from paramserve._ops.elementary import imag as imag
from paramserve._ops.elementary import inv as inv
from paramserve._ops.elementary import is_finite as is_finite
from paramserve._ops.elementary import is_inf as is_inf
from paramserve._ops.elementary import is_nan as is_nan
from paramserve._ops.elementary import lgamma as lgamma
from paramserve._ops.elementary import log as log
from paramserve._ops.elementary import log1p as log1p
from paramserve._ops.elementary import log_sigmoid as log_sigmoid
from paramserve._ops.elementary import logical_not as logical_not
from paramserve._ops.elementary import neg as neg
from paramserve._ops.elementary import negative as negative
from paramserve._ops.elementary import polygamma as polygamma
from paramserve._ops.elementary import real as real
from paramserve._ops.elementary import reciprocal as reciprocal
from paramserve._ops.elementary import rint as rint
from paramserve._ops.elementary import round as round
from paramserve._ops.elementary import rsqrt as rsqrt
from paramserve._ops.elementary import sigmoid as sigmoid
from paramserve._ops.elementary import sign as sign
from paramserve._ops.elementary import sin as sin
from paramserve._ops.elementary import sinh as sinh
from paramserve._ops.elementary import sqrt as sqrt
from paramserve._ops.elementary import square as square
from paramserve._ops.elementary import tan as tan
from paramserve._ops.elementary import tanh as tanh
from paramserve._ops.elementary import zeta as zeta
from paramserve._ops.functions import py_func as py_func
from paramserve._ops.indexing import boolean_mask as boolean_mask
from paramserve._ops.indexing import dynamic_partition as dynamic_partition
from paramserve._ops.indexing import dynamic_stitch as dynamic_stitch
from paramserve._ops.indexing import gather as gather
from paramserve._ops.indexing import gather_nd as gather_nd
from paramserve._ops.indexing import listdiff as listdiff
from paramserve._ops.indexing import one_hot as one_hot
from paramserve._ops.indexing import scatter_nd as scatter_nd
from paramserve._ops.indexing import select as select
from paramserve._ops.indexing import sequence_mask as sequence_mask
from paramserve._ops.indexing import setdiff1d as setdiff1d
from paramserve._ops.indexing import slice as slice
from paramserve._ops.indexing import sparse_mask as sparse_mask
from paramserve._ops.indexing import strided_slice as strided_slice
from paramserve._ops.indexing import unique as unique
from paramserve._ops.indexing import unique_with_counts as unique_with_counts
from paramserve._ops.indexing import where as where
from paramserve._ops.joining import concat as concat
from paramserve._ops.joining import meshgrid as meshgrid
from paramserve._ops.joining import pack as pack
from paramserve._ops.joining import parallel_stack as parallel_stack
from paramserve._ops.joining import split as split
from paramserve._ops.joining import stack as stack
from paramserve._ops.joining import unpack as unpack
from paramserve._ops.joining import unstack as unstack
from paramserve._ops.math import add as add
from paramserve._ops.math import atan2 as atan2
from paramserve._ops.math import complex as complex
from paramserve._ops.math import div as div
from paramserve._ops.math import div_no_nan as div_no_nan
from paramserve._ops.math import divide as divide
from paramserve._ops.math import equal as equal
from paramserve._ops.math import floor_div as floor_div
from paramserve._ops.math import floor_mod as floor_mod
from paramserve._ops.math import floordiv as floordiv
from paramserve._ops.math import floormod as floormod
from paramserve._ops.math import greater as greater
from paramserve._ops.math import greater_equal as greater_equal
from paramserve._ops.math import less as less
from paramserve._ops.math import less_equal as less_equal
from paramserve._ops.math import logical_and as logical_and
from paramserve._ops.math import logical_or as logical_or
from paramserve._ops.math import logical_xor as logical_xor
from paramserve._ops.math import maximum as maximum
from paramserve._ops.math import minimum as minimum
from paramserve._ops.math import mod as mod
from paramserve._ops.math import mul as mul
from paramserve._ops.math import multiply as multiply
from paramserve._ops.math import not_equal as not_equal
from paramserve._ops.math import pow as pow
from paramserve._ops.math import realdiv as realdiv
from paramserve._ops.math import scalar_mul as scalar_mul
from paramserve._ops.math import squared_difference as squared_difference
from paramserve._ops.math import sub as sub
from paramserve._ops.math import subtract as subtract
from paramserve._ops.math import truediv as truediv
from paramserve._ops.math import truncatediv as truncatediv
from paramserve._ops.math import truncatemod as truncatemod
from paramserve._ops.math_product import batch_matmul as batch_matmul
from paramserve._ops.math_product import cross as cross
from paramserve._ops.math_product import matmul as matmul
from paramserve._ops.math_reduce import accumulate_n as accumulate_n
from paramserve._ops.math_reduce import add_n as add_n
from paramserve._ops.math_reduce import arg_max as arg_max
from paramserve._ops.math_reduce import arg_min as arg_min
from paramserve._ops.math_reduce import argmax as argmax
from paramserve._ops.math_reduce import argmin as argmin
from paramserve._ops.math_reduce import count_nonzero as count_nonzero
from paramserve._ops.math_reduce import cumprod as cumprod
from paramserve._ops.math_reduce import cumsum as cumsum
from paramserve._ops.math_reduce import reduce_all as reduce_all
from paramserve._ops.math_reduce import reduce_any as reduce_any
from paramserve._ops.math_reduce import reduce_logsumexp as reduce_logsumexp
from paramserve._ops.math_reduce import reduce_max as reduce_max
from paramserve._ops.math_reduce import reduce_mean as reduce_mean
from paramserve._ops.math_reduce import reduce_min as reduce_min
from paramserve._ops.math_reduce import reduce_prod as reduce_prod
from paramserve._ops.math_reduce import reduce_sum as reduce_sum
from paramserve._ops.math_segment import segment_max as segment_max
from paramserve._ops.math_segment import segment_mean as segment_mean
from paramserve._ops.math_segment import segment_min as segment_min
from paramserve._ops.math_segment import segment_prod as segment_prod
from paramserve._ops.math_segment import segment_sum as segment_sum
from paramserve._ops.math_segment import sparse_segment_mean as sparse_segment_mean
from paramserve._ops.math_segment import sparse_segment_sqrt_n as sparse_segment_sqrt_n
from paramserve._ops.math_segment import sparse_segment_sum as sparse_segment_sum
from paramserve._ops.math_segment import unsorted_segment_max as unsorted_segment_max
from paramserve._ops.math_segment import unsorted_segment_min as unsorted_segment_min
from paramserve._ops.math_segment import unsorted_segment_prod as unsorted_segment_prod
from paramserve._ops.math_segment import unsorted_segment_sum as unsorted_segment_sum
from paramserve._ops.math_sequence import bincount as bincount
from paramserve._ops.math_sequence import lin_space as lin_space
from paramserve._ops.math_sequence import linspace as linspace
from paramserve._ops.math_sequence import range as range
from paramserve._ops.random import multinomial as multinomial
from paramserve._ops.random import random_crop as random_crop
from paramserve._ops.random import random_gamma as random_gamma
from paramserve._ops.random import random_normal as random_normal
from paramserve._ops.random import random_shuffle as random_shuffle
from paramserve._ops.random import random_uniform as random_uniform
from paramserve._ops.random import truncated_normal as truncated_normal
from paramserve._ops.state import assign as assign
from paramserve._ops.state import assign_add as assign_add
from paramserve._ops.state import assign_sub as assign_sub
from paramserve._ops.state import count_up_to as count_up_to
from paramserve._ops.state import is_variable_initialized as is_variable_initialized
from paramserve._ops.state import scatter_add as scatter_add
from paramserve._ops.state import scatter_div as scatter_div
from paramserve._ops.state import scatter_max as scatter_max
from paramserve._ops.state import scatter_min as scatter_min
from paramserve._ops.state import scatter_mul as scatter_mul
from paramserve._ops.state import scatter_sub as scatter_sub
from paramserve._ops.state import scatter_update as scatter_update
from paramserve._ops.state_indexing import scatter_nd_add as scatter_nd_add
from paramserve._ops.state_indexing import scatter_nd_sub as scatter_nd_sub
from paramserve._ops.state_indexing import scatter_nd_update as scatter_nd_update
from paramserve._ops.summary import histogram_summary as histogram_summary
from paramserve._ops.summary import merge_all_summaries as merge_all_summaries
from paramserve._ops.summary import merge_summary as merge_summary
from paramserve._ops.summary import scalar_summary as scalar_summary
from paramserve._ops.while_loop import while_loop as while_loop
from paramserve._session.fetches import IndexedSlicesValue as IndexedSlicesValue
from paramserve._session.session import InteractiveSession as InteractiveSession
from paramserve._session.session import Session as Session
from paramserve._session.session import get_default_session as get_default_session
from paramserve._session.timeline import Timeline as Timeline
from paramserve._variables.collected import all_variables as all_variables
from paramserve._variables.collected import global_variables as global_variables
from paramserve._variables.collected import local_variables as local_variables
from paramserve._variables.collected import model_variables as model_variables
from paramserve._variables.collected import moving_average_variables as moving_average_variables
from paramserve._variables.collected import trainable_variables as trainable_variables
from paramserve._variables.initialization import (
    assert_variables_initialized as assert_variables_initialized,
)
from paramserve._variables.initialization import (
    global_variables_initializer as global_variables_initializer,
)
from paramserve._variables.initialization import (
    initialize_all_variables as initialize_all_variables,
)
from paramserve._variables.initialization import (
    initialize_local_variables as initialize_local_variables,
)
from paramserve._variables.initialization import initialize_variables as initialize_variables
from paramserve._variables.initialization import (
    local_variables_initializer as local_variables_initializer,
)
from paramserve._variables.initialization import (
    report_uninitialized_variables as report_uninitialized_variables,
)
from paramserve._variables.initialization import variables_initializer as variables_initializer
from paramserve._variables.initializers import constant_initializer as constant_initializer
from paramserve._variables.initializers import ones_initializer as ones_initializer
from paramserve._variables.initializers import (
    random_normal_initializer as random_normal_initializer,
)
from paramserve._variables.initializers import (
    random_uniform_initializer as random_uniform_initializer,
)
from paramserve._variables.initializers import (
    truncated_normal_initializer as truncated_normal_initializer,
)
from paramserve._variables.initializers import (
    uniform_unit_scaling_initializer as uniform_unit_scaling_initializer,
)
from paramserve._variables.initializers import zeros_initializer as zeros_initializer
from paramserve._variables.partitioned import PartitionedVariable as PartitionedVariable
from paramserve._variables.partitioners import fixed_size_partitioner as fixed_size_partitioner
from paramserve._variables.partitioners import (
    min_max_variable_partitioner as min_max_variable_partitioner,
)
from paramserve._variables.partitioners import (
    variable_axis_size_partitioner as variable_axis_size_partitioner,
)
from paramserve._variables.partitioning import (
    create_partitioned_variables as create_partitioned_variables,
)
from paramserve._variables.replicas import VariableAggregation as VariableAggregation
from paramserve._variables.replicas import VariableSynchronization as VariableSynchronization
from paramserve._variables.scope import VariableScope as VariableScope
from paramserve._variables.scope import no_regularizer as no_regularizer
from paramserve._variables.template import make_template as make_template
from paramserve._variables.variable import Variable as Variable
from paramserve._variables.variable_scope import AUTO_REUSE as AUTO_REUSE
from paramserve._variables.variable_scope import get_local_variable as get_local_variable
from paramserve._variables.variable_scope import get_variable as get_variable
from paramserve._variables.variable_scope import get_variable_scope as get_variable_scope
from paramserve._variables.variable_scope import variable_op_scope as variable_op_scope
from paramserve._variables.variable_scope import variable_scope as variable_scope
from paramserve._variables.variance_scaling import (
    glorot_normal_initializer as glorot_normal_initializer,
)
from paramserve._variables.variance_scaling import (
    glorot_uniform_initializer as glorot_uniform_initializer,
)
from paramserve._variables.variance_scaling import he_normal_initializer as he_normal_initializer
from paramserve._variables.variance_scaling import he_uniform_initializer as he_uniform_initializer
from paramserve._variables.variance_scaling import (
    lecun_normal_initializer as lecun_normal_initializer,
)
from paramserve._variables.variance_scaling import (
    lecun_uniform_initializer as lecun_uniform_initializer,
)
from paramserve._variables.variance_scaling import (
    variance_scaling_initializer as variance_scaling_initializer,
)
from paramserve_core.devices import DeviceSpec as DeviceSpec
from paramserve_core.dimensions import Dimension as Dimension
from paramserve_core.dtypes import DType as DType
from paramserve_core.dtypes import as_dtype as as_dtype
from paramserve_core.dtypes import bfloat16 as bfloat16
from paramserve_core.dtypes import bfloat16_ref as bfloat16_ref
from paramserve_core.dtypes import bool as bool
from paramserve_core.dtypes import bool_ref as bool_ref
from paramserve_core.dtypes import complex64 as complex64
from paramserve_core.dtypes import complex64_ref as complex64_ref
from paramserve_core.dtypes import complex128 as complex128
from paramserve_core.dtypes import complex128_ref as complex128_ref
from paramserve_core.dtypes import double as double
from paramserve_core.dtypes import double_ref as double_ref
from paramserve_core.dtypes import float16 as float16
from paramserve_core.dtypes import float16_ref as float16_ref
from paramserve_core.dtypes import float32 as float32
from paramserve_core.dtypes import float32_ref as float32_ref
from paramserve_core.dtypes import float64 as float64
from paramserve_core.dtypes import float64_ref as float64_ref
from paramserve_core.dtypes import half as half
from paramserve_core.dtypes import half_ref as half_ref
from paramserve_core.dtypes import int8 as int8
from paramserve_core.dtypes import int8_ref as int8_ref
from paramserve_core.dtypes import int16 as int16
from paramserve_core.dtypes import int16_ref as int16_ref
from paramserve_core.dtypes import int32 as int32
from paramserve_core.dtypes import int32_ref as int32_ref
from paramserve_core.dtypes import int64 as int64
from paramserve_core.dtypes import int64_ref as int64_ref
from paramserve_core.dtypes import string as string
from paramserve_core.dtypes import string_ref as string_ref
from paramserve_core.dtypes import uint8 as uint8
from paramserve_core.dtypes import uint8_ref as uint8_ref
from paramserve_core.dtypes import uint16 as uint16
from paramserve_core.dtypes import uint16_ref as uint16_ref
from paramserve_core.dtypes import uint32 as uint32
from paramserve_core.dtypes import uint32_ref as uint32_ref
from paramserve_core.dtypes import uint64 as uint64
from paramserve_core.dtypes import uint64_ref as uint64_ref
from paramserve_core.errors import OpError as OpError
from paramserve_core.shapes import TensorShape as TensorShape
from paramserve_protos.v1.attr_value_pb2 import AttrValue as AttrValue
from paramserve_protos.v1.attr_value_pb2 import NameAttrList as NameAttrList
from paramserve_protos.v1.config_pb2 import ConfigProto as ConfigProto
from paramserve_protos.v1.config_pb2 import RunMetadata as RunMetadata
from paramserve_protos.v1.config_pb2 import RunOptions as RunOptions
from paramserve_protos.v1.event_pb2 import Event as Event
from paramserve_protos.v1.event_pb2 import SessionLog as SessionLog
from paramserve_protos.v1.graph_pb2 import GraphDef as GraphDef
from paramserve_protos.v1.meta_graph_pb2 import MetaGraphDef as MetaGraphDef
from paramserve_protos.v1.node_def_pb2 import NodeDef as NodeDef
from paramserve_protos.v1.summary_pb2 import HistogramProto as HistogramProto
from paramserve_protos.v1.summary_pb2 import Summary as Summary
from paramserve_protos.v1.summary_pb2 import SummaryMetadata as SummaryMetadata
from paramserve_protos.v1.tensor_pb2 import TensorProto as TensorProto
from paramserve_protos.v1.tensor_shape_pb2 import TensorShapeProto as TensorShapeProto
from paramserve_protos.v1.variable_pb2 import VariableDef as VariableDef

newaxis = None
"""In brackets: a new dimension of size 1."""

if _typing.TYPE_CHECKING:
    __version__: str
else:

    def __getattr__(name):
        if name == "__version__":
            from paramserve_core.version import version

            return version()
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
