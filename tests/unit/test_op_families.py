"""Every op is complete: definition, kernel, public function and gradient, in files of one name."""

import importlib
import pkgutil
from pathlib import Path

import pytest

import paramserve_core.kernels
import paramserve_core.opdefs
from paramserve_core.kernels import all_kernels
from paramserve_core.opdefs import all_ops

CLIENT = Path(__file__).parents[2] / "client" / "paramserve"
OPS = sorted(all_ops().values(), key=lambda op: (op.family, op.name))
FAMILIES = sorted({op.family for op in OPS})


# The functions of this family are the optimizers.
WITHOUT_FUNCTIONS = {"training"}

ELSEWHERE = {
    # What gradients are made of.
    *("AvgPoolGrad", "BiasAddGrad", "BroadcastGradientArgs", "ConcatOffset"),
    *("DepthwiseConv2dNativeBackpropFilter", "DepthwiseConv2dNativeBackpropInput", "EluGrad"),
    *("InvGrad", "LeakyReluGrad", "MaxPoolGrad", "MaxPoolGradGrad", "MirrorPadGrad"),
    *("ReciprocalGrad",),
    *("Relu6Grad", "ReluGrad", "RsqrtGrad", "SeluGrad", "SigmoidGrad", "SoftplusGrad"),
    *("SoftsignGrad", "SparseSegmentMeanGrad", "SparseSegmentSqrtNGrad"),
    *("SparseSegmentSumGrad", "SqrtGrad", "StridedSliceGrad", "TanhGrad"),
    *("StackCloseV2", "StackPopV2", "StackPushV2", "StackV2"),
    # What variables and savers are made of.
    *("Restore", "RestoreSlice", "Variable", "VariableV2"),
    # What graphs of TensorFlow have in place of ops that the functions make.
    *("AddV2", "BiasAddV1", "Concat", "ControlTrigger", "Div", "Mod"),
    *("ParallelDynamicStitch", "PlaceholderV2", "PreventGradient", "RefExit"),
    *("RefNextIteration", "SelectV2"),
    *("SparseSegmentMeanWithNumSegments", "SparseSegmentSqrtNWithNumSegments"),
    *("SparseSegmentSumWithNumSegments", "StaticRegexFullMatch", "StringJoin", "TopK"),
}
"""Ops that no public function makes."""


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_has_a_file_of_its_name_for_kernels_functions_and_gradients(family):
    packages = ["paramserve_core.kernels", "paramserve._gradients"]
    if family not in WITHOUT_FUNCTIONS:
        packages.append("paramserve._ops")
    for package in packages:
        importlib.import_module(f"{package}.{family}")


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_every_op_has_a_kernel_in_the_file_of_its_family(op):
    kernel = all_kernels().get(op.name)
    assert kernel is not None, f"no kernel for {op.name} in kernels/{op.family}.py"


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_every_op_has_a_gradient_or_says_that_it_has_none(op):
    importlib.import_module("paramserve._gradients")
    registry = importlib.import_module("paramserve._framework.gradient_registry")
    assert registry.is_registered(op.name), (
        f"neither RegisterGradient nor NoGradient for {op.name} in _gradients/{op.family}.py"
    )


@pytest.fixture(scope="module")
def functions() -> str:
    """The text of all modules of op functions."""
    return "".join(file.read_text() for file in (CLIENT / "_ops").glob("*.py"))


@pytest.mark.parametrize(
    "op", [op for op in OPS if op.family not in WITHOUT_FUNCTIONS], ids=lambda op: op.name
)
def test_every_op_has_a_function_that_makes_it(op, functions):
    is_made = f'"{op.name}"' in functions
    if op.name in ELSEWHERE:
        assert not is_made, f"{op.name} has a function; take it off the list"
    else:
        assert is_made, f"no function for {op.name} in _ops/{op.family}.py"


def test_no_kernel_is_without_a_definition():
    assert set(all_kernels()) <= set(all_ops())


@pytest.mark.parametrize("package", [paramserve_core.kernels, paramserve_core.opdefs])
def test_importing_the_package_imports_every_family(package):
    modules = {module.name for module in pkgutil.iter_modules(package.__path__)}
    assert set(FAMILIES) <= modules
