"""What the numbers were measured on: the processor, the libraries, and its own float32
matrix-multiply rate.

The yardstick is the best that NumPy or PyTorch reaches on a large square float32 product, with 1
and with 2 threads; each is measured in a process of its own, without the OPENBLAS_CORETYPE /
OPENBLAS_L2_SIZE overrides that some machines set (they choose an older, slower kernel).
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import textwrap
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SIZE = 1024  # a product takes some 10 ms: short enough to fall between other work on a busy machine
OVERRIDES = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
PACKAGES = ("eqprop-fast", "numpy", "scipy", "scikit-learn", "numba", "torch", "jax")


def sgemm_rate(library, repeats=60):
    """GFLOP/s of the best of `repeats` float32 products of two SIZE x SIZE matrices, in this
    process.
    """
    import numpy as np

    a = np.random.default_rng(0).random((SIZE, SIZE), dtype=np.float32)
    if library == "torch":
        import torch

        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
        tensor, out = torch.from_numpy(a), torch.empty(SIZE, SIZE)

        def product():
            torch.mm(tensor, tensor, out=out)
    else:
        out = np.empty_like(a)

        def product():
            np.matmul(a, a, out=out)

    product()
    best = min(_timed(product) for _ in range(repeats))
    return 2.0 * SIZE**3 / best / 1e9


def _timed(call):
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def sgemm_table(thread_counts=(1, 2), known=None):
    """{n_threads: {"numpy": GFLOP/s, "torch": GFLOP/s or None, "best": GFLOP/s}}, each in its own
    process.

    With `known`, an earlier table, every entry is the better of the two: measured again during a
    run, the yardstick is not what one busy moment allowed.
    """
    table = {}
    for n_threads in thread_counts:
        before = (known or {}).get(str(n_threads), {})
        rates = {}
        for library in ("numpy", "torch"):
            measured = [
                r
                for r in (_rate_of_child(library, n_threads), before.get(library))
                if r is not None
            ]
            rates[library] = max(measured, default=None)
        rates["best"] = max(rate for rate in rates.values() if rate is not None)
        table[str(n_threads)] = rates
    return table


def _rate_of_child(library, n_threads):
    """`sgemm_rate` in a fresh process; None where PyTorch is missing."""
    environment = {k: v for k, v in os.environ.items() if k not in OVERRIDES}
    environment.update(dict.fromkeys(THREAD_VARIABLES, str(n_threads)))
    done = subprocess.run(
        [sys.executable, "-m", "bench.machine", library],
        env=environment,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    if done.returncode and "No module named 'torch'" in done.stderr:
        return None
    if done.returncode:
        raise RuntimeError(f"sgemm measurement with {library} failed:\n{done.stderr.strip()}")
    return json.loads(done.stdout)


def processor():
    """Model name of the processor, its instruction sets that matter here, and its core count."""
    name, flags = platform.processor() or platform.machine(), set()
    try:
        with open("/proc/cpuinfo") as lines:
            for line in lines:
                key, _, value = line.partition(":")
                if key.strip() == "model name":
                    name = value.strip()
                elif key.strip() in ("flags", "Features"):
                    flags = set(value.split())
    except OSError:
        pass  # not Linux: the platform module's name serves
    wanted = [
        f for f in ("avx2", "fma", "avx512f", "avx512_bf16", "amx_tile", "asimd") if f in flags
    ]
    return {
        "name": name,
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "features": wanted,
    }


def describe():
    """The machine and the versions, for the head of a report."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    return {
        "processor": processor(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": versions,
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }


def in_words(about):
    """One line of what `describe` returned."""
    cpu = about["processor"]
    versions = ", ".join(f"{k} {v}" for k, v in about["versions"].items() if v)
    return (
        f"{cpu['name']}, {cpu['cores']} cores ({', '.join(cpu['features'])}), {about['system']}, "
        f"Python {about['python']}; {versions}"
    )


def paragraph(text):
    """Text in lines of the width that documents have."""
    return "\n".join(textwrap.wrap(text, 118, break_on_hyphens=False))


if __name__ == "__main__":
    print(json.dumps(sgemm_rate(sys.argv[1])))
