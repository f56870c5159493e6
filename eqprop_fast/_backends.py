"""Which backend serves, on which instruction set, with how many threads."""

from __future__ import annotations

import os

import joblib

from .kernels import BackendUnavailableError, get_backend
from .kernels.registry import BACKENDS


def effective_n_threads(n_threads):
    """Threads a kernel call uses: `n_threads`, or every core that this process may use (None).

    Affinity masks and cgroup limits count, and so does OMP_NUM_THREADS: joblib sets it in its
    workers, so that several fits at once (``n_jobs`` of scikit-learn) share the cores. Whatever is
    asked, a kernel call starts at most one thread a core. Results never depend on it.
    """
    if n_threads is not None:
        return int(n_threads)
    # OpenMP's list: outermost first
    allowed = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    cores = joblib.cpu_count()
    return min(cores, int(allowed)) if allowed.isdecimal() and int(allowed) > 0 else cores


def show_backends(file=None):
    """Print, and return, what each backend offers here. Loads all of them, Numba included.

    Parameters
    ----------
    file : file-like or None
        Where to print; None: standard output.

    Returns
    -------
    dict
        ``{name: {"available", "isa", "threads", "default", "reason"}}``, best first.
    """
    report = {}
    try:
        default = get_backend("auto").name
    except (BackendUnavailableError, ValueError) as error:
        default = None
        print(f"auto: {error}", file=file)
    for name in BACKENDS:
        row = {"available": True, "isa": "", "threads": 1, "default": name == default, "reason": ""}
        try:
            row["isa"] = get_backend(name).isa
            row["threads"] = 1 if name == "numpy" else effective_n_threads(None)
        except (BackendUnavailableError, ValueError) as error:  # ValueError: EQPROP_ISA
            row.update(available=False, threads=0, reason=str(error))
        report[name] = row
        mark = "*" if row["default"] else " "
        detail = (
            f"isa={row['isa'] or '-'} threads={row['threads']}"
            if row["available"]
            else row["reason"]
        )
        print(f"{mark} {name:6s} {detail}", file=file)
    return report
