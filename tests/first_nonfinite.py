"""A training step as slowly and plainly as can be, to find its first value that is not finite.

Everything is computed in NumPy's widest type from the values as the dtype holds them, and rounded to the dtype.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from gradcore import Network, kernels
from gradcore.kernels import reference
from gradcore.losses import resolve

KINDS = {code: name for name, code in kernels.OP_KINDS.items()}
ACTIVATIONS = {code: name for name, code in kernels.ACTIVATION_CODES.items()}
WIDE = np.longdouble

Operands = dict[str, Any]


class Site(NamedTuple):
    """An array of the step, where it stands in it, and what one of its elements is made of."""

    pass_: str
    op: int | None
    name: str
    what: str
    array: np.ndarray
    operands: Callable[..., Operands] = lambda *at: {}


@np.errstate(all="ignore")
def first_nonfinite(sites: Iterator[Site]) -> tuple[Site, tuple[int, ...], float] | None:
    for site in sites:
        wrong = np.argwhere(~np.isfinite(site.array))
        if len(wrong):
            at = tuple(int(i) for i in wrong[0])
            return site, at, float(site.array[at])
    return None


def step(
    net: Network,
    X: np.ndarray,
    y: np.ndarray | None,
    *,
    loss: str | None,
    seed: int,
    number: int,
    hyper: Mapping[str, float],
    output_grad: np.ndarray | None = None,
    loss_sum: bool = False,
) -> Iterator[Site]:
    """All arrays of one training step in the order of the calculation (moments zero before it)."""
    table, names, dtype = net.plan.table, net.plan.names, net.dtype
    P = net.get_parameters()
    of_op: dict[int, dict[str, str]] = {}
    for name, slot in net.plan.parameter_names.items():
        of_op.setdefault(slot.op, {})[slot.kind] = name

    yield Site("forward", None, "input", "value", X)
    x, outputs, inputs, slopes, skips = X, [], [], {}, {}
    for op, row in enumerate(table):
        kind, mine = KINDS[row["kind"]], of_op.get(op, {})
        for name in mine.values():
            yield Site("forward", op, "parameter", name, P[name])
        inputs.append(x)
        z, operands = x, lambda r, c, x=x: {"input": x[r, c]}
        if kind == "dense":
            W, b = (
                P[mine["weight"]],
                P[mine["bias"]] if "bias" in mine else np.zeros(row["columns_out"], dtype),
            )
            z = x.astype(WIDE) @ W.astype(WIDE).T + b

            def operands(r, c, x=x, W=W, b=b, mine=mine):
                return {"input": x[r], "weight": W[c]} | ({"bias": b[c]} if "bias" in mine else {})
        elif kind == "activation":
            name = ACTIVATIONS[row["code"]]
            if name == "softmax":
                z = reference.softmax(x.astype(WIDE), np.empty(x.shape, WIDE))
                operands = lambda r, c, x=x: {"input": x[r]}  # noqa: E731
            else:
                value, slope = reference.ACTIVATIONS[name](x.astype(WIDE), row["parameter"])
                z, slopes[op] = value, slope.astype(dtype)
        elif kind == "batch_norm":
            gamma, beta, wide = P[mine["gamma"]], P[mine["beta"]], x.astype(WIDE)
            mean, variance = wide.mean(axis=0), wide.var(axis=0)
            slopes[op] = (wide - mean) / np.sqrt(variance + row["eps"]), 1 / np.sqrt(variance + row["eps"])
            z = gamma * slopes[op][0] + beta

            def operands(r, c, x=x, gamma=gamma, beta=beta):
                return {"column": x[:, c], "gamma": gamma[c], "beta": beta[c]}
        elif kind == "layer_norm":
            gamma, beta, wide = P[mine["gamma"]], P[mine["beta"]], x.astype(WIDE)
            mean, variance = wide.mean(axis=1, keepdims=True), wide.var(axis=1, keepdims=True)
            slopes[op] = (wide - mean) / np.sqrt(variance + row["eps"]), 1 / np.sqrt(variance + row["eps"])
            z = gamma * slopes[op][0] + beta

            def operands(r, c, x=x, gamma=gamma, beta=beta):
                return {"row": x[r], "gamma": gamma[c], "beta": beta[c]}
        elif kind == "dropout":
            slopes[op] = np.empty_like(x)
            reference.dropout(
                np.ones_like(x), np.empty_like(x), slopes[op], row["parameter"], seed, number, op
            )
            z = x.astype(WIDE) * slopes[op]
            operands = lambda r, c, x=x, op=op: {"input": x[r, c], "factor": slopes[op][r, c]}  # noqa: E731
        elif kind == "join":
            skip = skips.get(row["partner"], inputs[row["partner"]])
            z = skip + WIDE(row["parameter"]) * x.astype(WIDE)

            def operands(r, c, x=x, skip=skip, scale=float(row["parameter"])):
                return {"skip": skip[r, c], "branch": x[r, c], "scale": scale}

        x = z.astype(dtype)
        outputs.append(x)
        yield Site("forward", op, names[op], "output", x, operands)
        if kind == "dense" and row["partner"] >= 0:  # a projection: what follows reads what it read
            skips[row["partner"]], x = x, inputs[op]

    if output_grad is None:
        if y.dtype.kind == "f":
            yield Site("loss", None, "target", "value", y)
        wide = x.astype(WIDE)
        scale = WIDE(1) if loss_sum else WIDE(1) / (len(x) if loss == "cross_entropy" else x.size)
        losses = np.zeros(len(x), WIDE)
        d = np.empty(x.shape, WIDE)
        code = resolve(loss).code
        reference.row_losses(code, wide, y.astype(WIDE) if y.ndim == 2 else y, losses, d, scale)
        losses = losses.astype(np.float64)
        yield Site("loss", None, "loss", "value", losses, lambda r: {"output": x[r], "target": y[r]})
        total = np.array([float(losses.sum())])
        yield Site("loss", None, "loss", "sum over the rows", total, lambda _: {"losses": losses})
        d = d.astype(dtype)

        def of_loss(r, c, x=x):
            return {"output": x[r, c], "target": y[r] if y.ndim == 1 else y[r, c]}

        yield Site("loss", None, "loss", "gradient", d, of_loss)
    else:
        d = output_grad
        yield Site("loss", None, "output_grad", "value", d)

    gradients: dict[str, np.ndarray] = {}
    above: dict[int, np.ndarray] = {}  # dL/d(output) of each join
    by_skip: dict[int, np.ndarray] = {}  # … and after its projection, by the fork
    for op in range(len(table) - 1, -1, -1):
        row, mine, x = table[op], of_op.get(op, {}), inputs[op]
        kind, d_in = KINDS[row["kind"]], None
        projects, chain = kind == "dense" and row["partner"] >= 0, d
        if projects:
            d = above[table[row["partner"]]["partner"]]
        wide = d.astype(WIDE)
        if kind == "dense":
            W = P[mine["weight"]]
            found = {"weight": wide.T @ x.astype(WIDE), "bias": wide.sum(axis=0)}
            d_in = wide @ W.astype(WIDE)
            operands = lambda r, c, d=d, W=W: {"d_output": d[r], "weight": W[:, c]}  # noqa: E731
        elif kind == "batch_norm":
            normal, inverse = slopes[op]
            gamma = P[mine["gamma"]]
            # these sums run row by row in double, where they may overflow on the way
            rows = {"gamma": wide * normal, "beta": wide}
            found = {part: terms.astype(np.float64).sum(axis=0) for part, terms in rows.items()}
            d_in = gamma * inverse * (wide - found["beta"] / len(x) - normal * found["gamma"] / len(x))

            def operands(r, c, d=d, x=x, gamma=gamma):
                return {"d_output": d[:, c], "column": x[:, c], "gamma": gamma[c]}
        elif kind == "layer_norm":
            normal, inverse = slopes[op]
            gamma = P[mine["gamma"]]
            found = {"gamma": (wide * normal).sum(axis=0), "beta": wide.sum(axis=0)}
            g = gamma * wide
            d_in = inverse * (
                g - g.mean(axis=1, keepdims=True) - normal * (g * normal).mean(axis=1, keepdims=True)
            )

            def operands(r, c, d=d, x=x, gamma=gamma):
                return {"d_output": d[r], "row": x[r], "gamma": gamma}
        elif kind == "activation" and ACTIVATIONS[row["code"]] == "softmax":
            y_ = outputs[op]
            # the difference may overflow where the product would not
            d_in = y_ * (wide - (wide * y_).sum(axis=1, keepdims=True)).astype(dtype)
            operands = lambda r, c, d=d, y_=y_: {"d_output": d[r], "output": y_[r]}  # noqa: E731
        elif kind in ("activation", "dropout"):
            d_in = wide * slopes[op]
            word = "slope" if kind == "activation" else "factor"
            operands = lambda r, c, d=d, op=op, word=word: {  # noqa: E731
                "d_output": d[r, c], word: slopes[op][r, c]
            }  # fmt: skip
        elif kind == "join":
            above[op] = d
            d_in = WIDE(row["parameter"]) * wide
            operands = lambda r, c, d=d, row=row: {  # noqa: E731
                "d_output": d[r, c], "scale": float(row["parameter"])
            }  # fmt: skip
        elif kind == "fork":
            skip = by_skip.get(op, above[row["partner"]])
            d_in = wide + skip
            operands = lambda r, c, d=d, skip=skip: {"skip": skip[r, c], "branch": d[r, c]}  # noqa: E731
        for part, name in mine.items():
            gradients[name] = found[part].astype(dtype)

            def of_gradient(*at, d=d, x=x, part=part, kind=kind):
                inputs = x if kind == "layer_norm" else x[:, at[-1]]
                return {"d_output": d[:, at[0]]} | ({"input": inputs} if part in ("weight", "gamma") else {})

            yield Site("backward", op, names[op], f"{part} gradient", gradients[name], of_gradient)
        d = d_in.astype(dtype)
        # the compiled core leaves dL/dX out
        if row["d_input"] != 0 and not (projects and row["input"] == 0):
            yield Site("backward", op, names[op], "dL/d(input)", d, operands)
        if projects:
            by_skip[row["partner"]], d = d, chain

    norm = float(np.sqrt(sum((g.astype(WIDE) ** 2).sum() for g in gradients.values())))
    yield Site("backward", None, "gradient", "norm", np.array([norm]))
    for name, slot in net._parameters.slots.items():
        if not slot.is_state:
            yield from _update(net, name, P[name], gradients[name], number, hyper)
    for op, row in enumerate(table):
        if KINDS[row["kind"]] == "batch_norm":
            wide, prefix = inputs[op].astype(WIDE), of_op[op]["gamma"].rpartition(".")[0]
            # the variance is kept in the dtype before it is made unbiased
            variance = wide.var(axis=0).astype(dtype).astype(WIDE) * len(wide) / (len(wide) - 1)
            for part, new in (("running_mean", wide.mean(axis=0)), ("running_var", variance)):
                old = P[f"{prefix}.{part}"]
                moved = (old + row["momentum"] * (new - old)).astype(dtype)

                def of_running(c, old=old, x=inputs[op]):
                    return {"running": old[c], "column": x[:, c]}

                yield Site("update", op, names[op], f"{prefix}.{part}", moved, of_running)


def _update(
    net: Network, name: str, p: np.ndarray, g: np.ndarray, number: int, hyper: Mapping[str, float]
) -> Iterator[Site]:
    """Moments and new values of one parameter, at the first step of an optimizer without clipping and decay."""
    op = net.plan.parameter_names[name].op
    wide, parts = g.astype(WIDE), {}
    if hyper["optimizer"] == kernels.OPTIMIZER_CODES["sgd"]:
        move = WIDE(hyper["lr"]) * wide
        if hyper["momentum"]:
            parts["velocity"] = wide.astype(net.dtype)
    else:
        parts["first moment"] = ((1 - hyper["beta1"]) * wide).astype(net.dtype)
        parts["second moment"] = ((1 - hyper["beta2"]) * wide**2).astype(net.dtype)
        move = hyper["lr"] * wide / (np.abs(wide) + hyper["eps"])
    old = {"parameter": p} | {part: np.zeros_like(p) for part in parts} | {"gradient": g}
    for part, new in {**parts, "parameter": (p - move).astype(net.dtype)}.items():
        what = name if part == "parameter" else f"{part} of {name}"
        yield Site(
            "update", op, net.plan.names[op], what, new, lambda *at: {k: a[at] for k, a in old.items()}
        )
