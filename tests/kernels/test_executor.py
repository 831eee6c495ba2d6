"""The compiled executor against the readable one, and both against differences of the loss."""

import numpy as np
import pytest
from executors import EXECUTORS, FULL, HYPER, INPUT_GRADIENT, LIGHT, TRAINING, bench, data
from gradcheck import check_gradient

from gradcore import kernels
from gradcore.clipping import clip_grad_adaptive_
from gradcore.layers import Activation, BatchNorm, Dense, Dropout, LayerNorm, Residual

UPDATE = kernels.MODES["update"]
ELEMENTWISE = [name for name in kernels.ACTIVATION_CODES if name != "softmax"]

# Every op alone, in every place where the compiler treats it differently; `n` columns everywhere.
CASES = {
    "dense": lambda n: [Dense(n)],
    "dense without bias": lambda n: [Dense(n, use_bias=False)],
    "two dense": lambda n: [Dense(n + 3), Dense(n)],
    **{f"{name} in place": lambda n, name=name: [Dense(n), name, Dense(n)] for name in ELEMENTWISE},
    **{f"{name} first": lambda n, name=name: [name, Dense(n)] for name in ELEMENTWISE},
    "activation last": lambda n: [Dense(n), "tanh"],
    "activations in a row": lambda n: [Dense(n), "tanh", "sigmoid", "gelu", Dense(n)],
    "parameters of activations": lambda n: [Dense(n), "leaky_relu(0.3)", Dense(n), "elu(0.7)"],
    "softmax": lambda n: [Dense(n), "softmax"],
    "softmax after an activation": lambda n: [Dense(n), "tanh", "softmax"],
    "batch norm": lambda n: [Dense(n), BatchNorm(), Dense(n)],
    "batch norm first": lambda n: [BatchNorm(momentum=0.3, eps=0.01), Dense(n)],
    "batch norm last": lambda n: [Dense(n), BatchNorm()],
    "batch norm and activation": lambda n: [Dense(n), BatchNorm(), "tanh", Dense(n)],
    "activation and batch norm": lambda n: [Dense(n), "tanh", BatchNorm(), Dense(n)],
    "layer norm": lambda n: [Dense(n), LayerNorm(), Dense(n)],
    "layer norm first": lambda n: [LayerNorm(eps=0.01), Dense(n)],
    "layer norm last": lambda n: [Dense(n), LayerNorm()],
    "layer norm and activation": lambda n: [Dense(n), LayerNorm(), "tanh", Dense(n)],
    "activation and layer norm": lambda n: [Dense(n), "tanh", LayerNorm(), Dense(n)],
    "dropout": lambda n: [Dense(n), Dropout(0.4), Dense(n)],
    "dropout first": lambda n: [Dropout(0.4), Dense(n)],
    "dropout last": lambda n: [Dense(n), "tanh", Dropout(0.4)],
    "dropout of nothing": lambda n: [Dense(n), Dropout(0.0)],
    "residual": lambda n: [Dense(n), Residual([Dense(n), "tanh"]), Dense(n)],
    "residual first": lambda n: [Residual([Dense(n)], scale=-0.5), Dense(n)],
    "residual last": lambda n: [Dense(n), "tanh", Residual([Dense(2 * n), "gelu", Dense(n)])],
    "residual of an activation": lambda n: [Dense(n), "sigmoid", Residual(["tanh"]), "gelu", Dense(n)],
    "residual of batch norm": lambda n: [Dense(n), Residual([BatchNorm(), "tanh", Dense(n), Dropout(0.2)])],
    "residual of layer norm": lambda n: [Dense(n), Residual([LayerNorm(), "tanh", Dense(n), Dropout(0.2)])],
    "residual of dropout": lambda n: [Dense(n), "tanh", Residual([Dropout(0.3)], scale=2.0)],
    "projection": lambda n: [Dense(n), "tanh", Residual([Dense(n + 7), "tanh"], projection=True), Dense(n)],
    "projection first": lambda n: [Residual([Dense(n + 7), "tanh"], projection=True), Dense(n)],
    "projection last": lambda n: [Dense(n + 7), Residual([Dense(n)], scale=0.5, projection=True)],
    "projection of equals": lambda n: [Dense(n), Residual(["tanh"], projection="always"), "gelu", Dense(n)],
    "projections in a row": lambda n: [
        Residual(["tanh", Dense(n + 2)], projection=True),
        Residual([Dropout(0.2), Dense(n)], projection=True),
    ],
    "projection at the start of one": lambda n: [
        Dense(n),
        "tanh",
        Residual([Residual(["tanh", Dense(n + 1)], projection=True), Dense(n + 3)], projection=True),
        Dense(n),
    ],
    "projection at the end of one": lambda n: [
        Dense(n),
        Residual([Dense(n + 3), Residual([LayerNorm(), Dense(n)], projection=True)]),
        Dense(n),
    ],
    "residuals in a row": lambda n: [Residual([Dense(n), "tanh"]), Residual(["tanh", Dense(n)]), Dense(n)],
    "residual at the start of one": lambda n: [Dense(n), "tanh", Residual([Residual([Dense(n), "tanh"])])],
    "residual at the end of one": lambda n: [Dense(n), Residual([Dense(n), Residual(["tanh"], scale=0.5)])],
}

every_case = pytest.mark.parametrize("case", CASES)
every_executor = pytest.mark.parametrize("kind", EXECUTORS)


def random_layers(rng, width, depth):
    """A random nesting in which every kind of op meets every other sooner or later."""
    layers = []
    for _ in range(rng.integers(1, 4)):
        match rng.integers(0, 8 if depth else 7):
            case 0 | 1:
                layers += [Dense(int(rng.integers(1, 2 * width))), Dense(width)]
            case 2 | 3:
                layers += [Dense(width), Activation(str(rng.choice(ELEMENTWISE[1:8])))]
            case 4:
                layers.append(BatchNorm() if rng.integers(2) else LayerNorm())
            case 5:
                layers.append(Dropout(0.25))
            case 6:
                layers.append(Activation(str(rng.choice(ELEMENTWISE[:8]))))
            case _:
                projection = [False, True, "always"][rng.integers(3)]
                inside = random_layers(rng, width, depth - 1)
                if projection is True:  # … to another width and back
                    wider = int(rng.integers(1, 2 * width))
                    layers.append(Residual([*inside, Dense(wider)], projection=True))
                    inside.append(Dense(width))
                layers.append(Residual(inside, scale=float(rng.normal()), projection=projection))
    return layers


def random_network(rng, width):
    return [*random_layers(rng, width, 2), Dense(width)]


