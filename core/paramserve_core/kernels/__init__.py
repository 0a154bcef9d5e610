"""NumPy kernels of every op, one module per family; importing this package fills the registry.

Knows arrays, attributes and (for state) the variable store; knows nothing of graphs or networks.
"""

from paramserve_core.kernels.registry import (
    KernelNode as KernelNode,
)
from paramserve_core.kernels.registry import (
    all_kernels as all_kernels,
)
from paramserve_core.kernels.registry import (
    find_kernel as find_kernel,
)

# Importing a family fills the registry.
from paramserve_core.kernels import array as _array  # noqa: E402, F401, I001
from paramserve_core.kernels import control as _control  # noqa: E402, F401
