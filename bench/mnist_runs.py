"""Time to accuracy: a paper's MNIST experiment with our estimator, over seeds: test error and wall
time.

`python -m bench.mnist_runs P-1h --seeds 3` trains for the paper's epochs; every seed appends one
JSON line to bench/results/mnist_runs.jsonl, so long experiments can be collected run by run.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

from . import machine
from .data import DatasetUnavailableError, load_mnist
from .estimator_runs import estimator
from .settings import LAYERED

RESULTS = Path(__file__).resolve().parent / "results" / "mnist_runs.jsonl"
TARGETS = {"P-1h": 2.1, "P-2h": 2.0, "P-3h": 2.0}  # test error, %


def parse(arguments=None):
    parser = argparse.ArgumentParser(
        prog="python -m bench.mnist_runs", description=__doc__.splitlines()[0]
    )
    parser.add_argument("settings", nargs="+", choices=sorted(LAYERED), help="settings to train")
    parser.add_argument(
        "--seeds", type=int, default=3, help="number of seeds, 0 .. n-1 (default 3)"
    )
    parser.add_argument("--epochs", type=int, help="epochs (default: the paper's)")
    parser.add_argument("--backend", default="auto", help="auto, c, numba or numpy")
    parser.add_argument("--threads", type=int, help="threads (default: the estimator's)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a further estimator parameter, VALUE as JSON or text (repeatable), e.g. tol_free=1e-3",
    )
    parser.add_argument("--output", type=Path, default=RESULTS, help="file to append JSON lines to")
    return parser.parse_args(arguments)


def parameters(pairs):
    """{"name": value} from NAME=VALUE strings; a value that is not JSON is text."""
    values = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise SystemExit(f"--set {pair!r}: expected NAME=VALUE")
        try:
            values[name] = json.loads(text)
        except json.JSONDecodeError:
            values[name] = text
    return values


def run(setting, seed, data, epochs, extra):
    """Train once; a record with test error (%), training error, wall time of fit, and its rate."""
    x_train, y_train, x_test, y_test = data
    model = estimator(setting, max_iter=epochs, random_state=seed, **extra)
    start = time.perf_counter()
    model.fit(x_train, y_train)
    seconds = time.perf_counter() - start
    return {
        "setting": setting.name,
        "preset": setting.preset,
        "seed": seed,
        "epochs": int(model.n_iter_),
        "test_error": 100.0 * (1.0 - model.score(x_test, y_test)),
        "train_error": 100.0 * (1.0 - model.score(x_train, y_train)),
        "seconds": seconds,
        "samples_per_second": model.n_iter_ * len(x_train) / seconds,
        "parameters": {k: v for k, v in extra.items() if v is not None},
    }


def main(arguments=None):
    options = parse(arguments)
    try:
        x_train, x_test, y_train, y_test = load_mnist(download=True)
    except DatasetUnavailableError as reason:
        print(f"mnist_runs: nothing trained: {reason}", file=sys.stderr)
        return 2
    data = x_train, y_train, x_test, y_test
    extra = parameters(options.set)
    extra["backend"] = options.backend
    if options.threads is not None:
        extra["n_threads"] = options.threads
    where = machine.describe()
    options.output.parent.mkdir(parents=True, exist_ok=True)
    for name in options.settings:
        setting, records = LAYERED[name], []
        for seed in range(options.seeds):
            record = run(setting, seed, data, options.epochs or setting.epochs, extra)
            records.append(record)
            with open(options.output, "a", encoding="utf-8") as lines:
                lines.write(json.dumps({**record, "machine": where}) + "\n")
            print(
                f"{name} seed {seed}: test error {record['test_error']:.2f} %, "
                f"train {record['train_error']:.2f} %, "
                f"{record['epochs']} epochs in {record['seconds']:.1f} s "
                f"({record['samples_per_second']:,.0f} samples/s)",
                flush=True,
            )
        print(summary(name, records), flush=True)
    return 0


def summary(name, records):
    errors = [r["test_error"] for r in records]
    spread = statistics.stdev(errors) if len(errors) > 1 else 0.0
    target = f" (target {TARGETS[name]} %)" if name in TARGETS else ""
    return (
        f"{name}: test error {statistics.mean(errors):.2f} +- {spread:.2f} % over {len(errors)} seed(s)"
        f"{target}, "
        f"median wall time {statistics.median(r['seconds'] for r in records):.1f} s"
    )


if __name__ == "__main__":
    sys.exit(main())
