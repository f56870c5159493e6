"""What every check returns: measured numbers, one verdict beside its target, the settings, and a
plot.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class TheoryResult:
    """Base of the result records.

    Attributes
    ----------
    verdict : float
        The one number that the theorem speaks about; each check says which.
    target : float or None
        What it must not exceed; None where the theory promises nothing.
    settings : dict
        Everything needed to run the check again.
    """

    verdict: float
    target: float | None
    settings: dict

    @property
    def holds(self):
        """Whether the verdict meets the target; None without a target."""
        return None if self.target is None else bool(self.verdict <= self.target)


def new_figure(n_rows=1, n_columns=1, width=4.2, height=3.2):
    """A matplotlib figure and its axes as a flat list; matplotlib is imported here and nowhere
    else.
    """
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        n_rows,
        n_columns,
        figsize=(width * n_columns, height * n_rows),
        squeeze=False,
        layout="constrained",
    )
    return figure, list(axes.ravel())


def log_slope(x, y):
    """Least-squares slope of log y against log x."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def draw_power(axes, x, y, label, color):
    """Points of a power law with its fitted slope in the label."""
    marker = "osv^D"[int(color[1:]) % 5]
    axes.loglog(
        x, y, f"{marker}-", color=color, ms=5, lw=1, label=f"{label}: slope {log_slope(x, y):.3f}"
    )
    quiet_minor_ticks(axes)


def quiet_minor_ticks(axes):
    """No labels on minor ticks of log axes: over about a decade they run into one another."""
    from matplotlib.ticker import NullFormatter

    axes.xaxis.set_minor_formatter(NullFormatter())
