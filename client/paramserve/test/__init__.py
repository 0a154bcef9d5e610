"""Tests of programs: a test case with sessions and comparisons, and a check of gradients."""

from paramserve._testing.gradient_checker import compute_gradient as compute_gradient
from paramserve._testing.gradient_checker import compute_gradient_error as compute_gradient_error
from paramserve._testing.test_case import TestCase as TestCase
from paramserve._testing.test_case import get_temp_dir as get_temp_dir
from paramserve._testing.test_case import main as main
