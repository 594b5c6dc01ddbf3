"""Bins and residuals: exact at every edge for every K, and the same coordinate comes back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from render.quantization import BACKGROUND, IGNORE, dequantize, quantize

bins = st.integers(1, 254)
floats = st.sampled_from([np.float32, np.float64])


@given(st.data(), bins, floats)
def test_decoding_gives_the_coordinate_back(data, n_bins, dtype):
    width = 32 if dtype is np.float32 else 64
    u = data.draw(arrays(dtype, (7,), elements=st.floats(0, 1, width=width)))
    classes, residual = quantize(u, n_bins)
    assert classes.min() >= 1
    assert classes.max() <= n_bins
    assert residual.min() >= 0
    assert residual.max() <= 1
    assert np.abs(dequantize(classes, residual, n_bins) - u).max() < 1e-6


@given(bins, floats)
def test_every_bin_begins_exactly_at_its_edge_seen_from_both_sides(n_bins, dtype):
    edges = (np.arange(n_bins + 1) / n_bins).astype(dtype)
    at, _ = quantize(edges, n_bins)
    assert at.tolist() == [*range(1, n_bins + 1), n_bins]  # u = 1 makes no further class
    below, _ = quantize(np.nextafter(edges[1:], dtype(0)), n_bins)
    assert below.tolist() == list(range(1, n_bins + 1))
    for u in (edges, np.nextafter(edges[1:], dtype(0))):
        classes, residual = quantize(u, n_bins)
        assert np.abs(dequantize(classes, residual, n_bins) - u).max() < 1e-7


def test_three_tenths_lie_in_the_fourth_of_ten_bins_where_division_puts_them_in_the_third():
    assert np.floor(0.3 / 0.1) == 2
    assert quantize(np.array([0.3]), 10)[0].tolist() == [4]


def test_one_forty_ninth_lies_in_the_second_of_49_bins_where_the_product_alone_puts_it_in_the_first():
    assert np.floor(1 / 49 * 49) == 0
    classes, residual = quantize(np.array([1 / 49]), 49)
    assert classes.tolist() == [2]
    assert residual.tolist() == [0]


@given(st.integers(0, 2**32 - 1))
def test_classes_are_the_product_s_floor_away_from_the_edges(seed):
    u = np.random.default_rng(seed).random((5, 4, 2))
    classes, residual = quantize(u, 10)
    np.testing.assert_array_equal(classes, np.minimum(np.floor(u * 10), 9) + 1)
    np.testing.assert_allclose(residual, u * 10 - (classes - 1.0), atol=1e-6)


def test_background_and_ignored_places_keep_their_classes_and_are_not_looked_at():
    u = np.array([np.nan, 0.25, 7.0, 1.0])
    label = np.array([BACKGROUND, 1, IGNORE, 1], dtype=np.uint8)
    classes, residual = quantize(u, 4, label=label)
    assert classes.tolist() == [0, 2, 255, 4]
    assert residual.tolist() == [0, 0, 0, 1]
    assert dequantize(classes, residual, 4).tolist() == [0, 0.25, 0, 1]


@pytest.mark.parametrize("wrong", [-0.001, 1.001, np.nan])
def test_a_coordinate_outside_is_refused(wrong):
    with pytest.raises(ValueError, match=r"lie in \[0, 1\].*give the field's label"):
        quantize(np.array([0.5, wrong]), 10)


@pytest.mark.parametrize("n_bins", [0, 255])
def test_bins_that_fit_no_byte_are_refused(n_bins):
    with pytest.raises(ValueError, match=f"{n_bins} bins: a class is one byte"):
        quantize(np.array([0.5]), n_bins)


def test_classes_of_another_number_of_bins_are_refused():
    with pytest.raises(ValueError, match="class 11 is none of 10 bins"):
        dequantize(np.array([3, 11], dtype=np.uint8), np.zeros(2), 10)
