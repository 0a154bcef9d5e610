"""NumPy kernels of every op, one module per family; importing this package fills the registry.

Knows arrays, attributes and (for state) the variable store; knows nothing of graphs or networks.
"""

from paramserve_core.kernels import array as _array  # noqa: F401 # fills the registry, like these
from paramserve_core.kernels import control as _control  # noqa: F401
from paramserve_core.kernels import functions as _functions  # noqa: F401
from paramserve_core.kernels import indexing as _indexing  # noqa: F401
from paramserve_core.kernels import io as _io  # noqa: F401
from paramserve_core.kernels import math as _math  # noqa: F401
from paramserve_core.kernels import math_product as _math_product  # noqa: F401
from paramserve_core.kernels import math_reduce as _math_reduce  # noqa: F401
from paramserve_core.kernels import math_segment as _math_segment  # noqa: F401
from paramserve_core.kernels import math_sequence as _math_sequence  # noqa: F401
from paramserve_core.kernels import nn as _nn  # noqa: F401
from paramserve_core.kernels import nn_conv as _nn_conv  # noqa: F401
from paramserve_core.kernels import nn_softmax as _nn_softmax  # noqa: F401
from paramserve_core.kernels import random as _random  # noqa: F401
from paramserve_core.kernels import state as _state  # noqa: F401
from paramserve_core.kernels import state_indexing as _state_indexing  # noqa: F401
from paramserve_core.kernels import summary as _summary  # noqa: F401
from paramserve_core.kernels import training as _training  # noqa: F401
from paramserve_core.kernels.registry import KernelNode as KernelNode
from paramserve_core.kernels.registry import all_kernels as all_kernels
from paramserve_core.kernels.registry import find_kernel as find_kernel
