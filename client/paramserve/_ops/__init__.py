"""The public op functions, one module per family; each is a thin typed wrapper over `apply_op`.

Importing this package gives tensors their operators. Knows the framework and the op definitions;
knows nothing of sessions, variables or optimizers.
"""

from paramserve._ops import operators as _operators  # noqa: F401 # gives Tensor its operators
from paramserve._ops import slices as _slices  # noqa: F401 # lets an IndexedSlices become dense
from paramserve._ops import state_indexing as _state_indexing  # noqa: F401 # v[0].assign
