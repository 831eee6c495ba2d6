"""The maps and their fixed points against the literature."""

import itertools
import math

import numpy as np
import pytest

from gradcore import activations
from gradcore.activations import REGISTRY
from gradcore.health import theory


def test_relu_with_he_is_critical():
    assert theory.chi("relu", 3.0, math.sqrt(2)) == pytest.approx(1, abs=1e-14)
    assert theory.variance_map("relu", 0.7, math.sqrt(2)) == pytest.approx(0.7, abs=1e-14)
    field = theory.mean_field("relu", math.sqrt(2))
    assert field.phase == "critical"
    assert field.chi == pytest.approx(1, abs=1e-14)
    assert field.c_star == 1
    assert field.depth_scale == math.inf


@pytest.mark.parametrize(
    ("weight_std", "bias_std", "q_star", "phase"),
    [
        (1.0, 0.0, 0.0, "ordered"),
        (1.0, 0.3, 0.09 / 0.5, "ordered"),
        (math.sqrt(2), 0.0, 2.0, "critical"),
        (math.sqrt(2), 0.1, math.inf, "critical"),
        (2.0, 0.0, math.inf, "chaotic"),
        (2.0, 0.1, math.inf, "chaotic"),
    ],
)
def test_relu_has_the_fixed_points_of_a_linear_map(weight_std, bias_std, q_star, phase):
    field = theory.mean_field("relu", weight_std, bias_std)
    assert field.q_star == pytest.approx(q_star, rel=1e-12)
    assert field.phase == phase
    assert field.chi == pytest.approx(weight_std**2 / 2, abs=1e-12)


def test_tanh_is_critical_where_the_literature_says():
    # Schoenholz et al. (2017): at bias variance 0.05 the critical weight variance is near 1.76
    below, above = (theory.mean_field("tanh", math.sqrt(v), math.sqrt(0.05)) for v in (1.755, 1.765))
    assert below.phase == "ordered"
    assert above.phase == "chaotic"
    assert below.c_star == 1
    assert above.c_star < 1
    assert min(below.depth_scale, above.depth_scale) > 100


def test_tanh_without_bias_is_critical_at_one():
    field = theory.mean_field("tanh", 1.0)
    assert field.q_star == 0
    assert field.phase == "critical"
    assert field.depth_scale == math.inf
    assert theory.mean_field("tanh", 0.99).phase == "ordered"
    assert theory.mean_field("tanh", 1.01).phase == "chaotic"


def test_selu_has_its_fixed_point():
    # Klambauer et al., "Self-normalizing neural networks" (2017): variance 1 is kept
    assert theory.mean_field("selu", 1.0).q_star == pytest.approx(1, abs=1e-12)


def test_sigmoid_vanishes_for_every_usual_weight():
    assert all(theory.mean_field("sigmoid", std).chi < 1 for std in (0.1, 1, 2, 4, 8, 10))
    # where it ends, by brute force: a fine trapezoidal rule, and the fixed point by iteration
    x = np.linspace(-12, 12, 200_001)
    density = np.exp(-x * x / 2) / math.sqrt(2 * math.pi) * (x[1] - x[0])

    def chi(std):
        q = std**2 / 2
        for _ in range(60):
            q = std**2 * (density @ activations.sigmoid(math.sqrt(q) * x) ** 2)
        a = activations.sigmoid(math.sqrt(q) * x)
        return std**2 * (density @ (a * (1 - a)) ** 2)

    crossing = 10.149263709
    assert chi(crossing) == pytest.approx(1, abs=1e-9)
    assert theory.mean_field("sigmoid", crossing - 1e-6).phase == "ordered"
    assert theory.mean_field("sigmoid", crossing + 1e-6).phase == "chaotic"


def test_exponential_has_a_fixed_point_only_for_small_weights():
    field = theory.mean_field("exponential", 0.3)
    assert field.q_star == pytest.approx(0.09 * math.exp(2 * field.q_star), rel=1e-12)
    # q = σ² exp(2 q) has a solution up to σ² = 1 / (2 e)
    assert theory.mean_field("exponential", math.sqrt(0.99 / (2 * math.e))).q_star < 0.5
    lost = theory.mean_field("exponential", math.sqrt(1.01 / (2 * math.e)))
    assert lost.q_star == math.inf
    assert lost.chi == math.inf
    assert lost.phase == "chaotic"


