"""`eqprop-fast`: the demo of `make run`, the backends and the presets of this installation."""

from __future__ import annotations

import os
import time

import click

from eqprop_fast.export.commands import export, size
from eqprop_fast.reproduce import THREADS, reproduce

BACKEND_CHOICE = click.Choice(["auto", "c", "numba", "numpy"])


@click.group()
@click.version_option(package_name="eqprop_fast")
def main():
    """Fast equilibrium propagation on CPUs."""


main.add_command(reproduce)
main.add_command(export)
main.add_command(size)


@main.command()
def backends():
    """Show which backends load here, with instruction set and threads."""
    from eqprop_fast import show_backends

    show_backends()


@main.command()
def presets():
    """List the papers' experiments that from_paper knows."""
    from eqprop_fast.presets import ALL_PRESETS

    for row in ALL_PRESETS.values():
        p, rule = row.parameters, row.parameters["learning_rule"]
        layers = "-".join(map(str, row.layers))
        rates = ", ".join(map(str, p["learning_rate_init"]))
        beta = f"{rule.beta:g}" if hasattr(rule, "beta") else "-"
        click.echo(
            f"{row.name:22s} {layers:22s} T={p['relaxation'].n_steps:<4d} K={rule.n_steps:<3d} "
            f"beta={beta:5s} epochs={p['max_iter']:<4d} rates={rates}"
        )


@main.command()
@click.option("--backend", type=BACKEND_CHOICE, default="auto", show_default=True)
@click.option("--threads", type=THREADS, default=None, help="Default: all usable cores.")
@click.option(
    "--epochs", type=click.IntRange(min=1), default=None, help="On MNIST; default: the preset's."
)
@click.option(
    "--preset", "preset_name", default="1905.13633/P-1h", show_default=True, help="For MNIST."
)
@click.option(
    "--nudging",
    type=click.Choice(["positive", "random_sign", "centered"]),
    default=None,
    help="On MNIST; default: the preset's, but random_sign for a positive nudge, which ends a point worse "
    "(docs/results.md).",
)
@click.option(
    "--nudged-steps",
    type=click.IntRange(min=1),
    default=None,
    help="On MNIST; default: the preset's, or one more if that is odd. After an odd number, samples that "
    "still oscillate end the two phases on opposite sides (docs/results.md).",
)
@click.option("--mnist/--no-mnist", default=True, show_default=True)
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True)
def demo(backend, threads, epochs, preset_name, nudging, nudged_steps, mnist, seed):
    """Train on the bundled digits, then on MNIST where it can be found."""
    from eqprop_fast import EqPropClassifier, get_backend
    from eqprop_fast._backends import effective_n_threads
    from eqprop_fast.datasets import DatasetUnavailableError, load_digits, load_mnist
    from eqprop_fast.presets import preset

    try:
        rule = preset(preset_name).parameters["learning_rule"]
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--preset") from error
    kernels = get_backend(backend)
    n_threads = 1 if kernels.name == "numpy" else effective_n_threads(threads)
    where = f"backend {kernels.name}, ISA {kernels.isa or '-'}, {n_threads} threads"
    common = dict(backend=backend, n_threads=threads, random_state=seed, verbose=True)

    click.echo(f"8x8 digits: {where}")
    _fit_and_report("digits", EqPropClassifier(**common), load_digits(), where)
    if not mnist:
        return
    try:
        data = load_mnist(download=not os.environ.get("EQPROP_OFFLINE"))
    except DatasetUnavailableError as error:
        click.echo(f"MNIST skipped. {error}")
        return
    try:
        _adjust(rule, nudging, nudged_steps)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    overrides = dict(common, learning_rule=rule)
    if epochs is not None:
        overrides["max_iter"] = epochs
    classifier = EqPropClassifier.from_paper(preset_name, **overrides)
    nudge = f"nudging={rule.nudging}, " if hasattr(rule, "nudging") else ""
    click.echo(f"MNIST, {preset_name}, {rule.word}, {nudge}K={rule.n_steps}: {where}")
    _fit_and_report("MNIST", classifier, data, where)


def _adjust(rule, nudging, n_steps):
    """The demo's rule: what the user asks for; else random signs for a positive nudge, and an even
    K.
    """
    nudged = hasattr(rule, "nudging")
    if nudging is None and nudged and rule.nudging == "positive":
        nudging = "random_sign"
    if nudging is not None:
        rule.set_params(nudging=nudging)
    if n_steps is None:
        n_steps = rule.n_steps + (nudged and rule.n_steps > 1 and rule.n_steps % 2)
    rule.set_params(n_steps=n_steps)


def _fit_and_report(name, classifier, data, where):
    x_train, x_test, y_train, y_test = data
    start = time.perf_counter()
    try:
        classifier.fit(x_train, y_train)
    except (ValueError, ArithmeticError) as error:
        raise click.ClickException(str(error)) from error
    seconds = time.perf_counter() - start
    start = time.perf_counter()
    accuracy = classifier.score(x_test, y_test)
    predict_seconds = time.perf_counter() - start
    click.echo(
        f"{name}: test accuracy {100 * accuracy:.2f} %, {classifier.n_iter_} epochs in {seconds:.1f} s, "
        f"{classifier.t_ / seconds:,.0f} training samples/s, {len(x_test) / predict_seconds:,.0f} "
        f"predictions/s ({where})"
    )
