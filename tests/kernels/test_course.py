"""Courses: epochs in orders of their own, step by step or many steps at once, alone or beside others."""

import contextlib

import numpy as np
import pytest
from executors import FULL, HYPER, TRAINING, bench

from gradcore import kernels
from gradcore.training.batches import Batches

SEEDS = (0, 7, 2**63 - 1)


def build(kind, rows=40, *, capacity=9, threads=1, dtype="float32", layers=None):
    from gradcore.layers import Dense

    b = bench(
        kind, layers or [Dense(5), "tanh", Dense(2)], 3, dtype, capacity=capacity, slots=1, threads=threads,
        input_gradient=False,
    )  # fmt: skip
    rng = np.random.default_rng(1)
    b.executor.bind(rng.normal(size=(rows, 3)).astype(dtype), rng.normal(size=(rows, 2)).astype(dtype))
    return b


def advance(executor, steps, *, rates=None, lr=0.1, step=1, mode=TRAINING, seen=0):
    losses, norms = np.zeros(steps), np.zeros(steps)
    executor.prepare(
        steps, mode=mode, hyper=HYPER | {"lr": lr, "momentum": 0.5}, seed=3, step=step, losses=losses, norms=norms,
        seen=seen, rates=rates,
    )  # fmt: skip
    return executor.run(), losses, norms


def begin(executor, rows, size=8, *, merge_single=False, shuffle=True, seed=0, number=11):
    executor.begin(rows, size, merge_single=merge_single, shuffle=shuffle, seed=seed, number=number)


@pytest.mark.parametrize("kind", ["compiled", "reference"])
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("rows", [1, 2, 3, 8, 9, 16, 17, 33])
@pytest.mark.parametrize("merge", [False, True])
def test_each_epoch_has_numpys_order(kind, seed, rows, merge):
    chosen = np.arange(40)[::-1][:rows]
    executor = build(kind).executor
    begin(executor, chosen, merge_single=merge, seed=seed)
    batches = Batches(rows, min(8, rows), merge)
    for epoch in range(3):
        key = np.array([seed, 11 + epoch], np.uint64)
        expected = chosen[np.random.Generator(np.random.Philox(key=key)).permutation(rows)]
        seen = []
        for _ in range(batches.steps):
            advance(executor, 1)
            seen.append(executor.last_rows)
        assert [len(part) for part in seen] == batches.sizes().tolist()
        assert np.concatenate(seen).tolist() == expected.tolist()


def test_a_long_order_is_numpys_too():
    executor = build("compiled", 3000, capacity=3000).executor
    begin(executor, np.arange(3000), 3000, seed=5)
    advance(executor, 2)
    key = np.array([5, 12], np.uint64)
    expected = np.random.Generator(np.random.Philox(key=key)).permutation(3000)
    assert (executor.last_rows == expected).all()


@pytest.mark.parametrize("kind", ["compiled", "reference"])
def test_without_shuffle_rows_come_as_given(kind):
    executor = build(kind).executor
    begin(executor, [5, 3, 9], 2, shuffle=False)
    advance(executor, 1)
    assert executor.last_rows.tolist() == [5, 3]
    advance(executor, 2)
    assert executor.last_rows.tolist() == [5, 3]


@pytest.mark.parametrize("kind", ["compiled", "reference"])
@pytest.mark.parametrize(("rows", "merge"), [(33, True), (33, False), (8, False)])
def test_a_course_may_begin_in_the_middle(kind, rows, merge):
    steps = Batches(rows, 8, merge).steps
    whole = build(kind).executor
    begin(whole, np.arange(rows), merge_single=merge, seed=2)
    orders = []
    for _ in range(3 * steps):
        advance(whole, 1)
        orders.append(whole.last_rows.tolist())
    for step in range(2 * steps):
        later = build(kind).executor
        later.begin(
            np.arange(rows), 8, merge_single=merge, shuffle=True, seed=2, number=11, epoch=step // steps,
            at=step % steps * 8,
        )  # fmt: skip
        for expected in orders[step : step + steps]:
            advance(later, 1)
            assert later.last_rows.tolist() == expected


@pytest.mark.parametrize(("epoch", "at"), [(-1, 0), (0, -8), (0, 3), (0, 40), (1, 16)])
def test_a_course_begins_at_a_batch(epoch, at):
    executor = build("compiled").executor
    with pytest.raises(ValueError, match="no batch of 8 begins"):
        executor.begin(
            np.arange(16), 8, merge_single=False, shuffle=True, seed=0, number=0, epoch=epoch, at=at
        )


