"""Records of reproduced experiments: a JSON each under ``docs/results``, and the table made from
all.

A record has a short id, "1905.13633-P-1h" for a paper's row as it stands and
"1905.13633-P-1h-async" for one with changes; `docs/results.md` holds the table that maps ids to
settings and errors.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

BEGIN, END = "<!-- table:begin -->", "<!-- table:end -->"
TITLE = f"# Results\n\n{BEGIN}\n{END}\n"
HEADER = (
    "| id | changed | epochs | seeds | test error, % | training error, % | published | one run, s |\n"
    "|---|---|---|---|---|---|---|---|\n"
)
VARIANT = re.compile(r"[a-z0-9]+([-_][a-z0-9]+)*")
MAX_ID = 40
FLOOR = 1e-3  # of the curve plots, percent: below one sample of MNIST


@dataclass(frozen=True)
class Run:
    """What is run and under which id: a `Preset`, and the changes made to it (parameter to value)."""

    row: object
    changes: dict = field(default_factory=dict)
    variant: str | None = None

    def __post_init__(self):
        if bool(self.changes) != bool(self.variant):
            raise ValueError("--set and --as go together: a changed row needs a name of its own")
        if self.variant and (not VARIANT.fullmatch(self.variant) or len(self.id) > MAX_ID):
            raise ValueError(
                f"--as takes a short name of lower-case letters, digits and '-', got {self.variant!r}"
            )

    @property
    def id(self):
        name = self.row.name.replace("/", "-")
        return f"{name}-{self.variant}" if self.variant else name


def record_path(docs, run):
    return Path(docs) / "results" / f"{run.id}.json"


def summary(run, histories):
    """The record of a run, as written to JSON; `histories` maps seed to its entries."""
    import numpy as np

    row, histories = run.row, dict(sorted(histories.items()))
    last = {
        kind: [h[-1][kind] for h in histories.values()] for kind in ("test_error", "train_error")
    }
    seconds = [sum(e["seconds"] for e in h) for h in histories.values()]
    return {
        "id": run.id,
        "experiment": row.name,
        "changes": run.changes,
        "source": row.source,
        "notes": row.notes,
        "layers": list(row.layers),
        "epochs": [len(h) for h in histories.values()],
        "epochs_of_the_paper": row.parameters["max_iter"],
        "seeds": list(histories),
        "published_test_error": row.test_error,
        "test_error_mean": float(np.mean(last["test_error"])),
        "test_error_std": float(np.std(last["test_error"])),
        "train_error_mean": float(np.mean(last["train_error"])),
        "train_error_std": float(np.std(last["train_error"])),
        "seconds_per_run": float(np.mean(seconds)),
        "how": _how(histories),
        "history": {str(seed): h for seed, h in histories.items()},
    }


def _how(histories):
    """Backend, threads and machine of the epochs; which seeds, where they differ."""
    seeds_of = {}
    for seed, history in histories.items():
        # in order, each once
        places = dict.fromkeys(e.get("how") or "not recorded" for e in history)
        seeds_of.setdefault(", then ".join(places), []).append(str(seed))
    if len(seeds_of) == 1:
        return next(iter(seeds_of))
    return "; ".join(f"seed {', '.join(seeds)}: {how}" for how, seeds in seeds_of.items())


def with_earlier_seeds(path, run, histories):
    """The histories of the record at `path`, if there is one, brought up to date with `histories`.

    Raises
    ------
    ValueError
        The record is of other changes, or has more epochs of a seed, or another number of epochs:
        there is no mean over those.
    """
    if not path.exists():
        return histories
    record = json.loads(path.read_text())
    if record["changes"] != run.changes:
        raise ValueError(
            f"{path} is of {record['changes']}, this run of {run.changes}: choose another --as"
        )
    earlier = {int(seed): history for seed, history in record["history"].items()}
    for history in earlier.values():
        for entry in history:
            entry.setdefault("how", record["how"])
    for seed, history in histories.items():
        if len(earlier.get(seed, ())) > len(history):
            raise ValueError(
                f"{path} holds {len(earlier[seed])} epochs of seed {seed}, this run {len(history)}: it "
                "is kept; choose another --docs, or move it away"
            )
    together = {**earlier, **histories}
    if len({len(history) for history in together.values()}) > 1:
        counts = ", ".join(f"{len(history)} of seed {seed}" for seed, history in together.items())
        raise ValueError(
            f"{path} and this run differ in epochs ({counts}): train all seeds as long, or choose "
            "another --docs"
        )
    return together


def result_row(record):
    """The record's line of the table."""
    epochs = "/".join(str(n) for n in sorted(set(record["epochs"])))
    if set(record["epochs"]) != {record["epochs_of_the_paper"]}:
        epochs += f" of {record['epochs_of_the_paper']}"
    published = record["published_test_error"]
    errors = [_mean(record, kind) for kind in ("test_error", "train_error")]
    changes = ", ".join(f"{name}={value}" for name, value in record["changes"].items())
    return (
        f"| {record['id']} | {changes} | {epochs} | {len(record['seeds'])} | {errors[0]} | {errors[1]} | "
        f"{'' if published is None else published} | {record['seconds_per_run']:.0f} |"
    )


def _mean(record, kind):
    mean = f"{record[kind + '_mean']:.2f}"
    return mean if len(record["seeds"]) == 1 else f"{mean} +- {record[kind + '_std']:.2f}"


def table(docs):
    """The Markdown table of all records in ``docs/results``, by id."""
    records = [json.loads(path.read_text()) for path in (Path(docs) / "results").glob("*.json")]
    records.sort(key=lambda record: record["id"])
    return HEADER + "".join(result_row(record) + "\n" for record in records)


def write_table(docs):
    """Put the table between the markers of ``docs/results.md``, which is made where it is missing."""
    from .training.files import write_text

    path = Path(docs) / "results.md"
    text = path.read_text() if path.exists() else TITLE
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{path} has no {BEGIN} ... {END}: nowhere to put the table")
    text = f"{head}{BEGIN}\n{table(docs)}{END}{tail}"
    write_text(path, text)


def plot_curves(record, path):
    """Test and training error of every seed over the epochs, saved as an image."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogFormatter

    figure = Figure(figsize=(5, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    one_point = max(record["epochs"]) == 1  # which is no line
    style = dict(alpha=0.7, marker="o" if one_point else None)
    for i, history in enumerate(record["history"].values()):
        epochs = [e["epoch"] for e in history]
        for kind, color, label in (("test", "C0", "test"), ("train", "C1", "training")):
            errors = [max(e[f"{kind}_error"], FLOOR) for e in history]
            axis.semilogy(epochs, errors, color=color, label=None if i else label, **style)
    if record["published_test_error"] is not None:
        axis.axhline(
            record["published_test_error"], color="gray", ls=":", label="published test error"
        )
    axis.set(xlabel="epoch", ylabel="error, %")
    axis.yaxis.set_major_formatter("{x:g}")  # 0.1, 1, 10 rather than powers
    axis.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(1.2, 0.6)))
    axis.set_title(record["id"], fontsize="small")
    axis.legend()
    figure.savefig(path, dpi=90)
