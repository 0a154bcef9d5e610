"""Convolutions and poolings where TensorFlow is no oracle: other layouts, dilated gradients."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kernel_driver
from kernel_driver import Case, few_examples
from paramserve_core import errors
from paramserve_core.kernels import limits
from paramserve_core.opdefs.windows import Windows

CONVOLUTIONS = ("Conv2D", "DepthwiseConv2dNative")


def values(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


@st.composite
def attributes(draw):
    stride, dilation = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    padding = draw(st.sampled_from(["SAME", "VALID", "EXPLICIT"]))
    attrs = {
        "strides": [1, stride, 1, 1],
        "dilations": [1, dilation, draw(st.integers(1, 2)), 1],
        "padding": padding,
    }
    if padding == "EXPLICIT":
        attrs["explicit_paddings"] = [0, 0, *(draw(st.integers(0, 2)) for _ in range(4)), 0, 0]
    return attrs


@pytest.mark.parametrize("op", CONVOLUTIONS)
@few_examples(30)
@given(attrs=attributes(), sizes=st.tuples(st.integers(1, 3), st.integers(1, 3)))
def test_a_gradient_is_the_adjoint_of_the_convolution(op, attrs, sizes):
    images, filters = values((2, 9, 8, 3)), values((*sizes, 3, 2), 1)
    (result,) = kernel_driver.run(op, images, filters, **attrs)
    gradient = values(result.shape, 2)
    (by_images,) = kernel_driver.run(
        f"{op}BackpropInput", np.int32(images.shape), filters, gradient, **attrs
    )
    (by_filters,) = kernel_driver.run(
        f"{op}BackpropFilter", images, np.int32(filters.shape), gradient, **attrs
    )
    product = np.vdot(result, gradient)
    assert np.vdot(images, by_images) == pytest.approx(product)
    assert np.vdot(filters, by_filters) == pytest.approx(product)


def channels_first(array):
    return np.ascontiguousarray(np.moveaxis(array, 3, 1))


def first(values):
    return [values[0], values[3], values[1], values[2]]


@pytest.mark.parametrize("op", CONVOLUTIONS)
def test_channels_first_convolve_as_channels_last(op):
    images, filters = values((2, 5, 6, 3)), values((3, 2, 3, 2), 1)
    last = {"strides": [1, 2, 1, 1], "padding": "SAME"}
    attrs = {"strides": first(last["strides"]), "padding": "SAME", "data_format": "NCHW"}
    (result,) = kernel_driver.run(op, images, filters, **last)
    (other,) = kernel_driver.run(op, channels_first(images), filters, **attrs)
    np.testing.assert_allclose(other, channels_first(result))
    gradient = values(result.shape, 2)
    shape = np.int32(images.shape)
    (by_images,) = kernel_driver.run(f"{op}BackpropInput", shape, filters, gradient, **last)
    (other,) = kernel_driver.run(
        f"{op}BackpropInput", np.int32(first(shape)), filters, channels_first(gradient), **attrs
    )
    np.testing.assert_allclose(other, channels_first(by_images))
    sizes = np.int32(filters.shape)
    (by_filters,) = kernel_driver.run(f"{op}BackpropFilter", images, sizes, gradient, **last)
    (other,) = kernel_driver.run(
        f"{op}BackpropFilter", channels_first(images), sizes, channels_first(gradient), **attrs
    )
    np.testing.assert_allclose(other, by_filters)


@pytest.mark.parametrize("op", ["MaxPool", "AvgPool"])
def test_channels_first_pool_as_channels_last(op):
    images = values((2, 5, 6, 3))
    last = {"ksize": [1, 3, 2, 1], "strides": [1, 2, 1, 1], "padding": "SAME"}
    attrs = {**last, "ksize": [1, 1, 3, 2], "strides": [1, 1, 2, 1], "data_format": "NCHW"}
    (result,) = kernel_driver.run(op, images, **last)
    (other,) = kernel_driver.run(op, channels_first(images), **attrs)
    np.testing.assert_allclose(other, channels_first(result))


def test_height_and_width_alone_are_input_sizes():
    filters, gradient = values((2, 2, 3, 1)), values((2, 4, 4, 1))
    attrs = {"strides": [1, 1, 1, 1], "padding": "SAME"}
    (short,) = kernel_driver.run(
        "Conv2DBackpropInput", np.int32([4, 4]), filters, gradient, **attrs
    )
    (full,) = kernel_driver.run(
        "Conv2DBackpropInput", np.int32([2, 4, 4, 3]), filters, gradient, **attrs
    )
    np.testing.assert_array_equal(short, full)


def test_a_large_image_is_convolved_in_parts():
    images, filters = values((2, 300, 40, 24)), values((3, 3, 24, 2), 1)
    attrs = {"strides": [1, 1, 1, 1], "padding": "VALID"}
    (result,) = kernel_driver.run("Conv2D", images, filters, **attrs)
    for i, j, k in ((0, 0, 0), (1, 297, 37), (1, 150, 3)):
        window = images[i, j : j + 3, k : k + 3]
        np.testing.assert_allclose(result[i, j, k], np.tensordot(window, filters, 3))


def test_a_pool_far_larger_than_its_image_takes_no_longer_than_the_image():
    image = np.float32([[[[3], [5]]]])
    attrs = {"ksize": [1, 2000, 3000, 1], "strides": [1, 1, 1, 1], "padding": "SAME"}
    (largest,) = kernel_driver.run("MaxPool", image, **attrs)
    (mean,) = kernel_driver.run("AvgPool", image, **attrs)
    assert largest.reshape(-1).tolist() == [5, 5]
    assert mean.reshape(-1).tolist() == [4, 4]


@pytest.mark.parametrize(
    ("op", "inputs", "attrs"),
    [
        ("MaxPool", [np.ones((1, 1, 1, 1), np.float32)], {"ksize": [1, 1 << 30, 1 << 30, 1]}),
        (
            "Conv2DBackpropInput",
            [np.int32([1, 1 << 30, 1 << 30, 1]), *[np.ones((1, 1, 1, 1), np.float32)] * 2],
            {"strides": [1, 1 << 30, 1 << 30, 1]},
        ),
        (
            "Conv2D",
            [np.ones((1, 1, 1, 1), np.float32)] * 2,
            {"padding": "EXPLICIT", "explicit_paddings": [0, 0, *[1 << 30] * 4, 0, 0]},
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_few_numbers_cannot_ask_for_all_memory(op, inputs, attrs):
    attrs = {"strides": [1, 1, 1, 1], "padding": "SAME", **attrs}
    with pytest.raises(errors.ResourceExhaustedError, match=str(limits.max_tensor_bytes())):
        kernel_driver.run(op, *inputs, **attrs)


@given(
    size=st.integers(1, 5),
    stride=st.integers(1, 4),
    dilation=st.integers(1, 3),
    padding=st.sampled_from(["SAME", "VALID", "EXPLICIT"]),
    length=st.integers(0, 12),
)
def test_windows_never_reach_beyond_the_padded_image(size, stride, dilation, padding, length):
    windows = Windows(size, stride, dilation, padding, (1, 2))
    try:
        count, (before, after) = windows.count(length), windows.pads(length)
    except ValueError:
        assert padding != "SAME"
        return
    if count:
        assert (count - 1) * stride + windows.reach <= before + length + after


X = np.arange(32, dtype=np.float32).reshape(1, 4, 4, 2)
F = np.ones((3, 3, 2, 1), np.float32)
SAME = {"strides": [1, 1, 1, 1], "padding": "SAME"}
VALID = {"strides": [1, 1, 1, 1], "padding": "VALID"}
POOL = {"ksize": [1, 2, 2, 1], **SAME}
G = np.ones((1, 4, 4, 1), np.float32)
I32 = np.int32
REFUSED = {
    "an image's rank": ("Conv2D", Case(X[0], F, **SAME)),
    "a filter's rank": ("Conv2D", Case(X, F[0], **SAME)),
    "depth": ("Conv2D", Case(X[..., :1], F, **SAME)),
    "too small an image": ("Conv2D", Case(X[:, :1], F, **VALID)),
    "an empty filter": ("Conv2D", Case(X, F[:0], **SAME)),
    "three strides": ("Conv2D", Case(X, F, strides=[1, 1, 1], padding="SAME")),
    "a stride of 0": ("Conv2D", Case(X, F, strides=[1, 0, 1, 1], padding="SAME")),
    "a stride of batches": ("Conv2D", Case(X, F, strides=[2, 1, 1, 1], padding="SAME")),
    "a stride of channels": ("Conv2D", Case(X, F, strides=[1, 1, 1, 2], padding="SAME")),
    "a dilation of 0": ("Conv2D", Case(X, F, dilations=[1, 0, 1, 1], **SAME)),
    "paddings without EXPLICIT": ("Conv2D", Case(X, F, explicit_paddings=[0] * 8, **SAME)),
    "no paddings with EXPLICIT": ("Conv2D", Case(X, F, strides=[1] * 4, padding="EXPLICIT")),
    "a negative padding": (
        "Conv2D",
        Case(
            X, F, strides=[1] * 4, padding="EXPLICIT", explicit_paddings=[0, 0, -1, 0, 0, 0, 0, 0]
        ),
    ),
    "a padding of batches": (
        "Conv2D",
        Case(X, F, strides=[1] * 4, padding="EXPLICIT", explicit_paddings=[1, 0, 0, 0, 0, 0, 0, 0]),
    ),
    "a gradient's size": ("Conv2DBackpropInput", Case(I32(X.shape), F, G[:, 1:], **SAME)),
    "a gradient's batch": ("Conv2DBackpropInput", Case(I32([2, 4, 4, 2]), F, G, **SAME)),
    "three input sizes": ("Conv2DBackpropInput", Case(I32([1, 4, 4]), F, G, **SAME)),
    "a negative size": ("Conv2DBackpropInput", Case(I32([1, 4, 4, -2]), F, G, **SAME)),
    "a gradient's depth": (
        "Conv2DBackpropFilter",
        Case(X, I32([3, 3, 2, 2]), G, **SAME),
    ),
    "a filter's size": ("Conv2DBackpropFilter", Case(X, I32([3, 3, 1]), G, **SAME)),
    "depthwise depth": ("DepthwiseConv2dNative", Case(X[..., :1], F, **SAME)),
    "a pool's rank": ("MaxPool", Case(X[0], **POOL)),
    "a pool of batches": ("MaxPool", Case(X, **{**POOL, "ksize": [2, 2, 2, 1]})),
    "a pool of 0": ("MaxPool", Case(X, **{**POOL, "ksize": [1, 0, 2, 1]})),
    "too large a pool": ("AvgPool", Case(X, **{**VALID, "ksize": [1, 9, 2, 1]})),
    "a pool gradient's size": ("MaxPoolGrad", Case(X, X, X[:, 1:], **POOL)),
    "values at the largest": ("MaxPoolGradGrad", Case(X, X, X[:, 1:], **POOL)),
    "a pooled size": ("MaxPoolGrad", Case(X, X[:, 1:], X, **POOL)),
    "a mean gradient's size": ("AvgPoolGrad", Case(I32([1, 3, 4, 2]), X, **POOL)),
    "a mean gradient's rank": ("AvgPoolGrad", Case(I32([1, 4, 4]), X, **POOL)),
}


@pytest.mark.parametrize("what", REFUSED)
def test_an_op_on_images_refuses_what_does_not_fit(what):
    # Without the oracle: TensorFlow ends its process on some of these.
    op, case = REFUSED[what]
    with pytest.raises(errors.InvalidArgumentError):
        kernel_driver.run(op, *case.inputs, **case.attrs)
