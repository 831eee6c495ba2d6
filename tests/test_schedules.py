import dataclasses
import inspect
import math

import numpy as np
import pytest

from gradcore.schedules import (
    REGISTRY,
    Constant,
    Cosine,
    Exponential,
    Linear,
    OneCycle,
    Step,
    Warmup,
    resolve,
)

TOTAL = 40
MANY = [
    Constant(), Warmup(), Warmup(7), Warmup(0), Step(), Step(7, 0.5), Exponential(), Exponential(0.9, 1),
    Linear(), Linear(5, 0.1), Cosine(), Cosine(0.05), Cosine(3, 0.2), OneCycle(), OneCycle(12, 10, 100),
]  # fmt: skip

every_schedule = pytest.mark.parametrize("schedule", MANY, ids=repr)


@every_schedule
def test_a_schedule_is_a_frozen_set_of_numbers(schedule):
    fields = [f.name for f in dataclasses.fields(schedule)]
    assert [*inspect.signature(type(schedule)).parameters] == fields
    assert eval(repr(schedule), {c.__name__: c for c in REGISTRY.values()}) == schedule
    assert hash(schedule) == hash(dataclasses.replace(schedule))
    for name in fields:
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(schedule, name, 1)


def test_every_schedule_is_tried():
    assert {type(s) for s in MANY} == set(REGISTRY.values())


@every_schedule
def test_pieces_make_the_whole(schedule):
    whole = schedule.factors(1, TOTAL, TOTAL)
    pieces = [schedule.factors(first, count, TOTAL) for first, count in ((1, 1), (2, 0), (2, 18), (20, 21))]
    assert whole.dtype == np.float64
    assert np.concatenate(pieces).tobytes() == whole.tobytes()


@every_schedule
@pytest.mark.parametrize("total", [1, 2, 3, 1000])
def test_factors_are_never_negative_nor_above_one(schedule, total):
    factors = schedule.factors(1, total, total)
    assert factors.shape == (total,)
    assert ((factors >= 0) & (factors <= 1)).all()
    assert factors.any()


@every_schedule
def test_after_the_last_step_nothing_changes(schedule):
    after = schedule.factors(TOTAL, 4, TOTAL)
    assert (after == after[0]).all()


@pytest.mark.parametrize(
    ("share", "steps"),
    [
        (Warmup(0.1), Warmup(4)),
        (Step(0.25), Step(10)),
        (Exponential(0.5, 0.25), Exponential(0.5, 10)),
        (Linear(0.1), Linear(4)),
        (Cosine(0.1), Cosine(4)),
        (OneCycle(0.3), OneCycle(12)),
    ],
)
def test_a_share_is_that_many_steps(share, steps):
    np.testing.assert_allclose(share.factors(1, TOTAL, TOTAL), steps.factors(1, TOTAL, TOTAL), rtol=1e-12)
    assert not np.allclose(share.factors(1, TOTAL, 10 * TOTAL), steps.factors(1, TOTAL, 10 * TOTAL))


