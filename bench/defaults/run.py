"""`make bench-defaults`: what the estimators reach out of the box, beside scikit-learn's.

Five folds of each table; within a fold everybody fits in turn, on one thread; seconds are those of
the processor, so that others on the machine do not count. The recipe of the
defaults was chosen on one part of the tables; judge it by the other.
"""

from __future__ import annotations

import json
import os
import time
import warnings
from pathlib import Path

import click
import numpy as np
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import log_loss
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from eqprop_fast import EqPropClassifier, EqPropRegressor, ResistiveClassifier, ResistiveRegressor

from .tables import PARTS, TableUnavailableError, load

ROOT = Path(__file__).resolve().parents[2]
FOLDS = 5
PREDICTIONS = 20  # of one row each; the median counts
OURS, RESISTIVE, MLP = "EqProp", "Resistive", "MLP"


def scaled_y(regressor):
    return TransformedTargetRegressor(regressor, transformer=StandardScaler())


CONTENDERS = {
    True: {
        OURS: lambda seed: EqPropClassifier(n_threads=1, random_state=seed),
        RESISTIVE: lambda seed: ResistiveClassifier(n_threads=1, random_state=seed),
        MLP: lambda seed: MLPClassifier(random_state=seed),
        "linear": lambda seed: LogisticRegression(),
        "boosting": lambda seed: HistGradientBoostingClassifier(random_state=seed),
    },
    False: {
        OURS: lambda seed: EqPropRegressor(n_threads=1, random_state=seed),
        RESISTIVE: lambda seed: ResistiveRegressor(n_threads=1, random_state=seed),
        MLP: lambda seed: scaled_y(MLPRegressor(random_state=seed)),
        "linear": lambda seed: Ridge(),
        "boosting": lambda seed: HistGradientBoostingRegressor(random_state=seed),
    },
}


def run_table(table, raw, names):
    """{contender: {measure: mean over the folds}} of one `Table`."""
    kind = StratifiedKFold if table.classifies else KFold
    folds = kind(FOLDS, shuffle=True, random_state=0).split(table.X, table.y)
    made = {name: make for name, make in CONTENDERS[table.classifies].items() if name in names}
    runs = {name: [] for name in made}
    for seed, (train, test) in enumerate(folds):
        X, X_test = table.X[train], table.X[test]
        if not raw:
            scaler = StandardScaler().fit(X)
            X, X_test = scaler.transform(X), scaler.transform(X_test)
        for name, make in made.items():
            runs[name].append(run_one(make(seed), X, table.y[train], X_test, table.y[test], table))
    return {name: mean(of_folds) for name, of_folds in runs.items()}


def run_one(model, X, y, X_test, y_test, table):
    start = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(X, y)
        fit_seconds = time.process_time() - start
        result = {"score": model.score(X_test, y_test), "fit_seconds": fit_seconds}
        if table.classifies:
            p = model.predict_proba(X_test)
            result["log_loss"] = log_loss(y_test, p, labels=np.unique(table.y))
        times = []
        for row in range(PREDICTIONS):
            start = time.process_time()
            model.predict(X_test[row : row + 1])
            times.append(time.process_time() - start)
    result["predict_row_seconds"] = float(np.median(times))
    return result


def mean(runs):
    return {name: float(np.mean([run[name] for run in runs])) for name in runs[0]}


def summary(results, names):
    """Medians over tables, and how far below MLP the worst is."""
    found = {}
    for classifies in (True, False):
        tables = [r for r in results if r["classifies"] == classifies]
        if not tables:
            continue
        at = {}
        for name in names:
            got = [t["contenders"][name] for t in tables if name in t["contenders"]]
            if got:
                at[name] = {m: float(np.median([g[m] for g in got])) for m in got[0]}
        if MLP in at:
            for name in set(at) - {MLP}:
                rows = [t["contenders"] for t in tables]
                gaps = [r[name]["score"] - r[MLP]["score"] for r in rows]
                at[name]["worst_gap"] = float(min(gaps))
                at[name]["worst_table"] = tables[int(np.argmin(gaps))]["name"]
                ratios = [r[name]["fit_seconds"] / r[MLP]["fit_seconds"] for r in rows]
                at[name]["fit_ratio"] = float(np.median(ratios))
        found["classification" if classifies else "regression"] = at
    return found


@click.command()
@click.option("--part", type=click.Choice([*PARTS]), multiple=True, default=tuple(PARTS))
@click.option("--only", multiple=True, help="Names of tables.")
@click.option("--contender", multiple=True, default=tuple(CONTENDERS[True]), show_default=True)
@click.option("--raw", is_flag=True, help="Features as they are, not standardised.")
@click.option("--out", type=click.Path(path_type=Path), default=None, help="JSON.")
def main(part, only, contender, raw, out):
    """Defaults of our estimators and of scikit-learn's, side by side."""
    results = []
    with threadpool_limits(1):
        for which in part:
            for name in PARTS[which]:
                if only and name not in only:
                    continue
                try:
                    table = load(name)
                except TableUnavailableError as reason:
                    click.echo(f"{name}: skipped, {reason}")
                    continue
                got = run_table(table, raw, contender)
                kept = dict(name=name, part=which, classifies=table.classifies)
                results.append({**kept, "shape": table.X.shape, "contenders": got})
                scores = "  ".join(f"{n} {r['score']:.3f}" for n, r in got.items())
                click.echo(f"{which:9s} {name:14s} {scores}")
    text = json.dumps(
        {
            "raw": raw,
            "cores": os.cpu_count(),
            "tables": results,
            "summary": {
                which: summary([r for r in results if r["part"] == which], contender)
                for which in part
            },
        },
        indent=1,
    )
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text + "\n")
    click.echo(json.dumps(json.loads(text)["summary"], indent=1))


if __name__ == "__main__":
    main()
