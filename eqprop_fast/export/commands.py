"""``eqprop-fast export`` and ``eqprop-fast size``."""

from __future__ import annotations

import click

_MODEL = click.argument("model", type=click.Path(exists=True, dir_okay=False))
_RATE = click.option("--learning-rate", type=float, default=None, help="Of the device.")


def _load(path):
    from . import load_eqp

    try:
        return load_eqp(path)
    except (ValueError, OSError) as error:
        raise click.BadParameter(str(error), param_hint="MODEL") from error


@click.command()
@_MODEL
@click.argument("folder", type=click.Path(file_okay=False))
@click.option("--dtype", type=click.Choice(["float32", "int16", "int8"]), default="float32")
@click.option("--learn/--no-learn", default=False, help="With functions that learn on the device.")
@click.option("--name", default="eqnet", show_default=True, help="A C identifier: prefix of all.")
@click.option(
    "--layout",
    type=click.Choice(["plain", "arduino", "platformio", "zephyr", "esp-idf"]),
    default="plain",
)
@_RATE
def export(model, folder, dtype, learn, name, layout, learning_rate):
    """Write the network of the file MODEL (.eqp) as plain C into FOLDER."""
    from . import to_c

    try:
        paths = to_c(_load(model), folder, dtype, learn, name, learning_rate, layout)
    except (ValueError, OSError) as error:
        raise click.ClickException(str(error)) from error
    for path in paths:
        click.echo(path)


@click.command()
@_MODEL
@_RATE
def size(model, learning_rate):
    """What the network of the file MODEL (.eqp) costs on microcontrollers, as QEMU emulates them."""
    from .model import as_model
    from .targets import report_text, size_report

    try:
        click.echo(report_text(size_report(as_model(_load(model), learning_rate))))
    except ValueError as error:
        raise click.ClickException(str(error)) from error