def tolerance(dtype, factor=1.0):
    # float32: sums of some hundred products, in another order than NumPy's, through some ten ops
    return {"float32": 3e-4, "float64": 1e-11}[np.dtype(dtype).name] * factor


def assert_close(actual, expected, dtype, name=""):
    """Normwise: cancellation leaves single elements with few digits."""
    actual, expected = np.asarray(actual, "f8"), np.asarray(expected, "f8")
    assert actual.shape == expected.shape, name
    scale = np.abs(expected).max(initial=1e-3)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance(dtype) * scale, err_msg=name)


# the number that each loss takes: label smoothing, delta, q
LOSSES = dict.fromkeys(kernels.LOSS_CODES, 0.0) | {"cross_entropy": 0.1, "huber": 0.5, "quantile": 0.8}
del LOSSES["no_loss"]


def pair(layers, input_size, dtype, **keywords):
    return [bench(kind, layers, input_size, dtype, **keywords) for kind in ("compiled", "reference")]


def assert_same_books(compiled, readable, dtype, rows):
    """The records of two executors: counts exactly, where both counted; everything else to rounding."""
    assert compiled.dtype == readable.dtype
    largest = np.nanmax(readable["d_output"]["norm"])
    for index, (a, b) in enumerate(zip(compiled, readable, strict=True)):
        for name in compiled.dtype.names:
            parts = compiled.dtype[name].names
            fields = [(f"{name}.{part}", a[name][part], b[name][part]) for part in parts or ()] or [
                (name, a[name], b[name])
            ]
            for field, x, y in fields:
                where = f"record {index} {field}"
                assert np.isnan(x) == np.isnan(y), f"{where}: {x} and {y}"
                part = field.rpartition(".")[2]
                if part == "zeros" and b[name]["norm"] < 100 * np.finfo(dtype).eps * largest:
                    continue  # all of it cancels, and rounding leaves zeros or not
                if part in ("zeros", "subnormals", "infs", "nans", "flat"):
                    # a value at the edge may fall on either side
                    np.testing.assert_allclose(x, y, atol=2 if dtype == "float32" else 0, err_msg=where)
                elif part == "min_abs":
                    continue  # the smallest magnitude is the result of cancellation
                elif part == "cosine":
                    # (norms of norms make deltas of little more than rounding)
                    np.testing.assert_allclose(x, y, atol=tolerance(dtype, 10), err_msg=where)
                else:
                    # the gradient of a bias in front of batch norm is zero, and so rounding, only
                    small = 1e-12 if name == "output" else 100 * np.finfo(dtype).eps * largest
                    if name == "bias_gradient":
                        small = max(small, tolerance(dtype) * b["d_output"]["norm"])
                    np.testing.assert_allclose(x, y, rtol=tolerance(dtype, 3), atol=small, err_msg=where)


# --- gradients, signed ---------------------------------------------------------------------------


def away_from_kinks(b, records):
    """Tell whether nothing that enters relu or one of its family is so small that a difference would cross zero."""
    table = b.plan.table
    kinked = [kernels.ACTIVATION_CODES[name] for name in ("relu", "leaky_relu", "elu", "selu")]
    entered = [
        records[i - 1]["output"]["min_abs"]
        for i, op in enumerate(table)
        if op["kind"] == kernels.OP_KINDS["activation"] and op["code"] in kinked
    ]
    return min(entered, default=1.0) > 0.01


def check_all_gradients(kind, layers, rng, loss, columns=4, rows=5, **how):
    b = bench(kind, layers, columns, "float64", capacity=rows, loss=loss, **how)
    order = np.arange(rows)

    def value(X):
        b.executor.bind(X, targets)
        return b.executor.observe(order, mode=TRAINING | INPUT_GRADIENT | FULL, seed=3, step=1)

    for _ in range(200):
        X, targets = data(rng, rows, columns, columns, "float64", loss)
        value(X)
        if away_from_kinks(b, b.executor.records):
            break
    else:
        pytest.fail("found no data away from the kinks")
    gradients, d_input, parameters = b.read(b.gradients), b.d_input(rows), b.read(b.parameters)
    assert gradients
    for name, x in parameters.items():

        def with_parameter(moved, name=name):
            b.write({name: moved})
            return value(X)

        check_gradient(with_parameter, x, gradients[name], name=name, step=1e-4)
        b.write({name: x})
    check_gradient(value, X, d_input, name="X", step=1e-4)


@every_executor
@every_case
def test_signed_gradients_of_every_op(kind, case, rng):
    check_all_gradients(kind, CASES[case](4), rng, "mean_squared_error")


@every_executor
@pytest.mark.parametrize("loss_sum", [False, True])
@pytest.mark.parametrize("loss", LOSSES)
def test_signed_gradients_of_every_loss(kind, loss, loss_sum, rng):
    check_all_gradients(
        kind, [Dense(4), "tanh", Dense(4)], rng, loss, loss_sum=loss_sum, loss_parameter=LOSSES[loss]
    )


def nested(rng, width, depth):
    """Blocks in blocks in blocks, `depth` deep, with some of everything between."""
    layers = [Dense(width), "tanh"]
    for _ in range(depth):
        projection = [False, True, "always"][rng.integers(3)]
        before = [[], [LayerNorm()], ["tanh"], [Dropout(0.1)], [Dense(width), "sigmoid"]][rng.integers(5)]
        inside = [*before, *layers]
        if projection is True:
            inside.append(Dense(width + 1))
        layers = [Residual(inside, scale=float(rng.choice([0.5, -0.3, 1.0])), projection=projection)]
        layers += [[Dense(width)], [LayerNorm(), Dense(width)]][rng.integers(2)] if projection is True else []
    return layers


@pytest.mark.parametrize("depth", [7, 50])
def test_blocks_fifty_deep(depth, rng):
    layers, n, rows = [*nested(rng, 3, depth), Dense(2)], 3, 5
    compiled, readable = pair(layers, n, "float64", capacity=rows)
    X, targets = data(rng, rows, n, 2, "float64", "mean_squared_error")
    order = np.arange(rows)
    for b in (compiled, readable):
        b.executor.bind(X, targets)
        b.loss = b.executor.observe(order, mode=TRAINING | INPUT_GRADIENT | FULL, seed=5, step=2)
    assert_close(compiled.loss, readable.loss, "float64")
    assert_close(compiled.d_input(rows), readable.d_input(rows), "float64", "X")
    gradients = compiled.read(compiled.gradients)
    for name, gradient in readable.read(readable.gradients).items():
        assert_close(gradients[name], gradient, "float64", name)
    # … and both are the slope, along random directions of all parameters at once
    parameters = compiled.read(compiled.parameters)
    for _ in range(5):
        direction = {name: rng.standard_normal(x.shape) for name, x in parameters.items()}
        slope = sum(float((direction[name] * gradients[name]).sum()) for name in parameters)
        losses = []
        for sign in (1, -1):
            compiled.write({name: x + sign * 1e-6 * direction[name] for name, x in parameters.items()})
            losses.append(
                compiled.executor.observe(order, mode=TRAINING | INPUT_GRADIENT | FULL, seed=5, step=2)
            )
        assert (losses[0] - losses[1]) / 2e-6 == pytest.approx(slope, rel=1e-5, abs=1e-7)


