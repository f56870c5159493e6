"""Which backend serves, on which instruction set, with how many threads."""

from __future__ import annotations

import joblib

from .kernels import BackendUnavailableError, get_backend
from .kernels.registry import BACKENDS


def effective_n_threads(n_threads):
    """Threads a kernel call uses: `n_threads`, or every core that this process may use (None).

    Affinity masks and cgroup limits count; results never depend on the answer.
    """
    return int(joblib.cpu_count() if n_threads is None else n_threads)


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
        except BackendUnavailableError as error:
            row.update(available=False, threads=0, reason=str(error))
        report[name] = row
        mark = "*" if row["default"] else " "
        detail = f"isa={row['isa'] or '-'} threads={row['threads']}" if row["available"] else row["reason"]
        print(f"{mark} {name:6s} {detail}", file=file)
    return report
