import inspect
import math

import numpy as np
import pytest
from reference_network import twin

from gradcore import (
    BatchNorm,
    Dense,
    Dropout,
    GradcoreWarning,
    Network,
    Residual,
    activations,
    initializers,
    mlp,
)
from gradcore.initializers import REGISTRY, auto_for, lsuv_, resolve

SHAPE = (300, 200)  # fan_out, fan_in
ARGUMENTS = {"constant": (0.5,), "moment_normal": (0.5,)}
every_initializer = pytest.mark.parametrize("name", REGISTRY)

EXPECTED_VARIANCE = {
    "normal": 0.05**2,
    "uniform": 0.05**2 / 3,
    # a normal cut at two standard deviations: 1 - 4 phi(2) / (2 Phi(2) - 1)
    "truncated_normal": 0.05**2 * (1 - 4 * math.exp(-2) / math.sqrt(2 * math.pi) / math.erf(math.sqrt(2))),
    "moment_normal": 1 / (200 * 0.5),
    "glorot_normal": 2 / 500,
    "glorot_uniform": 2 / 500,
    "he_normal": 2 / 200,
    "he_uniform": 2 / 200,
    "lecun_normal": 1 / 200,
    "lecun_uniform": 1 / 200,
    "orthogonal": 1 / 300,
}


def draw(name, shape=SHAPE, **how):
    return REGISTRY[name](shape, *ARGUMENTS.get(name, ()), **{"rng": 1, **how})


@every_initializer
def test_the_signature_is_the_promised_one(name):
    parameters = inspect.signature(REGISTRY[name]).parameters
    assert next(iter(parameters)) == "shape"
    assert all(parameters[p].kind is inspect.Parameter.KEYWORD_ONLY for p in ("rng", "dtype"))
    assert ">>>" in REGISTRY[name].__doc__


@every_initializer
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_shape_dtype_and_repeatability(name, dtype):
    first = draw(name, (7, 5), dtype=dtype)
    assert first.shape == (7, 5)
    assert first.dtype == dtype
    assert first.flags.c_contiguous
    assert first.flags.writeable
    np.testing.assert_array_equal(first, draw(name, (7, 5), dtype=dtype))
    np.testing.assert_array_equal(draw(name, (7, 5), dtype="float64").astype(dtype), first)


@pytest.mark.parametrize("name", EXPECTED_VARIANCE)
def test_mean_and_variance(name):
    w = draw(name, dtype="float64")
    variance = EXPECTED_VARIANCE[name]
    assert abs(w.mean()) < 5 * math.sqrt(variance / w.size)
    assert w.var() == pytest.approx(variance, rel=0.03)
    assert not np.array_equal(w, draw(name, dtype="float64", rng=2))


@pytest.mark.parametrize(
    ("name", "bound"),
    [
        ("uniform", 0.05),
        ("truncated_normal", 0.1),
        ("glorot_uniform", math.sqrt(6 / 500)),
        ("he_uniform", math.sqrt(6 / 200)),
        ("lecun_uniform", math.sqrt(3 / 200)),
    ],
)
def test_bounded_ones_fill_their_interval(name, bound):
    w = np.abs(draw(name, dtype="float64"))
    assert 0.99 * bound < w.max() <= bound


def test_fixed_ones():
    assert (draw("zeros") == 0).all()
    assert (draw("ones") == 1).all()
    assert (draw("constant") == 0.5).all()
    np.testing.assert_array_equal(initializers.identity((2, 3), 1.5), [[1.5, 0, 0], [0, 1.5, 0]])


def test_arguments():
    assert initializers.normal(SHAPE, 0.01, 3.0, rng=0).mean() == pytest.approx(3, abs=1e-3)
    w = initializers.uniform(SHAPE, 1.0, 3.0, rng=0)
    assert 1 <= w.min() < 1.01
    assert 2.99 < w.max() <= 3
    assert initializers.he_normal(SHAPE, 1.0, rng=0).var() == pytest.approx(1 / 200, rel=0.03)
    assert initializers.glorot_normal(SHAPE, 2.0, rng=0).var() == pytest.approx(4 * 2 / 500, rel=0.03)


def test_the_widest_uniform_does_not_overflow():
    assert np.isfinite(initializers.uniform(SHAPE, -1.7e308, 1.7e308, rng=0, dtype="float64")).all()