@every_executor
@pytest.mark.parametrize("number", range(12))
def test_signed_gradients_of_random_nestings(kind, number):
    rng = np.random.default_rng(number)
    check_all_gradients(kind, random_network(rng, 4), rng, "mean_squared_error")


# --- compiled against readable -------------------------------------------------------------------


@every_case
def test_one_batch(case, dtype, rng):
    layers, n, rows = CASES[case](11), 11, 9
    compiled, readable = pair(layers, n, dtype, capacity=rows + 2)
    X, targets = data(rng, rows + 4, n, n, dtype, "mean_squared_error")
    order = rng.permutation(rows + 4)[:rows]
    losses = []
    for b in (compiled, readable):
        b.executor.bind(X, targets)
        losses.append(b.executor.observe(order, mode=TRAINING | INPUT_GRADIENT | FULL, seed=5, step=2))
    assert_close(losses[0], losses[1], dtype)
    assert_close(compiled.d_input(rows), readable.d_input(rows), dtype, "X")
    for name, gradient in readable.read(readable.gradients).items():
        assert_close(compiled.read(compiled.gradients)[name], gradient, dtype, name)
    assert_same_books(compiled.executor.records, readable.executor.records, dtype.name, rows)


@every_case
def test_inference(case, dtype, rng):
    compiled, readable = pair(CASES[case](11), 11, dtype, capacity=4)
    X = rng.normal(size=(11, 11)).astype(dtype)
    outs = [np.full((len(X), 11), np.nan, dtype) for _ in range(2)]
    for b, out in zip((compiled, readable), outs, strict=True):
        b.executor.forward(X, out)
    assert_close(*outs, dtype)


def widths():
    tiles = {kernels.tile_width(d) for d in ("float32", "float64")} - {1}
    return sorted({1, 2, 3} | {t * k + e for t in tiles for k in (1, 2) for e in (-1, 0, 1)})


@pytest.mark.parametrize("rows", [1, 2, 5, 6, 7, 33])
@pytest.mark.parametrize("width", widths())
def test_sizes_around_the_tile(width, rows, dtype, rng):
    layers = [
        Dense(width),
        "tanh",
        BatchNorm(),
        Residual([Dense(5), "relu", Dense(width)]),
        Dense(width + 2),
        "gelu",
    ]
    compiled, readable = pair(layers, width + 1, dtype, capacity=rows)
    X, targets = data(rng, rows, width + 1, width + 2, dtype, "mean_squared_error")
    for b in (compiled, readable):
        b.executor.bind(X, targets)
        b.executor.observe(np.arange(rows), mode=INPUT_GRADIENT, seed=0, step=1)
    assert_close(compiled.d_input(rows), readable.d_input(rows), dtype, "X")
    for name, gradient in readable.read(readable.gradients).items():
        assert_close(compiled.read(compiled.gradients)[name], gradient, dtype, name)


OPTIMIZERS = {
    "sgd": ({}, 0),
    "momentum": ({"momentum": 0.9, "weight_decay": 0.01}, 1),
    "nesterov": ({"momentum": 0.8, "nesterov": 1.0}, 1),
    "adam": ({"optimizer": kernels.OPTIMIZER_CODES["adam"], "lr": 0.01, "weight_decay": 0.1}, 2),
    "adamw": ({"optimizer": kernels.OPTIMIZER_CODES["adamw"], "lr": 0.01, "weight_decay": 0.1}, 2),
    "l1": ({"l1": 0.02, "weight_decay": 0.01}, 0),
    "adamw with l1": (
        {"optimizer": kernels.OPTIMIZER_CODES["adamw"], "lr": 0.01, "weight_decay": 0.1, "l1": 0.02},
        2,
    ),
    "clip adaptive": ({"clip_adaptive": 0.02, "momentum": 0.9}, 1),
    "adam after clip adaptive": (
        {"optimizer": kernels.OPTIMIZER_CODES["adam"], "lr": 0.01, "clip_adaptive": 0.02},
        2,
    ),
    "clip norm": ({"clip_norm": 0.1}, 0),
    "clip value": ({"clip_value": 0.01}, 0),
    "clip value before norm": ({"clip_value": 0.01, "clip_norm": 0.5}, 0),
}


def train(b, X, targets, order, batch_size, hyper, *, mode=TRAINING, seed=11, step=1):
    b.executor.bind(X, targets)
    losses, norms = np.zeros(len(order)), np.zeros(len(order))
    steps, status = b.executor.train(
        order, 0, len(order), batch_size, mode=mode, hyper=HYPER | hyper, seed=seed, step=step, losses=losses,
        norms=norms,
    )  # fmt: skip
    return steps, status, losses[:steps], norms[:steps]


MIXED = [
    Dense(19),
    "gelu",
    BatchNorm(),
    Residual([LayerNorm(), Dense(19), "tanh", Dropout(0.2)], projection="always"),
    Residual([Dense(23), "relu"], projection=True),
    Dense(5),
]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("loss", ["cross_entropy", "binary_cross_entropy", "mean_squared_error"])
def test_whole_steps(loss, optimizer, dtype, rng):
    hyper, slots = OPTIMIZERS[optimizer]
    compiled, readable = pair(MIXED, 13, dtype, capacity=8, loss=loss, slots=slots, input_gradient=False)
    X, targets = data(rng, 37, 13, 5, dtype, loss)
    order = rng.permutation(37)
    results = [train(b, X, targets, order, 8, hyper) for b in (compiled, readable)]
    assert results[0][:2] == results[1][:2] == (5, 0)
    for got, wanted in zip(results[0][2:], results[1][2:], strict=True):
        np.testing.assert_allclose(got, wanted, rtol=tolerance(dtype))
    for name, parameter in readable.read(readable.parameters).items():
        assert_close(compiled.read(compiled.parameters)[name], parameter, dtype, name)
    for got, wanted in zip(compiled.running(), readable.running(), strict=True):
        assert_close(got, wanted, dtype)
    for a, b in zip(compiled.slots, readable.slots, strict=True):
        for name, moment in readable.read(b).items():
            assert_close(compiled.read(a)[name], moment, dtype, name)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("loss_sum", [False, True])
