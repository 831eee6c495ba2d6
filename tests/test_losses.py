import inspect
import math
from functools import partial

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as hnp

from gradcore import kernels, losses
from gradcore.losses import (
    REGISTRY,
    Loss,
    binary_cross_entropy,
    cross_entropy,
    gaussian_nll,
    huber,
    mae,
    mse,
    poisson,
    quantile,
    resolve,
)

INF, NAN = math.inf, math.nan
every_dtype = pytest.mark.parametrize("dtype", ["f4", "f8"])


def reals(dtype, shape, bound):
    return hnp.arrays(dtype, shape, elements=st.floats(-bound, bound, width=32))


shapes = st.tuples(st.integers(1, 6), st.integers(1, 20))


@every_dtype
@given(data=st.data(), shape=shapes)
def test_cross_entropy_against_the_formula(dtype, data, shape):
    z = data.draw(reals(dtype, shape, 50))
    t = data.draw(hnp.arrays(np.int64, shape[0], elements=st.integers(0, shape[1] - 1)))
    wide = z.astype("f8") - z.max(axis=1, keepdims=True)
    rows = np.arange(len(z))
    expected = np.log(np.exp(wide).sum(axis=1)) - wide[rows, t]
    probabilities = np.exp(wide) / np.exp(wide).sum(axis=1, keepdims=True)
    gradient = probabilities - np.eye(shape[1])[t]
    eps = np.finfo(dtype).eps
    loss, grad = cross_entropy(z, t, reduction="none", return_grad=True)
    np.testing.assert_allclose(loss, expected, rtol=8 * eps, atol=8 * eps)
    np.testing.assert_allclose(grad, gradient, rtol=64 * eps, atol=8 * eps)
    assert grad.dtype == z.dtype
    total, grad = cross_entropy(z, t, reduction="sum", return_grad=True)
    assert total == pytest.approx(loss.sum(), rel=1e-14)
    mean, mean_grad = cross_entropy(z, t, return_grad=True)
    assert mean == pytest.approx(loss.mean(), rel=1e-14)
    np.testing.assert_allclose(mean_grad, grad / shape[0], rtol=4 * eps, atol=eps)
    assert cross_entropy(z, t) == mean


@every_dtype
@pytest.mark.parametrize("shape", [(5,), (5, 1), (4, 7), (2, 3, 4), ()])
def test_elementwise_losses_against_the_formula(dtype, shape):
    rng = np.random.default_rng(1)
    z = np.asarray(20 * rng.normal(size=shape), dtype)
    t = np.asarray(rng.random(size=shape), dtype)
    eps = np.finfo(dtype).eps
    wide = z.astype("f8")
    cases = {
        mse: ((wide - t) ** 2, 2 * (wide - t)),
        binary_cross_entropy: (
            np.maximum(wide, 0) - wide * t + np.log1p(np.exp(-np.abs(wide))),
            1 / (1 + np.exp(-wide)) - t,
        ),
        mae: (np.abs(wide - t), np.sign(wide - t)),
        partial(huber, delta=3.0): (
            np.where(np.abs(wide - t) <= 3, (wide - t) ** 2 / 2, 3 * (np.abs(wide - t) - 1.5)),
            np.clip(wide - t, -3, 3),
        ),
        partial(quantile, q=0.3): (
            np.where(wide > t, 0.7 * (wide - t), 0.3 * (t - wide)),
            np.where(wide > t, 0.7, -0.3),
        ),
    }
    for f, (expected, gradient) in cases.items():
        loss, grad = f(z, t, reduction="none", return_grad=True)
        assert np.shape(loss) == shape
        assert np.shape(grad) == shape
        assert grad.dtype == z.dtype
        np.testing.assert_allclose(loss, expected, rtol=16 * eps, atol=16 * eps)
        np.testing.assert_allclose(grad, gradient, rtol=8 * eps, atol=8 * eps)
        total, total_grad = f(z, t, reduction="sum", return_grad=True)
        assert total == pytest.approx(np.sum(loss), rel=1e-13)
        np.testing.assert_array_equal(total_grad, grad)
        mean, mean_grad = f(z, t, return_grad=True)
        assert mean == pytest.approx(np.mean(loss), rel=1e-13)
        np.testing.assert_allclose(mean_grad, grad / z.size, rtol=4 * eps)
        assert f(z, t) == mean
        assert isinstance(mean, float)


