import numpy as np
import pytest
from gradcheck import check_gradient, numeric_gradient

MATRIX = np.array([[2.0, -1.0, 0.5], [0.25, 3.0, -2.0]])


def function(x):
    return float(np.sin(MATRIX @ x).sum())


def gradient(x):
    return MATRIX.T @ np.cos(MATRIX @ x)


X = np.array([0.3, -0.7, 1.1])

WRONG = {
    "sign": lambda g: -g,
    "sign of one element": lambda g: g * [1, 1, -1],
    "factor": lambda g: g * 1.001,
    "factor two": lambda g: g * 2,
    "index": lambda g: np.roll(g, 1),
    "missing element": lambda g: g * [1, 0, 1],
    "constant": lambda g: g + 1e-6,
    "NaN": lambda g: np.where([True, False, False], np.nan, g),
    "infinite": lambda g: np.where([True, False, False], np.inf, g),
    "shape": lambda g: g[:2],
}


def test_the_right_gradient_passes():
    check_gradient(function, X, gradient(X))


@pytest.mark.parametrize("mistake", WRONG)
def test_a_wrong_gradient_is_rejected(mistake):
    with pytest.raises(AssertionError, match="gradient"):
        check_gradient(function, X, np.asarray(WRONG[mistake](gradient(X))))


def test_the_message_names_the_element_and_both_numbers():
    wrong = gradient(X)
    wrong[2] += 1
    with pytest.raises(AssertionError, match=r"d_x\[2\] is .*, differences say"):
        check_gradient(function, X, wrong, name="d_x")


def test_float32_is_refused():
    with pytest.raises(TypeError, match="float64"):
        check_gradient(function, X, gradient(X).astype(np.float32))


def test_the_differences_are_of_fourth_order():
    # exact for polynomials of degree four, up to rounding
    x = np.array([1.7])
    np.testing.assert_allclose(
        numeric_gradient(lambda v: float(v[0] ** 4), x, step=0.1), 4 * x**3, rtol=1e-12
    )
    errors = [
        abs(numeric_gradient(lambda v: float(np.exp(v[0])), x, step=h)[0] - np.exp(x[0])) for h in (0.1, 0.05)
    ]
    assert 15 < errors[0] / errors[1] < 17


def test_x_is_not_changed():
    x = X.copy()
    numeric_gradient(function, x)
    np.testing.assert_array_equal(x, X)
