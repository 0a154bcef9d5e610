"""Gradient functions, one module per op family, and the walk that puts them together.

Importing this package registers every gradient function. Knows the framework and `_ops`.
"""

from paramserve._gradients import arrangement as _arrangement  # noqa: F401 # registers, like these
from paramserve._gradients import array as _array  # noqa: F401
from paramserve._gradients import control as _control  # noqa: F401
from paramserve._gradients import functions as _functions  # noqa: F401
from paramserve._gradients import indexing as _indexing  # noqa: F401
from paramserve._gradients import io as _io  # noqa: F401
from paramserve._gradients import math as _math  # noqa: F401
from paramserve._gradients import math_product as _math_product  # noqa: F401
from paramserve._gradients import math_reduce as _math_reduce  # noqa: F401
from paramserve._gradients import math_segment as _math_segment  # noqa: F401
from paramserve._gradients import math_sequence as _math_sequence  # noqa: F401
from paramserve._gradients import nn as _nn  # noqa: F401
from paramserve._gradients import nn_conv as _nn_conv  # noqa: F401
from paramserve._gradients import nn_softmax as _nn_softmax  # noqa: F401
from paramserve._gradients import random as _random  # noqa: F401
from paramserve._gradients import state as _state  # noqa: F401
from paramserve._gradients import state_indexing as _state_indexing  # noqa: F401
from paramserve._gradients import summary as _summary  # noqa: F401
from paramserve._gradients import training as _training  # noqa: F401
