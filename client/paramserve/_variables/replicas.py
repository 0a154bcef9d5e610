"""How copies of a variable on several devices would be kept alike, and put together.

A variable here has one copy, on the task that owns it, so there is nothing to keep alike: programs
may say what they say elsewhere, and a variable that is synchronized when it is read, a local
statistic, is not trainable.

Thread rule: immutable.
"""

from __future__ import annotations

import enum

__all__ = ["VariableAggregation", "VariableSynchronization"]


class VariableSynchronization(enum.Enum):
    """When the copies of a variable are made alike; there is one copy here."""

    AUTO = 0
    NONE = 1
    ON_WRITE = 2
    ON_READ = 3


class VariableAggregation(enum.Enum):
    """How updates of the copies of a variable are put together; there is one copy here."""

    NONE = 0
    SUM = 1
    MEAN = 2
    ONLY_FIRST_REPLICA = 3


def is_trainable(trainable: bool | None, synchronization: VariableSynchronization) -> bool:
    """Whether optimizers change a variable.

    Args:
        trainable: what the program says; None where it leaves it open.
        synchronization: of the variable; one that is synchronized when read is a statistic.
    """
    return trainable is not False and synchronization is not VariableSynchronization.ON_READ
