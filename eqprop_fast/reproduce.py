"""`eqprop-fast reproduce PAPER/EXPERIMENT`: a training row of a paper, run with its numbers and written down.

A run of one seed leaves a checkpoint after every epoch and goes on from it when it is started again. The
experiment leaves a JSON (every epoch of every seed), a curve plot, and its row in ``docs/results.md``.
"""

from __future__ import annotations

import json
import os
import platform
import re
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import click

HEADER = (
    "| experiment | epochs | seeds | test error, % | train error, % | published test error, % | one run, s | "
    "how |\n|---|---|---|---|---|---|---|---|\n"
)
THREADS = click.IntRange(min=1, max=1024)  # as n_threads of the estimators
NOT_SET = {  # a row is the paper's epochs, all of them, with checkpoints of its own
    "random_state": "use --first-seed", "max_iter": "use --epochs",
    "backend": "use --backend", "n_threads": "use --threads",
    **dict.fromkeys(
        ("callbacks", "checkpoint", "checkpoint_every", "early_stopping", "n_iter_no_change", "tol",
         "validation_fraction", "verbose", "warm_start"), "a row has its own",
    ),
}
FLOOR = 1e-3  # of the curve plots, percent: below one sample of MNIST
TITLE = (
    "# Results\n\nWritten by `eqprop-fast reproduce PAPER/EXPERIMENT`, a row per experiment: errors "
    "after the last epoch, mean +- standard deviation over the seeds; time is training alone.\n\n"
)


def machine():
    """Processor and cores, in a few words."""
    model = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    except OSError:
        pass
    return f"{model}, {os.cpu_count()} cores"


def _write(path, text):
    from .training.checkpoint import write_atomically

    write_atomically(path, lambda file: file.write(text.encode()))


def experiment(name):
    """The `Preset` of a layered or a resistive experiment.

    Raises
    ------
    ValueError
        Unknown name.
    """
    from .presets import PRESETS, RESISTIVE_PRESETS, look_up

    return look_up({**PRESETS, **RESISTIVE_PRESETS}, name)


def estimator_of(row):
    """The class of estimator that a `Preset` is for."""
    from .estimators import EqPropClassifier, ResistiveClassifier

    return ResistiveClassifier if "circuit" in row.parameters else EqPropClassifier


def changed(row, changes):
    """The `Preset` with NAME=VALUE changes applied in turn, and named after them.

    NAME is a parameter, or ``parameter__name`` of a part: "learning_rule__beta=0.5".

    Raises
    ------
    ValueError
        Not NAME=VALUE, no such parameter, or one that a row of results has no say in.
    """
    if not changes:
        return row
    from sklearn.base import clone

    model = clone(estimator_of(row)(**row.parameters))
    for change in changes:
        name, equals, text = change.partition("=")
        if name in NOT_SET:
            raise ValueError(f"--set cannot change {name}: {NOT_SET[name]}")
        try:
            value = json.loads(text)  # numbers, true, null; anything else is a word
        except ValueError:
            value = text
        try:
            if not equals:
                raise ValueError("no '='")
            model.set_params(**{name: value})
        except ValueError as error:
            raise ValueError(
                f"--set takes NAME=VALUE with a parameter of {type(model).__name__}, got {change!r} ({error})"
            ) from error
    touched = {change.partition("=")[0].partition("__")[0] for change in changes}
    parameters = {
        name: value
        for name, value in model.get_params(deep=False).items()
        if name in touched or name in row.parameters
    }
    layers = row.layers
    if parameters["hidden_layer_sizes"] != row.parameters["hidden_layer_sizes"]:
        hidden = parameters["hidden_layer_sizes"]
        layers = (layers[0], *(hidden if isinstance(hidden, list) else [hidden]), layers[-1])
    return replace(row, name=f"{row.name}, {', '.join(changes)}", layers=layers, parameters=parameters)


