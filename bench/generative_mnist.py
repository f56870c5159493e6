"""Boltzmann machines on MNIST: the likelihood of the test set, and a classifier on what they found.

python -m bench.generative_mnist 500 --epochs 150 --steps 5
python -m bench.generative_mnist 500 1000 --pretrain 20 --epochs 100 --steps 5
"""

import argparse
import json
import time
from pathlib import Path

import joblib
import numpy as np
from sklearn.linear_model import LogisticRegression

from eqprop_fast import DeepBoltzmannMachine
from eqprop_fast.datasets import load_mnist

RESULTS = Path(__file__).resolve().parent / "results" / "generative_mnist.json"


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("hidden", nargs="+", type=int, help="units of the hidden layers")
    parser.add_argument("--epochs", type=int, default=150)
    parser.add_argument("--steps", type=int, default=5, help="Gibbs sweeps a batch")
    parser.add_argument("--pretrain", type=int, default=0, help="epochs of each pair of layers")
    parser.add_argument("--rate", type=float, default=0.05)
    parser.add_argument("--temperatures", type=int, default=10_000, help="of the annealing")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--verbose", type=int, default=0)
    parser.add_argument("--model", type=Path, help="file to keep the machine in (joblib)")
    parser.add_argument("--output", type=Path, default=RESULTS, help="JSON, a key a machine")
    return parser.parse_args()


def drawn(x, seed):
    """Each pixel drawn once by its grey value."""
    return (np.random.default_rng(seed).random(x.shape, np.float32) < x).astype(np.float32)


def likelihood(model, x, temperatures):
    """Mean log p of rows (a lower bound, if deep) by log Z forwards and backwards, in nats."""
    z = model.log_partition(n_temperatures=temperatures, reverse=True, random_state=1)
    return {
        "log_z": {key: str(value) for key, value in vars(z).items()},
        "log_p": float(model.log_likelihood(x, z).mean()),
    }


def classified(model, x_train, y_train, x_test, y_test):
    """Test error, %, of a logistic regression on grey images' features, and its C.

    C is chosen by the last rows of the training set.
    """
    x_train, x_test = model.transform(x_train), model.transform(x_test)
    held_out = slice(-10_000, None)
    fitting = slice(None, -10_000)

    def regression(c, rows):
        return LogisticRegression(C=c, max_iter=500).fit(x_train[rows], y_train[rows])

    scores = {
        c: regression(c, fitting).score(x_train[held_out], y_train[held_out])
        for c in (0.1, 0.5, 2, 8)
    }
    best = max(scores, key=scores.get)
    return 100 * (1 - regression(best, slice(None)).score(x_test, y_test)), best


def main():
    options = parse()
    x_train, x_test, y_train, y_test = load_mnist(download=True)
    model = DeepBoltzmannMachine(
        tuple(options.hidden),
        learning_rate=options.rate,
        schedule="linear",
        batch_size=100,
        n_iter=options.epochs,
        n_steps=options.steps,
        pretrain=options.pretrain,
        centering=True,
        verbose=options.verbose,
        random_state=options.seed,
    )
    begin = time.process_time()
    model.fit(drawn(x_train, 0))
    found = {
        "parameters": {
            k: v for k, v in vars(options).items() if k not in ("output", "model", "verbose")
        },
        "processor_seconds": round(time.process_time() - begin),
    }
    found.update(likelihood(model, drawn(x_test, 1), options.temperatures))
    print(json.dumps(found, indent=1), flush=True)
    if options.model:
        joblib.dump(model, options.model)
    found["error"], found["C"] = classified(model, x_train, y_train, x_test, y_test)
    print(f"logistic regression: {found['error']:.2f} %")
    past = json.loads(options.output.read_text()) if options.output.exists() else {}
    past["-".join(map(str, options.hidden))] = found
    options.output.write_text(json.dumps(past, indent=1) + "\n")


if __name__ == "__main__":
    main()
