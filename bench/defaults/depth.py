"""`python -m bench.defaults.depth`: deep networks at their defaults, beside MLPs of the same shape.

Standardised features, five folds, one thread, in turn within a fold.
"""

from __future__ import annotations

import click
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from eqprop_fast import EqPropClassifier, EqPropRegressor

from .run import FOLDS, MLP, OURS, mean, run_one, scaled_y
from .tables import load

TABLES = "digits", "concrete", "auto_mpg"
DEPTHS, WIDTHS = (1, 2, 3, 4, 5, 6), (32, 64, 128, 256)


def contenders(classifies, shape, seed):
    """{name: estimator} of hidden layers of this shape."""
    both = dict(hidden_layer_sizes=shape, random_state=seed)
    if classifies:
        return {OURS: EqPropClassifier(n_threads=1, **both), MLP: MLPClassifier(**both)}
    return {OURS: EqPropRegressor(n_threads=1, **both), MLP: scaled_y(MLPRegressor(**both))}


def run_shape(table, shape, folds):
    """{contender: {measure: mean}} of the first folds."""
    kind = StratifiedKFold if table.classifies else KFold
    splits = kind(FOLDS, shuffle=True, random_state=0).split(table.X, table.y)
    runs = {OURS: [], MLP: []}
    for seed, (train, test) in zip(range(folds), splits):
        scaler = StandardScaler().fit(table.X[train])
        X, X_test = scaler.transform(table.X[train]), scaler.transform(table.X[test])
        for name, model in contenders(table.classifies, shape, seed).items():
            runs[name].append(run_one(model, X, table.y[train], X_test, table.y[test], table))
    return {name: mean(of_folds) for name, of_folds in runs.items()}


@click.command()
@click.option("--only", multiple=True, default=TABLES, show_default=True, help="Names of tables.")
@click.option("--depth", multiple=True, type=int, default=DEPTHS, show_default=True)
@click.option("--width", multiple=True, type=int, default=WIDTHS, show_default=True)
@click.option("--folds", type=click.IntRange(1, FOLDS), default=FOLDS, show_default=True)
def main(only, depth, width, folds):
    """A row of Markdown for each table and width; score, that of MLP, at each depth."""
    print(f"| table | width | {' | '.join(f'{d} deep' for d in depth)} |")
    print("|---" * (len(depth) + 2) + "|")
    with threadpool_limits(1):
        for name in only:
            table = load(name)
            for units in width:
                cells = []
                for layers in depth:
                    found = run_shape(table, (units,) * layers, folds)
                    cells.append(" / ".join(f"{found[who]['score']:.3f}" for who in (OURS, MLP)))
                print(f"| {name} | {units} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