@every_dtype
def test_a_wide_gap_is_exact(dtype):
    loss, grad = cross_entropy(
        np.array([[0, 1e4], [1e4, 0]], dtype), [0, 0], reduction="none", return_grad=True
    )
    np.testing.assert_array_equal(loss, [1e4, 0])
    np.testing.assert_array_equal(grad, [[-1, 1], [0, 0]])
    loss, grad = binary_cross_entropy(
        np.array([1e4, -1e4, 1e4, -1e4], dtype), [1, 1, 0, 0], reduction="none", return_grad=True
    )
    np.testing.assert_array_equal(loss, [0, 1e4, 1e4, 0])
    np.testing.assert_array_equal(grad, [0, -1, 1, 0])


@every_dtype
def test_a_target_of_probability_zero_costs_infinity_in_its_row_only(dtype):
    z = np.array([[0, 0], [-INF, 0], [1, 1]], dtype)
    loss, grad = cross_entropy(z, [0, 0, 1], reduction="none", return_grad=True)
    np.testing.assert_allclose(loss, [math.log(2), INF, math.log(2)], rtol=1e-6)
    assert not np.isnan(grad).any()
    assert cross_entropy(z, [0, 1, 0], reduction="none")[1] == 0


@every_dtype
def test_nan_stays_in_its_row(dtype):
    z = np.zeros((3, 4), dtype)
    z[1, 2] = NAN
    loss, grad = cross_entropy(z, [0, 1, 2], reduction="none", return_grad=True)
    assert np.isnan(loss).tolist() == [False, True, False]
    assert np.isnan(grad).any(axis=1).tolist() == [False, True, False]


def test_squares_of_large_float32_do_not_overflow():
    assert mse(np.float32([1e20, -1e20]), np.float32([0, 0])) == pytest.approx(1e40, rel=1e-6)


def test_other_dtypes_and_layouts():
    z = np.random.default_rng(0).normal(size=(6, 4)).astype("f4")
    expected = cross_entropy(z, [0, 1, 2, 3, 0, 1])
    for labels in (
        np.array([0, 1, 2, 3, 0, 1], "u1"), np.array([0, 1, 2, 3, 0, 1], ">i2")[:, None],
        [np.int64(v) for v in (0, 1, 2, 3, 0, 1)],
    ):  # fmt: skip
        assert cross_entropy(z, labels) == expected
    assert cross_entropy(np.asfortranarray(z), [0, 1, 2, 3, 0, 1]) == expected
    assert cross_entropy(z.astype(">f4"), [0, 1, 2, 3, 0, 1]) == expected
    assert cross_entropy(z[:2, :2], [True, False]) == cross_entropy(z[:2, :2], [1, 0])
    loss, grad = cross_entropy(z.astype("f2"), [0, 1, 2, 3, 0, 1], return_grad=True)
    assert grad.dtype == np.float16
    assert loss == pytest.approx(expected, rel=1e-2)
    assert mse([1, 2], [1, 4]) == 2.0
    assert mse(np.zeros((3, 1)), np.ones(3), return_grad=True)[1].shape == (3, 1)
    assert mse(np.float32([1]), [0], return_grad=True)[1].dtype == np.float32
    assert binary_cross_entropy(np.zeros(3), np.ones((3, 1), bool)) == pytest.approx(math.log(2))


