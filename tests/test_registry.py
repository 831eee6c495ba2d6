"""A new part is one entry in one place; this file names what was forgotten around it.

The enums of kernels/types.pxd are the lists; everything else must follow them.
"""

import inspect
from pathlib import Path

import array_functions
import peers
import pytest
import workloads

import gradcore
from gradcore import activations, kernels, losses, optimizers, schedules
from gradcore.kernels import reference

TESTS = Path(__file__).resolve().parent
TESTED = "\n".join(
    path.read_text(encoding="utf-8") for path in TESTS.rglob("test_*.py") if path.name != Path(__file__).name
)
ELEMENTWISE = set(kernels.ACTIVATION_CODES) - {"softmax"}
LOSSES = set(kernels.LOSS_CODES) - {"no_loss"}
# What the door offers besides kernels: the layout and the build have no twin.
NO_KERNELS = {"aligned_zeros", "info", "tile", "tile_width", "untile", "untile_slot"}
KERNELS = sorted(
    name
    for name, value in vars(kernels).items()
    if name.islower() and callable(value) and not name.startswith("_") and name not in NO_KERNELS
)


def missing(wanted, found):
    return sorted(set(wanted) - set(found))


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ("gradcore/activations.py, REGISTRY", set(activations.REGISTRY)),
        ("gradcore/activations.py, a function", set(dir(activations))),
        (
            "gradcore/activations.py, a function …_backward",
            {n.removesuffix("_backward") for n in dir(activations)},
        ),
        ("gradcore/kernels/reference.py, ACTIVATIONS", set(reference.ACTIVATIONS)),
        ("bench/array_functions.py, NUMPY_ACTIVATIONS", set(array_functions.NUMPY_ACTIVATIONS)),
    ],
)
def test_every_activation_is_in(where, found):
    assert not missing(ELEMENTWISE, found), f"add it in {where}"


def test_every_loss_is_registered_with_a_function_and_a_twin():
    kernel_names = {info.kernel_name for info in losses.REGISTRY.values()}
    assert not missing(LOSSES, kernel_names), "add it in gradcore/losses.py, REGISTRY"
    assert not missing(losses.REGISTRY, dir(losses)), "add the function in gradcore/losses.py"
    assert not missing(LOSSES, reference.LOSSES), "add it in gradcore/kernels/reference.py, LOSSES"


def one_step(optimizer):
    """The first weights of a small network after one step."""
    net = gradcore.mlp([3, 4, 2], dtype="float64", seed=0)
    with net.stepper(batch_size=2, loss="cross_entropy", optimizer=optimizer, threads=1) as step:
        step([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]], [0, 1])
    return net.get_parameters()["0.weight"]


@pytest.mark.parametrize("name", kernels.OPTIMIZER_CODES)
def test_every_optimizer_is_registered_and_the_twin_knows_it(name, monkeypatch):
    assert name in optimizers.REGISTRY, "add it in gradcore/optimizers.py, REGISTRY"
    compiled = one_step(name)
    monkeypatch.setattr(gradcore.Network, "executor_class", reference.Executor)
    assert abs(compiled - one_step(name)).max() < 1e-12


def test_every_schedule_is_registered_and_says_how_it_looks():
    made = {value for value in vars(schedules).values() if isinstance(value, type)
            and issubclass(value, schedules.Schedule) and value is not schedules.Schedule}  # fmt: skip
    assert made == set(schedules.REGISTRY.values()), "add it in gradcore/schedules.py, REGISTRY"
    for schedule in made:
        assert ">>>" in (schedule.__doc__ or ""), f"{schedule.__name__} has no example"


def test_every_kind_of_op_is_made_by_a_layer_and_known_to_the_twin():
    layers = [
        gradcore.Dense(4),
        "relu",
        gradcore.BatchNorm(),
        gradcore.LayerNorm(),
        gradcore.Dropout(0.5),
        gradcore.Residual([gradcore.Dense(4)]),
    ]
    made = set(gradcore.Network(layers, input_size=4).plan.table["kind"].tolist())
    assert not missing(kernels.OP_KINDS.values(), made), "no layer of gradcore/layers.py compiles to it"
    source = inspect.getsource(reference.Executor)
    assert not [kind for kind in kernels.OP_KINDS if f'"{kind}"' not in source], (
        "gradcore/kernels/reference.py"
    )


@pytest.mark.parametrize("name", KERNELS)
def test_every_kernel_of_the_door_has_a_twin_and_a_test(name):
    assert hasattr(reference, name), f"gradcore/kernels/reference.py lacks {name}"
    assert name in TESTED, f"no test names the kernel {name}"


@pytest.mark.parametrize(
    "name",
    sorted(ELEMENTWISE | set(kernels.OPTIMIZER_CODES) | set(losses.REGISTRY) | set(schedules.REGISTRY)),
)
def test_every_part_has_a_test(name):
    # A test that goes through a registry takes all of it along.
    whole = {"REGISTRY", "ACTIVATIONS", "ACTIVATION_CODES", "LOSS_CODES", "OPTIMIZER_CODES"}
    assert name in TESTED or any(registry in TESTED for registry in whole)


def test_the_workloads_are_raced_by_every_library():
    for case in workloads.STEPS:
        assert {"gradcore", "NumPy"} <= set(peers.step_peers(case))
