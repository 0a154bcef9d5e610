"""Every op is complete: definition, kernel, public function and gradient, in files of one name."""

import importlib
import pkgutil
from pathlib import Path

import pytest

import paramserve_core.kernels
import paramserve_core.opdefs
from paramserve_core.kernels import all_kernels
from paramserve_core.opdefs import all_ops

ROOT = Path(__file__).parents[2]
OPS = sorted(all_ops().values(), key=lambda op: (op.family, op.name))
FAMILIES = sorted({op.family for op in OPS})


# The functions of this family are the optimizers.
WITHOUT_FUNCTIONS = {"training"}


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


def test_no_kernel_is_without_a_definition():
    assert set(all_kernels()) <= set(all_ops())


@pytest.mark.parametrize("package", [paramserve_core.kernels, paramserve_core.opdefs])
def test_importing_the_package_imports_every_family(package):
    modules = {module.name for module in pkgutil.iter_modules(package.__path__)}
    assert set(FAMILIES) <= modules