def run_seed(
    row, data, seed, folder, *, epochs=None, backend="auto", n_threads=None, fresh=False, how="",
    on_epoch=None,
):
    """Train one seed of an experiment, going on from its checkpoint where there is one.

    Parameters
    ----------
    row : Preset
    data : X_train, X_test, y_train, y_test
    seed : int
    folder : Path
        Holds ``seed<N>.npz`` (checkpoint) and ``seed<N>.json`` (one entry per epoch).
    epochs : int, optional
        Instead of the paper's.
    fresh : bool
        Ignore what is there.
    how : str
        Backend, threads and machine, kept with every epoch.
    on_epoch : callable, optional
        Called with the list of entries after each epoch; returning True stops the run, to be resumed later.

    Returns
    -------
    list of dict
        Entry per epoch: epoch, loss, train_error and test_error (percent), seconds (training alone), how.

    Raises
    ------
    ValueError
        A checkpoint of other settings is in the way, or the estimator refuses the experiment.
    """
    estimator = estimator_of(row)
    x_train, x_test, y_train, y_test = data
    x_train, y_train = x_train[: row.n_train], y_train[: row.n_train]
    parameters = dict(row.parameters, random_state=seed)
    if epochs is not None:
        parameters["max_iter"] = epochs
    checkpoint, log = folder / f"seed{seed}.npz", folder / f"seed{seed}.json"
    history = []
    if checkpoint.exists() and not fresh:
        classifier = estimator.load_checkpoint(checkpoint)
        _check_same(classifier.get_params(), parameters, checkpoint)
        classifier.set_params(max_iter=parameters["max_iter"])
        # the log is written before the checkpoint: a kill between them leaves one entry too many
        try:
            history = json.loads(log.read_text())[: classifier.n_iter_]
        except (OSError, ValueError) as error:
            raise ValueError(f"{log} cannot be read ({error}); start again with --fresh") from error
        if len(history) < classifier.n_iter_:
            raise ValueError(f"{log} is shorter than {checkpoint}; start again with --fresh")
    else:
        classifier = estimator(**parameters)
    classifier.set_params(backend=backend, n_threads=n_threads)

    def note(record):
        test_error = 100 * (1 - classifier.score(x_test, y_test))
        history.append(
            dict(
                epoch=record.epoch,
                loss=record.loss,
                train_error=100 * (1 - record.accuracy),
                test_error=test_error,
                seconds=record.seconds,
                how=how,
                **({"feedback_angles": record.feedback_angles} if record.feedback_angles else {}),
            )
        )
        _write(log, json.dumps(history))
        classifier.save_checkpoint(checkpoint)
        return bool(on_epoch(history)) if on_epoch is not None else False

    classifier.set_params(callbacks=note)
    if history:
        classifier.resume(x_train, y_train)
    else:
        classifier.fit(x_train, y_train)
    return history


def _check_same(stored, wanted, path):
    from .parts import same_value

    for name, value in wanted.items():
        if name != "max_iter" and not same_value(stored[name], value):
            raise ValueError(
                f"{path} was made with {name}={stored[name]!r}, this run wants {value!r}; "
                "start again with --fresh"
            )


def _how(histories):
    """Backend, threads and machine of the epochs; which seeds, where they differ."""
    seeds_of = {}
    for seed, history in histories.items():
        places = dict.fromkeys(e.get("how") or "not recorded" for e in history)  # in order, each once
        seeds_of.setdefault(", then ".join(places), []).append(str(seed))
    if len(seeds_of) == 1:
        return next(iter(seeds_of))
    return "; ".join(f"seed {', '.join(seeds)}: {how}" for how, seeds in seeds_of.items())


