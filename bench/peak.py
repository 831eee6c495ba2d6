"""What this CPU can do at best: fused multiply-adds on registers alone, from a C loop compiled on the spot.

Shares of it compare figures of different machines, and of one machine at different hours, better than GFLOP/s do.
"""

import ctypes
import subprocess
import tempfile
import time
from functools import cache
from pathlib import Path

LOOPS = 200_000
ACCUMULATORS = 12  # independent chains: enough to fill two pipes of latency 4
SOURCE = f"""
typedef REAL vec __attribute__((vector_size(BYTES)));
double run(long loops) {{
    vec sum[{ACCUMULATORS}], a = (vec){{0}} + (REAL)0.999, b = (vec){{0}} + (REAL)1e-3;
#pragma GCC unroll {ACCUMULATORS}
    for (int i = 0; i < {ACCUMULATORS}; i++) sum[i] = b * (REAL)i;
    for (long k = 0; k < loops; k++) {{
#pragma GCC unroll {ACCUMULATORS}
        for (int i = 0; i < {ACCUMULATORS}; i++) sum[i] = sum[i] * a + b;
    }}
#pragma GCC unroll {ACCUMULATORS}
    for (int i = 1; i < {ACCUMULATORS}; i++) sum[0] += sum[i];
    return (double)sum[0][0];
}}
"""


@cache
def _loop(dtype: str, vector_bytes: int) -> tuple[ctypes.CDLL, int]:
    folder = Path(tempfile.mkdtemp())
    real = {"float32": "float", "float64": "double"}[dtype]
    (folder / "peak.c").write_text(SOURCE)
    flags = ["-O2", "-march=native", "-ffp-contract=fast", f"-DREAL={real}", f"-DBYTES={vector_bytes}"]
    subprocess.run(
        ["cc", "-shared", "-fPIC", *flags, "-o", folder / "peak.so", folder / "peak.c"], check=True
    )
    library = ctypes.CDLL(str(folder / "peak.so"))
    library.run.restype, library.run.argtypes = ctypes.c_double, [ctypes.c_long]
    return library, vector_bytes // (4 if dtype == "float32" else 8)


def gflops(dtype: str, vector_bytes: int, rounds: int = 5) -> float:
    """The most of some rounds, of one thread."""
    library, lanes = _loop(dtype, vector_bytes)
    best = 0.0
    for _ in range(rounds):
        begin = time.perf_counter()
        library.run(LOOPS)
        best = max(best, 2 * LOOPS * ACCUMULATORS * lanes / (time.perf_counter() - begin) / 1e9)
    return best