def test_a_target_is_not_rounded_to_the_dtype_of_the_outputs():
    assert mse(np.float32([1]), np.float64([1 + 1e-9])) == pytest.approx(1e-18, rel=1e-6)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_no_rows_cost_nothing(reduction):
    assert cross_entropy(np.zeros((0, 3)), [], reduction=reduction) == 0.0
    assert mse(np.zeros((0, 3)), np.zeros((0, 3)), reduction=reduction) == 0.0
    assert binary_cross_entropy([], [], reduction=reduction) == 0.0
    _, grad = cross_entropy(np.zeros((0, 3), "f4"), np.zeros(0, int), return_grad=True)
    assert grad.shape == (0, 3)


@pytest.mark.parametrize(
    ("targets", "match"),
    [
        ([0, 3, 1], r"targets\[1\] is 3; 3 columns of logits mean classes 0 to 2"),
        ([0, 1, -1], r"targets\[2\] is -1"),
        (np.array([0, 2**64 - 1, 0], "u8"), r"targets\[1\] is 18446744073709551615"),
        ([0, 1], r"shape \(3,\)"),
        ([[0, 1, 2]], r"shape \(3,\)"),
        ([0.0, 1.0, 2.0], "class indices .* not float64"),
        (["a", "b", "c"], "class indices"),
        (None, "class indices"),
    ],
)
def test_targets_that_are_not_classes(targets, match):
    with pytest.raises(ValueError, match=match):
        cross_entropy(np.zeros((3, 3)), targets)


@pytest.mark.parametrize("logits", [np.zeros(3), np.zeros((3, 0)), np.zeros((1, 3, 3)), 0.0])
def test_logits_are_a_table(logits):
    with pytest.raises(ValueError, match=r"logits must have shape \(rows, classes\)"):
        cross_entropy(logits, [0, 0, 0])


@pytest.mark.parametrize("bad", [-0.1, 1.5, NAN, INF])
def test_targets_of_binary_cross_entropy_are_probabilities(bad):
    targets = np.full((4, 2), 0.5)
    targets[2, 1] = bad
    with pytest.raises(ValueError, match=r"targets\[2, 1\] is .*\[0, 1\]"):
        binary_cross_entropy(np.zeros((4, 2)), targets)


def test_shapes_must_agree():
    for f in (mse, binary_cross_entropy):
        for pair in (((3,), (2,)), ((3, 1), (1, 3)), ((3, 2), (3,)), ((2, 3), (3, 2))):
            with pytest.raises(ValueError, match="they must agree"):
                f(np.zeros(pair[0]), np.zeros(pair[1]))


def test_other_arguments():
    for call in (
        lambda **how: cross_entropy(np.zeros((1, 2)), [0], **how),
        lambda **how: mse([1.0], [1.0], **how),
        lambda **how: binary_cross_entropy([1.0], [1.0], **how),
    ):
        with pytest.raises(ValueError, match="reduction must be 'mean', 'sum' or 'none', got 'average'"):
            call(reduction="average")
    for bad in (np.array([[1j]]), np.ma.zeros((1, 1)), [["a"]]):
        with pytest.raises(TypeError, match="logits"):
            cross_entropy(bad, [0])
        with pytest.raises(TypeError, match="targets"):
            mse([[0.0]], bad)


@pytest.mark.parametrize(
    ("y", "columns_out", "name"),
    [
        ([0, 1, 2], 3, "cross_entropy"),
        (np.array([0, 1], "u1"), 1, "binary_cross_entropy"),
        ([True, False], 2, "cross_entropy"),
        ([True, False], 1, "binary_cross_entropy"),
        (["cat", "dog"], 2, "cross_entropy"),
        (np.array(["cat", "dog"], object), 1, "binary_cross_entropy"),
        ([0.0, 1.0], 1, "mse"),
        (np.zeros((4, 3), "f4"), 3, "mse"),
        (np.eye(3, dtype=int), 3, "binary_cross_entropy"),
        ([[True, False], [True, True]], 2, "binary_cross_entropy"),
        ([[0, 2], [1, 1]], 2, "cross_entropy"),
    ],
)
def test_auto_chooses_by_the_labels(y, columns_out, name):
    assert resolve("auto", y, columns_out).name == name