def summary(row, histories):
    """The experiment's record, as written to JSON; `histories` maps seed to its entries."""
    import numpy as np

    histories = dict(sorted(histories.items()))
    last = {kind: [h[-1][kind] for h in histories.values()] for kind in ("test_error", "train_error")}
    seconds = [sum(e["seconds"] for e in h) for h in histories.values()]
    return {
        "experiment": row.name,
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


def result_row(record):
    """The record's line of docs/results.md."""
    epochs = "/".join(str(n) for n in sorted(set(record["epochs"])))
    if set(record["epochs"]) != {record["epochs_of_the_paper"]}:
        epochs += f" of {record['epochs_of_the_paper']}"
    published = record["published_test_error"]
    errors = [f"{record[k + '_mean']:.2f} +- {record[k + '_std']:.2f}" for k in ("test_error", "train_error")]
    return (
        f"| {record['experiment']} | {epochs} | {len(record['seeds'])} | {errors[0]} | {errors[1]} | "
        f"{'not known to us' if published is None else published} | {record['seconds_per_run']:.0f} | "
        f"{record['how']} |"
    )


def with_earlier_seeds(path, histories):
    """The histories of the record at `path`, if there is one, brought up to date with `histories`.

    Raises
    ------
    ValueError
        The record has more epochs of a seed, or another number of epochs: there is no mean over those.
    """
    if not path.exists():
        return histories
    record = json.loads(path.read_text())
    earlier = {int(seed): history for seed, history in record["history"].items()}
    for history in earlier.values():
        for entry in history:
            entry.setdefault("how", record["how"])
    for seed, history in histories.items():
        if len(earlier.get(seed, ())) > len(history):
            raise ValueError(
                f"{path} holds {len(earlier[seed])} epochs of seed {seed}, this run {len(history)}: it is "
                "kept; choose another --docs, or move it away"
            )
    together = {**earlier, **histories}
    if len({len(history) for history in together.values()}) > 1:
        counts = ", ".join(f"{len(history)} of seed {seed}" for seed, history in together.items())
        raise ValueError(
            f"{path} and this run differ in epochs ({counts}): train all seeds as long, or choose another "
            "--docs"
        )
    return together


def add_row(path, record):
    """Put the record's row into the table at `path`, in place of an older one of the same experiment."""
    lines = path.read_text().splitlines() if path.exists() else (TITLE + HEADER).splitlines()
    row, start = result_row(record), f"| {record['experiment']} |"
    if any(line.startswith(start) for line in lines):
        lines = [row if line.startswith(start) else line for line in lines]
    else:
        last = max(i for i, line in enumerate(lines) if line.startswith("|"))
        lines.insert(last + 1, row)
    _write(path, "\n".join(lines) + "\n")


def plot_curves(record, path):
    """Test and training error of every seed over the epochs, saved as an image."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogFormatter

    figure = Figure(figsize=(5, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    style = dict(alpha=0.7, marker="o" if max(record["epochs"]) == 1 else None)  # a line needs two points
    for i, history in enumerate(record["history"].values()):
        epochs = [e["epoch"] for e in history]
        axis.semilogy(epochs, [max(e["test_error"], FLOOR) for e in history], color="C0", **style,
                      label=None if i else "test")
        axis.semilogy(epochs, [max(e["train_error"], FLOOR) for e in history], color="C1", **style,
                      label=None if i else "training")
    if record["published_test_error"] is not None:
        axis.axhline(record["published_test_error"], color="gray", ls=":", label="published test error")
    axis.set(xlabel="epoch", ylabel="error, %")
    axis.yaxis.set_major_formatter("{x:g}")  # 0.1, 1, 10 rather than powers
    axis.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(1.2, 0.6)))
    axis.set_title(textwrap.fill(record["experiment"], 50), fontsize="small")
    axis.legend()
    figure.savefig(path, dpi=90)


@click.command()
@click.argument("name", metavar="PAPER/EXPERIMENT")
@click.option(
    "--seeds", type=click.IntRange(min=1), default=1, show_default=True, help="Runs, from --first-seed up."
)
@click.option("--first-seed", type=click.IntRange(0, 2**31), default=0, show_default=True)
@click.option("--epochs", type=click.IntRange(min=1), default=None, help="Default: the paper's.")
@click.option(
    "--backend", type=click.Choice(["auto", "c", "numba", "numpy"]), default="auto", show_default=True
)
@click.option("--threads", type=THREADS, default=None, help="Default: all usable cores.")
@click.option(
    "--set", "changes", multiple=True, metavar="NAME=VALUE",
    help="Change a parameter, e.g. nudging=random_sign; the row's name says so. May be repeated.",
)
@click.option("--fresh", is_flag=True, help="Start again instead of going on from the checkpoints.")
@click.option(
    "--docs",
    "docs",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("docs"),
    show_default=True,
    help="Where results.md, results/ and img/ are.",
)
@click.option(
    "--work", type=click.Path(file_okay=False, path_type=Path), default=Path("runs"), show_default=True,
    help="Where checkpoints are kept.",
)
def reproduce(name, seeds, first_seed, epochs, backend, threads, changes, fresh, docs, work):
    """Train a paper's row on MNIST and write it down. `eqprop-fast presets` lists the rows."""
    from . import get_backend
    from ._backends import effective_n_threads
    from .datasets import DatasetUnavailableError, load_mnist

    try:
        row = changed(experiment(name), changes)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    try:
        data = load_mnist(download=not os.environ.get("EQPROP_OFFLINE"))
    except DatasetUnavailableError as error:
        raise click.ClickException(str(error)) from error
    kernels = get_backend(backend)
    n_threads = 1 if kernels.name == "numpy" else effective_n_threads(threads)
    how = f"{kernels.name} {kernels.isa}".strip() + f", {n_threads} threads, {machine()}"
    slug = re.sub(r"[^\w.=-]+", "_", row.name)
    folder = work / slug
    for place in (folder, docs / "results", docs / "img"):
        place.mkdir(parents=True, exist_ok=True)
    click.echo(f"{row.name}: {row.source}; {how}")
    histories = {}
    for seed in range(first_seed, first_seed + seeds):
        start = time.perf_counter()

        def tell(history, seed=seed):
            e = history[-1]
            click.echo(
                f"seed {seed}  epoch {e['epoch']}/{epochs or row.parameters['max_iter']}  "
                f"loss {e['loss']:.5f}  "
                f"train {e['train_error']:.2f} %  test {e['test_error']:.2f} %  {e['seconds']:.1f} s"
            )

        try:
            histories[seed] = run_seed(
                row,
                data,
                seed,
                folder,
                epochs=epochs,
                backend=backend,
                n_threads=threads,
                fresh=fresh,
                how=how,
                on_epoch=tell,
            )
        except (ValueError, ArithmeticError) as error:
            raise click.ClickException(str(error)) from error
        if len(histories[seed]) < (epochs or row.parameters["max_iter"]):
            click.echo(f"seed {seed}: stopped; the same command goes on from here. {docs} is unchanged.")
            raise click.exceptions.Exit(130)
        click.echo(f"seed {seed}: {time.perf_counter() - start:.0f} s with tests")
    try:
        record = summary(row, with_earlier_seeds(docs / "results" / f"{slug}.json", histories))
    except ValueError as error:
        click.echo(result_row(summary(row, histories)))
        raise click.ClickException(str(error)) from error
    _write(docs / "results" / f"{slug}.json", json.dumps(record, indent=1))
    plot_curves(record, docs / "img" / f"results_{slug}.png")
    add_row(docs / "results.md", record)
    click.echo(result_row(record))
