"""Makes every picture in docs/img, kept small, and prints the numbers of docs/theory.md.

EQPROP_DATA=... make figures                       # all: some 10 minutes
EQPROP_DATA=... python docs/figures.py [name ...]  # some: "imports", a key of CHECKS or of PROGRAMS
"""

import json
import runpy
import sys
import tempfile
import time
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
from eqprop_fast import (  # noqa: E402
    DeepBoltzmannMachine,
    DeepHopfieldNetwork,
    EqPropClassifier,
    Recognition,
    Relaxation,
    theory,
)
from eqprop_fast.datasets import load_digits  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "docs" / "img"


def match(preset, **more):
    return lambda: theory.gradient_match(preset, **more)


def learning(kind):
    """A network of three hidden layers that learns digits, measured on held-out ones."""

    def run():
        model = kind((100, 60, 40), learning_rate=0.05, batch_size=20, random_state=0)
        X, rows, _, _ = load_digits()
        return theory.feedforward_training(model, X, rows=rows)

    return run


CHECKS = {
    "toy": match("1905.13633/fig2-toy", n_draws=10),
    "toy_beta_0.001": match("1905.13633/fig2-toy", rule__beta=0.001, n_draws=10),
    "eb_1h": match("1905.13633/fig3-EB-1h"),
    "eb_1h_as_coded": match("1905.13633/fig3-EB-1h", convention="as_coded"),
    "eb_1h_batch_1": match("1905.13633/fig8-EB-1h"),
    "eb_1h_batch_1_as_coded": match("1905.13633/fig8-EB-1h", convention="as_coded"),
    "eb_2h": match("1905.13633/fig3-EB-2h"),
    "eb_2h_batch_1": match("1905.13633/fig9-EB-2h"),
    "eb_3h_batch_1": match("1905.13633/fig10-EB-3h"),
    "eb_3h": match("1905.13633/fig3-EB-3h"),
    "p_1h": match("1905.13633/fig3-P-1h"),
    "p_1h_batch_1": match("1905.13633/fig11-P-1h"),
    "p_1h_batch_1_damped": match("1905.13633/fig11-P-1h", dt=0.2),
    "p_2h": match("1905.13633/fig12-P-2h"),
    "p_3h": match("1905.13633/fig13-P-3h"),
    "conv": match("1905.13633/fig4-conv"),
    "conv_batch_20": match("1905.13633/fig16-conv"),
    **{
        "c_" + name.split("/")[1].replace("-", "_"): match(name)
        for name in theory.PRESETS
        if name.startswith("2005.04168/") and not name.endswith("toy")
    },
    "rbp": theory.rbp_match,
    "continual": theory.continual_deviation,
    "asymmetry": theory.asymmetry_bound,
    "order": theory.gradient_order,
    "conv_nudge": theory.nudge_place,
    "descent": theory.energy_descent,
    "feedforward_training": learning(DeepBoltzmannMachine),
    "feedforward_training_hopfield": learning(DeepHopfieldNetwork),
}
KEPT = {  # the plots shown in docs/theory.md
    "toy",
    "conv",
    "eb_1h",
    "eb_1h_as_coded",
    "eb_2h",
    "eb_3h",
    "p_1h",
    "p_2h",
    "p_3h",
    "c_discrete_C_EP_eta2e_5",
    "c_real_time_C_EP_eta2e_5",
    "c_discrete_C_VF_eta0",
    "c_real_time_C_VF_eta0",
    "rbp",
    "continual",
    "asymmetry",
    "order",
    "descent",
}


DRAWN = {"conv_nudge", "feedforward_training"}  # kept as vectors


def numbers(result):
    """One line of the measured values."""
    if isinstance(result, theory.GradientMatch):
        both = {**result.neuron_rmse, **result.synapse_rmse}
        text = ", ".join(f"{k} {v:.2e}" for k, v in both.items())
        signs = "/".join(f"{v:.1f}" for v in result.sign_agreement.values())
        return f"{text} | sign {signs} % | angle {result.angle:.3f} | T {result.n_free_steps}"
    names = (
        "slope",
        "synapse_slope",
        "rate_slope",
        "beta_slope",
        "debug_identity",
        "rise",
        "limit_gap",
        "deviation",
    )
    return ", ".join(f"{n} {getattr(result, n)}" for n in names if hasattr(result, n))


def save(name, draw):
    """Keep docs/img/NAME.png as `draw(path)` makes it."""
    from bench.pictures import keep

    keep(IMAGES / f"{name}.png", draw)


def check(name):
    """Run a check of eqprop_fast.theory, print its numbers, keep its plot if docs/theory.md shows
    it.
    """
    start = time.perf_counter()
    result = CHECKS[name]()
    seconds = time.perf_counter() - start
    verdict = f"{name}: verdict {result.verdict:.3g}, target {result.target}, {seconds:.1f} s"
    print(f"{verdict} | {numbers(result)}", flush=True)
    if name in DRAWN:
        with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
            result.plot().savefig(IMAGES / f"theory_{name}.svg", metadata={"Date": None})
    if name in KEPT:
        save(f"theory_{name}", lambda path: result.plot().savefig(path, dpi=80))


def circuit_xor(path):
    with tempfile.TemporaryDirectory() as folder:
        runpy.run_path(ROOT / "examples" / "circuit_xor.py")["main"](folder)
        path.write_bytes((Path(folder) / "xor.png").read_bytes())


def devices(path):
    runpy.run_path(ROOT / "examples" / "device_study.py")["main"](["--out", str(path)])


def generative(path):
    """Filters, samples and completions, and the plot of the pass upwards beside them."""
    run = runpy.run_path(ROOT / "examples" / "generative_digits.py")["main"]
    save("theory_feedforward", lambda consistency: run(path, consistency))


def recognition(path):
    """What a learned pass saves a chain of three hidden layers on digits."""
    X, X_test, y, _ = load_digits()
    relaxation = Relaxation(start=Recognition(), over_relaxation=1.0)
    settings = dict(activation="shifted_sigmoid", max_iter=40, n_iter_no_change=np.inf)
    model = EqPropClassifier((100,) * 3, relaxation=relaxation, random_state=0, **settings)
    result = theory.feedforward_consistency(model.fit(X, y), X_test)
    sweeps = {k: np.percentile(v, (50, 95)) for k, v in result.sweeps.items()}
    print(f"recognition: mismatch {result.mismatch}, sweeps (median, 95 %) {sweeps}", flush=True)
    result.plot().savefig(path, dpi=80)


def bench(path):
    from bench import report

    report.plot(json.loads((ROOT / "bench" / "results" / "latest.json").read_text()), path)


PROGRAMS = {
    "circuit_xor": circuit_xor,
    "devices": devices,
    "generative": generative,
    "recognition": recognition,
    "bench": bench,
}


def main(names):
    sys.path.insert(0, str(ROOT))
    IMAGES.mkdir(exist_ok=True)
    for name in names or [*CHECKS, *PROGRAMS, "imports"]:
        if name == "imports":
            runpy.run_path(ROOT / "docs" / "imports.py", run_name="__main__")
        elif name in PROGRAMS:
            save(name, PROGRAMS[name])
        else:
            check(name)


if __name__ == "__main__":
    main(sys.argv[1:])
