"""Where a step first turned NaN or infinite, against a slow reference: every kind of op, both passes, 280 cases."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from first_nonfinite import first_nonfinite, step

from gradcore import BatchNorm, Dense, Dropout, GradcoreWarning, LayerNorm, Network, Residual
from gradcore.optimizers import resolve

ROWS = 6
BOUNDS = {"clip_norm": np.inf, "clip_value": np.inf}
SMOOTH = ("tanh", "relu", "sigmoid", "elu", "gelu", "leaky_relu(0.2)", "selu")


@dataclass
class Case:
    """A net, a batch, and what was planted."""

    layers: list[Any]
    X: np.ndarray
    y: np.ndarray | None = None
    output_grad: np.ndarray | None = None
    loss: str = "mse"
    optimizer: str = "sgd(0.001)"
    parameters: dict[str, Any] = field(default_factory=dict)
    healthy: int = 0  # steps before the planted one


NORMS = {"batch_norm": BatchNorm, "layer_norm": LayerNorm}


def some_layers(rng, width, depth, nesting=2):
    """A stack that keeps the width, of `depth` dense layers, blocks in blocks included."""
    layers = []
    while depth:
        if nesting and depth > 1 and rng.random() < 0.4:
            inside = int(rng.integers(1, depth))
            projection = "always" if rng.random() < 0.3 else False
            branch, scale = some_layers(rng, width, inside, nesting - 1), rng.choice([1.0, 0.5])
            layers.append(Residual(branch, scale=scale, projection=projection))
            depth -= inside
            continue
        layers += [Dense(width, use_bias=bool(rng.random() < 0.8)), str(rng.choice(SMOOTH))]
        layers += [BatchNorm() if rng.random() < 0.5 else LayerNorm()] * (rng.random() < 0.3) + [
            Dropout(0.3)
        ] * (rng.random() < 0.3)
        depth -= 1
    return layers


def prefix(rng, width, scale=1.0, bias="zeros"):
    """Some layers whose outputs are within ±1, of about `scale`."""
    init = f"normal({scale / np.sqrt(width)})"
    return [
        *some_layers(rng, width, int(rng.integers(0, 4))),
        "tanh",
        Dense(width, init=init, bias_init=bias),
        "tanh",
    ]


def inputs(rng, dtype, width):
    return rng.standard_normal((ROWS, width)).astype(dtype)


# ------------------------------------------------------------------ planted in what the step is given


def given(rng, dtype, where):
    width, depth = int(rng.integers(2, 20)), int(rng.integers(1, 9))
    layers, X = [*some_layers(rng, width, depth), Dense(width)], inputs(rng, dtype, width)
    case = Case(layers, X, rng.standard_normal(X.shape).astype(dtype), healthy=int(rng.integers(3)))
    if rng.random() < 0.4 and where != "target":
        case.y, case.loss = rng.integers(0, width, ROWS), "cross_entropy"
    value = rng.choice([np.nan, np.inf, -np.inf])
    if where in ("input", "target"):
        array = case.X if where == "input" else case.y
        array[rng.integers(ROWS), rng.integers(width)] = value
        return case
    if where in ("gamma", "beta"):
        case.layers.insert(int(rng.integers(len(layers))), BatchNorm())
    net = Network(case.layers, input_size=width, dtype=dtype, seed=0)
    name = str(rng.choice([n for n in net.get_parameters() if n.endswith(where)]))
    array = net.get_parameters()[name]
    array[tuple(rng.integers(array.shape))] = value
    case.parameters = {name: array}
    return case


# ------------------------------------------------------------------ overflow of finite operands, forward


def forward(rng, dtype, kind):
    width, most = int(rng.integers(2, 20)), np.finfo(dtype).max
    unit, single = int(rng.integers(width)), dtype == np.float32
    before = prefix(rng, width)
    bias = np.zeros(width)
    at = len(before)
    parameters = {}
    if kind == "dense":
        layers = [Dense(width)]
        weight = rng.standard_normal((width, width))
        weight[unit, int(rng.integers(width))], bias[unit] = 0.5 * most, 0.95 * most
        parameters = {f"{at}.weight": weight, f"{at}.bias": bias}
    elif kind in NORMS:
        layers, bias[:] = [NORMS[kind]()], 1
        bias[unit] = 0.9 * most
        parameters = {f"{at}.gamma": bias}
    elif kind == "join":
        layers = [Residual([Dense(width)], scale=1e30 if single else 1e200)]
        bias[unit] = 1e20 if single else 1e200
        parameters = {f"{at}.0.bias": bias}
    else:
        layers = [Dense(width), {"dropout": Dropout(0.5)}.get(kind, kind)]
        bias[unit] = {"dropout": 0.8, "selu": 0.97}.get(kind, 0) * most or (100 if single else 800)
        parameters = {f"{at}.bias": bias}
    after = some_layers(rng, width, int(rng.integers(0, 3)))
    X = inputs(rng, dtype, width)
    y = rng.standard_normal((ROWS, width)).astype(dtype)
    return Case([*before, *layers, *after, Dense(width)], X, y, parameters=parameters)


def of_loss(rng, dtype, kind):
    width, most = int(rng.integers(2, 20)), np.finfo(dtype).max
    before, column = prefix(rng, width), int(rng.integers(width))
    bias = np.zeros(width)
    bias[column] = {"value": 1e200, "sum over the rows": np.sqrt(0.7 * most), "gradient": 0.9 * most}[kind]
    X, y = inputs(rng, dtype, width), rng.standard_normal((ROWS, width)).astype(dtype)
    if kind == "gradient":
        y[rng.integers(ROWS), column] = -0.9 * most
    loss = "mse" if kind == "value" else "mse(reduction='sum')"
    return Case([*before, Dense(width)], X, y, loss=loss, parameters={f"{len(before)}.bias": bias})


# ------------------------------------------------------------------ the same, backward, from a custom output gradient


def backward(rng, dtype, kind):
    width, most = int(rng.integers(3, 20)), np.finfo(dtype).max
    d = np.zeros((ROWS, width), dtype)
    first, second = rng.choice(ROWS, 2, replace=False)
    column = int(rng.integers(width))
    parameters: dict[str, Any] = {}
    before = prefix(rng, width, scale=1e-3)
    large = 0.3
    if kind in ("dL/d(input)", "weight gradient", "bias gradient", "norm"):
        layers = [Dense(width, init="normal(10)" if kind == "dL/d(input)" else "normal(0.01)")]
        if kind == "weight gradient":
            before, large = prefix(rng, width, bias="constant(3)"), 0.7
        if kind == "bias gradient":
            large = 0.7
        if kind in ("weight gradient", "bias gradient"):
            d[second, column] = 0.7 * most
        if kind == "norm":
            d[first, :], large = 0.7 * most, 0.7
    elif kind in (*NORMS, "gamma gradient", "beta gradient"):
        before = prefix(rng, width, scale=1e-6 if kind in NORMS else 1.0)
        layers, large = [NORMS.get(kind, BatchNorm)()], 0.1 if kind in NORMS else 0.9
        if kind == "beta gradient":
            d[second, column], large = 0.7 * most, 0.7
    elif kind == "join":
        layers = [Residual([Dense(width), "tanh"], scale=10)]
    elif kind == "fork":
        layers, large = [Residual([Dense(width, init="identity")])], 0.6
    elif kind == "softmax":
        layers, large = [Dense(width, bias_init="normal(1)"), "softmax"], 0.9
        d[first, (column + 1) % width] = -0.9 * most
    elif kind == "dropout":
        layers, large = [Dense(width), Dropout(0.5)], 0.7
    else:
        layers = [
            Dense(
                width, bias_init={"exponential": "constant(5)", "selu": "constant(-0.01)"}.get(kind, "zeros")
            ),
            kind,
        ]
        if kind == "selu":
            large = 0.9
        if kind == "gelu":
            layers[0], large = Dense(width, bias_init="constant(1.4)"), 0.95
        if kind == "elu(10)":
            layers[0] = Dense(width, bias_init="constant(-0.5)")
    d[first, column] = large * most
    return Case([*before, *layers], inputs(rng, dtype, width), output_grad=d, parameters=parameters)


def of_update(rng, dtype, kind):
    width, single = int(rng.integers(2, 20)), dtype == np.float32
    before = prefix(rng, width)
    huge = 1e25 if single else 1e200
    if kind == "running_var":
        # its square leaves the range, that of its rounding does not
        huge = 1e25 if single else 1e160
        layers = [*before, Dense(width, init=f"normal({huge})"), BatchNorm()]
        return Case(layers, inputs(rng, dtype, width), output_grad=np.full((ROWS, width), 1e-3, dtype))
    optimizer = {"weight": f"sgd({huge})", "momentum": f"sgd({huge}, momentum=0.9)", "second moment": "adam"}[
        kind
    ]
    d = np.zeros((ROWS, width), dtype)
    d[rng.integers(ROWS), rng.integers(width)] = huge
    return Case(
        [*before, Dense(width)], inputs(rng, dtype, width), output_grad=d, optimizer=optimizer,
    )  # fmt: skip


def of_output_grad(rng, dtype, value):
    width = int(rng.integers(2, 20))
    d = np.zeros((ROWS, width), dtype)
    d[rng.integers(ROWS), rng.integers(width)] = value
    return Case(some_layers(rng, width, int(rng.integers(1, 9))), inputs(rng, dtype, width), output_grad=d)


BOTH, SINGLE, DOUBLE = ("float32", "float64"), ("float32",), ("float64",)
# (make, argument, dtypes, what the reference must find: pass, end of the name, end of what)
PLANTS = [
    *((given, where, BOTH, ("forward", "parameter", where)) for where in ("weight", "bias", "gamma", "beta")),
    (given, "input", BOTH, ("forward", "input", "value")),
    (given, "target", BOTH, ("loss", "target", "value")),
    *((of_output_grad, value, BOTH, ("loss", "output_grad", "value")) for value in (np.nan, -np.inf)),
    *(
        (forward, kind, BOTH, ("forward", {"join": "residual"}.get(kind, kind), "output"))
        for kind in ("dense", "batch_norm", "layer_norm", "join", "dropout", "exponential", "selu")
    ),
    (of_loss, "value", DOUBLE, ("loss", "loss", "value")),
    (of_loss, "sum over the rows", DOUBLE, ("loss", "loss", "sum over the rows")),
    (of_loss, "gradient", SINGLE, ("loss", "loss", "gradient")),
    (backward, "dL/d(input)", BOTH, ("backward", "dense", "dL/d(input)")),
    *(
        (backward, f"{part} gradient", BOTH, ("backward", name, f"{part} gradient"))
        for part, name in (("weight", "dense"), ("bias", "dense"), ("gamma", "batch_norm"), ("beta", "batch_norm"))
    ),
    (backward, "norm", DOUBLE, ("backward", "gradient", "norm")),
    *(
        (backward, kind, BOTH, ("backward", {"join": "residual"}.get(kind, kind.partition("(")[0]), "dL/d(input)"))
        for kind in (
            "batch_norm", "layer_norm", "join", "fork", "softmax", "dropout",
            "exponential", "selu", "gelu", "elu(10)", "leaky_relu(-9)",
        )
    ),
    *((of_update, kind, BOTH, ("update", "", "weight")) for kind in ("weight", "momentum")),
    (of_update, "second moment", BOTH, ("update", "", "weight")),
    (of_update, "running_var", BOTH, ("update", "batch_norm", "running_var")),
]  # fmt: skip


def looks_like(found, expected):
    site, _, _ = found
    pass_, name, what = expected
    return site.pass_ == pass_ and site.name.startswith(name) and site.what.endswith(what)


def planted(make, argument, dtype, expected, seed):
    """A case in which the reference finds what was meant (a draw of a random net may miss it)."""
    for attempt in range(200):
        case = make(np.random.default_rng([seed, attempt]), np.dtype(dtype), argument)
        net = Network(case.layers, input_size=case.X.shape[1], dtype=dtype, seed=seed)
        net.set_parameters(case.parameters)
        found = reference(net, case, 1)
        if found is not None and looks_like(found, expected):
            return case
    raise AssertionError(f"no draw overflows where it was meant to: {argument}")


def reference(net, case, number):
    sites = step(
        net, case.X, case.y, loss=case.loss.partition("(")[0], seed=3, number=number,
        hyper=resolve(case.optimizer).hyper() | BOUNDS, output_grad=case.output_grad, loss_sum="sum" in case.loss,
    )  # fmt: skip
    return first_nonfinite(sites)


def take_step(stepper, case):
    if case.output_grad is None:
        stepper(case.X, case.y)
    else:
        stepper.forward(case.X)
        stepper.backward(case.output_grad)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("make", "argument", "dtype", "expected"),
    [
        pytest.param(make, argument, dtype, expected, id=f"{make.__name__} {argument} {dtype}")
        for make, argument, dtypes, expected in PLANTS
        for dtype in dtypes
    ],
)
def test_located_exactly(make, argument, dtype, expected, seed):
    case = planted(make, argument, dtype, expected, seed)
    net = Network(case.layers, input_size=case.X.shape[1], dtype=dtype, seed=seed)
    with net.stepper(batch_size=ROWS + 2, loss=case.loss, optimizer=case.optimizer, seed=3) as stepper:
        rng = np.random.default_rng(seed)
        for _ in range(case.healthy):
            stepper(
                rng.standard_normal(case.X.shape).astype(dtype), np.nan_to_num(case.y, posinf=0, neginf=0)
            )
        assert stepper.steps == case.healthy
        net.set_parameters(case.parameters)
        found = reference(net, case, case.healthy + 1)
        assert found is not None
        before = net.parameters.copy(), net.state.copy()
        with pytest.warns(GradcoreWarning, match="not applied") as caught:
            take_step(stepper, case)
    assert len(caught) == 1
    (fault,) = stepper.faults
    site, element, value = found
    assert (fault.pass_, fault.op, fault.name, fault.what) == (site.pass_, site.op, site.name, site.what)
    assert fault.element == (None if site.what in ("norm", "sum over the rows") else element)
    np.testing.assert_equal(fault.value, value)
    operands = site.operands(*element)
    assert fault.operands.keys() == operands.keys()
    for name, expected_value in operands.items():
        np.testing.assert_allclose(
            np.asarray(fault.operands[name], np.longdouble), np.asarray(expected_value, np.longdouble),
            rtol=1e-3, atol=1e-5, err_msg=name,
        )  # fmt: skip
    assert (fault.step, fault.good_step, stepper.steps) == (case.healthy + 1, case.healthy, case.healthy)
    np.testing.assert_array_equal(net.parameters, before[0])
    np.testing.assert_array_equal(net.state, before[1])
    assert fault.ledger.step == fault.step
    assert str(fault).startswith(f"step {fault.step} (epoch 0): ")


def test_an_op_that_is_wider_than_the_rest_of_the_network_behind_it():
    # what a join would read lies beyond the workspace here
    net = Network([Dense(90, init="normal(1e30)"), "exponential", Dense(4), Dense(1)], input_size=2, seed=0)
    history = net.fit(np.ones((8, 2)), np.ones(8), epochs=1, on_fault="ignore", progress=False)
    assert history.faults[0].pass_ == "forward"
    assert history.faults[0].name == "exponential 1"
