"""What a user of the estimators sees: predict throughput, and the peak memory of a fit in its own
process.

`python -m bench.estimator_runs memory P-1h` is that process: it prints one JSON line. The peak is
the system's own high-water mark of the resident set, so nothing that was ever held is missed; where
the system can, it is set back once the data are loaded, so that what loading took is not put down
to the fit.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from .data import load_mnist
from .settings import LAYERED

MEMORY_ALLOWED = (1.5, 100.0)  # the target: below 1.5 x data set + 100 MB
PREDICT_REPEATS = 7


def estimator(setting, **parameters):
    """The estimator of a setting's paper preset, as a user would make it."""
    from eqprop_fast import EqPropClassifier

    return EqPropClassifier.from_paper(setting.preset, **parameters)


def measure(name="P-1h"):
    """Predict rate on every backend and memory of a fit; only a "reason" where estimators are
    missing.
    """
    try:
        from eqprop_fast import EqPropClassifier  # noqa: F401
    except ImportError as error:
        return {"reason": f"eqprop_fast has no EqPropClassifier yet ({error})"}
    setting = LAYERED[name]
    return {"predict": predict_rates(setting), "memory": fit_memory(setting)}


def predict_rates(setting):
    """MNIST test images classified per second on each backend, whole `predict` calls, validation
    included.
    """
    from eqprop_fast.kernels import available_backends

    x_train, x_test, y_train, _ = load_mnist(download=True)
    rows = []
    for backend in available_backends():
        model = estimator(setting, backend=backend, max_iter=1, random_state=0).fit(
            x_train[:2000], y_train[:2000]
        )
        images = x_test if backend != "numpy" else x_test[:2000]
        model.predict(images[:200])
        times = []
        for _ in range(PREDICT_REPEATS):
            start = time.perf_counter()
            model.predict(images)
            times.append(time.perf_counter() - start)
        rates = [len(images) / t for t in times]
        rows.append({"backend": backend, "rate": statistics.median(rates), "best": max(rates)})
    return rows


def fit_memory(setting):
    """Peak memory of a one-epoch fit on all of MNIST, measured in a fresh process."""
    command = [sys.executable, "-m", "bench.estimator_runs", "memory", setting.name]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=Path(__file__).resolve().parent.parent
    )
    if done.returncode:
        raise RuntimeError(f"the memory measurement failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def peak_mb():
    """High-water mark of the resident set in MiB.

    Linux hands a parent's ru_maxrss on through exec, so there the mark of this address space
    (VmHWM) is read.
    """
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().partition("VmHWM:")[2].split()[0]) / 1024.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 1024.0)


def forget_peak():
    """Let the high-water mark start again from what is held now; False where the system cannot."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _memory_child(setting):
    """In the child: peak after imports, after the data, after the fit."""
    model = estimator(setting, max_iter=1, random_state=0)
    tiny = np.random.default_rng(0).random((40, setting.layers[0]), dtype=np.float32)
    model.fit(tiny, np.arange(40) % 10)  # loads every lazily imported module
    imports = peak_mb()
    x, _, labels, _ = load_mnist(download=True)
    loaded, forgotten = peak_mb(), forget_peak()
    model = estimator(setting, max_iter=1, random_state=0)
    model.fit(x, labels)
    fitted, data = peak_mb(), x.nbytes / 2**20
    factor, extra = MEMORY_ALLOWED
    return {
        "imports_mb": imports,
        "data_mb": data,
        "loading_peak_mb": loaded,
        "peak_mb": fitted,
        "peak_includes_loading": not forgotten,
        "fit_mb": fitted - imports,
        "allowed_mb": factor * data + extra,
        "within": fitted - imports < factor * data + extra,
    }


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] != "memory":
        sys.exit("usage: python -m bench.estimator_runs memory SETTING")
    print(json.dumps(_memory_child(LAYERED[sys.argv[2]])))
