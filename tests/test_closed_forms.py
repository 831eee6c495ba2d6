"""What the subject's textbooks compute by hand."""

import numpy as np
import pytest

from gradcore import Dense, Network, activations, mlp, softmax


def chain(scale, depth, *, width=3, dtype="float32"):
    """A linear network of `depth` matrices scale · I."""
    layers = [Dense(width, init=f"identity({scale})", use_bias=False)] * depth
    return Network(layers, input_size=width, dtype=dtype, seed=0)


@pytest.mark.parametrize("scale", [1.5, 0.5, 1.0, -0.9])
@pytest.mark.parametrize("depth", [1, 2, 10, 60])
def test_a_chain_multiplies_by_its_scale_at_every_layer(scale, depth, dtype):
    net = chain(scale, depth, dtype=dtype)
    power = float(scale) ** depth
    out = net.forward(np.ones((2, 3)))
    np.testing.assert_allclose(out, power, rtol=depth * np.finfo(dtype).eps)
    gradient = net.input_gradients(np.ones((2, 3)), np.ones((2, 3)))
    np.testing.assert_allclose(gradient, power, rtol=depth * np.finfo(dtype).eps)


@pytest.mark.parametrize("scale", [1.5, 0.5])
def test_the_ledger_of_a_chain_books_its_scale_at_every_layer(scale):
    net = chain(scale, 30, dtype="float64")
    ledger = net.ledger(np.eye(3), np.zeros((3, 3)))
    for layer, entry in enumerate(ledger.entries, start=1):
        # the output of layer l of a chain with unit input: its input is s^(l-1), the output s^l
        assert entry.output.max_abs == pytest.approx(scale**layer)
        assert entry.forward_gain == pytest.approx(scale)
    gains = [entry.backward_gain for entry in ledger.entries[1:]]
    assert gains == pytest.approx([scale] * 29)
    assert ledger.end_to_end_log10 == pytest.approx(29 * np.log10(scale))


def outputs(scale, powers):
    return [chain(scale, power).forward(np.eye(3)) for power in powers]


def test_float32_overflows_at_power_219_of_1_5_and_is_nan_right_after():
    finite, infinite, after = outputs(1.5, (218, 219, 220))
    assert np.isfinite(finite).all()
    assert np.isinf(np.diag(infinite)).all()
    assert not np.isnan(infinite).any()
    # off the diagonal of the next product stands 0 · inf
    assert np.isnan(after[~np.eye(3, dtype=bool)]).all()


def test_float32_underflows_to_zero_at_power_150_of_0_5():
    last, zero = outputs(0.5, (149, 150))
    assert np.array_equal(np.diag(last), np.full(3, np.float32(2.0**-149)))
    assert not zero.any()


def test_the_slope_of_sigmoid_is_never_above_a_quarter(dtype):
    x = np.concatenate([np.linspace(-40, 40, 20001), [0.0, np.inf, -np.inf]]).astype(dtype)
    slope = activations.sigmoid_backward(np.ones_like(x), x)
    assert slope.max() == 0.25
    assert (slope[x == 0] == 0.25).all()
    assert slope.min() >= 0


@pytest.mark.parametrize("depth", [5, 20])
def test_a_sigmoid_chain_loses_at_least_four_times_per_layer(depth):
    layers = [layer for _ in range(depth) for layer in (Dense(1, init="ones"), "sigmoid")]
    net = Network([*layers, Dense(1, init="ones")], input_size=1, dtype="float64", seed=0)
    gradient = net.input_gradients([[0.0]], [[1.0]])
    assert 0 < gradient.item() <= 0.25**depth


@pytest.mark.parametrize("n", [1, 2, 3, 10, 33, 1000])
@pytest.mark.parametrize("value", [0.0, 1.0, -1e30, 3e38, 1e-45])
def test_softmax_of_a_constant_row_is_one_over_n(n, value, dtype):
    row = np.full((2, n), value, dtype)
    assert np.array_equal(softmax(row), np.full((2, n), dtype.type(1) / dtype.type(n)))


def test_a_network_of_zeros_gives_every_class_the_same_probability():
    net = mlp([4, 6, 5], init="zeros", seed=0)
    assert np.array_equal(net.predict_proba(np.ones((3, 4))), np.full((3, 5), np.float32(1) / np.float32(5)))
    loss, gradients = net.loss_and_gradients(np.ones((3, 4)), [0, 1, 2])
    assert loss == pytest.approx(np.log(5))
    assert not gradients["0.weight"].any()
