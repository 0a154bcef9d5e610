"""The error function and those around gamma and zeta, for float32 and float64 arrays.

NumPy has neither. The error function is W. J. Cody's rational Chebyshev approximation on three
intervals ("Rational Chebyshev approximations for the error function", Math. Comp. 23, 1969), good
to the last digits of a double. The gamma function is C. Lanczos' approximation ("A precision
approximation of the gamma function", SIAM J. Numer. Anal. B 1, 1964) with g = 7 and nine terms;
digamma is the asymptotic series after the argument was shifted up by its recurrence (J. M.
Bernardo, Algorithm AS 103, 1976). Both gamma functions use the reflection formula below 1/2. The
zeta function is a sum of its first terms and the Euler-Maclaurin formula for the rest.

Results have the type of the argument, and float32 is computed in float32. Warnings are the
caller's to silence.

Thread rule: pure functions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from paramserve_core.kernels.numerics import Array

# Cody's coefficients, highest power first as Horner's rule takes them.
_ERF_SMALL = (
    (
        1.85777706184603153e-1,
        3.16112374387056560e0,
        1.13864154151050156e2,
        3.77485237685302021e2,
        3.20937758913846947e3,
    ),
    (
        1.0,
        2.36012909523441209e1,
        2.44024637934444173e2,
        1.28261652607737228e3,
        2.84423683343917062e3,
    ),
)
_ERFC_MIDDLE = (
    (
        2.15311535474403846e-8,
        5.64188496988670089e-1,
        8.88314979438837594e0,
        6.61191906371416295e1,
        2.98635138197400131e2,
        8.81952221241769090e2,
        1.71204761263407058e3,
        2.05107837782607147e3,
        1.23033935479799725e3,
    ),
    (
        1.0,
        1.57449261107098347e1,
        1.17693950891312499e2,
        5.37181101862009858e2,
        1.62138957456669019e3,
        3.29079923573345963e3,
        4.36261909014324716e3,
        3.43936767414372164e3,
        1.23033935480374942e3,
    ),
)
_ERFC_LARGE = (
    (
        1.63153871373020978e-2,
        3.05326634961232344e-1,
        3.60344899949804439e-1,
        1.25781726111229246e-1,
        1.60837851487422766e-2,
        6.58749161529837803e-4,
    ),
    (
        1.0,
        2.56852019228982242e0,
        1.87295284992346725e0,
        5.27905102951428412e-1,
        6.05183413124413191e-2,
        2.33520497626869185e-3,
    ),
)
_INVERSE_SQRT_PI = 1 / math.sqrt(math.pi)
# Where erfc is smaller than the smallest denormal double.
_ERFC_IS_ZERO = 27.3


def _horner(coefficients: Sequence[float], x: Array) -> Array:
    result = np.full_like(x, coefficients[0])
    for c in coefficients[1:]:
        np.multiply(result, x, out=result)
        np.add(result, c, out=result)
    return result


def _ratio(coefficients: tuple[Sequence[float], Sequence[float]], x: Array) -> Array:
    numerator = _horner(coefficients[0], x)
    return np.divide(numerator, _horner(coefficients[1], x), out=numerator)


def _erf_small(x: Array) -> Array:
    """The error function for |x| <= 0.46875."""
    return x * _ratio(_ERF_SMALL, np.square(x))


def _exp_of_minus_square(a: Array) -> Array:
    """exp(-a²), where rounding a² would cost digits: a² is split into an exact and a small part."""
    coarse = np.trunc(a * 16) / 16
    result: Array = np.exp(-coarse * coarse) * np.exp((coarse - a) * (a + coarse))
    return result


def _erfc_positive(a: Array) -> Array:
    """The complement of the error function for a > 0.46875."""
    result = np.empty_like(a)
    middle = a <= 4
    part = a[middle]
    result[middle] = _ratio(_ERFC_MIDDLE, part) * _exp_of_minus_square(part)
    part = np.minimum(a[~middle], _ERFC_IS_ZERO)
    inverse_square = 1 / np.square(part)
    tail = _INVERSE_SQRT_PI - inverse_square * _ratio(_ERFC_LARGE, inverse_square)
    result[~middle] = tail / part * _exp_of_minus_square(part)
    return result


def erf(x: Array) -> Array:
    """The error function, 2/√π ∫ exp(−t²) dt from 0 to `x`."""
    result = np.empty_like(x)
    small = np.abs(x) <= 0.46875
    result[small] = _erf_small(x[small])
    rest = x[~small]
    result[~small] = np.copysign(1 - _erfc_positive(np.abs(rest)), rest)
    return result


def erfc(x: Array) -> Array:
    """1 − erf(x), without loss of digits for large `x`."""
    result = np.empty_like(x)
    small = np.abs(x) <= 0.46875
    result[small] = 1 - _erf_small(x[small])
    rest = x[~small]
    tail = _erfc_positive(np.abs(rest))
    result[~small] = np.where(rest < 0, 2 - tail, tail)
    return result


_LANCZOS_G = 7.0
_LANCZOS = (
    0.99999999999980993,
    676.5203681218851,
    -1259.1392167224028,
    771.32342877765313,
    -176.61502916214059,
    12.507343278686905,
    -0.13857109526572012,
    9.9843695780195716e-6,
    1.5056327351493116e-7,
)
_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
# Terms B(2k) / (2k)! of the Euler-Maclaurin formula for zeta, k from 1.
_ZETA_SERIES = (
    1 / 12,
    -1 / 720,
    1 / 30240,
    -1 / 1209600,
    1 / 47900160,
    -691 / 1307674368000,
    1 / 74724249600,
    -3617 / 10670622842880000,
)
# The formula is good where it begins beyond the exponent; the terms of larger ones hardly count.
_ZETA_SHIFTS = (10, 40)
_ZETA_LEAST = -128
# Terms B(2k) / 2k of digamma's asymptotic series in 1/x², highest power first.
_DIGAMMA_SERIES = (1 / 12, -691 / 32760, 1 / 132, -1 / 240, 1 / 252, -1 / 120, 1 / 12)
_DIGAMMA_SHIFT = 10


def lgamma(x: Array) -> Array:
    """The natural logarithm of |Γ(x)|; infinite at 0 and the negative integers."""
    if x.dtype != np.float64:
        return lgamma(x.astype(np.float64)).astype(x.dtype)
    reflected = x < 0.5
    z = np.where(reflected, -x, x - 1)
    series = np.full_like(z, _LANCZOS[0])
    for k, coefficient in enumerate(_LANCZOS[1:], start=1):
        series += coefficient / (z + k)
    t = z + (_LANCZOS_G + 0.5)
    result: Array = (z + 0.5) * (np.log(t) - 1) - _LANCZOS_G + _HALF_LOG_2PI + np.log(series)
    sine = np.abs(np.sin(math.pi * (x - np.rint(x))))
    result = np.where(reflected, math.log(math.pi) - np.log(sine) - result, result)
    return np.where(np.isinf(x), np.inf, result)


def digamma(x: Array) -> Array:
    """The derivative of `lgamma`; nan at 0 and the negative integers."""
    if x.dtype != np.float64:
        return digamma(x.astype(np.float64)).astype(x.dtype)
    reflected = x < 0.5
    z = np.where(reflected, 1 - x, x)
    result = np.zeros_like(z)
    for _ in range(_DIGAMMA_SHIFT):
        low = z < _DIGAMMA_SHIFT
        result -= np.where(low, 1 / z, 0)
        z = np.where(low, z + 1, z)
    inverse_square = 1 / np.square(z)
    result += np.log(z) - 0.5 / z - inverse_square * _horner(_DIGAMMA_SERIES, inverse_square)
    fraction = x - np.rint(x)
    cotangent = math.pi / np.tan(math.pi * fraction)
    result = np.where(reflected, result - cotangent, result)
    return np.where(reflected & (fraction == 0), np.nan, result)


def zeta(x: Array, q: Array) -> Array:
    """The sum over k from 0 of `1 / (q + k)^x`, the zeta function of Hurwitz.

    It is infinite at x = 1, and where q is 0 or a negative integer for an even x; for another x
    the sides of that pole differ, and it is nan. It is nan also for x < 1, for a negative q with a
    fractional x, and below q = -128, which would take a sum of many terms.

    Args:
        x: the exponent.
        q: where the sum begins, of the shape of `x`.
    """
    if x.dtype != np.float64:
        return zeta(x.astype(np.float64), q.astype(np.float64)).astype(x.dtype)
    result = np.zeros(x.shape)
    base = np.where((q > _ZETA_LEAST) & np.isfinite(q), q, 1.0)
    begin = base
    shift = np.clip(x, *_ZETA_SHIFTS)
    while (low := base < shift).any():
        result += np.where(low, np.power(base, -x), 0)
        base = np.where(low, base + 1, base)
    power = np.power(base, -x)
    result += power * (base / (x - 1) + 0.5)
    rising = x * power / base
    for k, coefficient in enumerate(_ZETA_SERIES):
        result += coefficient * rising
        rising = rising * (x + 2 * k + 1) * (x + 2 * k + 2) / np.square(base)
    pole = np.where(np.mod(x, 2) == 0, np.inf, np.nan)
    result = np.where((begin <= 0) & (begin == np.rint(begin)), pole, result)
    result = np.where((q < 0) & (x != np.rint(x)) | (q <= _ZETA_LEAST) | (x < 1), np.nan, result)
    result = np.where(np.isposinf(q) & (x > 1), 0, result)
    result = np.where(np.isnan(x) | np.isnan(q), np.nan, result)
    return np.where(x == 1, np.inf, result)


def polygamma(a: Array, x: Array) -> Array:
    """The `a`-th derivative of `digamma`; nan where `a` is no integer or is negative.

    Args:
        a: which derivative.
        x: the argument, of the shape of `a`.
    """
    if x.dtype != np.float64:
        return polygamma(a.astype(np.float64), x.astype(np.float64)).astype(x.dtype)
    sign = np.where(np.mod(a, 2) == 1, 1.0, -1.0)
    result = sign * np.exp(lgamma(a + 1)) * zeta(a + 1, x)
    result = np.where(a == 0, digamma(x), result)
    return np.where((a < 0) | (a != np.rint(a)), np.nan, result)