@pytest.mark.parametrize("loss", [*LOSSES, "soft"])
def test_losses_and_weights(loss, loss_sum, weighted, dtype, rng):
    """Whole steps of every loss, also smoothed and with probabilities for targets, on one thread and on two."""
    name, parameter, soft = loss, LOSSES.get(loss, 0.2), loss == "soft"
    name = "cross_entropy" if soft else loss
    layers = [Dense(19), "tanh", Dense(18)]
    how = {
        "capacity": 8,
        "loss": name,
        "loss_parameter": parameter,
        "loss_sum": loss_sum,
        "input_gradient": False,
    }
    X, targets = data(rng, 37, 13, 18, dtype, name)
    if soft:
        targets = rng.dirichlet(np.ones(18), 37).astype(dtype)
    weights = rng.integers(0, 3, 37) * 0.75 if weighted else None
    order, results = rng.permutation(37), []
    if weighted:
        weights[order[8:16]] = 0  # a whole batch that is absent
    benches = [*pair(layers, 13, dtype, **how), bench("compiled", layers, 13, dtype, threads=2, **how)]
    for b in benches:
        b.executor.bind(X, targets, weights)
        losses, norms, counts = np.zeros((3, 5))
        b.executor.begin(order, 8, merge_single=False, shuffle=False, seed=0, number=0)
        b.executor.prepare(
            5, mode=TRAINING, hyper=HYPER | {"optimizer": 0, "lr": 0.01}, seed=0, step=1, losses=losses, norms=norms,
            weights=counts,
        )  # fmt: skip
        assert b.executor.run() == (5, 0)
        results.append((losses, norms, counts))
    for got, wanted in zip(results[0], results[1], strict=True):
        np.testing.assert_allclose(got, wanted, rtol=tolerance(dtype), atol=1e-30)
    for got, wanted in zip(results[0], results[2], strict=True):
        np.testing.assert_array_equal(got, wanted)
    if weighted:
        assert (results[0][0][1], results[0][1][1], results[0][2][1]) == (0, 0, 0)
    for name, parameter in benches[1].read(benches[1].parameters).items():
        assert_close(benches[0].read(benches[0].parameters)[name], parameter, dtype, name)


@pytest.mark.parametrize("number", range(30))
def test_random_nestings(number, dtype):
    rng = np.random.default_rng(100 + number)
    width = int(rng.choice(widths()))
    layers = random_network(rng, width)
    rows = int(rng.integers(2, 40))
    compiled, readable = pair(layers, width, dtype, capacity=rows)
    X, targets = data(rng, rows, width, width, dtype, "mean_squared_error")
    losses = []
    for b in (compiled, readable):
        b.executor.bind(X, targets)
        losses.append(
            b.executor.observe(np.arange(rows), mode=TRAINING | INPUT_GRADIENT | FULL, seed=1, step=9)
        )
    assert_close(losses[0], losses[1], dtype)
    for name, gradient in readable.read(readable.gradients).items():
        assert_close(compiled.read(compiled.gradients)[name], gradient, dtype, name)
    assert_same_books(compiled.executor.records, readable.executor.records, dtype.name, rows)


@pytest.mark.parametrize("number", range(6))
def test_every_op_forward_on_its_own(number, dtype):
    rng = np.random.default_rng(200 + number)
    layers = random_network(rng, 10)
    compiled, readable = pair(layers, 10, dtype, capacity=6)
    X = rng.normal(size=(6, 10)).astype(dtype)
    for stop, op in enumerate(compiled.plan.table):
        outputs = []
        for b in (compiled, readable):
            b.executor.bind(X, None)
            assert np.isnan(b.executor.observe(np.arange(6), mode=TRAINING, seed=1, step=1, stop=stop))
            output = int(b.plan.table[stop]["output"])
            outputs.append(b.slot(b.executor.activations, output, int(op["columns_out"]), 6))
        assert_close(*outputs, dtype, compiled.plan.names[stop])


@every_executor
@every_case
def test_the_input_gradient_is_booked_only_when_asked_for(kind, case, rng):
    layers, n, rows = CASES[case](11), 11, 6
    X, targets = data(rng, rows, n, n, "float64", "mean_squared_error")
    found = []
    for asked in (0, INPUT_GRADIENT):
        b = bench(kind, layers, n, "float64", capacity=rows, input_gradient=bool(asked))
        b.executor.bind(X, targets)
        b.executor.observe(np.arange(rows), mode=TRAINING | FULL | asked, seed=0, step=1)
        found.append((b.executor.records.copy(), b.plan.table, b.read(b.gradients)))
    (without, table, gradients), (asked_for, _, same) = found
    reads_data = (table["d_input"] == 0) | (b.plan.projections & (table["input"] == 0))
    assert np.isnan(without["d_input"]["norm"][:-1][reads_data]).all()
    joins = table["partner"][reads_data & (table["kind"] == kernels.OP_KINDS["fork"])]
    for field in ("skip", "branch", "cosine"):
        assert np.isnan(without[field][joins]).all()
        assert np.isfinite(asked_for[field][joins]).all()
    assert np.isfinite(asked_for["d_input"]["norm"][:-1]).all()
    np.testing.assert_array_equal(
        without["d_input"]["norm"][:-1][~reads_data], asked_for["d_input"]["norm"][:-1][~reads_data]
    )
    for name in gradients:
        np.testing.assert_array_equal(gradients[name], same[name])


# --- the two-part form ---------------------------------------------------------------------------


@every_executor
def test_two_parts_make_one_step(kind, dtype, rng):
    whole, parts = (
        bench(kind, MIXED, 13, dtype, capacity=8, loss=loss, slots=2)
        for loss in ("mean_squared_error", "no_loss")
    )
    X, targets = data(rng, 8, 13, 5, dtype, "mean_squared_error")
    hyper = OPTIMIZERS["adam"][0]
    _, _, _, norms = train(whole, X, targets, np.arange(8), 8, hyper, step=4)
    out = np.zeros((8, 5), dtype)
    parts.executor.forward_batch(X, out, mode=TRAINING, seed=11, step=4)
    d_output = ((out - targets) * (2 / out.size)).astype(dtype)
    norm, status = parts.executor.backward_batch(
        d_output, mode=TRAINING | UPDATE, hyper=HYPER | hyper, seed=11, step=4
    )
    assert status == 0
    np.testing.assert_allclose(norm, norms[0], rtol=tolerance(dtype))
    for name, parameter in whole.read(whole.parameters).items():
        assert_close(parts.read(parts.parameters)[name], parameter, dtype, name)