def test_auto_needs_something_to_choose_by():
    with pytest.raises(ValueError, match="loss='auto'"):
        resolve("auto")
    with pytest.raises(TypeError, match="targets must be"):
        resolve("auto", np.array([1j]), 1)
    with pytest.raises(TypeError, match="targets must be"):
        resolve("auto", np.array([None, "a"], object), 1)


@pytest.mark.parametrize(
    ("spec", "name", "reduction"),
    [
        ("mse", "mse", "mean"),
        ("MSE(reduction='sum')", "mse", "sum"),
        ("mse('sum')", "mse", "sum"),
        ("mean_squared_error", "mse", "mean"),
        ("bce", "binary_cross_entropy", "mean"),
        ("cross_entropy(reduction='mean')", "cross_entropy", "mean"),
        ("cross_entropy(label_smoothing=0.1)", "cross_entropy", "mean"),
        ("huber(2.0)", "huber", "mean"),
        ("huber(delta=2.0, reduction='sum')", "huber", "sum"),
        ("quantile(0.9)", "quantile", "mean"),
        ("pinball(q=0.1)", "quantile", "mean"),
        ("mean_absolute_error", "mae", "mean"),
    ],
)
def test_resolving_a_spec(spec, name, reduction):
    loss = resolve(spec)
    assert (loss.name, loss.reduction) == (name, reduction)
    assert resolve(str(loss)) == loss
    assert resolve(loss) is loss


@pytest.mark.parametrize(
    ("spec", "match"),
    [
        ("cross_entrop", "did you mean 'cross_entropy'"),
        ("mse(reduction='none')", "reduction must be 'mean' or 'sum'"),
        ("mse(delta=1)", r"mse takes \(reduction='mean'\)"),
        ("huber(q=1)", r"huber takes \(delta=1.0, reduction='mean'\)"),
        ("huber(delta=0)", "delta must be greater than 0"),
        ("huber(delta=1e999)", "delta must be"),
        ("quantile(q=0.0)", "q must be between 0 and 1"),
        ("quantile(q=1.0)", "q must be"),
        ("cross_entropy(label_smoothing=1.0)", "label_smoothing must be at least 0 and less than 1"),
        ("poisson(1.0, 'sum')", "poisson takes"),
    ],
)
def test_a_spec_that_cannot_be(spec, match):
    with pytest.raises(ValueError, match=match):
        resolve(spec)


@pytest.mark.parametrize("name", REGISTRY)
def test_the_registry_agrees_with_the_module_and_the_kernels(name):
    loss = Loss(REGISTRY[name])
    assert loss.code in kernels.LOSS_CODES.values()
    assert ">>>" in getattr(losses, name).__doc__
    assert loss.classification == (name in ("cross_entropy", "binary_cross_entropy"))
    assert str(loss) == name
    info = REGISTRY[name]
    assert not info.parameter or info.parameter in inspect.signature(getattr(losses, name)).parameters


def test_the_gradient_is_that_of_the_loss():
    rng = np.random.default_rng(2)
    z = rng.normal(size=(3, 4))
    h = 1e-5
    for f, t in (
        (cross_entropy, [0, 3, 1]),
        (partial(cross_entropy, class_weight=[1, 2, 3, 0.5], label_smoothing=0.2, ignore_index=3), [0, 3, 1]),
        (cross_entropy, rng.dirichlet(np.ones(4), 3)),
        (mse, rng.random((3, 4))),
        (mae, rng.random((3, 4))),
        (huber, rng.random((3, 4))),
        (quantile, rng.random((3, 4))),
        (poisson, rng.random((3, 4))),
        (gaussian_nll, rng.random((3, 2))),
        (binary_cross_entropy, rng.random((3, 4))),
    ):
        for reduction in ("mean", "sum"):
            _, grad = f(z, t, reduction=reduction, return_grad=True)
            for i in np.ndindex(z.shape):
                step = np.zeros_like(z)
                step[i] = h
                numeric = (f(z + step, t, reduction=reduction) - f(z - step, t, reduction=reduction)) / (
                    2 * h
                )
                assert grad[i] == pytest.approx(numeric, abs=1e-9)


