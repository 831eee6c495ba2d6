"""Whole training steps: every library in one group per workload, timed after their losses agree."""

from dataclasses import replace

import pytest
from peers import check_agreement, step_peers
from workloads import STEPS

pytestmark = pytest.mark.filterwarnings("default")  # other people's deprecations are not ours to mend
CASES = [
    *(replace(case, activation=activation) for case in STEPS for activation in ("relu", "tanh", "sigmoid")),
    *(replace(case, optimizer="adam") for case in STEPS),
]
PEERS = (
    "gradcore",
    "NumPy",
    "PyTorch fused",
    "PyTorch foreach",
    "PyTorch by hand",
    "JAX jit",
    "scikit-learn",
)


@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize("case", CASES, ids=str)
def bench_step(benchmark, case, peer):
    builders = step_peers(case)
    if peer not in builders:
        pytest.skip(f"{peer} is not installed: pip install '.[peers]'")
    build, steps = builders[peer]
    step = build()
    check_agreement(case, peer, step)
    benchmark.group = str(case)
    benchmark.extra_info["steps per call"] = steps
    benchmark(step)
