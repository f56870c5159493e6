"""`eqprop-fast reproduce PAPER/EXPERIMENT`: a training row of a paper, run with its numbers and
written down.

A run of one seed leaves a checkpoint after every epoch and goes on from it when it is started
again. The experiment leaves its record and its row in ``docs`` (results.py), and its curves beside
the checkpoints.
"""

from __future__ import annotations

import json
import os
import platform
import time
from dataclasses import replace
from pathlib import Path

import click

from .results import (
    Run,
    plot_curves,
    record_path,
    result_row,
    summary,
    with_earlier_seeds,
    write_table,
)

THREADS = click.IntRange(min=1, max=1024)  # as n_threads of the estimators
NOT_SET = {  # a row is the paper's epochs, all of them, with checkpoints of its own
    "random_state": "use --first-seed",
    "max_iter": "use --epochs",
    "backend": "use --backend",
    "n_threads": "use --threads",
    **dict.fromkeys(
        (
            "callbacks",
            "checkpoint",
            "early_stopping",
            "n_iter_no_change",
            "tol",
            "validation_fraction",
            "verbose",
            "warm_start",
        ),
        "a row has its own",
    ),
}


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


def experiment(name):
    """The `Preset` of any experiment.

    Raises
    ------
    ValueError
        Unknown name.
    """
    from .presets import ALL_PRESETS, look_up

    return look_up(ALL_PRESETS, name)


def estimator_of(row):
    """The class of estimator that a `Preset` is for."""
    from . import estimators

    by_parameter = {
        "circuit": estimators.ResistiveClassifier,
        "layers": estimators.ConvEqPropClassifier,
        "network": estimators.GraphEqPropClassifier,
    }
    found = [kind for name, kind in by_parameter.items() if name in row.parameters]
    return found[0] if found else estimators.EqPropClassifier


def parse_changes(changes):
    """{parameter: value} of NAME=VALUE words; a value that is no JSON is a word.

    Raises
    ------
    ValueError
        Not NAME=VALUE, or a parameter that a row of results has no say in.
    """
    parsed = {}
    for change in changes:
        name, equals, text = change.partition("=")
        if name in NOT_SET:
            raise ValueError(f"--set cannot change {name}: {NOT_SET[name]}")
        if not equals:
            raise ValueError(f"--set takes NAME=VALUE, got {change!r}")
        try:
            parsed[name] = json.loads(text)  # numbers, true, null
        except ValueError:
            parsed[name] = text
    return parsed


def changed(row, changes):
    """The `Preset` with NAME=VALUE changes applied in turn.

    NAME is a parameter, or ``parameter__name`` of a part: "learning_rule__beta=0.5".

    Raises
    ------
    ValueError
        As `parse_changes`, or no such parameter.
    """
    from sklearn.base import clone

    changes = parse_changes(changes)
    model = clone(estimator_of(row)(**row.parameters))
    for name, value in changes.items():
        try:
            model.set_params(**{name: value})
        except ValueError as error:
            raise ValueError(
                f"--set takes NAME=VALUE with a parameter of {type(model).__name__}, got "
                f"{name}={value!r} ({error})"
            ) from error
    touched = {name.partition("__")[0] for name in changes}
    parameters = {
        name: value
        for name, value in model.get_params(deep=False).items()
        if name in touched or name in row.parameters
    }
    layers = row.layers
    if parameters.get("hidden_layer_sizes") != row.parameters.get("hidden_layer_sizes"):
        hidden = parameters["hidden_layer_sizes"]
        layers = (layers[0], *(hidden if isinstance(hidden, list) else [hidden]), layers[-1])
    return replace(row, layers=layers, parameters=parameters)


