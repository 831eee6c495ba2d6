"""The tiled product and the tiled layout, around the widths where tiles begin and end."""

import numpy as np
import pytest

from gradcore import kernels


def sizes(dtype):
    tile = kernels.tile_width(dtype)
    return sorted({1, 2, 5, 6, 7, 12, 13, tile - 1, tile, tile + 1, 2 * tile + 3, 65})


@pytest.mark.parametrize("transpose_a", [False, True])
def test_product_around_the_tile_widths(rng, dtype, transpose_a):
    eps = np.finfo(dtype).eps
    for rows in sizes(dtype):
        for columns in sizes(dtype)[::2]:
            for depth in (1, 3, kernels.tile_width(dtype) + 1, 40):
                a = rng.standard_normal((depth, rows) if transpose_a else (rows, depth)).astype(dtype)
                b = rng.standard_normal((depth, columns)).astype(dtype)
                left = (a.T if transpose_a else a).astype(np.float64)
                exact, size = left @ b.astype(np.float64), np.abs(left) @ np.abs(b.astype(np.float64))
                # error of an inner product: at most depth * eps / 2 of the sum of magnitudes (Higham 2002, section 3.1)
                error = np.abs(kernels.matmul(a, b, transpose_a=transpose_a) - exact)
                assert (error <= depth * eps * size).all(), (rows, columns, depth)


def test_depth_beyond_one_block_continues_the_same_sum(rng, dtype):
    # The order of the sum is that of the inner index, whatever the blocks: whole numbers show it exactly.
    a = rng.integers(-8, 8, (7, 1000)).astype(dtype)
    b = rng.integers(-8, 8, (1000, 21)).astype(dtype)
    np.testing.assert_array_equal(kernels.matmul(a, b), a @ b)
    np.testing.assert_array_equal(kernels.matmul(a.T.copy(), b, transpose_a=True), a @ b)


def test_pads_never_enter_the_sum(dtype):
    # A pad is zero, and zero times infinity would be NaN.
    a = np.full((3, 5), np.inf, dtype)
    np.testing.assert_array_equal(kernels.matmul(a, np.ones((5, 3), dtype)), np.full((3, 3), np.inf, dtype))


def test_nan_and_infinity_stay_in_their_row(rng, dtype):
    a, b = rng.standard_normal((9, 20)).astype(dtype), np.ones((20, 6), dtype)
    a[4, 7] = np.nan
    product = kernels.matmul(a, b)
    assert np.isnan(product[4]).all()
    assert np.isfinite(np.delete(product, 4, axis=0)).all()


@pytest.mark.parametrize(("rows", "depth", "columns"), [(0, 3, 2), (2, 0, 3), (2, 3, 0)])
def test_empty_operands(dtype, rows, depth, columns):
    product = kernels.matmul(np.ones((rows, depth), dtype), np.ones((depth, columns), dtype))
    assert product.shape == (rows, columns)
    assert not product.any()


def test_what_does_not_fit_is_refused(dtype):
    with pytest.raises(ValueError, match="inner sizes 3 and 2"):
        kernels.matmul(np.ones((2, 3), dtype), np.ones((2, 3), dtype))
    with pytest.raises(TypeError, match="float32 or float64"):
        kernels.matmul(np.ones((2, 3), np.int64), np.ones((3, 2), np.int64))
    with pytest.raises(ValueError, match="two dimensions"):
        kernels.matmul(np.ones(3, dtype), np.ones((3, 2), dtype))


def test_tiling_goes_there_and_back(rng, dtype):
    for rows in (1, 6, 17):
        for columns in sizes(dtype):
            width = -(-columns // kernels.tile_width(dtype)) * kernels.tile_width(dtype)
            matrix = rng.standard_normal((columns, rows)).astype(dtype).T  # F order: any strides will do
            arena = np.full(rows * width + 32, 7, dtype)
            kernels.tile(matrix, arena, 16)
            np.testing.assert_array_equal(kernels.untile(arena, 16, rows, columns), matrix)
            assert (arena[:16] == 7).all()
            assert (arena[16 + rows * width :] == 7).all()
            assert np.count_nonzero(arena[16 : 16 + rows * width]) == np.count_nonzero(
                matrix
            )  # pads are zero


def test_a_matrix_beyond_the_arena_is_refused(dtype):
    arena = np.zeros(10, dtype)
    with pytest.raises(ValueError, match="do not fit"):
        kernels.tile(np.ones((100, 3), dtype), arena, 0)
    with pytest.raises(ValueError, match="do not fit"):
        kernels.untile(arena, -1, 1, 1)
    assert not arena.any()
