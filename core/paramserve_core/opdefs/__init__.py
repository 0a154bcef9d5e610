"""Definitions of every op, one module per family; importing this package fills the registry.

Knows dtypes and shapes; knows nothing of kernels, graphs or sessions.
"""

from paramserve_core.opdefs import array as _array  # noqa: F401 # fills the registry, like these
from paramserve_core.opdefs import control as _control  # noqa: F401
from paramserve_core.opdefs import functions as _functions  # noqa: F401
from paramserve_core.opdefs import indexing as _indexing  # noqa: F401
from paramserve_core.opdefs import io as _io  # noqa: F401
from paramserve_core.opdefs import math as _math  # noqa: F401
from paramserve_core.opdefs import math_product as _math_product  # noqa: F401
from paramserve_core.opdefs import math_reduce as _math_reduce  # noqa: F401
from paramserve_core.opdefs import math_segment as _math_segment  # noqa: F401
from paramserve_core.opdefs import math_sequence as _math_sequence  # noqa: F401
from paramserve_core.opdefs import nn as _nn  # noqa: F401
from paramserve_core.opdefs import nn_conv as _nn_conv  # noqa: F401
from paramserve_core.opdefs import nn_softmax as _nn_softmax  # noqa: F401
from paramserve_core.opdefs import random as _random  # noqa: F401
from paramserve_core.opdefs import state as _state  # noqa: F401
from paramserve_core.opdefs import state_indexing as _state_indexing  # noqa: F401
from paramserve_core.opdefs import summary as _summary  # noqa: F401
from paramserve_core.opdefs import training as _training  # noqa: F401
from paramserve_core.opdefs.registry import AttrDef as AttrDef
from paramserve_core.opdefs.registry import OpDef as OpDef
from paramserve_core.opdefs.registry import ShapeContext as ShapeContext
from paramserve_core.opdefs.registry import all_ops as all_ops
from paramserve_core.opdefs.registry import find_op as find_op
