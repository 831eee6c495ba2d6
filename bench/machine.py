"""The machine a benchmark runs on: pinned before NumPy is imported, and described beside the figures."""

import importlib.metadata
import os
import platform
import sys

POOLS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "GRADCORE_THREADS",
)


def pin() -> None:
    """Hold this process, whatever pools its libraries make, on one CPU.  Call before NumPy is imported."""
    if "numpy" in sys.modules:
        raise RuntimeError("pin() comes too late: NumPy has already made its thread pool. Call it first.")
    os.environ.update(dict.fromkeys(POOLS, "1"))
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    if hasattr(os, "sched_setaffinity"):
        # The last CPU: interrupts and other people's jobs favour the first.
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def processor() -> str:
    """Name of the processor with the vector extensions that matter here."""
    if not os.path.exists("/proc/cpuinfo"):
        return platform.processor() or platform.machine()
    with open("/proc/cpuinfo") as lines:
        facts = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    flags = facts.get("flags", "").split()
    vectors = [
        name for flag, name in (("avx2", "AVX2"), ("fma", "FMA"), ("avx512f", "AVX-512")) if flag in flags
    ]
    model = facts.get("model name", platform.machine())
    if "cpu family" in facts:
        model += f" (family {facts['cpu family']}, model {facts['model']})"
    return ", ".join([model, *vectors])


def describe() -> str:
    """One paragraph that says what was measured on what."""
    import gradcore.kernels

    versions = ["Python " + platform.python_version()]
    for package in ("numpy", "torch", "jax", "scikit-learn"):
        try:
            versions.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            versions.append(f"{package} absent")
    build = gradcore.kernels.info()
    return (
        f"{processor()}, {os.cpu_count()} CPUs, {platform.system()}; one CPU used. "
        f"gradcore {gradcore.__version__} ({build['level']}, {build['compiler']}), {', '.join(versions)}."
    )
