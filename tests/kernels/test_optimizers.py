"""Optimizer steps and clipping against their twins in longer precision, and where float32 would lose the gradient."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from gradcore import kernels
from gradcore.kernels import reference

SIZES = [1, 7, 64, 255, 256, 257, 1000]
CODE = kernels.OPTIMIZER_CODES
SGD = {"optimizer": CODE["sgd"], "lr": 0.05}
ADAM = {"optimizer": CODE["adam"], "lr": 0.01, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8}
ADAMW = {**ADAM, "optimizer": CODE["adamw"]}
RMSPROP = {"optimizer": CODE["rmsprop"], "lr": 0.01, "beta2": 0.99, "eps": 1e-8}
ADAGRAD = {"optimizer": CODE["adagrad"], "lr": 0.1, "eps": 1e-10}
LION = {"optimizer": CODE["lion"], "lr": 0.001, "beta1": 0.9, "beta2": 0.99}
RULES = {
    "sgd": SGD,
    "decay": {**SGD, "weight_decay": 0.1},
    "momentum": {**SGD, "momentum": 0.9},
    "nesterov": {**SGD, "momentum": 0.9, "nesterov": 1.0, "weight_decay": 0.1},
    "adam": ADAM,
    "adam with decay": {**ADAM, "weight_decay": 0.1},
    "adamw": {**ADAMW, "weight_decay": 0.1},
    "rmsprop": RMSPROP,
    "rmsprop with momentum": {**RMSPROP, "momentum": 0.9, "weight_decay": 0.1},
    "adagrad": ADAGRAD,
    "adagrad with decay": {**ADAGRAD, "lr_decay": 0.1, "weight_decay": 0.1},
    "lion": LION,
    "lion with decay": {**LION, "weight_decay": 0.1},
    "l1": {**SGD, "l1": 0.3},
    "nesterov with l1": {**SGD, "momentum": 0.9, "nesterov": 1.0, "weight_decay": 0.1, "l1": 0.3},
    "adam with l1": {**ADAM, "weight_decay": 0.1, "l1": 0.3},
    "adamw with l1": {**ADAMW, "weight_decay": 0.1, "l1": 0.3},
    "rmsprop with l1": {**RMSPROP, "momentum": 0.5, "l1": 0.3},
    "adagrad with l1": {**ADAGRAD, "l1": 0.3},
    "lion with l1": {**LION, "weight_decay": 0.1, "l1": 0.3},
}
CLIPS = {"none": ({}, 1.0), "norm": ({}, 0.37), "value": ({"clip_value": 0.5}, 1.0)}

every_rule = pytest.mark.parametrize("rule", RULES)


def slots_of(rule):
    """How many arrays per parameter a rule keeps."""
    name = next(name for name, code in CODE.items() if code == rule["optimizer"])
    momentum = bool(rule.get("momentum"))
    return {"sgd": momentum, "rmsprop": 1 + momentum, "adam": 2, "adamw": 2}.get(name, 1)


def step(module, rule, arrays, t, scale=1.0):
    """Step number `t` on (p, g, *slots), of which as many are used as the rule keeps."""
    p, g, *slots = arrays
    module.optimizer_step(p, g, slots[: slots_of(rule)], rule, scale, t)


def random_arrays(rng, n, dtype):
    """Parameters, gradients and slots that may come up: squares are not negative."""
    return [rng.standard_normal(n).astype(dtype) for _ in range(2)] + [
        rng.random(n).astype(dtype) for _ in range(2)
    ]


@every_rule
@pytest.mark.parametrize("clip", CLIPS)
def test_steps(rng, dtype, rule, clip):
    bounds, scale = CLIPS[clip]
    hyper = {**RULES[rule], **bounds}
    eps = np.finfo(dtype).eps
    for n in SIZES:
        arrays = [rng.standard_normal(n).astype(dtype), None, np.zeros(n, dtype), np.zeros(n, dtype)]
        exact = [a if a is None else a.astype(np.longdouble) for a in arrays]
        for t in range(1, 5):
            arrays[1] = rng.standard_normal(n).astype(dtype)
            exact[1] = arrays[1].astype(np.longdouble)
            step(kernels, hyper, arrays, t, scale)
            step(reference, hyper, exact, t, scale)
        for got, want in zip((arrays[0], *arrays[2:]), (exact[0], *exact[2:]), strict=True):
            assert_allclose(got, want, rtol=16 * eps, atol=16 * eps * max(1, float(np.abs(want).max())))


@every_rule
def test_a_slice_is_updated_like_the_whole(rng, dtype, rule):
    # threads share the parameters out in slices
    whole = random_arrays(rng, 600, dtype)
    parts = [a.copy() for a in whole]
    step(kernels, RULES[rule], whole, 2)
    for part in (slice(0, 33), slice(33, 300), slice(300, 600)):
        step(kernels, RULES[rule], [a[part] for a in parts], 2)
    for a, b in zip(whole, parts, strict=True):
        assert_array_equal(a, b)


def torch_peer(torch, parameter, rule):
    decay = rule.get("weight_decay", 0.0)
    code = rule["optimizer"]
    if code == CODE["sgd"]:
        momentum, nesterov = rule.get("momentum", 0.0), bool(rule.get("nesterov"))
        return torch.optim.SGD(
            [parameter], rule["lr"], momentum=momentum, nesterov=nesterov, weight_decay=decay
        )
    if code == CODE["rmsprop"]:
        return torch.optim.RMSprop(
            [parameter], rule["lr"], momentum=rule.get("momentum", 0.0), weight_decay=decay
        )
    if code == CODE["adagrad"]:
        return torch.optim.Adagrad(
            [parameter], rule["lr"], lr_decay=rule.get("lr_decay", 0.0), weight_decay=decay
        )
    kind = torch.optim.AdamW if code == CODE["adamw"] else torch.optim.Adam
    return kind([parameter], rule["lr"], weight_decay=decay)


@pytest.mark.parametrize("rule", [name for name in RULES if not name.startswith("lion")])
def test_torch(rule):
    torch = pytest.importorskip("torch")
    hyper = RULES[rule]
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(50), None, np.zeros(50), np.zeros(50)]
    parameter = torch.tensor(arrays[0].copy(), requires_grad=True)
    peer = torch_peer(torch, parameter, hyper)
    for t in range(1, 201):
        arrays[1] = rng.standard_normal(50)
        parameter.grad = torch.tensor(arrays[1])
        if "l1" in hyper:  # PyTorch has none: the gradient of l1 Σ|w| is added by hand
            (penalty,) = torch.autograd.grad(hyper["l1"] * parameter.abs().sum(), parameter)
            parameter.grad += penalty
        peer.step()
        step(kernels, hyper, arrays, t)
    wanted = parameter.detach().numpy()
    assert np.linalg.norm(arrays[0] - wanted) <= 1e-12 * np.linalg.norm(wanted)


def test_lion_takes_steps_of_one_size_and_none_for_no_gradient(dtype):
    p, g, m = np.ones(3, dtype), np.array([1e-30, -7, 0], dtype), np.zeros(3, dtype)
    kernels.optimizer_step(p, g, [m], LION, 1.0, 1)
    assert_allclose(p, [0.999, 1.001, 1.0], rtol=1e-6)
    assert_allclose(m, 0.01 * g.astype("f8"), rtol=1e-5)


def test_the_number_of_slots_is_checked(dtype):
    p, g = np.zeros(3, dtype), np.ones(3, dtype)
    for rule, slots in ((SGD, [p.copy()]), (ADAM, [p.copy()]), (RMSPROP, []), (LION, [])):
        with pytest.raises(ValueError, match="slots"):
            kernels.optimizer_step(p, g, slots, rule, 1.0, 1)
    assert_array_equal(p, 0)


@every_rule
def test_l1_pulls_towards_zero_and_not_beyond_what_is_zero(dtype, rule):
    hyper = {**RULES[rule], "weight_decay": 0.0, "l1": 0.5}
    p = np.array([2, -2, 0, -0.0, 1e-30], dtype)
    before = p.copy()
    step(kernels, hyper, [p, np.zeros(5, dtype), np.zeros(5, dtype), np.zeros(5, dtype)], 1)
    assert_array_equal(np.sign(p - before), [-1, 1, 0, 0, -1])


def test_l1_joins_the_gradient_after_clipping(dtype):
    p, g = np.array([1, -1], dtype), np.array([8, 8], dtype)
    kernels.optimizer_step(p, g, [], {**SGD, "lr": 1.0, "l1": 0.5, "clip_value": 2.0}, 1.0, 1)
    assert_array_equal(p, [1 - 2.5, -1 - 1.5])


def test_gradients_far_apart_survive_clipping_by_norm():
    # the norm of these is 1e38, so the factor is too small for float32
    p, g = np.zeros(3, "f4"), np.array([1e38, 1e30, 0], "f4")
    kernels.optimizer_step(p, g, [], {**SGD, "lr": 1.0}, 1e-3 / 1e38, 1)
    assert_allclose(p, [-1e-3, -1e-11, 0], rtol=1e-6)
    kernels.scale_by(g, 1e-3 / 1e38)
    assert_allclose(g, [1e-3, 1e-11, 0], rtol=1e-6)


def test_a_non_finite_gradient_is_not_clipped_away(dtype):
    g = np.array([np.nan, np.inf, -np.inf, 3], dtype)
    kernels.clip_by_value(g, 2.0)
    assert_array_equal(g, [np.nan, 2, -2, 2])
    p = np.zeros(4, dtype)
    kernels.optimizer_step(
        p, np.array([np.nan, 1, -5, 5], dtype), [], {**SGD, "lr": 1.0, "clip_value": 2.0}, 1.0, 1
    )
    assert_array_equal(p, [np.nan, -1, 2, -2])


@pytest.mark.parametrize("factor", [0.0, 1.0, -0.3, 1e-45, 1e30, 1e-300])
def test_scale_by_rounds_once(rng, dtype, factor):
    x = (10.0 ** rng.uniform(-30, 30, 999) * rng.choice([-1, 1], 999)).astype(dtype)
    with np.errstate(over="ignore", under="ignore"):
        want = (x.astype(np.float64) * factor).astype(dtype)
    kernels.scale_by(x, factor)
    assert_array_equal(x, want)


@pytest.mark.parametrize("bound", [0.0, 0.7, np.inf])
def test_clip_by_value(rng, dtype, bound):
    for n in SIZES:
        x = rng.standard_normal(n).astype(dtype)
        want = x.copy()
        reference.clip_by_value(want, bound)
        kernels.clip_by_value(x, bound)
        assert_array_equal(x, want)


def test_adam_ignores_the_scale_of_the_gradient_until_eps(dtype):
    steps = {}
    for size in (1e15, 1.0, 1e-5, 1e-12):
        p, m, v = np.zeros((3, 20), dtype)
        step(kernels, ADAM, [p, np.full(20, size, dtype), m, v], 1)
        steps[size] = -p[0]
    assert_allclose([steps[1e15], steps[1.0]], 0.01, rtol=1e-6)
    assert steps[1e-5] == pytest.approx(0.01, rel=2e-3)
    assert steps[1e-12] < 2e-6  # the dead zone


def test_a_factor_of_clipping_by_norm_has_no_say_where_values_are_clamped():
    p = np.zeros(2, "f4")
    kernels.optimizer_step(
        p, np.array([1.0, -9.0], "f4"), [], {**SGD, "lr": 1.0, "clip_value": 0.5}, 1e-32, 1
    )
    assert_array_equal(p, [-0.5, 0.5])