@every_executor
def test_backward_alone_updates_nothing(kind, dtype, rng):
    b = bench(kind, MIXED, 13, dtype, capacity=8, loss="no_loss")
    before = b.parameters.copy(), b.state.copy()
    out = np.zeros((8, 5), dtype)
    b.executor.forward_batch(rng.normal(size=(8, 13)).astype(dtype), out, mode=TRAINING, seed=0, step=1)
    b.executor.backward_batch(np.ones((8, 5), dtype), mode=TRAINING, hyper=HYPER, seed=0, step=1)
    np.testing.assert_array_equal(b.parameters, before[0])
    np.testing.assert_array_equal(b.state, before[1])
    assert np.abs(b.gradients).max() > 0


@every_executor
def test_input_gradients_are_the_deltas_of_the_two_parts_without_training(kind, dtype, rng):
    b = bench(kind, MIXED, 13, dtype, capacity=8, loss="no_loss")
    X, d_output = rng.normal(size=(21, 13)).astype(dtype), rng.normal(size=(21, 5)).astype(dtype)
    result = np.full((21, 13), np.nan, dtype)
    b.executor.input_gradients(X[:, ::-1][:, ::-1], d_output, result)
    for rows in (slice(0, 8), slice(8, 16), slice(16, 21)):
        out = np.zeros((len(X[rows]), 5), dtype)
        b.executor.forward_batch(X[rows], out, mode=INPUT_GRADIENT, seed=0, step=1)
        b.executor.backward_batch(d_output[rows], mode=INPUT_GRADIENT, hyper=HYPER, seed=0, step=1)
        np.testing.assert_array_equal(result[rows], b.d_input(len(out)))


@pytest.mark.parametrize("panels", [1, 2, 3, 4, 5, 8, 9])
@pytest.mark.parametrize("use_bias", [True, False])
def test_a_row_alone_has_the_bits_of_the_same_row_in_a_batch(panels, use_bias, dtype, rng):
    tile = kernels.tile_width(dtype)
    for inputs, units in (
        (panels * tile, panels * tile - 1),
        (300, panels * tile),
        (panels * tile - tile + 1, 7),
    ):
        b = bench("compiled", [Dense(units, use_bias=use_bias)], inputs, dtype, capacity=16, loss="no_loss")
        X, d = rng.normal(size=(9, inputs)).astype(dtype), rng.normal(size=(9, units)).astype(dtype)
        outputs, deltas = np.empty((9, units), dtype), np.empty((9, inputs), dtype)
        b.executor.forward(X, outputs)
        b.executor.input_gradients(X, d, deltas)
        for row in range(9):
            one, delta = np.empty((1, units), dtype), np.empty((1, inputs), dtype)
            b.executor.forward(X[row : row + 1], one)
            b.executor.input_gradients(X[row : row + 1], d[row : row + 1], delta)
            np.testing.assert_array_equal(one[0], outputs[row])
            np.testing.assert_array_equal(delta[0], deltas[row])


@pytest.mark.parametrize("threads", [2, 7])
def test_input_gradients_have_the_same_bits_on_any_number_of_threads(threads, dtype, rng):
    X, d_output = rng.normal(size=(45, 13)).astype(dtype), rng.normal(size=(45, 5)).astype(dtype)
    one, many = np.empty((45, 13), dtype), np.empty((45, 13), dtype)
    for count, result in ((1, one), (threads, many)):
        b = bench("compiled", MIXED, 13, dtype, capacity=16, loss="no_loss", threads=count)
        b.executor.input_gradients(X, d_output, result)
        assert not b.gradients[b.plan.table["weight"][0] :][: 13 * b.plan.tile].any()
    np.testing.assert_array_equal(one, many)


def test_input_gradients_check_what_they_are_handed(rng):
    b = bench("compiled", MIXED, 13, "float32", capacity=8, loss="no_loss")
    X, d, out = (np.zeros((3, n), "f4") for n in (13, 5, 13))
    for arguments, message in (
        ((X[:, :4], d, out), "X: expected shape"),
        ((X, d[:2], out), "d_output: expected 15 elements"),
        ((X, d, out[:2]), "out: expected 39 elements"),
    ):
        with pytest.raises(ValueError, match=message):
            b.executor.input_gradients(*arguments)
    with pytest.raises(TypeError, match="d_output: expected dtype float32"):
        b.executor.input_gradients(X, d.astype("f8"), out)
    b.executor.input_gradients(X, d, out)
    with pytest.raises(ValueError, match="forward_batch first"):
        b.executor.backward_batch(d, mode=0, hyper=HYPER, seed=0, step=1)
    without = bench("compiled", MIXED, 13, "float32", capacity=8, loss="no_loss", input_gradient=False)
    with pytest.raises(ValueError, match="compiled without input_gradient"):
        without.executor.input_gradients(X, d, out)
    with pytest.raises(ValueError, match="compiled without input_gradient"):
        without.executor.quick_input_gradients(X, d)


@every_executor
def test_the_loss_alone(kind, dtype, rng):
    b = bench(kind, MIXED, 13, dtype, capacity=8, loss="cross_entropy")
    X, labels = data(rng, 8, 13, 5, dtype, "cross_entropy")
    b.executor.bind(X, labels)
    alone = b.executor.observe(np.arange(8), mode=TRAINING, seed=2, step=3, backward=False)
    assert not b.gradients.any()
    assert alone == b.executor.observe(np.arange(8), mode=TRAINING, seed=2, step=3)
    assert b.gradients.any()


# --- data ----------------------------------------------------------------------------------------


@every_executor
def test_inputs_of_any_strides(kind, dtype, rng):
    b = bench(kind, [Dense(6), "tanh", Dense(2)], 5, dtype, capacity=3)
    wide = rng.normal(size=(20, 12)).astype(dtype)
    expected, out = np.zeros((7, 2), dtype), np.zeros((7, 2), dtype)
    for view in (wide[::3, ::-2][:, :5], wide.T[:5, 2:9].T, np.broadcast_to(wide[:1, :5], (7, 5))):
        b.executor.forward(np.ascontiguousarray(view), expected)
        b.executor.forward(view, out)
        np.testing.assert_array_equal(out, expected)


