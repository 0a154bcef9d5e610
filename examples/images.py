"""The data of the examples with images: handwritten digits that come with scikit-learn.

They are from the UCI repository's "Optical Recognition of Handwritten Digits" (E. Alpaydin and
C. Kaynak, 1998, CC BY 4.0): 1797 images of 8 by 8 pixels.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits


class Digits(NamedTuple):
    """Images `[n, 64]` in [0, 1], and the digits `[n]` that they show."""

    images: NDArray[np.float32]
    labels: NDArray[np.int64]

    def batch(self, random: np.random.RandomState, size: int) -> Digits:
        """Some of them, drawn at random."""
        chosen = random.randint(len(self.labels), size=size)
        return Digits(self.images[chosen], self.labels[chosen])


def load() -> tuple[Digits, Digits]:
    """1400 images to train with and 397 to test with, always the same."""
    found = load_digits()
    order = np.random.RandomState(0).permutation(len(found.target))
    images = (found.data / 16.0).astype(np.float32)[order]
    labels = found.target.astype(np.int64)[order]
    return Digits(images[:1400], labels[:1400]), Digits(images[1400:], labels[1400:])