@pytest.mark.parametrize("shape", [(4, 4), (6, 3), (3, 6), (1, 5), (5, 1)])
def test_orthogonal_rows_or_columns(shape):
    w = initializers.orthogonal(shape, 2.0, rng=3, dtype="float64")
    gram = w @ w.T if shape[0] <= shape[1] else w.T @ w
    np.testing.assert_allclose(gram, 4 * np.eye(min(shape)), atol=1e-13)


def test_every_orthogonal_matrix_is_equally_likely():
    rng = np.random.default_rng(0)
    signs = [np.sign(initializers.orthogonal((1, 1), rng=rng)[0, 0]) for _ in range(400)]
    assert abs(sum(signs)) < 100


def test_a_generator_moves_on_and_a_seed_starts_again():
    rng = np.random.default_rng(0)
    assert not np.array_equal(initializers.normal((3, 3), rng=rng), initializers.normal((3, 3), rng=rng))
    assert isinstance(initializers.generator(5).bit_generator, np.random.Philox)
    np.testing.assert_array_equal(
        initializers.normal((3, 3), rng=5), initializers.normal((3, 3), rng=np.int64(5))
    )


def test_the_global_random_state_is_left_alone():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    for name in REGISTRY:
        draw(name)
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002


@every_initializer
def test_what_cannot_be_asked_for(name):
    with pytest.raises(TypeError, match="dtype must be float32 or float64"):
        draw(name, dtype="float16")
    with pytest.raises(ValueError, match="shape"):
        draw(name, (3, -1))
    with pytest.raises(TypeError, match="shape"):
        draw(name, (3, 2.5))


def test_a_fan_needs_a_matrix():
    assert initializers.normal((4,), rng=0).shape == (4,)
    for name in ("he_normal", "glorot_uniform", "lecun_normal", "orthogonal", "identity"):
        with pytest.raises(ValueError, match=r"needs the shape \(units, inputs\), got \(4,\)"):
            draw(name, (4,))


@pytest.mark.parametrize("rng", [-1, 1.5, "seed", True])
def test_a_seed_is_a_natural_number(rng):
    with pytest.raises((TypeError, ValueError), match="rng"):
        initializers.normal((2, 2), rng=rng)


@pytest.mark.parametrize(
    ("spec", "same"),
    [
        ("normal(0.01)", lambda: initializers.normal(SHAPE, std=0.01, mean=0.0, rng=4)),
        ("normal(std=0.01, mean=1)", lambda: initializers.normal(SHAPE, 0.01, 1, rng=4)),
        ("uniform(0.05)", lambda: initializers.uniform(SHAPE, -0.05, 0.05, rng=4)),
        ("uniform(-0.05, 0.05)", lambda: initializers.uniform(SHAPE, 0.05, rng=4)),
        ("Xavier_Uniform", lambda: initializers.glorot_uniform(SHAPE, rng=4)),
        ("xavier_normal", lambda: initializers.glorot_normal(SHAPE, rng=4)),
        ("kaiming_uniform", lambda: initializers.he_uniform(SHAPE, rng=4)),
        ("kaiming_normal(0.2)", lambda: initializers.he_normal(SHAPE, 0.2, rng=4)),
    ],
)
def test_resolving_a_spec(spec, same):
    found = resolve(spec)
    np.testing.assert_array_equal(found(SHAPE, rng=4), same())
    np.testing.assert_array_equal(resolve(str(found))(SHAPE, rng=4), same())


@pytest.mark.parametrize(
    ("spec", "match"),
    [
        ("he_norml", "did you mean 'he_normal'"),
        ("normal(-1)", "std must be at least 0"),
        ("normal(1e999)", "std must be finite"),
        ("uniform(2, 1)", "low must not be above high"),
        ("uniform(-1)", "bound of uniform must be at least 0"),
        ("constant", "missing a required argument: 'value'"),
        ("normal(gain=1)", r"normal takes \(std=0.05, mean=0.0\)"),
        ("normal(rng=1)", r"normal takes \(std=0.05, mean=0.0\)"),
        ("moment_normal(0)", "second_moment must be greater than 0"),
        ("auto", "unknown initializer 'auto'"),
    ],
)
def test_a_spec_that_cannot_be(spec, match):
    with pytest.raises(ValueError, match=match):
        resolve(spec)


