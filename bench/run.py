"""`python -m bench.run`: kernels under pytest-benchmark, whole training steps against PyTorch, the
report.

Writes bench/results/NAME.json (everything), docs/benchmarks.md and docs/img/bench.png.
Without MNIST it says why it measures nothing and exits with status 2.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from . import machine, report
from .contenders import BACKENDS, BASELINES, FAST_SUFFIX, FAST_TOL
from .data import DatasetUnavailableError, training_batches
from .interleave import compare
from .settings import BATCH_SIZE, CONTINUAL, GRADIENT, LAYERED

ROOT = Path(__file__).resolve().parent.parent
SETTINGS = {**LAYERED, **CONTINUAL, **GRADIENT}
ASYNC_SETTINGS = ("P-1h", "P-2h", "P-3h", "EB-1h", "EB-2h")


def parse(arguments=None):
    parser = argparse.ArgumentParser(
        prog="python -m bench.run", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "--quick", action="store_true", help="3 short rounds, no kernels, no page, no plot"
    )
    parser.add_argument(
        "--only", action="append", choices=sorted(SETTINGS), help="settings to time (repeatable)"
    )
    parser.add_argument(
        "--threads", type=int, action="append", help="thread counts (repeatable; default 1 and 2)"
    )
    parser.add_argument(
        "--contenders", nargs="+", help="names, e.g. c numba torch-hoisted (default: all)"
    )
    parser.add_argument("--rounds", type=int, help="interleaved rounds (default 9; 3 with --quick)")
    parser.add_argument(
        "--seconds", type=float, help="length of one turn (default 0.3; 0.1 with --quick)"
    )
    parser.add_argument(
        "--tol", type=float, default=FAST_TOL, help="tolerance of the -async contenders"
    )
    parser.add_argument(
        "--name", help="name of the result files in bench/results (default: latest, or quick)"
    )
    parser.add_argument("--no-kernels", action="store_true", help="skip pytest-benchmark")
    parser.add_argument(
        "--no-estimator", action="store_true", help="skip predict rate and memory of a fit"
    )
    parser.add_argument(
        "--no-page", action="store_true", help="leave docs/benchmarks.md and the plot alone"
    )
    return parser.parse_args(arguments)


def contender_names(setting):
    names = list(BACKENDS) + list(BASELINES)
    if setting.name in ASYNC_SETTINGS:
        names += [f"c{FAST_SUFFIX}", f"numba{FAST_SUFFIX}"]
    return names


def kernel_benchmarks():
    """Run every bench/bench_*.py under pytest-benchmark; its JSON, or the reason why there is none."""
    files = sorted(map(str, (ROOT / "bench").glob("bench_*.py")))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernels.json"
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            f"--benchmark-json={path}",
            "--benchmark-warmup=on",
            "--benchmark-max-time=0.5",
            "--benchmark-columns=median,min,rounds",
            *files,
        ]
        status = subprocess.run(command, cwd=ROOT).returncode
        if not path.exists() or path.stat().st_size == 0:
            return {"status": status, "reason": f"pytest ended with status {status}"}
        full = json.loads(path.read_text())
    rows = []
    for bench in full["benchmarks"]:
        numbers = {k: bench["stats"][k] for k in ("median", "min", "max", "rounds")}
        rows.append(
            {
                "name": bench["name"],
                "file": bench["fullname"].partition("::")[0],
                **numbers,
                "extra": bench["extra_info"],
            }
        )
    return {"status": status, "rows": rows}


def main(arguments=None):
    options = parse(arguments)
    rounds = options.rounds or (3 if options.quick else 9)
    seconds = options.seconds or (0.1 if options.quick else 0.3)
    threads = options.threads or [n for n in (1, 2) if n <= (os.cpu_count() or 1)]
    try:
        batches = training_batches(500, BATCH_SIZE)
    except DatasetUnavailableError as reason:
        print(f"bench: nothing measured: {reason}", file=sys.stderr)
        return 2
    started = time.strftime("%Y-%m-%d %H:%M:%S")
    record = {
        "started": started,
        "batch_size": BATCH_SIZE,
        "rounds": rounds,
        "seconds_per_turn": seconds,
        "machine": machine.describe(),
    }
    print("sgemm yardstick ...", flush=True)
    record["sgemm"] = machine.sgemm_table(threads)
    print(
        "  " + ", ".join(f"{n} thr {r['best']:.0f} GFLOP/s" for n, r in record["sgemm"].items()),
        flush=True,
    )
    record["training"] = []
    for name in options.only or SETTINGS:
        setting = SETTINGS[name]
        names = options.contenders or contender_names(setting)
        record["training"].append(
            compare(setting, names, threads, batches, rounds, seconds, options.tol)
        )
        record["sgemm"] = machine.sgemm_table(threads, record["sgemm"])
    if not (options.no_estimator or options.quick):
        from .estimator_runs import measure

        record["estimator"] = measure()
    if not (options.no_kernels or options.quick):
        record["kernels"] = kernel_benchmarks()
    record["load_average"] = [record["machine"]["load_average"], machine.describe()["load_average"]]
    write(record, options)
    failed = record.get("kernels", {}).get("status", 0)
    wrong = [
        f"{c['setting']}/{e['name']}"
        for c in record["training"]
        for e in c["entries"]
        if e["same_trajectory"] is False
    ]
    if wrong:
        print(f"bench: NOT the same trajectory to 1e-5: {', '.join(wrong)}", file=sys.stderr)
    return 1 if wrong or failed else 0


def write(record, options):
    folder = ROOT / "bench" / "results"
    name = options.name or ("quick" if options.quick else "latest")
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
    print(f"\n{report.section(record)}\nwritten: bench/results/{name}.json")
    if options.quick or options.no_page or options.only:
        return
    report.plot(record, ROOT / "docs" / "img" / "bench.png")
    report.write_page()
    print("written: docs/benchmarks.md, docs/img/bench.png")


if __name__ == "__main__":
    sys.exit(main())