@every_executor
def test_no_rows_are_no_work(kind, dtype):
    b = bench(kind, [Dense(2)], 3, dtype, capacity=4)
    b.executor.forward(np.zeros((0, 3), dtype), np.zeros((0, 2), dtype))
    b.executor.bind(np.zeros((4, 3), dtype), np.zeros((4, 2), dtype))
    losses = np.zeros(1)
    result = b.executor.train(
        np.arange(4), 2, 2, 4, mode=TRAINING, hyper=HYPER, seed=0, step=1, losses=losses, norms=losses.copy()
    )
    assert result == (0, 0)


@every_executor
def test_the_last_batch_is_what_is_left(kind, rng):
    b = bench(kind, [Dense(2)], 3, "float64", capacity=4, loss_sum=True)
    X, targets = data(rng, 10, 3, 2, "float64", "mean_squared_error")
    steps, _, losses, _ = train(b, X, targets, np.arange(10), 4, {"lr": 0.0})
    weight, bias = b.read(b.parameters).values()
    squares = ((X @ weight + bias - targets) ** 2).sum(axis=1)
    assert steps == 3
    np.testing.assert_allclose(losses, [squares[:4].sum(), squares[4:8].sum(), squares[8:].sum()])


# --- adaptive clipping ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "threads"), [("reference", 1), ("compiled", 1), ("compiled", 2), ("compiled", 3)]
)
def test_a_step_with_adaptive_clipping_is_clipping_and_then_a_step(kind, threads, dtype, rng):
    # 300 inputs: a column of weights is then shared by several units of work
    layers = [
        Dense(40),
        "tanh",
        BatchNorm(),
        Residual([LayerNorm(), Dense(40), "relu"]),
        Dense(9),
        "tanh",
        Dense(5),
    ]
    b = bench(kind, layers, 300, dtype, capacity=20, threads=threads)
    X, targets = data(rng, 20, 300, 5, dtype, "mean_squared_error")
    before = b.read(b.parameters)
    _, status, _, norms = train(b, X, targets, np.arange(20), 20, {"clip_adaptive": 0.15, "lr": 0.5})
    assert status == 0
    gradients, after = b.read(b.gradients), b.read(b.parameters)
    np.testing.assert_allclose(
        norms[0], np.sqrt(sum((g.astype("f8") ** 2).sum() for g in gradients.values())), rtol=tolerance(dtype)
    )
    counts = {}
    for name, gradient in gradients.items():
        plain = np.ascontiguousarray(gradient.T if name.endswith("weight") else gradient[0])
        weights = before[name].T if name.endswith("weight") else before[name][0]
        if b.plan.parameter_names[name].op != len(b.plan.table) - 1:  # the output layer is left alone
            counts[name] = clip_grad_adaptive_(plain, weights, 0.15)
        moved = weights - np.asarray(0.5, dtype) * plain
        got = after[name].T if name.endswith("weight") else after[name][0]
        np.testing.assert_allclose(
            got, moved, rtol=0, atol=1e-12 if dtype == "float64" else 1e-6, err_msg=name
        )
    assert 0 < counts["0.weight"] <= 40
    assert 0 < sum(counts.values()) < 40 + 1 + 1 + 1 + 40 + 1 + 9 + 1


@pytest.mark.parametrize("inputs", [3, 300])
def test_adaptive_clipping_where_squares_leave_the_range(inputs, rng):
    # the gradient of each hidden unit has the size of its outgoing weights
    hidden = np.array([1e-140, 1e-140, 1e-100, 1.0, 1e150, 1e160, 1e-3, 1.0, 1.0])
    outgoing = np.array([1e150, 1e-160, 1e-200, 0.0, 1e-160, 1e-180, 1e170, 1e3, 1e-9])
    for kind in EXECUTORS:
        b = bench(kind, [Dense(9), Dense(2)], inputs, "float64", capacity=4, loss="no_loss")
        start = b.read(b.parameters)
        b.write({"0.weight": start["0.weight"] * hidden, "1.weight": start["1.weight"] * outgoing[:, None]})
        X = rng.normal(size=(4, inputs))
        b.executor.forward_batch(X, np.zeros((4, 2)), mode=TRAINING, seed=0, step=1)
        before = b.read(b.parameters)["0.weight"].T
        _, status = b.executor.backward_batch(
            np.ones((4, 2)),
            mode=TRAINING | UPDATE,
            hyper=HYPER | {"lr": 1.0, "clip_adaptive": 0.1},
            seed=0,
            step=1,
        )
        assert status == 0
        gradient = np.ascontiguousarray(b.read(b.gradients)["0.weight"].T)
        assert clip_grad_adaptive_(gradient, before, 0.1) == 3
        error = np.abs(b.read(b.parameters)["0.weight"].T - (before - gradient)).max(axis=1)
        assert (error <= 1e-13 * np.maximum(np.abs(before), np.abs(gradient)).max(axis=1)).all()


@every_executor
def test_a_network_of_one_layer_is_all_output_layer(kind, rng):
    X, targets = data(rng, 6, 3, 2, "float64", "mean_squared_error")
    found = []
    for hyper in ({}, {"clip_adaptive": 1e-6}):
        b = bench(kind, [Dense(2)], 3, "float64", capacity=6)
        train(b, X, targets, np.arange(6), 6, hyper)
        found.append(b.parameters.tobytes())
    assert found[0] == found[1]


@every_executor
@pytest.mark.parametrize("level", [LIGHT, FULL])
def test_the_books_are_those_before_adaptive_clipping(kind, level, rng):
    X, targets = data(rng, 10, 13, 5, "float64", "mean_squared_error")
    books = []
    for hyper in ({}, {"clip_adaptive": 0.001}):
        b = bench(kind, MIXED, 13, "float64", capacity=10)
        train(b, X, targets, np.arange(10), 10, hyper, mode=TRAINING | level)
        books.append(b.executor.records.copy())
    for field in ("weight_gradient", "bias_gradient", "usable", "weight"):
        assert books[0][field].tobytes() == books[1][field].tobytes()
    if level == FULL:
        assert (books[0]["update"] != books[1]["update"]).any()


# --- promises ------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["nesterov", "adamw", "clip adaptive"])
def test_same_bits_on_any_number_of_threads(optimizer, dtype, rng):
    hyper, slots = OPTIMIZERS[optimizer]
    layers = [Dense(300), "tanh", *MIXED]
    X, targets = data(rng, 120, 13, 5, dtype, "cross_entropy")
    order = rng.permutation(120)
    found = []
    for threads in (1, 2, 3, 1):
        b = bench(
            "compiled", layers, 13, dtype, capacity=50, loss="cross_entropy", slots=slots, threads=threads
        )
        steps = train(b, X, targets, order, 50, hyper, mode=TRAINING | FULL)
        out = np.zeros((120, 5), dtype)
        b.executor.forward(X, out)
        arrays = (b.parameters, b.state, *b.slots, *steps[2:], b.executor.records, out)
        found.append([a.tobytes() for a in arrays])
    assert found[0] == found[1] == found[2] == found[3]