def test_a_function_of_the_user():
    def halves(shape, *, rng, dtype):
        return np.full(shape, 0.5, dtype)

    found = resolve(halves)
    assert str(found) == "halves"
    np.testing.assert_array_equal(found((2, 3), rng=0), np.full((2, 3), 0.5))
    assert found((2, 3), rng=0).dtype == np.float32
    assert resolve(found) is found
    with pytest.raises(ValueError, match="returned shape"):
        resolve(lambda shape, *, rng, dtype: np.zeros(3))((2, 2), rng=0)
    with pytest.raises(ValueError, match="not finite in float32"):
        resolve(lambda shape, *, rng, dtype: np.full(shape, 1e300))((2, 2), rng=0)


AUTO = {
    "identity": "glorot_normal",
    "sigmoid": "glorot_normal",
    "tanh": "glorot_normal",
    "relu": "he_normal",
    "leaky_relu": "he_normal(0.01)",
    "leaky_relu(0.2)": "he_normal(0.2)",
    "relu6": "he_normal",
    "selu": "lecun_normal",
    "hard_tanh": "glorot_normal",
    "hard_sigmoid": "glorot_normal",
    "softsign": "glorot_normal",
    "exponential": "glorot_normal",
    "softmax": "glorot_normal",
}


@pytest.mark.parametrize("spec", AUTO)
def test_auto_depends_on_the_activation_that_follows(spec):
    assert str(auto_for(*activations.resolve(spec))) == AUTO[spec]


def test_auto_at_the_output():
    assert str(auto_for(None)) == "glorot_normal"


@pytest.mark.parametrize(
    "spec",
    ["relu", "leaky_relu(0.3)", "selu", "elu", "elu(2)", "gelu", "gelu_tanh", "silu", "hard_silu", "mish", "celu",
     "celu(0.5)", "softplus", "log_sigmoid"],
)  # fmt: skip
def test_auto_keeps_unit_preactivations_at_unit_variance(spec):
    info, parameter = activations.resolve(spec)
    f = getattr(activations, info.name)
    rng = np.random.default_rng(0)
    z = rng.normal(size=(4000, 200))
    a = f(z, parameter) if info.parameter_name else f(z)
    w = auto_for(info, parameter)((200, 200), rng=1, dtype="float64")
    # what all units have in common leaves the variance to the 200 sums of weights
    assert (a @ w.T).std() == pytest.approx(1, rel=0.1 if info.name in ("softplus", "log_sigmoid") else 0.03)


LAYERS = [
    Dense(16, bias_init="constant(3)"), "tanh",
    Residual([Dense(16), BatchNorm(), "relu", Residual([Dense(16, use_bias=False), "sigmoid"])]),
    Dropout(0.3), Dense(40), "relu", Dense(3),
]  # fmt: skip


def pre_activations(net, X):
    """What each dense op puts out in training mode without dropout, by the name of its weight."""
    ledger = net.ledger(X, np.zeros((len(X), net.output_size)))
    spread = {}
    for name, slot in net.plan.parameter_names.items():
        if slot.kind == "weight":
            units = net.unit_ledger(X, np.zeros((len(X), net.output_size)), net.plan.names[slot.op])
            # over rows and units at once: mean square less the square of the mean
            spread[name] = math.sqrt(np.square(units.scale).mean() - units.mean.mean() ** 2)
    assert len(spread) == len(ledger.layers())
    return spread


@pytest.mark.parametrize("scale", [1e-6, 1.0, 300.0])
def test_lsuv_gives_every_dense_layer_unit_variance(rng, dtype, scale):
    X = scale * rng.standard_normal((200, 6))
    # without dropout, which the ledger would apply
    net = Network(
        [layer for layer in LAYERS if not isinstance(layer, Dropout)], input_size=6, dtype=dtype, seed=0
    )
    factors = lsuv_(net, X, tolerance=0.01)
    assert pre_activations(net, X) == pytest.approx(dict.fromkeys(factors, 1.0), abs=0.011)
    for name, factor in factors.items():
        w = net.get_parameters()[name].astype(float) / factor
        gram = w @ w.T if w.shape[0] <= w.shape[1] else w.T @ w
        np.testing.assert_allclose(gram, np.eye(len(gram)), atol=1e-5)
    biases = [array for name, array in net.get_parameters().items() if name.endswith("bias")]
    assert len(biases) == 4
    assert not np.concatenate(biases).any()


