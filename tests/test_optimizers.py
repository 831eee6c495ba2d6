import dataclasses
import inspect
import math

import pytest

from gradcore import kernels
from gradcore.optimizers import REGISTRY, SGD, Adagrad, Adam, AdamW, Lion, RMSprop, resolve

every_optimizer = pytest.mark.parametrize("optimizer", REGISTRY.values(), ids=REGISTRY.keys())


@every_optimizer
def test_an_optimizer_is_a_frozen_set_of_numbers(optimizer):
    made = optimizer()
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.lr = 1
    assert dataclasses.replace(made, lr=0.5).lr == 0.5
    assert eval(repr(made), {c.__name__: c for c in REGISTRY.values()}) == made
    assert hash(made) == hash(optimizer())
    fields = [f.name for f in dataclasses.fields(made)]
    assert [*inspect.signature(optimizer).parameters] == [*fields, "learning_rate"]


def test_numbers_are_those_of_pytorch_but_for_the_rate_of_sgd():
    assert SGD() == SGD(lr=0.01, momentum=0.0, nesterov=False, weight_decay=0.0, l1=0.0)
    assert Adam() == Adam(lr=0.001, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, l1=0.0)
    assert AdamW() == AdamW(lr=0.001, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01, l1=0.0)
    assert RMSprop() == RMSprop(lr=0.01, alpha=0.99, eps=1e-8, momentum=0.0, weight_decay=0.0, l1=0.0)
    assert Adagrad() == Adagrad(lr=0.01, lr_decay=0.0, eps=1e-10, weight_decay=0.0, l1=0.0)
    assert Lion() == Lion(lr=1e-4, betas=(0.9, 0.99), weight_decay=0.0, l1=0.0)


@every_optimizer
def test_the_rate_has_two_names(optimizer):
    assert optimizer(learning_rate=0.2) == optimizer(0.2) == optimizer(lr=0.2)
    assert optimizer(0.2).learning_rate == 0.2
    with pytest.raises(ValueError, match="two names"):
        optimizer(lr=0.1, learning_rate=0.1)


@every_optimizer
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, -1e-3])
def test_a_hyper_parameter_that_cannot_be_is_named(optimizer, bad):
    for name in {"lr", "momentum", "weight_decay", "l1", "eps"} & set(
        inspect.signature(optimizer).parameters
    ):
        with pytest.raises(ValueError, match=name):
            optimizer(**{name: bad})


@pytest.mark.parametrize("optimizer", [Adam, AdamW, Lion])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -0.1, 1])
def test_each_beta_is_named(optimizer, bad):
    for betas, which in (((bad, 0.9), 0), ((0.9, bad), 1)):
        with pytest.raises(ValueError, match=rf"betas\[{which}\]"):
            optimizer(betas=betas)


def test_the_ends_of_the_intervals():
    assert SGD(0).lr == 0
    assert Adam(betas=[0, 0]).betas == (0.0, 0.0)
    for wrong in ({"betas": (0.9, 1)}, {"betas": (1.0, 0.9)}, {"betas": (0.9,)}, {"betas": 0.9}, {"eps": 0}):
        with pytest.raises(ValueError, match=r"betas|eps"):
            Adam(**wrong)
    with pytest.raises(ValueError, match="momentum must be at least 0 and less than 1"):
        SGD(momentum=1)
    with pytest.raises(ValueError, match="nesterov=True needs a momentum"):
        SGD(nesterov=True)
    for wrong in ({"lr": "0.1"}, {"momentum": True}, {"nesterov": 1}):
        with pytest.raises(TypeError):
            SGD(**wrong)


def test_what_the_kernels_are_told():
    code = kernels.OPTIMIZER_CODES
    assert SGD(0.1, 0.9, True, 0.01, 0.02).hyper() == {
        "optimizer": code["sgd"], "lr": 0.1, "momentum": 0.9, "nesterov": 1.0, "weight_decay": 0.01, "l1": 0.02,
        "exempt": 0,
    }  # fmt: skip
    adam = {"lr": 0.001, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "exempt": 0}
    assert Adam().hyper() == {"optimizer": code["adam"], "weight_decay": 0.0, "l1": 0.0, **adam}
    assert Lion(exclude=("norm", "bias")).hyper()["exempt"] == sum(kernels.EXEMPT.values())
    assert AdamW(l1=0.1).hyper() == {"optimizer": code["adamw"], "weight_decay": 0.01, "l1": 0.1, **adam}
    assert set(REGISTRY) == set(code)


def test_arrays_per_parameter():
    assert [o.n_slots for o in (SGD(), SGD(momentum=0.9), Adam(), AdamW())] == [0, 1, 2, 2]
    assert [o.n_slots for o in (RMSprop(), RMSprop(momentum=0.9), Adagrad(), Lion())] == [1, 2, 1, 1]
    assert all(len(kind.slots) >= kind().n_slots for kind in REGISTRY.values())


@every_optimizer
def test_what_is_left_alone_is_named(optimizer):
    assert optimizer(exclude="bias").exclude == ("bias",)
    assert optimizer(exclude=["norm", "bias"]) == optimizer(exclude=("bias", "norm"))
    with pytest.raises(ValueError, match="bias"):
        optimizer(exclude=("biases",))


@pytest.mark.parametrize(
    ("spec", "optimizer"),
    [
        ("adam", Adam()),
        ("Adam", Adam()),
        ("adam(0.003)", Adam(0.003)),
        ("sgd(0.1, momentum=0.9)", SGD(0.1, 0.9)),
        ("sgd(learning_rate=0.1)", SGD(0.1)),
        ("adamw(betas=(0.8, 0.9), weight_decay=0.1)", AdamW(betas=(0.8, 0.9), weight_decay=0.1)),
        (SGD(3), SGD(3)),
    ],
)
def test_resolving_a_spec(spec, optimizer):
    assert resolve(spec) == optimizer
    assert type(resolve(spec)) is type(optimizer)


@pytest.mark.parametrize(
    ("spec", "match"),
    [
        ("adm", "did you mean 'adam'"),
        ("sgd(beta=1)", "sgd takes"),
        ("sgd(lr=-1)", "lr must be at least 0"),
        ("adam(", "cannot read"),
    ],
)
def test_a_spec_that_cannot_be(spec, match):
    with pytest.raises(ValueError, match=match):
        resolve(spec)


@pytest.mark.parametrize("thing", [None, 0.1, Adam, {"lr": 1}])
def test_only_names_and_optimizers(thing):
    with pytest.raises(TypeError, match="expected a name"):
        resolve(thing)