def test_same_bits_of_inference_on_any_number_of_threads(dtype, rng):
    # the last chunk is short: its rows are dealt out differently from those of the chunk before
    X = rng.normal(size=(120, 13)).astype(dtype)
    alone = np.zeros((120, 5), dtype)
    bench("compiled", [Dense(300), "tanh", *MIXED], 13, dtype, capacity=50).executor.forward(X, alone)
    for threads in (2, 3):
        b = bench("compiled", [Dense(300), "tanh", *MIXED], 13, dtype, capacity=50, threads=threads)
        for _ in range(50):
            out = np.zeros_like(alone)
            b.executor.forward(X, out)
            assert out.tobytes() == alone.tobytes()


@every_executor
@pytest.mark.parametrize("level", [LIGHT, FULL])
def test_the_books_change_nothing(kind, level, dtype, rng):
    found = []
    X, targets = data(rng, 30, 13, 5, dtype, "cross_entropy")
    for mode in (TRAINING, TRAINING | level):
        b = bench(kind, MIXED, 13, dtype, capacity=10, loss="cross_entropy", slots=2)
        train(b, X, targets, np.arange(30), 10, OPTIMIZERS["adam"][0], mode=mode)
        found.append((b.parameters.tobytes(), b.state.tobytes()))
    assert found[0] == found[1]


@every_executor
def test_light_and_full_books_agree(kind, dtype, rng):
    X, targets = data(rng, 10, 13, 5, dtype, "cross_entropy")
    light, full = (
        bench(kind, MIXED, 13, dtype, capacity=10, loss="cross_entropy", slots=2) for _ in range(2)
    )
    for b, level in ((light, LIGHT), (full, FULL)):
        train(b, X, targets, np.arange(10), 10, OPTIMIZERS["adam"][0], mode=TRAINING | level)
    some, every = light.executor.records.view("f8"), full.executor.records.view("f8")
    booked = ~np.isnan(some)
    np.testing.assert_allclose(some[booked], every[booked], rtol=tolerance(dtype, 0.1))
    for field in ("norm", "max_abs"):
        for matrix in ("output", "d_output", "d_input", "weight_gradient"):
            missing = np.isnan(light.executor.records[matrix][field])
            np.testing.assert_array_equal(missing, np.isnan(full.executor.records[matrix][field]))


@every_executor
def test_the_update_in_the_books_is_the_change_of_the_weights(kind, rng):
    b = bench(kind, MIXED, 13, "float64", capacity=10, loss="cross_entropy", slots=2)
    X, targets = data(rng, 10, 13, 5, "float64", "cross_entropy")
    before = b.read(b.parameters)
    train(b, X, targets, np.arange(10), 10, OPTIMIZERS["adamw"][0], mode=TRAINING | FULL)
    after = b.read(b.parameters)
    for name, slot in b.plan.parameter_names.items():
        if slot.kind in ("weight", "gamma"):
            record = b.executor.records[slot.op]
            np.testing.assert_allclose(
                record["update"], np.linalg.norm(after[name] - before[name]), rtol=1e-9
            )
            np.testing.assert_allclose(record["weight"], np.linalg.norm(before[name]), rtol=1e-12)
            gradient = np.linalg.norm(b.read(b.gradients)[name])
            np.testing.assert_allclose(record["weight_gradient"]["norm"], gradient, rtol=1e-12)


@every_executor
def test_both_ways_into_a_block_are_booked_at_its_join(kind, rng):
    b = bench(kind, [Dense(6), Residual([Dense(6), "tanh"], scale=0.5), Dense(3)], 4, "float64", capacity=9)
    X, targets = data(rng, 9, 4, 3, "float64", "mean_squared_error")
    b.executor.bind(X, targets)
    b.executor.observe(np.arange(9), mode=TRAINING | FULL, seed=0, step=1)
    fork, join = 1, 4
    records = b.executor.records
    d_join = b.slot(b.executor.deltas, int(b.plan.table[join]["d_output"]), 6, 9)
    d_block = b.slot(b.executor.deltas, int(b.plan.table[fork]["d_input"]), 6, 9)
    branch = d_block - d_join
    np.testing.assert_allclose(records[join]["skip"], np.linalg.norm(d_join))
    np.testing.assert_allclose(records[join]["branch"], np.linalg.norm(branch))
    cosine = (branch * d_join).sum() / np.linalg.norm(branch) / np.linalg.norm(d_join)
    np.testing.assert_allclose(records[join]["cosine"], cosine)
    np.testing.assert_allclose(records[fork]["d_input"]["norm"], np.linalg.norm(d_block))
    np.testing.assert_allclose(records[fork]["d_output"]["norm"], np.linalg.norm(branch))


@every_executor
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("optimizer", ["momentum", "adam"])
def test_a_step_without_a_finite_gradient_is_not_applied(kind, optimizer, bad, dtype, rng):
    hyper, slots = OPTIMIZERS[optimizer]
    X, targets = data(rng, 20, 13, 5, dtype, "mean_squared_error")
    X[13, 4] = bad  # in the third batch of four
    stopped, clean = (bench(kind, MIXED, 13, dtype, capacity=5, slots=slots) for _ in range(2))
    steps, status, _, norms = train(stopped, X, targets, np.arange(20), 5, hyper, mode=TRAINING | FULL)
    assert (steps, status) == (3, 1)
    assert not np.isfinite(norms[2])
    assert np.isnan(stopped.executor.records["update"]).all()
    assert train(clean, X, targets, np.arange(10), 5, hyper)[:2] == (2, 0)
    for a, b in zip(
        (stopped.parameters, stopped.state, *stopped.slots),
        (clean.parameters, clean.state, *clean.slots),
        strict=True,
    ):
        assert a.tobytes() == b.tobytes()
    # … and the next batch finds everything as it was
    assert train(stopped, X, targets, np.arange(15, 20), 5, hyper, step=3)[1] == 0


