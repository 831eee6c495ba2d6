"""The public array functions: gradcore and its opponents in one group per case, timed after they agree."""

import pytest
from array_functions import CASES, check_agreement

pytestmark = pytest.mark.filterwarnings("default")  # other people's deprecations are not ours to mend


@pytest.mark.parametrize("peer", ["gradcore", "NumPy", "SciPy", "PyTorch", "JAX"])
@pytest.mark.parametrize("case", [case for case in CASES if not case.large], ids=str)
def bench_kernel(benchmark, case, peer):
    runs = case.build()
    if peer not in runs:
        pytest.skip(f"{peer} is not installed or has no such function")
    check_agreement(case, {name: run for name, run in runs.items() if name in ("gradcore", peer)})
    benchmark.group = str(case)
    benchmark(runs[peer])
