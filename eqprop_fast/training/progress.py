"""Live progress under `verbose`: a rich bar on a terminal, one line per epoch elsewhere."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager


@contextmanager
def make_progress(verbose, n_epochs, n_rows, first_epoch=0):
    """Yields an object with `advance(n_samples)` and `epoch(record)`, or None when `verbose` is
    off.
    """
    if not verbose:
        yield None
    elif sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            Progress,
            TaskProgressColumn,
            TextColumn,
            TimeRemainingColumn,
        )

        columns = (
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(bar_width=20),
            TaskProgressColumn(),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=Console(stderr=True)) as bar:
            yield LiveProgress(bar, n_epochs, n_rows, first_epoch)
    else:
        yield LineProgress()


def describe(record):
    """One line about an epoch; samples/s counts training time, validation included."""
    text = f"loss {record.loss:.6f}"
    if record.accuracy is not None:
        text += f"  train acc {record.accuracy:.4f}"
    if record.validation_score is not None:
        text += f"  validation {record.validation_score:.4f}"
    if record.feedback_angles:
        text += "  feedback " + ", ".join(f"{a:.1f}" for a in record.feedback_angles) + " deg"
    return f"{text}  {record.stats.n_samples / max(record.seconds, 1e-9):,.0f} samples/s"


class LineProgress:
    """Prints one line per epoch."""

    def advance(self, n_samples):
        pass

    def epoch(self, record):
        print(f"epoch {record.epoch}  {describe(record)}", flush=True)


class LiveProgress:
    """A bar over all samples of the run, with the last epoch's figures."""

    def __init__(self, bar, n_epochs, n_rows, first_epoch):
        self.bar = bar
        self.start = time.perf_counter()
        self.task = bar.add_task("fit", total=n_epochs * n_rows, epoch=first_epoch, note="")

    def advance(self, n_samples):
        self.bar.advance(self.task, n_samples)

    def epoch(self, record):
        self.bar.update(self.task, epoch=record.epoch, note=describe(record))
