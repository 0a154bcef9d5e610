"""Gradients of the family `random`: there are none, nothing flows back through a draw.

TensorFlow has one for `random_gamma` by its shape parameters; here it counts as constant.

Thread rule: fills a registry while it is imported.
"""

from __future__ import annotations

from paramserve._framework.gradient_registry import NoGradient

for _op in (
    "Multinomial",
    "RandomGamma",
    "RandomShuffle",
    "RandomStandardNormal",
    "RandomUniform",
    "RandomUniformInt",
    "TruncatedNormal",
):
    NoGradient(_op)