@pytest.mark.parametrize("kind", ["compiled", "reference"])
def test_what_is_prepared_has_no_outcome_yet(kind):
    executor = build(kind).executor
    begin(executor, np.arange(16))
    advance(executor, 2)
    assert executor.outcome == (2, 0)
    advanced = np.zeros(2)
    executor.prepare(2, mode=TRAINING, hyper=HYPER, seed=0, step=1, losses=advanced, norms=advanced.copy())
    assert executor.outcome is None


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("pieces", [[13], [1] * 13, [4, 9], [6, 1, 6]])
def test_pieces_and_threads_change_no_bit(threads, pieces):
    expected = build("compiled")
    begin(expected.executor, np.arange(17))
    _, losses, norms = advance(expected.executor, 13)
    b = build("compiled", threads=threads)
    begin(b.executor, np.arange(17))
    found, done = [], 0
    for piece in pieces:
        (count, status), *values = advance(b.executor, piece, step=1 + done)
        assert (count, status) == (piece, 0)
        done += piece
        found.append(values)
    assert np.concatenate([values[0] for values in found]).tolist() == losses.tolist()
    assert np.concatenate([values[1] for values in found]).tolist() == norms.tolist()
    assert (b.parameters == expected.parameters).all()


def test_a_course_is_what_train_does_with_the_same_orders():
    course, steps = build("compiled"), build("compiled")
    begin(course.executor, np.arange(17))
    advance(course.executor, 6)
    losses, norms = np.zeros(3), np.zeros(3)
    for epoch in range(2):
        key = np.array([0, 11 + epoch], np.uint64)
        order = np.random.Generator(np.random.Philox(key=key)).permutation(17)
        steps.executor.train(
            order, 0, 17, 8, mode=TRAINING, hyper=HYPER | {"momentum": 0.5}, seed=3, step=1 + 3 * epoch,
            losses=losses, norms=norms,
        )  # fmt: skip
    assert (course.parameters == steps.parameters).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rates_scale_the_learning_rate_of_their_step(dtype):
    rates = np.array([0.5, 0.0, 2.0, 1.0, 0.25])
    b, twin = build("compiled", dtype=dtype), build("reference", dtype=dtype)
    for made in (b, twin):
        begin(made.executor, np.arange(17))
        advance(made.executor, 5, rates=rates)
    for name, value in twin.read(twin.parameters).items():
        np.testing.assert_allclose(b.read(b.parameters)[name], value, rtol=1e-5)
    single = build("compiled", dtype=dtype)
    begin(single.executor, np.arange(17))
    for k, rate in enumerate(rates):
        advance(single.executor, 1, lr=0.1 * rate, step=1 + k)
    assert (b.parameters == single.parameters).all()


def test_many_side_by_side_are_the_same_bits_as_alone():
    alone, beside = [build("compiled") for _ in range(7)], [build("compiled") for _ in range(7)]
    outcomes = []
    for k, (one, other) in enumerate(zip(alone, beside, strict=True)):
        for b in (one, other):
            begin(b.executor, np.arange(17), seed=k)
        outcomes.append(advance(one.executor, 5 + k))
        losses, norms = np.zeros((2, 5 + k))
        other.executor.prepare(
            5 + k, mode=TRAINING, hyper=HYPER | {"momentum": 0.5}, seed=3, step=1, losses=losses, norms=norms
        )
        outcomes[-1] += (losses,)
    kernels.Workers(3).run(b.executor for b in beside)
    for one, other, (outcome, losses, _, beside_losses) in zip(alone, beside, outcomes, strict=True):
        assert other.executor.outcome == outcome
        assert beside_losses.tolist() == losses.tolist()
        assert (one.parameters == other.parameters).all()


def test_a_step_that_is_not_finite_ends_the_run_and_the_course_goes_on_after_it():
    b = build("compiled")
    X, y = np.zeros((17, 3), "f4"), np.zeros((17, 2), "f4")
    X[4] = np.nan
    b.executor.bind(X, y)
    begin(b.executor, np.arange(17), 2, shuffle=False)
    (count, status), losses, _ = advance(b.executor, 9)
    assert (count, status) == (3, 1)
    assert b.executor.applied == 2
    assert b.executor.last_rows.tolist() == [4, 5]
    assert np.isnan(losses[2])
    (count, status), *_ = advance(b.executor, 6)
    assert (count, status) == (6, 0)
    assert b.executor.last_rows.tolist() == [16]


