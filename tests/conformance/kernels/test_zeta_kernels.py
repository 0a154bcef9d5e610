"""The zeta and polygamma functions against TensorFlow's."""

import numpy as np
import pytest

import kernel_driver
from paramserve_core.kernels import special_functions

pytestmark = pytest.mark.oracle


@pytest.fixture(scope="module")
def tf():
    return kernel_driver.tensorflow()


def agree(ours, theirs):
    np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=0)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_zeta_is_tensorflows(tf):
    x, q = np.meshgrid(
        [1.0001, 1.5, 2.0, 3.0, 7.5, 20.0, 1.0, 0.5], [1e-3, 0.3, 1.0, 2.5, 9.9, 1e5, 0.0, -3.0]
    )
    agree(special_functions.zeta(x, q), tf.math.zeta(x, q).numpy())


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_polygamma_is_tensorflows(tf):
    a, x = np.meshgrid([0.0, 1.0, 2.0, 5.0, 1.5, -1.0], [0.2, 0.5, 1.0, 3.3, 40.0, -0.5])
    agree(special_functions.polygamma(a, x), tf.math.polygamma(a, x).numpy())


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_no_argument_takes_long_or_fails():
    hard = np.array([-1e300, -1e9, -129.0, np.nan, np.inf, -np.inf, 0.0, 1e300])
    x, q = np.meshgrid(hard, hard)
    for function in (special_functions.zeta, special_functions.polygamma):
        assert function(x, q).shape == x.shape
        assert function(x.astype(np.float32), q.astype(np.float32)).dtype == np.float32
    assert np.isnan(special_functions.zeta(np.float64(2.0), np.float64(-129.5)))