@pytest.mark.parametrize("total", [3, 7, 9, 30, 300, 999])
def test_thirds_of_the_steps_are_thirds_also_after_rounding(total):
    steps = 1 + np.arange(total)
    expected = 0.1 ** ((steps - 1) * 3 // total)
    np.testing.assert_allclose(Step().factors(1, total, total), expected)


@pytest.mark.parametrize("schedule", [Warmup(8), Linear(8), Cosine(8)])
def test_the_warmup_ends_at_the_whole_rate(schedule):
    np.testing.assert_allclose(schedule.factors(1, 8, TOTAL), np.arange(1, 9) / 8)
    assert schedule.factors(9, 1, TOTAL) == 1


@pytest.mark.parametrize("schedule", [Warmup(100), Linear(100), Cosine(100)])
def test_a_warmup_longer_than_the_training_only_grows(schedule):
    np.testing.assert_allclose(schedule.factors(1, TOTAL, TOTAL), np.arange(1, TOTAL + 1) / 100)


def of_torch(make):
    """The factors that a scheduler of PyTorch puts on a rate of 1."""
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = make(torch.optim.lr_scheduler, optimizer)
    found = []
    for _ in range(TOTAL):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step() if len(found) < TOTAL else None
    return found


@pytest.mark.parametrize(
    ("schedule", "make"),
    [
        (Step(7, 0.5), lambda s, o: s.StepLR(o, 7, 0.5)),
        (Step(0.25), lambda s, o: s.StepLR(o, TOTAL // 4)),
        (Exponential(0.9, 1), lambda s, o: s.ExponentialLR(o, 0.9)),
        (Cosine(), lambda s, o: s.CosineAnnealingLR(o, TOTAL)),
        (Cosine(final=0.2), lambda s, o: s.CosineAnnealingLR(o, TOTAL, eta_min=0.2)),
        (Linear(), lambda s, o: s.LinearLR(o, 1.0, 0.0, TOTAL)),
        (Linear(final=0.1), lambda s, o: s.LinearLR(o, 1.0, 0.1, TOTAL)),
        (Warmup(8), lambda s, o: s.LinearLR(o, 1 / 8, 1.0, 7)),
        (
            Cosine(8),
            lambda s, o: s.LambdaLR(
                o, lambda k: (k + 1) / 8 if k < 8 else (1 + math.cos(math.pi * (k - 8) / 32)) / 2
            ),
        ),
        (OneCycle(), lambda s, o: s.OneCycleLR(o, 1.0, TOTAL)),
        (OneCycle(0.33), lambda s, o: s.OneCycleLR(o, 1.0, TOTAL, pct_start=0.33)),
        (
            OneCycle(0.5, 10, 100),
            lambda s, o: s.OneCycleLR(o, 1.0, TOTAL, pct_start=0.5, div_factor=10, final_div_factor=100),
        ),
    ],
    ids=lambda value: repr(value) if not inspect.isfunction(value) else "",
)
def test_agreement_with_pytorch(schedule, make):
    # (PyTorch multiplies step by step: the roundings add up)
    np.testing.assert_allclose(schedule.factors(1, TOTAL, TOTAL), of_torch(make), rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize(
    ("spec", "schedule"),
    [
        ("constant", Constant()),
        ("Cosine", Cosine()),
        ("cosine(warmup=0.05)", Cosine(0.05)),
        ("warmup(0.1)", Warmup(0.1)),
        ("step(0.5, gamma=0.2)", Step(0.5, 0.2)),
        ("exponential(0.9, step_size=1)", Exponential(0.9, 1)),
        ("linear(warmup=10, final=0.1)", Linear(10, 0.1)),
        ("one_cycle(0.25)", OneCycle(0.25)),
        (Cosine(3), Cosine(3)),
    ],
)
def test_resolving_a_spec(spec, schedule):
    assert resolve(spec) == schedule
    assert type(resolve(spec)) is type(schedule)


@pytest.mark.parametrize(
    ("spec", "match"),
    [
        ("cosin", "did you mean 'cosine'"),
        ("cosine(T_max=3)", "cosine takes"),
        (
            "cosine(warmup=1.5)",
            "warmup must be a share, at least 0 and at most 1.0, or an int of steps, got 1.5",
        ),
        ("warmup(-1)", "warmup must be at least 0"),
        ("step(0)", "step_size must be at least 1"),
        ("step(0.0)", "step_size must be a share, greater than 0"),
        ("step(gamma=0)", "gamma must be greater than 0"),
        ("exponential(-0.5)", "gamma must be greater than 0"),
        ("linear(final=1)", "final must be at least 0 and less than 1"),
        ("one_cycle(div_factor=0.5)", "div_factor must be at least 1"),
        ("one_cycle(final_div_factor=1e999)", "final_div_factor must be finite"),
    ],
)
def test_a_spec_that_cannot_be(spec, match):
    with pytest.raises(ValueError, match=match):
        resolve(spec)


@pytest.mark.parametrize("wrong", [None, 0.1, Cosine, {"warmup": 1}])
def test_only_names_and_schedules(wrong):
    with pytest.raises(TypeError, match="expected a name"):
        resolve(wrong)


@pytest.mark.parametrize("wrong", [True, "0.1", None, [1]])
def test_a_length_that_is_no_number(wrong):
    for schedule in (Warmup, Step, Linear, Cosine, OneCycle):
        with pytest.raises(TypeError, match=r"warmup|step_size"):
            schedule(wrong)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ((0, 1, 5), "first_step"),
        ((1, -1, 5), "count"),
        ((1, 1, 0), "total_steps"),
        ((1.5, 1, 5), "first_step"),
    ],
)
def test_steps_that_cannot_be(arguments, name):
    with pytest.raises((ValueError, TypeError), match=name):
        Cosine().factors(*arguments)


@pytest.mark.parametrize(
    "spec", [*REGISTRY, "warmup(5)", "step(3)", "exponential(0.5, 7)", "linear(4)", "cosine(4)"]
)
def test_whether_the_number_of_steps_is_needed_is_told(spec):
    schedule = resolve(spec)
    factors = [schedule.factors(1, 60, total_steps=total) for total in (60, 100, 1000)]
    assert schedule.needs_total == (not np.array_equal(factors[0], factors[2]))
    assert schedule.needs_total == (not np.array_equal(factors[1], factors[2]))
