import numpy as np
import pytest

from gradcore import errors
from gradcore.errors import FaultError, GradcoreWarning, unknown_name

NAN, INF = float("nan"), float("inf")


def test_a_fault_error_carries_its_fault():
    error = FaultError("exploded", fault={"step": 3})
    assert str(error) == "exploded"
    assert error.fault == {"step": 3}
    assert isinstance(error, RuntimeError)


def test_a_warning_of_gradcore_is_a_user_warning():
    assert issubclass(GradcoreWarning, UserWarning)


@pytest.mark.parametrize(
    ("given", "nearest"), [("RELU", "relu"), ("tahn", "tanh"), ("Income", "income"), ("incom", "income")]
)
def test_an_unknown_name_is_answered_with_the_nearest(given, nearest):
    known = ["relu", "tanh", "income"]
    message = str(unknown_name("name", given, known))
    assert f"did you mean {nearest!r}" in message
    assert repr(given) in message


def test_an_unknown_name_like_no_other_lists_what_is_known():
    assert str(unknown_name("loss", "zzz", ["mse"])) == "unknown loss 'zzz'; Known: mse"


def test_of_very_many_names_only_some_are_listed():
    message = str(unknown_name("column", "zzz", [f"c{i}" for i in range(1000)]))
    assert "(1000 in all)" in message
    assert len(message) < 300


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (errors.check_number, [0, -1.5, INF, np.float32(2)], [NAN]),
        (errors.check_finite, [0, -1.5], [NAN, INF, -INF, 10**400]),
        (errors.check_positive, [1e-300, 3], [0, -1, NAN, INF]),
        (errors.check_non_negative, [0, 1e300], [-1e-300, NAN, INF]),
        (errors.check_fraction, [0, 0.999], [1, -0.1, NAN, INF]),
        (errors.check_integer, [1, np.int8(7)], [0, -3]),
    ],
)
def test_checks_of_numbers(check, good, bad):
    for value in good:
        assert check("rate", value) == value
    for value in bad:
        with pytest.raises(ValueError, match="rate"):
            check("rate", value)
    for value in ("1", None, True, [1.0], np.zeros(2), 1j, b"1"):
        with pytest.raises(TypeError, match="rate"):
            check("rate", value)


def test_an_integer_is_not_a_float():
    with pytest.raises(TypeError, match="units must be an integer"):
        errors.check_integer("units", 3.0)


def test_infinity_where_it_means_no_limit():
    assert errors.check_non_negative("max_norm", INF, allow_inf=True) == INF


def test_a_flag_is_true_or_false():
    assert errors.check_flag("nesterov", True) is True
    for value in (1, 0, None, "yes"):
        with pytest.raises(TypeError, match="nesterov"):
            errors.check_flag("nesterov", value)