@pytest.mark.parametrize("name", sorted(activations.REGISTRY))
@pytest.mark.parametrize(("weight_std", "bias_std"), [(0.4, 0.2), (1.3, 0.0), (2.5, 0.3)])
def test_iterating_the_map_leads_to_the_fixed_point(name, weight_std, bias_std):
    field = theory.mean_field(name, weight_std, bias_std)
    q = weight_std**2 + bias_std**2
    for _ in range(400):
        if not 1e-20 < q < 1e20:
            break
        q = theory.variance_map(name, q, weight_std, bias_std)
    if field.q_star in (0, math.inf):
        assert (q < 1e-3) if field.q_star == 0 else (q > 1e3)
    else:
        assert q == pytest.approx(field.q_star, rel=1e-6)


def test_correlation_of_equal_examples_stays_one():
    for name in ("tanh", "relu", "leaky_relu(0.2)", "elu"):
        assert theory.correlation_map(name, 1.3, 1.0, 1.1, 0.2) == pytest.approx(1, abs=1e-12)


def test_chi_is_the_slope_of_the_correlation_map_at_a_fixed_point():
    field = theory.mean_field("tanh", 1.2, 0.3)
    step = 1e-5
    slope = (1 - theory.correlation_map("tanh", field.q_star, 1 - step, 1.2, 0.3)) / step
    assert field.chi == pytest.approx(slope, rel=1e-4)
    assert field.depth_scale == pytest.approx(1 / abs(math.log(field.chi)), rel=1e-9)


def test_the_fixed_correlation_of_chaos_is_fixed():
    field = theory.mean_field("tanh", 3.0, 0.5)
    assert 0 < field.c_star < 1
    assert theory.correlation_map("tanh", field.q_star, field.c_star, 3.0, 0.5) == pytest.approx(
        field.c_star, abs=1e-12
    )


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="softmax takes a row"):
        theory.mean_field("softmax", 1.0)
    with pytest.raises(ValueError, match="weight_std"):
        theory.mean_field("tanh", -1.0)
    with pytest.raises(ValueError, match="bias_std"):
        theory.mean_field("tanh", 1.0, np.nan)


ODD = [0.0, 5e-324, 1e-200, 1e-20, 1.0, 1e15]


@pytest.mark.parametrize("activation", REGISTRY)
def test_every_number_has_a_limit(activation):
    for weight_std, bias_std in itertools.product(ODD, ODD):
        found = theory.mean_field(activation, weight_std, bias_std)
        assert not any(math.isnan(x) for x in (found.q_star, found.c_star, found.chi, found.depth_scale))
        for q, c in itertools.product([0.0, 1e-300, 1.0, 1e300], [-1.0, 0.0, 1e-310, 1.0]):
            assert theory.variance_map(activation, q, weight_std, bias_std) >= 0
            assert abs(theory.correlation_map(activation, q, c, weight_std, bias_std)) <= 1 + 1e-9
            assert theory.chi(activation, q, weight_std) >= 0


def test_the_largest_weights_saturate():
    found = theory.mean_field("sigmoid", 1e15)  # a step from 0 to 1: half of the units are on
    assert found.q_star == pytest.approx(0.5e30, rel=1e-6)
    assert (found.phase, theory.mean_field("sigmoid", 1e-200).phase) == ("chaotic", "ordered")
    # exponentials: exp(q (1 + c)) / exp(2 q), whatever leaves float64
    assert theory.correlation_map("exponential", 2.0, 0.5, 1.0) == pytest.approx(math.exp(-1.0))
    assert theory.correlation_map("exponential", 1000.0, 0.99, 1.0) == pytest.approx(math.exp(-10.0))


@pytest.mark.parametrize("bad", [-1, 1e16, 1e300, math.inf, math.nan, "x", None, True])
def test_standard_deviations_that_cannot_be_are_named(bad):
    for arguments, name in (((bad, 0.1), "weight_std"), ((1.0, bad), "bias_std")):
        with pytest.raises((TypeError, ValueError), match=name):
            theory.mean_field("tanh", *arguments)
        with pytest.raises((TypeError, ValueError), match=name):
            theory.correlation_map("tanh", 1.0, 0.5, *arguments)


def test_other_arguments_that_cannot_be_are_named():
    for call, message in (
        (lambda: theory.mean_field("softmax", 1.0), "softmax takes a row"),
        (lambda: theory.chi("tahn", 1.0, 1.0), "tanh"),
        (lambda: theory.variance_map("tanh", -1.0, 1.0), "q must be at least 0"),
        (lambda: theory.correlation_map("tanh", 1.0, 1.5, 1.0), "from -1 to 1"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
