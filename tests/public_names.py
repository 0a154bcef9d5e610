"""The names that `import paramserve as ps` offers, as a program writes them after `ps.`."""

from types import ModuleType
from typing import Any

import paramserve as ps

MODULES = {
    "": ps,
    "errors": ps.errors,
    "nn": ps.nn,
    "summary": ps.summary,
    "test": ps.test,
    "train": ps.train,
}


def public_names() -> dict[str, Any]:
    """Each name, such as "train.Saver", and what it stands for; the modules are not among them."""
    return {
        f"{prefix}.{name}".lstrip("."): value
        for prefix, module in MODULES.items()
        for name, value in vars(module).items()
        if not name.startswith("_") and not isinstance(value, ModuleType)
    }
