"""What is saved and restored, and the conversation between the benchmark and its peers.

A peer is a program of its own that holds one model and obeys lines on its standard input. It
answers each with a line of JSON: seconds by the name of what they are of, or a list of them, and
whether the values were right.

The variables have random values, which a restore must bring back after they were set to zero.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A number of float32 variables of one size.

    Attributes:
        title: what a row of the table calls it.
        variables: how many.
        elements: of each.
        is_compared: whether TensorFlow holds it too. To build its graph of 30,000 variables takes
            longer than all that is measured.
    """

    title: str
    variables: int
    elements: int
    is_compared: bool = True

    @property
    def nbytes(self) -> int:
        """Bytes of all of it."""
        return 4 * self.variables * self.elements


MODELS: Final[dict[str, Model]] = {
    "one": Model(title="1 GB, one variable", variables=1, elements=250_000_000),
    "hundred": Model(title="1 GB, 100 variables", variables=100, elements=2_500_000),
    "flat": Model(title="120 MB, one variable", variables=1, elements=30_000_000),
    "many": Model(
        title="120 MB, 30,000 variables", variables=30_000, elements=1_000, is_compared=False
    ),
}

QUICK: Final[dict[str, Model]] = {
    "one": Model(title="4 MB, one variable", variables=1, elements=1_000_000),
    "hundred": Model(title="4 MB, 10 variables", variables=10, elements=100_000),
    "flat": Model(title="64 KB, one variable", variables=1, elements=16_000),
    "many": Model(title="64 KB, 250 variables", variables=250, elements=64, is_compared=False),
}
"""As many kinds, in sizes that take no time: whether the programs work."""

TRAINED: Final = "hundred"
"""The model that is trained while it is saved."""


class Peer(Protocol):
    """A program that holds a model and saves it."""

    def save(self) -> Mapping[str, float]:
        """Saves; answers seconds by the name of what they are of."""

    def restore(self) -> Mapping[str, float]:
        """Restores what was saved last; answers seconds by the name of what they are of."""

    def spoil(self) -> None:
        """Sets every variable to zero."""

    def is_right(self) -> bool:
        """Whether the variables have the values that were saved."""


def obey(peer: Peer) -> None:
    """Does what the lines on standard input say, until they end."""
    say("ready")
    for line in sys.stdin:
        if line.strip() == "save":
            say({"seconds": dict(peer.save()), "is_right": True})
            continue
        peer.spoil()
        was_spoilt = not peer.is_right()
        seconds = dict(peer.restore())
        say({"seconds": seconds, "is_right": was_spoilt and peer.is_right()})


def say(answer: object) -> None:
    """Answers a line of JSON."""
    print(json.dumps(answer), flush=True)


def model_of(text: str) -> Model:
    """The model that a command line describes."""
    return Model(**json.loads(text))
