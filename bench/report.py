"""From the JSON records of runs to docs/benchmarks.md and its plot.

python -m bench.report        # writes the page anew from bench/results/*.json
"""

from __future__ import annotations

import json
import textwrap
from pathlib import Path

from .contenders import BASELINES, FAST_SUFFIX
from .machine import in_words

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "benchmarks.md"
MACHINES = {"latest": "AMD Zen 4", "xeon": "Intel Xeon"}  # records that have a table of their own
HOW = """\
Training on MNIST in samples/s: whole steps (free and nudged phase, update), medians of interleaved
rounds in one run. Every contender trains the same network on the same batches. Absolute rates depend on the
machine and on what else it does; ratios are taken within each round, against the baseline at its faster
thread count. The baselines are code of our own (`bench/baselines/`): `torch-published` computes W x
again at every step, as the papers' code does; `torch-hoisted` once a batch, as our kernels do; `jax` the
same, whole runs of batches in one compiled loop, at XLA's own threads. The first ratio says what a user of
the published code gains, the others what the kernels gain beyond that idea.

*of sgemm*: the dense count of the job's arithmetic (drive once, all steps, update) over the machine's own
float32 matrix-multiply rate, the best of NumPy and PyTorch. A code that skips zero pixels or stops
early can pass 100 %. *same path*: largest parameter difference to the float64 NumPy twin after three
batches, at most 1e-5. `-async` contenders take another path to the same fixed points
(asynchronous sweeps, stopping at a tolerance of 1e-6, over-relaxed by 1.2 for P-2h and 1.3 for P-3h)."""
COLORS = {
    "torch-published": "#b0b0b0",
    "torch-hoisted": "#6b6b6b",
    "jax": "#8e6bb0",
    "numpy": "#e0b45c",
    "numba": "#4c9f70",
    "c": "#2f6db3",
    "numba-async": "#a5d3b8",
    "c-async": "#9bc1ea",
}


def _better(entries, name):
    """The entry of `name` at its faster thread count, or None."""
    own = [e for e in entries if e["name"] == name]
    return max(own, key=lambda e: e["median"]) if own else None


def _ratio(comparison, name, baseline, n_threads):
    for ratio in comparison["ratios"]:
        if (ratio["name"], ratio["baseline"], ratio["n_threads"]) == (name, baseline, n_threads):
            return ratio["ratio"]
    return None


def _number(value, pattern="{:,.0f}"):
    return "-" if value is None else pattern.format(value)


def _names(record):
    seen = []
    for comparison in record["training"]:
        for entry in comparison["entries"]:
            if entry["name"] not in seen:
                seen.append(entry["name"])
    return [n for n in COLORS if n in seen] + [n for n in seen if n not in COLORS]


def training_table(record):
    """One row per setting and contender; ratios and share of sgemm at its faster thread count."""
    lines = [
        "| setting | code | 1 thread | 2 threads | / published | / hoisted | / jax | of sgemm | same path |",
        "|---|---|---:|---:|---:|---:|---:|---:|---|",
    ]
    for comparison in record["training"]:
        for name in _names(record):
            if _better(comparison["entries"], name) is not None:
                lines.append(_training_row(record, comparison, name))
    return "\n".join(lines)


def _training_row(record, comparison, name):
    own = {e["n_threads"]: e["median"] for e in comparison["entries"] if e["name"] == name}
    better = _better(comparison["entries"], name)
    factors = [_ratio(comparison, name, baseline, better["n_threads"]) for baseline in BASELINES]
    sgemm = record["sgemm"].get(str(better["n_threads"]), {}).get("best")
    path = "no: own path" if better["gap"] is None else "yes" if better["same_trajectory"] else "NO"
    if better["gap"] is not None:
        path += f" ({better['gap']:.0e})"
    cells = [
        comparison["setting"],
        name,
        _number(own.get(1)),
        _number(own.get(2)),
        *(_number(factor, "{:.1f}x") for factor in factors),
        _number(better["gflops"] / sgemm if sgemm else None, "{:.0%}"),
        path,
    ]
    return "| " + " | ".join(cells) + " |"


def estimator_table(record):
    """Predict rate and peak memory of a fit, where they were measured."""
    rows = record.get("estimator") or {}
    if not rows.get("predict"):
        return "Estimator runs were skipped: " + rows.get("reason", "not asked for") + "."
    lines = ["| measure | value |", "|---|---|"]
    for entry in rows["predict"]:
        lines.append(
            f"| predict, MNIST images/s, P-1h, backend {entry['backend']} | {entry['rate']:,.0f} |"
        )
    memory = rows.get("memory")
    if memory:
        lines.append(
            f"| peak memory of a P-1h fit, above the imports | {memory['fit_mb']:.0f} MB = the "
            f"{memory['data_mb']:.0f} MB data set + {memory['fit_mb'] - memory['data_mb']:.0f} MB |"
        )
    return "\n".join(lines)