def test_agreement_with_pytorch():
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    rng = np.random.default_rng(4)
    z = rng.normal(size=(5, 3)) * 10
    labels, values = rng.integers(0, 3, 5), rng.random((5, 3))
    weight = torch.tensor([0.5, 2.0, 1.0], dtype=torch.float64)
    for ours, theirs, t in (
        (cross_entropy, functional.cross_entropy, labels),
        (
            partial(cross_entropy, class_weight=weight.numpy()),
            partial(functional.cross_entropy, weight=weight),
            labels,
        ),
        (
            partial(cross_entropy, label_smoothing=0.2),
            partial(functional.cross_entropy, label_smoothing=0.2),
            labels,
        ),
        (partial(cross_entropy, ignore_index=1), partial(functional.cross_entropy, ignore_index=1), labels),
        (
            partial(cross_entropy, ignore_index=1, label_smoothing=0.2),
            partial(functional.cross_entropy, ignore_index=1, label_smoothing=0.2),
            labels,
        ),
        (cross_entropy, functional.cross_entropy, rng.dirichlet(np.ones(3), 5)),
        (
            partial(cross_entropy, label_smoothing=0.2),
            partial(functional.cross_entropy, label_smoothing=0.2),
            rng.dirichlet(np.ones(3), 5),
        ),
        (binary_cross_entropy, functional.binary_cross_entropy_with_logits, values),
        (mse, functional.mse_loss, values),
        (mae, functional.l1_loss, values),
        (partial(huber, delta=2.0), partial(functional.huber_loss, delta=2.0), values),
        (poisson, functional.poisson_nll_loss, values),
    ):
        for reduction in ("mean", "sum", "none"):
            logits = torch.tensor(z, requires_grad=True)
            expected = theirs(logits, torch.tensor(t), reduction=reduction)
            expected.sum().backward()
            loss, grad = ours(z, t, reduction=reduction, return_grad=True)
            np.testing.assert_allclose(loss, expected.detach().numpy(), rtol=1e-12)
            np.testing.assert_allclose(grad, logits.grad.numpy(), rtol=1e-10, atol=1e-15)