def run_seed(
    row,
    data,
    seed,
    folder,
    *,
    epochs=None,
    backend="auto",
    n_threads=None,
    fresh=False,
    how="",
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
        Called with the list of entries after each epoch; returning True stops the run, to be
        resumed later.

    Returns
    -------
    list of dict
        Entry per epoch: epoch, loss, train_error and test_error (percent), seconds (training
        alone), how.

    Raises
    ------
    ValueError
        A checkpoint of other settings is in the way, or the estimator refuses the experiment.
    """
    from .training.files import write_text

    estimator = estimator_of(row)
    x_train, x_test, y_train, y_test = data
    x_train, y_train = x_train[: row.n_train], y_train[: row.n_train]
    parameters = dict(row.parameters, random_state=seed)
    if epochs is not None:
        parameters["max_iter"] = epochs
    checkpoint, log = folder / f"seed{seed}.npz", folder / f"seed{seed}.json"
    if checkpoint.exists() and not fresh:
        classifier, history = _resumed(estimator, parameters, checkpoint, log)
    else:
        classifier, history = estimator(**parameters), []
    classifier.set_params(backend=backend, n_threads=n_threads)

    def note(record):
        if history and history[-1]["epoch"] == record.epoch:
            return False  # asked again by `resume`: the checkpoint is written before the answer
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
        write_text(log, json.dumps(history))
        classifier.save_checkpoint(checkpoint)
        return bool(on_epoch(history)) if on_epoch is not None else False

    classifier.set_params(callbacks=note)
    if history:
        classifier.resume(x_train, y_train)
    else:
        classifier.fit(x_train, y_train)
    return history


def _resumed(estimator, parameters, checkpoint, log):
    """The estimator of a checkpoint, and the entries of its log as far as the checkpoint goes."""
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
    return classifier, history


def _check_same(stored, wanted, path):
    from .parts import same_value

    for name, value in wanted.items():
        if name != "max_iter" and not same_value(stored[name], value):
            raise ValueError(
                f"{path} was made with {name}={stored[name]!r}, this run wants {value!r}; "
                "start again with --fresh"
            )


@click.command()
@click.argument("name", metavar="PAPER/EXPERIMENT")
@click.option(
    "--seeds",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Runs, from --first-seed up.",
)
@click.option("--first-seed", type=click.IntRange(0, 2**31), default=0, show_default=True)
@click.option("--epochs", type=click.IntRange(min=1), default=None, help="Default: the paper's.")
@click.option(
    "--backend",
    type=click.Choice(["auto", "c", "numba", "numpy"]),
    default="auto",
    show_default=True,
)
@click.option("--threads", type=THREADS, default=None, help="Default: all usable cores.")
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="NAME=VALUE",
    help="Change a parameter, e.g. learning_rule__nudging=random_sign; wants --as. May be repeated.",
)
@click.option(
    "--as",
    "variant",
    default=None,
    metavar="WORD",
    help="Short name of the changed row, whose id becomes PAPER-EXPERIMENT-WORD.",
)
@click.option("--fresh", is_flag=True, help="Start again instead of going on from the checkpoints.")
@click.option(
    "--docs",
    "docs",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("docs"),
    show_default=True,
    help="Where results.md and results/ are.",
)
@click.option(
    "--work",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("runs"),
    show_default=True,
    help="Where checkpoints and curves are kept.",
)
def reproduce(
    name, seeds, first_seed, epochs, backend, threads, changes, variant, fresh, docs, work
):
    """Train a paper's row on its data and write it down. `eqprop-fast presets` lists the rows."""
    from .datasets import DatasetUnavailableError, load_named

    try:
        row = changed(experiment(name), changes)
        run = Run(row, parse_changes(changes), variant)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    try:
        data = load_named(row.data, download=not os.environ.get("EQPROP_OFFLINE"))
    except DatasetUnavailableError as error:
        raise click.ClickException(str(error)) from error
    folder = work / run.id
    for place in (folder, docs / "results"):
        place.mkdir(parents=True, exist_ok=True)
    how = _how_here(backend, threads)
    click.echo(f"{run.id}: {row.source}; {how}")
    options = dict(epochs=epochs, backend=backend, n_threads=threads, fresh=fresh, how=how)
    histories = {
        seed: _train(row, data, seed, folder, options)
        for seed in range(first_seed, first_seed + seeds)
    }
    _write_down(run, histories, docs, folder)


def _how_here(backend, threads):
    """Backend, threads and machine of an epoch trained now."""
    from . import get_backend
    from ._backends import effective_n_threads

    kernels = get_backend(backend)
    n_threads = 1 if kernels.name == "numpy" else effective_n_threads(threads)
    return f"{kernels.name} {kernels.isa}".strip() + f", {n_threads} threads, {machine()}"


def _train(row, data, seed, folder, options):
    """One seed with a line an epoch; status 130 if it was stopped."""
    start, n_epochs = time.perf_counter(), options["epochs"] or row.parameters["max_iter"]

    def tell(history):
        e = history[-1]
        click.echo(
            f"seed {seed}  epoch {e['epoch']}/{n_epochs}  loss {e['loss']:.5f}  "
            f"train {e['train_error']:.2f} %  test {e['test_error']:.2f} %  {e['seconds']:.1f} s"
        )

    try:
        history = run_seed(row, data, seed, folder, on_epoch=tell, **options)
    except (ValueError, ArithmeticError) as error:
        raise click.ClickException(str(error)) from error
    if len(history) < n_epochs:
        click.echo(
            f"seed {seed}: stopped; the same command goes on from here. Nothing is written down."
        )
        raise click.exceptions.Exit(130)
    click.echo(f"seed {seed}: {time.perf_counter() - start:.0f} s with tests")
    return history


def _write_down(run, histories, docs, folder):
    """The record, the table of all records, and the curves."""
    from .training.files import write_text

    path = record_path(docs, run)
    try:
        record = summary(run, with_earlier_seeds(path, run, histories))
    except ValueError as error:
        click.echo(result_row(summary(run, histories)))
        raise click.ClickException(str(error)) from error
    write_text(path, json.dumps(record, indent=1) + "\n")
    write_table(docs)
    plot_curves(record, folder / "curves.png")
    click.echo(result_row(record))
