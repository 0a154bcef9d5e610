"""Kernels of the family `nn_conv` beside TensorFlow's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kernel_driver
from kernel_driver import Case, assert_agrees, few_examples, tensors
from paramserve_core import dtypes
from paramserve_core.opdefs.windows import windows_of

pytestmark = pytest.mark.oracle

FLOATS = (dtypes.float32, dtypes.float64)


@pytest.fixture(scope="module")
def tf():
    return kernel_driver.tensorflow()


class Geometry:
    """Images and filters of small sizes that fit each other."""

    def __init__(self, draw, depthwise=False, dilates=True):
        integers = st.integers
        self.batch, self.depth, self.out = (draw(integers(1, 3)) for _ in range(3))
        self.sizes = draw(integers(1, 3)), draw(integers(1, 3))
        stride = draw(integers(1, 3)), draw(integers(1, 3))
        if depthwise:
            stride = stride[0], stride[0]
        dilation = (1, 1)
        if dilates and draw(st.booleans()):
            stride, dilation = (1, 1), (draw(integers(1, 2)),) * 2
        padding = draw(st.sampled_from(["SAME", "VALID", "EXPLICIT"]))
        self.attrs = {
            "strides": [1, *stride, 1],
            "dilations": [1, *dilation, 1],
            "padding": padding,
            "data_format": "NHWC",
        }
        if padding == "EXPLICIT":
            pads = [draw(integers(0, 2)) for _ in range(4)]
            self.attrs["explicit_paddings"] = [0, 0, *pads, 0, 0]
        self.windows = windows_of(self.attrs, self.sizes)
        self.lengths = tuple(draw(integers(w.reach, w.reach + 4)) for w in self.windows)
        self.counts = tuple(
            w.count(length) for w, length in zip(self.windows, self.lengths, strict=True)
        )
        self.image_shape = self.batch, *self.lengths, self.depth
        self.filter_shape = *self.sizes, self.depth, self.out
        out = self.depth * self.out if depthwise else self.out
        self.result_shape = self.batch, *self.counts, out


@st.composite
def convolution(draw, kind, depthwise=False):
    # On a CPU, TensorFlow dilates no other convolution.
    geometry = Geometry(draw, depthwise, dilates=kind == "result" and not depthwise)
    types = FLOATS if depthwise or kind == "filter" else (*FLOATS, dtypes.int32)
    dtype = draw(st.sampled_from(types))
    images = draw(tensors(dtype, shape=geometry.image_shape))
    filters = draw(tensors(dtype, shape=geometry.filter_shape))
    gradient = draw(tensors(dtype, shape=geometry.result_shape))
    inputs = {
        "result": (images, filters),
        "input": (np.int32(geometry.image_shape), filters, gradient),
        "filter": (images, np.int32(geometry.filter_shape), gradient),
    }[kind]
    return Case(*inputs, **geometry.attrs)


@st.composite
def pooling(draw, kind):
    geometry = Geometry(draw, dilates=False)
    attrs = {k: v for k, v in geometry.attrs.items() if k not in ("dilations",)}
    attrs["ksize"] = [1, *geometry.sizes, 1]
    if attrs["padding"] == "EXPLICIT":  # which poolings know less of
        attrs["padding"] = "VALID"
        del attrs["explicit_paddings"]
        geometry.counts = tuple(
            w.count(n)
            for w, n in zip(windows_of(attrs, geometry.sizes), geometry.lengths, strict=True)
        )
    dtype = draw(st.sampled_from(FLOATS if "mean" in kind else (*FLOATS, dtypes.int32)))
    # Few different numbers, so that the first of several largest ones must be found.
    images = draw(tensors(dtype, shape=geometry.image_shape, low=-2, high=2))
    shape = (geometry.batch, *geometry.counts, geometry.depth)
    gradient = draw(tensors(dtype, shape=shape))
    inputs = {
        "largest": (images,),
        "mean": (images,),
        "largest gradient": (images, np.zeros(shape, images.dtype), gradient),
        "mean gradient": (np.int32(geometry.image_shape), gradient),
    }[kind]
    return Case(*inputs, **attrs)


CASES = {
    "Conv2D": convolution("result"),
    "Conv2DBackpropInput": convolution("input"),
    "Conv2DBackpropFilter": convolution("filter"),
    "DepthwiseConv2dNative": convolution("result", depthwise=True),
    "DepthwiseConv2dNativeBackpropInput": convolution("input", depthwise=True),
    "DepthwiseConv2dNativeBackpropFilter": convolution("filter", depthwise=True),
    "MaxPool": pooling("largest"),
    "AvgPool": pooling("mean"),
    "AvgPoolGrad": pooling("mean gradient"),
}


@pytest.mark.slow
@pytest.mark.parametrize("op", CASES)
@few_examples(40)
@given(data=st.data())
def test_an_op_on_images_gives_what_tensorflow_gives(tf, op, data):
    case = data.draw(CASES[op])
    assert_agrees(tf, op, *case.inputs, **case.attrs, atol=1e-4)


@pytest.mark.slow
@few_examples(40)
@given(data=st.data())
def test_the_gradient_of_a_max_pool_flows_where_tensorflows_does(tf, data):
    case = data.draw(pooling("largest gradient"))
    images, _, gradient = case.inputs
    (pooled,) = kernel_driver.run("MaxPool", images, **case.attrs)
    assert_agrees(tf, "MaxPoolGrad", images, pooled, gradient, **case.attrs, atol=1e-4)
    assert_agrees(tf, "MaxPoolGradGrad", images, pooled, images * 2, **case.attrs)