def test_agreement_with_the_gaussian_of_pytorch():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(4)
    z, t = rng.normal(size=(5, 6)), rng.normal(size=(5, 3))
    for reduction in ("mean", "sum", "none"):
        outputs = torch.tensor(z, requires_grad=True)
        loss_of = torch.nn.GaussianNLLLoss(reduction=reduction)
        expected = loss_of(outputs[:, :3], torch.tensor(t), outputs[:, 3:].exp())
        expected.sum().backward()
        loss, grad = gaussian_nll(z, t, reduction=reduction, return_grad=True)
        np.testing.assert_allclose(loss, expected.detach().numpy(), rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(grad, outputs.grad.numpy(), rtol=1e-10, atol=1e-15)


def test_class_weights_of_cross_entropy():
    z, labels = np.random.default_rng(0).normal(size=(6, 3)), [0, 1, 2, 0, 0, 1]
    rows = cross_entropy(z, labels, reduction="none")
    weights = np.array([2.0, 1.0, 0.5])[labels]
    for class_weight in ([2.0, 1.0, 0.5], {0: 2.0, 2: 0.5}):
        assert cross_entropy(z, labels, class_weight=class_weight) == pytest.approx(
            float(weights @ rows / weights.sum()), rel=1e-14
        )
    balanced = (6 / (3 * np.array([3, 2, 1])))[labels]
    assert cross_entropy(z, labels, class_weight="balanced", reduction="sum") == pytest.approx(
        balanced @ rows
    )
    # a row counts by its label, smoothed or not: as twice that row
    twice = cross_entropy(z[[0, 0, 1]], [0, 0, 1], label_smoothing=0.3)
    assert cross_entropy(z[:2], [0, 1], class_weight={0: 2.0}, label_smoothing=0.3) == pytest.approx(twice)


def test_nothing_that_counts_costs_nothing():
    """All targets ignored, or no weight at all."""
    z = np.full((3, 2), NAN)
    for how in ({"ignore_index": 1}, {"class_weight": [1, 0]}):
        for reduction in ("mean", "sum"):
            loss, grad = cross_entropy(z, [1, 1, 1], reduction=reduction, return_grad=True, **how)
            assert loss == 0
            assert not grad.any()
        assert cross_entropy(z, [1, 1, 1], reduction="none", **how).tolist() == [0, 0, 0]
    some = cross_entropy([[1.0, 0.0], [5.0, 0.0]], [0, -100], ignore_index=-100)
    assert some == cross_entropy([[1.0, 0.0]], [0])


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: cross_entropy(np.zeros((2, 2)), np.full((2, 2), 0.4)), r"targets\[0\] sums to 0.8"),
        (lambda: cross_entropy(np.zeros((2, 2)), [[1.5, -0.5], [0, 1]]), r"targets\[0, 0\] is 1.5"),
        (lambda: cross_entropy(np.zeros((2, 2)), [[NAN, 1], [0, 1]]), r"targets\[0, 0\] is nan"),
        (lambda: cross_entropy(np.zeros((2, 2)), np.eye(2), class_weight=[1, 1]), "need class indices"),
        (
            lambda: cross_entropy(np.zeros((2, 2)), [0, 1], class_weight=[1]),
            r"class_weight must have shape \(2,\)",
        ),
        (lambda: cross_entropy(np.zeros((2, 2)), [0, 1], class_weight=[1, INF]), r"class_weight\[1\] is inf"),
        (lambda: cross_entropy(np.zeros((2, 2)), [0, 1], label_smoothing=1.0), "label_smoothing must be"),
        (lambda: huber([1.0], [1.0], delta=0.0), "delta must be greater than 0"),
        (lambda: quantile([1.0], [1.0], q=1.0), "q must be"),
        (lambda: poisson([1.0, 1.0], [1.0, -2.0]), r"targets\[1\] is -2.0; poisson needs"),
        (lambda: poisson([1.0], [INF]), r"targets\[0\] is inf"),
        (lambda: gaussian_nll(np.zeros((2, 3)), np.zeros((2, 1))), "two outputs are needed for each target"),
        (lambda: gaussian_nll(np.zeros((2, 2)), np.zeros((3, 1))), r"shape \(2, 2\), targets \(3, 1\)"),
    ],
)
def test_arguments_of_the_others(call, match):
    with pytest.raises(ValueError, match=match):
        call()


def test_no_rows_of_the_others():
    for f in (mae, huber, poisson, quantile):
        loss, grad = f(np.zeros((0, 3)), np.zeros((0, 3)), return_grad=True)
        assert (loss, grad.shape) == (0.0, (0, 3))
    assert gaussian_nll(np.zeros((0, 2)), []) == 0.0


def test_dtypes_and_shapes_of_the_others():
    z = np.array([[1, 2, 3]], ">f4")
    for f in (mae, huber, poisson, quantile):
        loss, grad = f(z, [[1, 1, 1]], reduction="none", return_grad=True)
        assert (loss.shape, grad.shape, grad.dtype) == ((1, 3), (1, 3), np.float32)
        assert f(3.0, 1.0) == f([3.0], [1.0])
    loss, grad = gaussian_nll(np.zeros((4, 2), "f4"), np.ones(4), reduction="none", return_grad=True)
    assert (loss.shape, grad.shape, grad.dtype) == ((4,), (4, 2), np.float32)
    np.testing.assert_array_equal(loss, 0.5)
