"""Definitions of every op, one module per family; importing this package fills the registry.

Knows dtypes and shapes; knows nothing of kernels, graphs or sessions.
"""

from paramserve_core.opdefs.registry import (
    AttrDef as AttrDef,
)
from paramserve_core.opdefs.registry import (
    OpDef as OpDef,
)
from paramserve_core.opdefs.registry import (
    ShapeContext as ShapeContext,
)
from paramserve_core.opdefs.registry import (
    all_ops as all_ops,
)
from paramserve_core.opdefs.registry import (
    find_op as find_op,
)

# Importing a family fills the registry.
from paramserve_core.opdefs import array as _array  # noqa: E402, F401, I001
from paramserve_core.opdefs import control as _control  # noqa: E402, F401