def test_a_ring_is_filled_across_epochs():
    b = build("compiled")
    ring = np.zeros((5, len(b.plan.table) + 1), kernels.RECORD_DTYPE)
    b.executor.book_into(ring, 2)
    begin(b.executor, np.arange(17))
    advance(b.executor, 10, mode=TRAINING | FULL)
    norms = ring["weight_gradient"]["norm"][:, 0]
    assert (norms > 0).all()
    assert len(set(norms.tolist())) == 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": [40]}, "row 40"),
        ({"rows": [-1]}, "row -1"),
        ({"rows": []}, "rows: expected"),
        ({"size": 0}, "batch_size"),
        ({"size": 10}, "capacity"),
        ({"size": 9, "rows": np.arange(10), "merge_single": True}, "batch of 10"),
    ],
)
def test_a_course_that_cannot_be_is_refused(change, message):
    executor = build("compiled").executor
    arguments = {"rows": np.arange(17), "size": 8} | change
    with pytest.raises((ValueError, IndexError), match=message):
        begin(executor, arguments.pop("rows"), arguments.pop("size"), **arguments)


def test_steps_that_cannot_be_are_refused():
    executor = build("compiled").executor
    with pytest.raises(ValueError, match="begin"):
        advance(executor, 1)
    begin(executor, np.arange(17))
    with pytest.raises(ValueError, match="nothing is prepared"):
        executor.run()
    with pytest.raises(ValueError, match="nothing is prepared"):
        kernels.Workers(1).run([executor])
    with pytest.raises(ValueError, match="at least 1"):
        advance(executor, 0)
    with pytest.raises(ValueError, match="rates"):
        advance(executor, 3, rates=np.ones(2))
    executor.bind(np.zeros((5, 3), "f4"), np.zeros((5, 2), "f4"))
    with pytest.raises(IndexError, match="not in the data of 5 rows"):
        advance(executor, 1)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda b: b.executor.bind(np.zeros((2, 3), "f4"), np.zeros((2, 2), "f4")),
        lambda b: b.executor.observe(np.arange(4), mode=TRAINING, seed=0, step=1),
        lambda b: begin(b.executor, [40]),
        lambda b: b.executor.prepare(
            2, mode=TRAINING, hyper=HYPER, seed=0, step=1, losses=np.zeros(1), norms=np.zeros(2)
        ),
    ],
    ids=["bind", "observe", "begin", "prepare"],
)
def test_what_was_prepared_is_gone_after_any_other_call(spoil):
    # the buffers of a call that failed, or of smaller data, are not those that the steps would be made with
    b = build("compiled")
    begin(b.executor, np.arange(17))
    losses, norms = np.zeros((2, 3))
    b.executor.prepare(3, mode=TRAINING, hyper=HYPER, seed=0, step=1, losses=losses, norms=norms)
    with contextlib.suppress(ValueError, IndexError):
        spoil(b)
    with pytest.raises(ValueError, match="nothing is prepared"):
        b.executor.run()
    with pytest.raises(ValueError, match="nothing is prepared"):
        kernels.Workers(1).run([b.executor])


def test_after_a_course_that_was_refused_there_is_none():
    executor = build("compiled").executor
    begin(executor, np.arange(17))
    with pytest.raises(IndexError, match="row 40"):
        begin(executor, np.arange(41))
    with pytest.raises(ValueError, match="begin"):
        advance(executor, 1)


def test_workers_refuse_what_would_race_or_not_fit():
    one, other = build("compiled"), build("compiled", dtype="float64")
    for b in (one, other):
        begin(b.executor, np.arange(17))
        losses, norms = np.zeros((2, 1))
        b.executor.prepare(1, mode=TRAINING, hyper=HYPER, seed=0, step=1, losses=losses, norms=norms)
    with pytest.raises(ValueError, match="twice"):
        kernels.Workers(2).run([one.executor, one.executor])
    with pytest.raises(TypeError, match="one dtype"):
        kernels.Workers(2).run([one.executor, other.executor])
    with pytest.raises(ValueError, match="at least 1"):
        kernels.Workers(0)


def test_stretches_alone_and_by_the_team_are_the_same_bits():
    bits = set()
    for turns in ((False, False, False), (True, True, True), (False, True, False)):
        b = build("compiled", threads=3)
        begin(b.executor, np.arange(17))
        for done, alone in enumerate(turns):
            b.executor.prepare(
                4,
                mode=TRAINING,
                hyper=HYPER,
                seed=0,
                step=1 + 4 * done,
                losses=np.zeros(4),
                norms=np.zeros(4),
            )
            assert b.executor.run(alone=alone) == (4, 0)
        bits.add(b.parameters.tobytes())
    assert len(bits) == 1
