"""Gradients of the family `math`: arithmetic and functions, element by element.

Of a complex function they are what TensorFlow's are: the conjugate of the derivative, times the
gradient. Where a function has a jump or a corner, the gradient is that of one side.

Thread rule: fills a registry while it is imported; the functions add to the graph of the calling
thread.
"""

from __future__ import annotations

import math as numbers

from paramserve._framework.gradient_registry import NoGradient, RegisterGradient
from paramserve._framework.operation import Operation
from paramserve._framework.tensor import Tensor
from paramserve._gradients.broadcasting import summed_to, zero_unless
from paramserve._ops import elementary as fn
from paramserve._ops import math
from paramserve._ops.array import constant, zeros_like
from paramserve._ops.elementary import conj, square
from paramserve._ops.emit import emit_tensor

Pair = tuple[Tensor | None, Tensor | None]

for _op in (
    *("Ceil", "Equal", "Floor", "FloorDiv", "Greater", "GreaterEqual", "IsFinite", "IsInf"),
    *("IsNan", "Less", "LessEqual", "LogicalAnd", "LogicalNot", "LogicalOr", "NotEqual"),
    *("Rint", "Round", "TruncateDiv"),
):
    NoGradient(_op)


# Two arguments, which may have been broadcast.


def _both(op: Operation, x_gradient: Tensor, y_gradient: Tensor) -> Pair:
    """The gradients of both inputs, summed to their shapes."""
    x, y = op.inputs
    return summed_to(x_gradient, x, y), summed_to(y_gradient, y, x)


@RegisterGradient("AddV2")
@RegisterGradient("Add")
def _add(op: Operation, grad: Tensor) -> Pair:
    return _both(op, grad, grad)


@RegisterGradient("Sub")
def _sub(op: Operation, grad: Tensor) -> Pair:
    return _both(op, grad, -grad)


@RegisterGradient("Mul")
def _mul(op: Operation, grad: Tensor) -> Pair:
    x, y = op.inputs
    return _both(op, grad * conj(y), grad * conj(x))


@RegisterGradient("RealDiv")
@RegisterGradient("Div")
def _div(op: Operation, grad: Tensor) -> Pair:
    quotient, y = conj(op.outputs[0]), conj(op.inputs[1])
    x_gradient = math.realdiv(grad, y)
    return _both(op, x_gradient, -x_gradient * quotient)


@RegisterGradient("DivNoNan")
def _div_no_nan(op: Operation, grad: Tensor) -> Pair:
    quotient, y = conj(op.outputs[0]), conj(op.inputs[1])
    x_gradient = math.div_no_nan(grad, y)
    return _both(op, x_gradient, -x_gradient * quotient)


@RegisterGradient("FloorMod")
def _floor_mod(op: Operation, grad: Tensor) -> Pair:
    x, y = op.inputs
    return _both(op, grad, -grad * math.floordiv(x, y))


@RegisterGradient("TruncateMod")
@RegisterGradient("Mod")
def _truncate_mod(op: Operation, grad: Tensor) -> Pair:
    x, y = op.inputs
    return _both(op, grad, grad * math.realdiv(op.outputs[0] - x, y))


@RegisterGradient("Pow")
def _pow(op: Operation, grad: Tensor) -> Pair:
    x, y = (conj(tensor) for tensor in op.inputs)
    power = conj(op.outputs[0])
    # Of a negative base the power has no derivative by the exponent, and of 0 it is 0.
    zero = constant(0, x.dtype.base_dtype)
    is_smooth = math.not_equal(x, zero) if x.dtype.is_complex else math.greater(x, zero)
    safe_base = emit_tensor("SelectV2", None, condition=is_smooth, t=x, e=1)
    y_gradient = grad * power * zero_unless(is_smooth, fn.log(safe_base))
    return _both(op, grad * y * math.pow(x, y - 1), y_gradient)


@RegisterGradient("SquaredDifference")
def _squared_difference(op: Operation, grad: Tensor) -> Pair:
    x, y = op.inputs
    x_gradient = grad * (x - y) * 2
    return _both(op, x_gradient, -x_gradient)


@RegisterGradient("Maximum")
def _maximum(op: Operation, grad: Tensor) -> Pair:
    x, y = op.inputs
    is_x = math.greater_equal(x, y)
    return _both(op, zero_unless(is_x, grad), zero_unless(fn.logical_not(is_x), grad))


@RegisterGradient("Minimum")
def _minimum(op: Operation, grad: Tensor) -> Pair:
    x, y = op.inputs
    is_x = math.less_equal(x, y)
    return _both(op, zero_unless(is_x, grad), zero_unless(fn.logical_not(is_x), grad))


