"""The formulas of optimizers, each written once for dense and for sparse updates.

A *rule* is given the settings of one update (hyperparameters as scalars of the type to compute in,
attributes as Python values, both under TensorFlow's names) and answers a function that does the
update in place, on one block: of the gradient, the variable and its slots, all vectors of one
length. What depends on the settings only is computed once per update, outside that function.

The function writes every pass into an array that exists: into the variable or a slot, or into a
row of the scratch it is given (`SCRATCH_ROWS` of them, of the block's length). Each pass is a
sweep over the block, so the formulas are arranged for few of them rather than written as in a
textbook; the textbook's form is in each docstring, with `g` the gradient. Where slots and the
variable depend on each other, the order of the lines matters.

What many use is also there as one compiled loop, which takes the place of the sweeps where it can
(see `fused`). Such a rule is changed in both places, the operations in the same order.

Thread rule: pure functions; the caller holds what guards the arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from paramserve_core.kernels import fused_loops
from paramserve_core.kernels.fused import FusedUpdate
from paramserve_core.kernels.numerics import Array, invalid

Settings = Mapping[str, Any]
BlockUpdate = Callable[..., None]
"""Called with the scratch, the gradient, the variable and then its slots."""

Rule = Callable[[Settings], BlockUpdate]

SCRATCH_ROWS: Final = 3


def gradient_descent(s: Settings) -> BlockUpdate:
    """Var ← var − α g."""
    rate = np.asarray(s["alpha"])  # NumPy takes longer to see what a scalar is

    multiply, subtract = np.multiply, np.subtract

    def update(scratch: Array, grad: Array, var: Array, out: Array | None = None) -> None:
        step = multiply(grad, rate, scratch[0])
        subtract(var, step, var if out is None else out)

    return update


def fused_gradient_descent(s: Settings) -> BlockUpdate:
    """`gradient_descent` of variables that may be large; small ones gain nothing by a loop."""
    numpy = gradient_descent(s)
    return FusedUpdate(fused_loops.subtract, (s["alpha"],), numpy, into=fused_loops.subtract_from)


def momentum(s: Settings) -> BlockUpdate:
    """Accum ← μ accum + g; var ← var − lr accum; with Nesterov var ← var − lr (g + μ accum)."""
    rate, decay, nesterov = s["lr"], s["momentum"], s["use_nesterov"]

    def update(scratch: Array, grad: Array, var: Array, accum: Array) -> None:
        accum *= decay
        accum += grad
        step = scratch[0]
        if nesterov:
            np.multiply(accum, decay, out=step)
            step += grad
            step *= rate
        else:
            np.multiply(accum, rate, out=step)
        var -= step

    loop = fused_loops.nesterov_momentum if nesterov else fused_loops.momentum
    return FusedUpdate(loop, (rate, decay), update)


def adagrad(s: Settings) -> BlockUpdate:
    """Accum ← accum + g²; var ← var − lr g / (√accum + ε), where the first form has no ε."""
    rate, epsilon, accumulates = s["lr"], s.get("epsilon"), s["update_slots"]

    def update(scratch: Array, grad: Array, var: Array, accum: Array) -> None:
        step, root = scratch[0], scratch[1]
        if accumulates:
            accum += np.multiply(grad, grad, out=step)
        np.sqrt(accum, out=root)
        if epsilon is not None:
            root += epsilon
        np.multiply(grad, rate, out=step)
        step /= root
        var -= step

    if not accumulates:
        return update
    added = rate.dtype.type(0) if epsilon is None else epsilon
    return FusedUpdate(fused_loops.adagrad, (rate, added), update)


def adagrad_dual_averaging(s: Settings) -> BlockUpdate:
    """G ← G + g; S ← S + g²; var ← −lr shrink(G, l1 t) / (l2 t lr + √S), with t the step.

    shrink(x, a) moves x towards zero by a, and not past it.
    """
    rate, steps = s["lr"], s["global_step"]
    threshold = s["l1"] * steps
    offset = s["l2"] * steps * rate

    def update(scratch: Array, grad: Array, var: Array, total: Array, squares: Array) -> None:
        step, root = scratch[0], scratch[1]
        total += grad
        squares += np.multiply(grad, grad, out=step)
        _shrink(total, threshold, out=step, size=root)
        step *= -rate
        np.sqrt(squares, out=root)
        root += offset
        np.divide(step, root, out=var)

    return update


def adadelta(s: Settings) -> BlockUpdate:
    """Accum ← ρ accum + (1 − ρ) g²; u = √(accum_update + ε) / √(accum + ε) g.

    Then var ← var − lr u; accum_update ← ρ accum_update + (1 − ρ) u².
    """
    rate, rho, epsilon = s["lr"], s["rho"], s["epsilon"]

    def update(scratch: Array, grad: Array, var: Array, accum: Array, accum_update: Array) -> None:
        step, other = scratch[0], scratch[1]
        _decay_towards(accum, np.multiply(grad, grad, out=step), rho)
        np.add(accum_update, epsilon, out=step)
        np.add(accum, epsilon, out=other)
        # A quotient of roots, not a root of the quotient: that overflows sooner.
        np.sqrt(step, out=step)
        step /= np.sqrt(other, out=other)
        step *= grad
        var -= np.multiply(step, rate, out=other)
        _decay_towards(accum_update, np.multiply(step, step, out=step), rho)

    return update


def adam(s: Settings) -> BlockUpdate:
    """M ← β₁ m + (1 − β₁) g; v ← β₂ v + (1 − β₂) g²; var ← var − α m / (√v + ε).

    α = lr √(1 − β₂ᵗ) / (1 − β₁ᵗ), where the powers are inputs. With Nesterov, β₁ m + (1 − β₁) g
    of the new m takes the place of m in the last.
    """
    return _adam(s, _bias_corrected_rate(s), s["epsilon"], shrinkage=None)


def adamw(s: Settings) -> BlockUpdate:
    """Adam, after var ← (1 − lr λ) var; ε is added to the bias-corrected √v.

    That is var ← var − lr m̂ / (√v̂ + ε), as in the paper; Adam's op has its ε̂ instead.
    """
    epsilon = s["epsilon"] * np.sqrt(1 - s["beta2_power"])
    return _adam(s, _bias_corrected_rate(s), epsilon, 1 - s["lr"] * s["weight_decay"])


def _bias_corrected_rate(s: Settings) -> Any:
    return s["lr"] * np.sqrt(1 - s["beta2_power"]) / (1 - s["beta1_power"])


def _adam(s: Settings, rate: Any, epsilon: Any, shrinkage: Any) -> BlockUpdate:
    beta1, beta2, nesterov = s["beta1"], s["beta2"], s.get("use_nesterov", False)

    def update(scratch: Array, grad: Array, var: Array, m: Array, v: Array) -> None:
        step, root = scratch[0], scratch[1]
        _decay_towards(m, grad, beta1, scratch=step)
        _decay_towards(v, np.multiply(grad, grad, out=step), beta2)
        np.sqrt(v, out=root)
        root += epsilon
        if nesterov:
            np.multiply(m, beta1, out=step)
            step += np.multiply(grad, 1 - beta1, out=scratch[2])
            step *= rate
        else:
            np.multiply(m, rate, out=step)
        step /= root
        if shrinkage is not None:
            var *= shrinkage
        var -= step

    if nesterov:
        return update
    scalars = (rate, 1 - beta1, 1 - beta2, epsilon)
    if shrinkage is None:
        return FusedUpdate(fused_loops.adam, scalars, update)
    return FusedUpdate(fused_loops.adamw, (*scalars, shrinkage), update)


def adamax(s: Settings) -> BlockUpdate:
    """M ← β₁ m + (1 − β₁) g; v ← max(β₂ v, |g|); var ← var − lr / (1 − β₁ᵗ) m / (v + ε)."""
    beta1, beta2, epsilon = s["beta1"], s["beta2"], s["epsilon"]
    rate = s["lr"] / (1 - s["beta1_power"])

    def update(scratch: Array, grad: Array, var: Array, m: Array, v: Array) -> None:
        step, other = scratch[0], scratch[1]
        _decay_towards(m, grad, beta1, scratch=step)
        v *= beta2
        np.maximum(v, np.absolute(grad, out=step), out=v)
        np.add(v, epsilon, out=other)
        np.multiply(m, rate, out=step)
        step /= other
        var -= step

    return update


def lion(s: Settings) -> BlockUpdate:
    """Var ← var − lr (sign(β₁ m + (1 − β₁) g) + λ var); m ← β₂ m + (1 − β₂) g."""
    rate, beta1, beta2 = s["lr"], s["beta1"], s["beta2"]
    shrinkage = 1 - rate * s["weight_decay"]

    def update(scratch: Array, grad: Array, var: Array, m: Array) -> None:
        step, difference = scratch[0], scratch[1]
        np.subtract(grad, m, out=difference)
        np.multiply(difference, 1 - beta1, out=step)
        step += m
        np.sign(step, out=step)
        step *= rate
        var *= shrinkage
        var -= step
        difference *= 1 - beta2
        m += difference

    return update


def rmsprop(s: Settings) -> BlockUpdate:
    """Ms ← ρ ms + (1 − ρ) g²; mom ← μ mom + lr g / √(ms + ε); var ← var − mom."""
    rate, rho, decay, epsilon = s["lr"], s["rho"], s["momentum"], s["epsilon"]

    def update(scratch: Array, grad: Array, var: Array, ms: Array, mom: Array) -> None:
        step, root = scratch[0], scratch[1]
        _decay_towards(ms, np.multiply(grad, grad, out=step), rho)
        np.add(ms, epsilon, out=root)
        np.sqrt(root, out=root)
        np.multiply(grad, rate, out=step)
        step /= root
        mom *= decay
        mom += step
        var -= mom

    return FusedUpdate(fused_loops.rmsprop, (rate, 1 - rho, decay, epsilon), update)


def centered_rmsprop(s: Settings) -> BlockUpdate:
    """As `rmsprop`, with mg ← ρ mg + (1 − ρ) g and √(ms − mg² + ε) in place of √(ms + ε)."""
    rate, rho, decay, epsilon = s["lr"], s["rho"], s["momentum"], s["epsilon"]

    def update(scratch: Array, grad: Array, var: Array, mg: Array, ms: Array, mom: Array) -> None:
        step, root = scratch[0], scratch[1]
        _decay_towards(ms, np.multiply(grad, grad, out=step), rho)
        _decay_towards(mg, grad, rho, scratch=step)
        np.subtract(ms, np.multiply(mg, mg, out=step), out=root)
        root += epsilon
        np.sqrt(root, out=root)
        np.multiply(grad, rate, out=step)
        step /= root
        mom *= decay
        mom += step
        var -= mom

    return update


def ftrl(s: Settings) -> BlockUpdate:
    """FTRL-proximal, with p = −lr_power (½ is the usual) and n = accum + g².

    linear ← linear + g′ − (nᵖ − accumᵖ) / lr var, where g′ = g + 2 l2_shrinkage var;
    var ← shrink(−linear, l1) / (nᵖ / lr + 2 l2); accum ← n.

    With `multiply_linear_by_lr` what is kept in `linear` is lr times as much.

    Raises:
        InvalidArgumentError: a setting of a sign that makes no sense.
    """
    rate, power = s["lr"], -s["lr_power"]
    if not (rate > 0 or (rate == 0 and s["multiply_linear_by_lr"])):
        invalid(f"lr = {rate} is not a positive scalar")
    for name in ("l1", "l2", "l2_shrinkage"):
        if not s.get(name, 0) >= 0:
            invalid(f"{name} = {s[name]} is not a non-negative scalar")
    if not power >= 0:
        invalid(f"lr_power = {-power} is not a non-positive scalar")
    scaled = s["multiply_linear_by_lr"]
    threshold = s["l1"] * rate if scaled else s["l1"]
    l2 = 2 * s["l2"] * rate if scaled else 2 * s["l2"]
    shrinkage = 2 * s["l2_shrinkage"] if "l2_shrinkage" in s else None
    tiny = np.finfo(rate.dtype).tiny

    def raised(base: Array, out: Array) -> Array:
        return np.sqrt(base, out=out) if power == 0.5 else np.power(base, power, out=out)

    def update(scratch: Array, grad: Array, var: Array, accum: Array, linear: Array) -> None:
        change, new, old = scratch[0], scratch[1], scratch[2]
        if shrinkage is None:
            np.copyto(change, grad)
        else:
            np.multiply(var, shrinkage, out=change)
            change += grad
        if scaled:
            change *= rate
        linear += change
        raised(accum, out=old)
        accum += np.multiply(grad, grad, out=change)
        raised(accum, out=new)
        np.subtract(new, old, out=change)
        if not scaled:
            change /= rate
            new /= rate
        change *= var
        linear -= change
        new += l2
        # Where there was no gradient yet, 0 / 0 is to be 0.
        np.maximum(new, tiny, out=new)
        _shrink(linear, threshold, out=change, size=old)
        np.subtract(0, change, out=change)
        np.divide(change, new, out=var)

    if scaled or shrinkage is not None or power != 0.5:
        return update
    return FusedUpdate(fused_loops.ftrl, (rate, threshold, l2, tiny), update)


def proximal_gradient_descent(s: Settings) -> BlockUpdate:
    """Var ← shrink(var − α g, α l1) / (1 + α l2)."""
    rate = s["alpha"]
    threshold, divisor = rate * s["l1"], 1 + rate * s["l2"]

    def update(scratch: Array, grad: Array, var: Array) -> None:
        var -= np.multiply(grad, rate, out=scratch[0])
        if s["l1"] > 0:
            _shrink(var, threshold, out=var, size=scratch[0])
        var /= divisor

    return update


def proximal_adagrad(s: Settings) -> BlockUpdate:
    """Accum ← accum + g²; then `proximal_gradient_descent` with α = lr / √accum per element."""
    rate, l1, l2 = s["lr"], s["l1"], s["l2"]

    def update(scratch: Array, grad: Array, var: Array, accum: Array) -> None:
        rates, other = scratch[0], scratch[1]
        accum += np.multiply(grad, grad, out=other)
        np.divide(rate, np.sqrt(accum, out=rates), out=rates)
        var -= np.multiply(grad, rates, out=other)
        if l1 > 0:
            _shrink(var, np.multiply(rates, l1, out=other), out=var, size=scratch[2])
        rates *= l2
        rates += 1
        var /= rates

    return update


def add_sign(s: Settings) -> BlockUpdate:
    """M ← β m + (1 − β) g; var ← var − lr (α + sign_decay sign(g) sign(m)) g."""
    rate, alpha, sign_decay, beta = s["lr"], s["alpha"], s["sign_decay"], s["beta"]

    def update(scratch: Array, grad: Array, var: Array, m: Array) -> None:
        step = scratch[0]
        _decay_towards(m, grad, beta, scratch=step)
        _agreement(grad, m, out=step, other=scratch[1])
        step *= sign_decay
        step += alpha
        step *= rate
        step *= grad
        var -= step

    return update


def power_sign(s: Settings) -> BlockUpdate:
    """M ← β m + (1 − β) g; var ← var − lr exp(logbase sign_decay sign(g) sign(m)) g."""
    rate, exponent, beta = s["lr"], s["logbase"] * s["sign_decay"], s["beta"]

    def update(scratch: Array, grad: Array, var: Array, m: Array) -> None:
        step = scratch[0]
        _decay_towards(m, grad, beta, scratch=step)
        _agreement(grad, m, out=step, other=scratch[1])
        step *= exponent
        np.exp(step, out=step)
        step *= rate
        step *= grad
        var -= step

    return update


def _decay_towards(
    average: Array, value: Array, decay: Any, *, scratch: Array | None = None
) -> None:
    """Average ← decay average + (1 − decay) value; overwrites `value` unless given a scratch."""
    difference = np.subtract(value, average, out=value if scratch is None else scratch)
    difference *= 1 - decay
    average += difference


def _shrink(x: Array, threshold: Any, *, out: Array, size: Array) -> None:
    """Out ← sign(x) max(|x| − threshold, 0); `size` is overwritten, `out` may be `x`."""
    np.absolute(x, out=size)
    size -= threshold
    np.maximum(size, 0, out=size)
    np.copysign(size, x, out=out)


def _agreement(grad: Array, m: Array, *, out: Array, other: Array) -> None:
    """Out ← sign(grad) sign(m)."""
    np.sign(grad, out=out)
    out *= np.sign(m, out=other)