@pytest.mark.parametrize("lr", [1e20, 1e36, 1e100, 1e307])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_an_update_that_is_not_finite_is_not_applied(optimizer, lr, rng):
    """The compiled one looks ahead, on any number of threads; the readable one makes the update and takes it back."""
    hyper, slots = OPTIMIZERS[optimizer]
    dtype = "float32" if lr < 1e38 else "float64"
    X, targets = data(rng, 40, 13, 5, dtype, "mean_squared_error")
    found = {}
    for name, threads in (("reference", 1), ("compiled", 1), ("compiled", 3)):
        b = bench(name, MIXED, 13, dtype, capacity=5, slots=slots, threads=threads)
        done, status, _, _ = train(b, X, targets, np.arange(40), 5, hyper | {"lr": lr})
        arenas = (b.parameters, b.state, *b.slots)
        assert all(np.isfinite(arena).all() for arena in arenas)
        found[name, threads] = (done, status, [arena.tobytes() for arena in arenas])
        # what is done after it is done as if it had not been there
        assert train(b, X, targets, np.arange(5), 5, hyper | {"lr": 0.0}, step=done)[1] in (0, 1)
    assert found["compiled", 1] == found["compiled", 3]
    assert found["compiled", 1][:2] == found["reference", 1][:2]


@every_executor
@pytest.mark.parametrize("level", [LIGHT, FULL])
def test_the_ring_has_the_books_of_every_step_that_was_asked_for(kind, level, rng):
    X, targets = data(rng, 50, 13, 5, "float32", "mean_squared_error")
    many, single = (bench(kind, MIXED, 13, "float32", capacity=5) for _ in range(2))
    ring = np.zeros((2, len(many.plan.table) + 1), kernels.RECORD_DTYPE)
    many.executor.book_into(ring, 3)
    before = many.executor.records.tobytes()
    many.executor.bind(X, targets)
    losses, norms = np.zeros(10), np.zeros(10)
    many.executor.train(
        np.arange(50), 0, 50, 5, mode=TRAINING | UPDATE | level, hyper=HYPER, seed=11, step=1, losses=losses,
        norms=norms, seen=1,
    )  # fmt: skip
    kept = {}
    for step in range(10):
        train(
            single,
            X,
            targets,
            np.arange(5 * step, 5 * step + 5),
            5,
            HYPER,
            mode=TRAINING | level,
            step=step + 1,
        )
        kept[step + 2] = single.executor.records.view("f8").copy()
    # steps are numbered from 2: the third, sixth and ninth are booked in places 0, 1 and 0
    np.testing.assert_array_equal(ring[0].view("f8"), kept[9])
    np.testing.assert_array_equal(ring[1].view("f8"), kept[6])
    if kind == "compiled":
        assert many.executor.records.tobytes() == before


def test_a_ring_that_does_not_fit_is_refused():
    executor = bench("compiled", MIXED, 13, "float32", capacity=5).executor
    rows = len(executor.records)
    for ring, every in (
        (np.zeros((2, rows + 1), kernels.RECORD_DTYPE), 1),
        (np.zeros((0, rows), kernels.RECORD_DTYPE), 1),
        (np.zeros((2, rows)), 1),
        (np.zeros((2, rows), kernels.RECORD_DTYPE), 0),
    ):
        with pytest.raises(ValueError, match=r"ring|every"):
            executor.book_into(ring, every)


@every_executor
def test_backward_can_end_at_an_op(kind, dtype, rng):
    """Its deltas are those of a whole pass, also where a later op would have overwritten them."""
    X, targets = data(rng, 9, 13, 5, dtype, "mean_squared_error")
    b = bench(kind, MIXED, 13, dtype, capacity=9)
    b.executor.bind(X, targets)
    rows = np.arange(9)
    b.executor.observe(rows, mode=TRAINING | FULL, seed=0, step=1)
    norms = b.executor.records["d_input"]["norm"].copy()
    for op in range(len(b.plan.table) - 1, 0, -1):
        assert np.isnan(b.executor.observe(rows, mode=TRAINING, seed=0, step=1, until=op))
        row = b.plan.table[op]
        delta = b.slot(b.executor.deltas, int(row["d_input"]), int(row["columns_in"]), 9)
        if not np.isnan(norms[op]):
            np.testing.assert_allclose(np.linalg.norm(delta), norms[op], rtol=1e-5)


@every_executor
def test_pads_stay_zero(kind, dtype, rng):
    layers = [
        Dense(5),
        "sigmoid",
        BatchNorm(),
        LayerNorm(),
        Residual([Dense(5), "exponential", Dropout(0.3)]),
        Residual([Dense(7), LayerNorm()], projection=True),
        Dense(3),
        "softmax",
    ]
    b = bench(kind, layers, 3, dtype, capacity=7, slots=2)
    X, targets = data(rng, 14, 3, 3, dtype, "mean_squared_error")
    train(b, X, targets, np.arange(14), 7, OPTIMIZERS["adamw"][0], mode=TRAINING | FULL)
    for arena in (b.parameters, b.gradients, *b.slots):
        kept = b.read(arena)
        copy = np.zeros_like(arena)
        held, b.parameters = b.parameters, copy
        b.write(kept)
        b.parameters = held
        np.testing.assert_array_equal(arena, copy)
    width = b.plan.tile
    for op in b.plan.table:
        for arena, slot, columns in (
            (b.executor.activations, op["output"], int(op["columns_out"])),
            (b.executor.deltas, op["d_output"], int(op["columns_out"])),
        ):
            padded = -(-columns // width) * width
            np.testing.assert_array_equal(b.slot(arena, int(slot), padded, 7)[:, columns:], 0)


@every_executor
def test_dropout_depends_on_seed_step_and_place_only(kind, dtype, rng):
    X = rng.uniform(1, 2, size=(6, 9)).astype(dtype)

    def dropped(rows, seed, step):
        b = bench(kind, [Dropout(0.5), Dense(9)], 9, dtype, capacity=6)
        b.executor.bind(X, None)
        b.executor.observe(np.arange(rows), mode=TRAINING, seed=seed, step=step, stop=0)
        return b.slot(b.executor.activations, int(b.plan.table[0]["output"]), 9, rows)

    first = dropped(6, 1, 1)
    np.testing.assert_array_equal(first[first != 0], (X * 2)[first != 0])
    assert 0.2 < np.mean(first == 0) < 0.8
    np.testing.assert_array_equal(dropped(4, 1, 1), first[:4])
    for other in (dropped(6, 2, 1), dropped(6, 1, 2), dropped(6, 1 + 2**40, 1)):
        assert ((other == 0) != (first == 0)).any()
    np.testing.assert_array_equal(dropped(6, 1, 1 + 2**32), first)  # 32 bits of the step


def test_philox_gives_the_published_words():
    # known-answer vectors of Random123 (Salmon et al. 2011), philox4x32 with 10 rounds
    from gradcore.kernels.reference import philox

    known = (
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    )
    for counter, key, words in known:
        assert tuple(int(w[0]) for w in philox(tuple(np.uint64([c]) for c in counter), key)) == words