@RegisterGradient("Atan2")
def _atan2(op: Operation, grad: Tensor) -> Pair:
    y, x = op.inputs
    per_square = math.realdiv(grad, square(x) + square(y))
    return _both(op, x * per_square, -y * per_square)


@RegisterGradient("Complex")
def _complex(op: Operation, grad: Tensor) -> Pair:
    return _both(op, fn.real(grad), fn.imag(grad))


# Derivatives that are ops themselves, and theirs: of `y`, the function's value, and its gradient.


@RegisterGradient("SigmoidGrad")
def _sigmoid_grad(op: Operation, grad: Tensor) -> Pair:
    y, dy = conj(op.inputs[0]), conj(op.inputs[1])
    return _both(op, grad * dy * (1 - 2 * y), emit_tensor("SigmoidGrad", None, y=y, dy=grad))


@RegisterGradient("TanhGrad")
def _tanh_grad(op: Operation, grad: Tensor) -> Pair:
    y, dy = conj(op.inputs[0]), conj(op.inputs[1])
    return _both(op, -2 * grad * dy * y, emit_tensor("TanhGrad", None, y=y, dy=grad))


# Of complex numbers the following use the conjugate of y, so that theirs by y are conjugates too.


@RegisterGradient("SqrtGrad")
def _sqrt_grad(op: Operation, grad: Tensor) -> Pair:
    quotient = math.realdiv(grad, op.inputs[0])
    return _both(op, -conj(quotient) * op.outputs[0], quotient * 0.5)


@RegisterGradient("RsqrtGrad")
def _rsqrt_grad(op: Operation, grad: Tensor) -> Pair:
    y, dy = conj(op.inputs[0]), op.inputs[1]
    dy_gradient = emit_tensor("RsqrtGrad", None, y=y, dy=grad)
    return _both(op, conj(grad) * dy * square(y) * -1.5, dy_gradient)


@RegisterGradient("InvGrad")
@RegisterGradient("ReciprocalGrad")
def _reciprocal_grad(op: Operation, grad: Tensor) -> Pair:
    y, dy = conj(op.inputs[0]), op.inputs[1]
    dy_gradient = emit_tensor("ReciprocalGrad", None, y=y, dy=grad)
    return _both(op, conj(grad) * dy * y * -2, dy_gradient)


# One argument.


@RegisterGradient("Neg")
def _neg(op: Operation, grad: Tensor) -> Tensor:
    return -grad


@RegisterGradient("Abs")
def _abs(op: Operation, grad: Tensor) -> Tensor:
    return grad * fn.sign(op.inputs[0])


@RegisterGradient("Sign")
def _sign(op: Operation, grad: Tensor) -> Tensor:
    return zeros_like(op.inputs[0])


@RegisterGradient("ComplexAbs")
def _complex_abs(op: Operation, grad: Tensor) -> Tensor:
    return math.complex(grad, zeros_like(grad)) * fn.sign(op.inputs[0])


@RegisterGradient("Reciprocal")
def _reciprocal(op: Operation, grad: Tensor) -> Tensor:
    return emit_tensor("ReciprocalGrad", None, y=op.outputs[0], dy=grad)


@RegisterGradient("Inv")
def _inv(op: Operation, grad: Tensor) -> Tensor:
    return emit_tensor("InvGrad", None, y=op.outputs[0], dy=grad)


@RegisterGradient("Square")
def _square(op: Operation, grad: Tensor) -> Tensor:
    return grad * (2 * conj(op.inputs[0]))


@RegisterGradient("Sqrt")
def _sqrt(op: Operation, grad: Tensor) -> Tensor:
    return emit_tensor("SqrtGrad", None, y=op.outputs[0], dy=grad)


@RegisterGradient("Rsqrt")
def _rsqrt(op: Operation, grad: Tensor) -> Tensor:
    return emit_tensor("RsqrtGrad", None, y=op.outputs[0], dy=grad)


@RegisterGradient("Exp")
def _exp(op: Operation, grad: Tensor) -> Tensor:
    return grad * conj(op.outputs[0])


@RegisterGradient("Expm1")
def _expm1(op: Operation, grad: Tensor) -> Tensor:
    return grad * fn.exp(conj(op.inputs[0]))


@RegisterGradient("Log")
def _log(op: Operation, grad: Tensor) -> Tensor:
    return math.realdiv(grad, conj(op.inputs[0]))