def section(record):
    """Machine, training table and estimator runs of one record."""
    parts = [_machine(record), training_table(record)]
    busy = max(record["load_average"])
    if (
        busy > record["machine"]["processor"]["cores"] + 1.0
    ):  # the benchmark itself makes up for one or two
        parts.insert(
            1,
            f"**The machine was busy with other work (load average {busy:.1f}): rates are too low.**",
        )
    absent = {}
    for comparison in record["training"]:
        for name, why in comparison["absent"].items():
            absent.setdefault((name, why), []).append(comparison["setting"])
    if absent:
        reasons = [f"{name} at {', '.join(where)} ({why})" for (name, why), where in absent.items()]
        parts.append(_prose("Not run: " + "; ".join(reasons) + "."))
    return "\n\n".join([*parts, estimator_table(record)]) + "\n"


def page(records):
    """docs/benchmarks.md: how to read it, then a section for each record of `MACHINES` that there
    is.
    """
    parts = [
        "# Benchmarks",
        "Written by `make bench` (`python -m bench.report` writes it anew from bench/results).",
        "\n".join(_prose(part) + "\n" for part in HOW.split("\n\n")).rstrip(),
        "![Training rates by setting and backend](img/bench.png)",
        "Deep resistive networks against PyTorch: [drn](../bench/results/drn.md); circuits against ngspice "
        "and SciPy:\n[nodal](../bench/results/nodal.md).",
    ]
    for name, record in records.items():
        parts += [f"## {MACHINES[name]}", section(record).rstrip()]
    return "\n\n".join(parts) + "\n"


def write_page():
    """Write docs/benchmarks.md from the records in bench/results."""
    paths = {name: ROOT / "bench" / "results" / f"{name}.json" for name in MACHINES}
    PAGE.write_text(
        page({name: json.loads(path.read_text()) for name, path in paths.items() if path.exists()})
    )


def _prose(text):
    return textwrap.fill(text, 118, break_long_words=False, break_on_hyphens=False)


def _machine(record):
    rates = ", ".join(
        f"{r['best']:.0f} GFLOP/s with {n} thread(s)" for n, r in record["sgemm"].items()
    )
    return _prose(
        f"{in_words(record['machine'])}. Float32 matrix-multiply rate: {rates}. Batch "
        f"{record['batch_size']}, {record['rounds']} rounds."
    )


def plot(record, path):
    """Grouped bars: training rate of every code at every setting, at its faster thread count, log
    scale.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    from .pictures import keep

    comparisons, names = record["training"], _names(record)
    figure, axes = plt.subplots(figsize=(10, 4.6), layout="constrained")
    width = 0.84 / max(1, len(names))
    for i, name in enumerate(names):
        for j, comparison in enumerate(comparisons):
            entry = _better(comparison["entries"], name)
            if entry is None:
                continue
            left = j - 0.42 + (i + 0.5) * width
            axes.bar(left, entry["median"], width * 0.94, color=COLORS.get(name, "#999999"))
            axes.text(
                left,
                entry["median"] * 1.06,
                _short(entry["median"]),
                ha="center",
                va="bottom",
                fontsize=7,
                rotation=90,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.4},
            )
    for j, comparison in enumerate(comparisons):
        if comparison["authors_rate"]:
            axes.hlines(
                comparison["authors_rate"],
                j - 0.45,
                j + 0.45,
                color="#c0392b",
                linestyle=":",
                linewidth=1.4,
            )
    handles = [
        plt.Rectangle((0, 0), 1, 1, color=COLORS.get(n, "#999999"), label=_label(n)) for n in names
    ]
    handles.append(plt.Line2D([], [], color="#c0392b", linestyle=":", label="authors' public code"))
    axes.legend(
        handles=handles,
        frameon=False,
        fontsize=8,
        ncols=4,
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
    )
    axes.set_yscale("log")
    axes.set_ylim(top=axes.get_ylim()[1] * 3)
    axes.set_xticks(range(len(comparisons)), [_tick(c) for c in comparisons], fontsize=8)
    axes.set_ylabel("training samples / s (log scale)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.25)
    axes.set_axisbelow(True)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    keep(path, lambda file: figure.savefig(file, dpi=150))
    plt.close(figure)


def _short(rate):
    return (
        f"{rate / 1000:.0f}k"
        if rate >= 10000
        else f"{rate / 1000:.1f}k"
        if rate >= 1000
        else f"{rate:.0f}"
    )


def _label(name):
    return (
        f"{name.removesuffix(FAST_SUFFIX)}, asynchronous + tol"
        if name.endswith(FAST_SUFFIX)
        else name
    )


def _tick(comparison):
    first, *hidden, last = comparison["layers"]
    inner = (
        f"{hidden[0]}x{len(hidden)}"
        if len(hidden) > 1 and len(set(hidden)) == 1
        else "-".join(map(str, hidden))
    )
    layers = f"{first}-{inner}-{last}"
    steps = f"T={comparison['n_free_steps']} K={comparison['n_nudged_steps']}"
    return f"{comparison['setting']}\n{layers}\n{steps}"


if __name__ == "__main__":
    write_page()