def test_lsuv_can_keep_the_directions_of_the_weights(rng):
    X = rng.standard_normal((200, 6))
    net = mlp([6, 8, 8, 2], activation="relu", init="normal(0.01)", dtype="float64", seed=0)
    before = net.get_parameters()
    factors = lsuv_(net, X, orthogonal=False)
    for name, factor in factors.items():
        np.testing.assert_allclose(net.get_parameters()[name], factor * before[name], rtol=1e-12)
        assert factor > 3
    assert pre_activations(net, X) == pytest.approx(dict.fromkeys(factors, 1.0), abs=0.1)


def test_lsuv_repeats_by_its_seed_which_is_that_of_the_network(rng):
    X = rng.standard_normal((50, 6))
    nets = [Network(LAYERS, input_size=6, seed=seed) for seed in (0, 0, 1)]
    for net in nets:
        lsuv_(net, X)
    assert np.array_equal(nets[0].parameters, nets[1].parameters)
    assert not np.array_equal(nets[0].parameters, nets[2].parameters)
    lsuv_(nets[2], X, seed=0)
    assert np.array_equal(nets[0].parameters, nets[2].parameters)


def test_lsuv_agrees_with_the_readable_executor(rng):
    X = rng.standard_normal((50, 6))
    fast = Network(LAYERS, input_size=6, dtype="float64", seed=0)
    slow = twin(fast)
    assert lsuv_(fast, X) == pytest.approx(lsuv_(slow, X), rel=1e-9)
    assert fast.get_parameters()["4.weight"] == pytest.approx(slow.get_parameters()["4.weight"])


def test_lsuv_measures_on_rows_spread_over_all(rng):
    X = np.repeat([1.0, 100.0], 500)[:, None] * rng.standard_normal((1000, 6))
    net = mlp([6, 8, 2], seed=0)
    lsuv_(net, X, rows=100)
    assert pre_activations(net, X)["0.weight"] == pytest.approx(1, abs=0.2)


@pytest.mark.parametrize(
    ("layers", "settings", "message"),
    [
        ([Dense(4, init="zeros"), "relu", Dense(2)], {"orthogonal": False}, "dense 1 puts out zero on every row"),
        ([Dense(4), "relu", BatchNorm(), Dense(4, init="zeros"), Dense(2)], {"orthogonal": False}, "dense 2 puts"),
        ([Dense(4), Dense(2)], {"tolerance": 0.0}, "tolerance"),
        ([Dense(4), Dense(2)], {"max_iterations": 0}, "max_iterations"),
        ([Dense(4), Dense(2)], {"rows": 0}, "rows"),
    ],
)  # fmt: skip
def test_lsuv_says_where_it_cannot_and_leaves_the_network(rng, layers, settings, message):
    net = Network(layers, input_size=6, seed=0)
    before = net.parameters.copy()
    with pytest.raises(ValueError, match=message):
        lsuv_(net, rng.standard_normal((20, 6)), **settings)
    assert np.array_equal(net.parameters, before)


def test_lsuv_on_a_dead_layer_and_on_values_that_overflow(rng):
    X = rng.standard_normal((20, 6))
    # a sum of negative weights and positive inputs: relu gives zero
    dead = Network([Dense(1, init="constant(-1)"), "relu", Dense(3), Dense(2)], input_size=6, seed=0)
    before = dead.parameters.copy()
    with pytest.raises(ValueError, match=r"dense 2 puts out zero on every row.*leaky_relu"):
        lsuv_(dead, np.abs(X), orthogonal=False)
    assert np.array_equal(dead.parameters, before)
    with pytest.raises(ValueError, match=r"X has nan at row 4, column 1"):
        lsuv_(dead, np.where(np.arange(120).reshape(20, 6) == 25, np.nan, X))
    with pytest.raises(ValueError, match="dense 1 puts out values that are not finite"):
        lsuv_(mlp([6, 3, 2], init="constant(1e10)", seed=0), 1e35 * np.abs(X), orthogonal=False)


def test_lsuv_warns_of_a_layer_that_does_not_get_there(rng):
    net = mlp([6, 8, 2], dtype="float32", seed=0)
    with pytest.warns(GradcoreWarning, match=r"not come within 1e-12 .* in dense 1"):
        lsuv_(net, rng.standard_normal((50, 6)), tolerance=1e-12, max_iterations=1)