@RegisterGradient("Log1p")
def _log1p(op: Operation, grad: Tensor) -> Tensor:
    return math.realdiv(grad, conj(op.inputs[0]) + 1)


@RegisterGradient("Sigmoid")
def _sigmoid(op: Operation, grad: Tensor) -> Tensor:
    return emit_tensor("SigmoidGrad", None, y=conj(op.outputs[0]), dy=grad)


@RegisterGradient("Tanh")
def _tanh(op: Operation, grad: Tensor) -> Tensor:
    return emit_tensor("TanhGrad", None, y=conj(op.outputs[0]), dy=grad)


@RegisterGradient("Sin")
def _sin(op: Operation, grad: Tensor) -> Tensor:
    return grad * fn.cos(conj(op.inputs[0]))


@RegisterGradient("Cos")
def _cos(op: Operation, grad: Tensor) -> Tensor:
    return -grad * fn.sin(conj(op.inputs[0]))


@RegisterGradient("Tan")
def _tan(op: Operation, grad: Tensor) -> Tensor:
    return grad * (square(conj(op.outputs[0])) + 1)


@RegisterGradient("Asin")
def _asin(op: Operation, grad: Tensor) -> Tensor:
    return grad * fn.rsqrt(1 - square(conj(op.inputs[0])))


@RegisterGradient("Acos")
def _acos(op: Operation, grad: Tensor) -> Tensor:
    return -grad * fn.rsqrt(1 - square(conj(op.inputs[0])))


@RegisterGradient("Atan")
def _atan(op: Operation, grad: Tensor) -> Tensor:
    return math.realdiv(grad, square(conj(op.inputs[0])) + 1)


@RegisterGradient("Sinh")
def _sinh(op: Operation, grad: Tensor) -> Tensor:
    return grad * fn.cosh(conj(op.inputs[0]))


@RegisterGradient("Cosh")
def _cosh(op: Operation, grad: Tensor) -> Tensor:
    return grad * fn.sinh(conj(op.inputs[0]))


@RegisterGradient("Asinh")
def _asinh(op: Operation, grad: Tensor) -> Tensor:
    return math.realdiv(grad, fn.cosh(conj(op.outputs[0])))


@RegisterGradient("Acosh")
def _acosh(op: Operation, grad: Tensor) -> Tensor:
    return math.realdiv(grad, fn.sinh(conj(op.outputs[0])))


@RegisterGradient("Atanh")
def _atanh(op: Operation, grad: Tensor) -> Tensor:
    return math.realdiv(grad, 1 - square(conj(op.inputs[0])))


@RegisterGradient("Erf")
def _erf(op: Operation, grad: Tensor) -> Tensor:
    return grad * (fn.exp(-square(op.inputs[0])) * (2 / numbers.sqrt(numbers.pi)))


@RegisterGradient("Erfc")
def _erfc(op: Operation, grad: Tensor) -> Tensor:
    return grad * (fn.exp(-square(op.inputs[0])) * (-2 / numbers.sqrt(numbers.pi)))


@RegisterGradient("Lgamma")
def _lgamma(op: Operation, grad: Tensor) -> Tensor:
    return grad * fn.digamma(op.inputs[0])


@RegisterGradient("Digamma")
def _digamma(op: Operation, grad: Tensor) -> Tensor:
    x = op.inputs[0]
    return grad * fn.polygamma(constant(1, x.dtype.base_dtype), x)


@RegisterGradient("Polygamma")
def _polygamma(op: Operation, grad: Tensor) -> Pair:
    a, x = op.inputs
    return None, summed_to(grad * fn.polygamma(a + 1, x), x, a)


@RegisterGradient("Zeta")
def _zeta(op: Operation, grad: Tensor) -> Pair:
    x, q = op.inputs
    return None, summed_to(-grad * x * fn.zeta(x + 1, q), q, x)


@RegisterGradient("Real")
def _real(op: Operation, grad: Tensor) -> Tensor:
    return math.complex(grad, zeros_like(grad))


@RegisterGradient("Imag")
def _imag(op: Operation, grad: Tensor) -> Tensor:
    # TensorFlow's convention: the gradient of Im(x + iy) by x + iy is i, not its conjugate's.
    return math.complex(zeros_like(grad), grad)


@RegisterGradient("Angle")
def _angle(op: Operation, grad: Tensor) -> Tensor:
    x = op.inputs[0]
    return -math.complex(grad, zeros_like(grad)) * fn.reciprocal(
        math.complex(fn.imag(x), fn.real(x))
    )


@RegisterGradient("Conj")
def _conj(op: Operation, grad: Tensor) -> Tensor:
    return conj(grad)
