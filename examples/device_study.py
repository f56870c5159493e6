"""What imperfect devices cost: a resistive network's test accuracy against each property of its
conductances.

Run: python examples/device_study.py            (digits, some minutes; writes docs/img/devices.png and
prints the table)
     python examples/device_study.py --mnist    (DRN-XS on MNIST)

Two ways to use a device are compared. "written once": an ideal network is trained, then written
blindly to devices. "trained on": after every epoch the conductances are written, with read-back, to
the devices that training goes on from.
"""

import argparse
from functools import partial
from pathlib import Path

import numpy as np
from eqprop_fast.kernels.reference.crossbar import NudgeError

from eqprop_fast import ResistiveClassifier, ResistiveEP
from eqprop_fast.circuits import FloatingNodeError
from eqprop_fast.datasets import load_digits, load_mnist

SWEEPS = {
    "n_levels": (64, 32, 16, 8, 4, 2),
    "on_off_ratio": (1000.0, 100.0, 30.0, 10.0, 5.0, 2.0),
    "write_noise": (0.001, 0.003, 0.01, 0.03, 0.1, 0.3),
    "nonlinearity": (0.0, 1.0, 2.0, 4.0, 6.0, 8.0),
    "variability": (0.01, 0.03, 0.1, 0.2, 0.4, 0.8),
    "stuck_off": (0.001, 0.01, 0.03, 0.1, 0.2, 0.4),
    "stuck_on": (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1),
    "wire_resistance": (1e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0),
}
FIXED = {"nonlinearity": {"n_levels": 16}}  # nonlinearity only moves the levels
REVERSED = {"n_levels", "on_off_ratio"}  # worse to the left
UNITS = {"wire_resistance": "wire_resistance (ohm a segment)"}


def accuracy(make, split):
    """Test accuracy of the network that `make()` gives; nan if its devices leave an output node no
    conductance, or less than the nudge needs.
    """
    _, X_test, _, y_test = split
    try:
        return make().score(X_test, y_test)
    except (FloatingNodeError, NudgeError):
        return np.nan


def study(model, split, repeats, say=print):
    """{property: (values, written once (values, repeats), trained on (values,))}, and the ideal
    accuracy.
    """
    X, _, y, _ = split
    ideal = model().fit(X, y)
    base = accuracy(lambda: ideal, split)
    say(f"ideal: {100 * base:.2f} %")
    results = {}
    for name, values in SWEEPS.items():
        once, trained = [], []
        for value in values:
            device = {**FIXED.get(name, {}), name: value}
            write = partial(ideal.program, device)
            once.append([accuracy(partial(write, seed), split) for seed in range(repeats)])
            trained.append(accuracy(partial(model(device=device).fit, X, y), split))
            say(
                f"{name:16s} {value:8g}: written once {100 * np.mean(once[-1]):6.2f} "
                f"+- {100 * np.std(once[-1]):.2f}, trained on {100 * trained[-1]:6.2f}"
            )
        results[name] = values, np.array(once), np.array(trained)
    return results, base


def plot(results, base, title, path):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 4, figsize=(13, 6), sharey=True, layout="constrained")
    for axis, (name, (values, once, trained)) in zip(axes.flat, results.items()):
        axis.axhline(100 * base, color="0.6", lw=1, ls="--", label="ideal")
        mean, spread = 100 * once.mean(axis=1), 100 * once.std(axis=1)
        axis.errorbar(
            values, mean, spread, marker="o", ms=4, capsize=2, color="#c1440e", label="written once"
        )
        axis.plot(values, 100 * trained, marker="s", ms=4, color="#1f5f8b", label="trained on")
        if name != "nonlinearity":
            axis.set_xscale("log")
        if name == "n_levels":
            axis.set_xticks(values, values)
            axis.minorticks_off()
        if name in REVERSED:
            axis.invert_xaxis()
        extra = ", ".join(f"{k} = {v}" for k, v in FIXED.get(name, {}).items())
        axis.set_xlabel(UNITS.get(name, name) + (f" ({extra})" if extra else ""), fontsize=9)
        axis.grid(alpha=0.25)
    for axis in axes[:, 0]:
        axis.set_ylabel("test accuracy (%)")
    axes.flat[0].legend(fontsize=8)
    figure.suptitle(title)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mnist", action="store_true")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent.parent / "docs" / "img" / "devices.png"
    )
    options = parser.parse_args(arguments)
    if options.mnist:
        split, title = load_mnist(), "DRN-XS (784 x 2 - 100 - 10) on MNIST, 10 epochs"

        def model(**device):
            return ResistiveClassifier.from_paper(
                "2402.11674/DRN-XS", learning_rule__beta=0.1, random_state=0, **device
            )
    else:
        split, title = load_digits(), "64 x 2 - 32 - 10 resistive network on 8x8 digits, 30 epochs"

        def model(**device):
            return ResistiveClassifier(
                (32,),
                max_iter=30,
                n_iter_no_change=np.inf,
                tol=0.0,
                learning_rate_init=0.01,
                batch_size=4,
                learning_rule=ResistiveEP(beta=0.05),
                random_state=0,
                **device,
            )

    results, base = study(model, split, options.repeats)
    plot(results, base, title, options.out)
    print(f"plot: {options.out}")


if __name__ == "__main__":
    main()
