"""A Boltzmann machine of two hidden layers on 8x8 digits: filters, samples of each class,
completions; and how far one pass upwards lands from the fixed points (1606.01651).

python examples/generative_digits.py [--out digits.png] [--consistency pass.png]
"""

import argparse

import numpy as np
from sklearn.datasets import load_digits

from eqprop_fast import DeepBoltzmannMachine, theory


def fitted(n_iter=200):
    X, y = load_digits(return_X_y=True)
    X = X / 16
    model = DeepBoltzmannMachine(
        (100, 60),
        n_iter=n_iter,
        n_steps=5,
        n_chains=50,
        batch_size=20,
        learning_rate=0.1,
        schedule="linear",
        use_labels=True,
        random_state=0,
    )
    return model.fit(X[:1500], y[:1500]), X[1500:], y[1500:]


def tiles(images, columns):
    """Images of 8x8 side by side, a line between them."""
    images = [np.pad(i.reshape(8, 8), 1, constant_values=0.5) for i in images]
    return np.block([images[i : i + columns] for i in range(0, len(images), columns)])


def draw(model, X, path):
    import matplotlib.pyplot as plt

    labels = np.arange(10)
    samples = np.concatenate(
        [model.sample(10, 500, given=labels, mean=True, random_state=row) for row in range(6)]
    )
    upper = np.arange(64) < 32
    half = np.where(upper, X[:20], 0.5)
    completed = model.complete(X[:20], upper, n_steps=300)
    rows = [part[i : i + 10] for i in (0, 10) for part in (X[:20], half, completed)]
    w = model.components_[:60]
    w = 0.5 + w / (2 * np.abs(w).max(axis=1, keepdims=True))
    figure, axes = plt.subplots(
        1, 3, figsize=(8, 2.2), width_ratios=(1, 1, 1), layout="constrained"
    )
    pictures = {
        "60 filters of the first layer": tiles(w, 10),
        "samples, a class a column": tiles(samples, 10),
        "data, upper half, completed": tiles(np.concatenate(rows), 10),
    }
    for ax, (title, picture) in zip(axes, pictures.items()):
        ax.imshow(picture, cmap="gray", vmin=0, vmax=1)
        ax.set_title(title, fontsize=9)
        ax.axis("off")
    figure.savefig(path, dpi=80)


def main(out=None, consistency=None, n_iter=200):
    model, X, y = fitted(n_iter)
    result = theory.feedforward_consistency(model, X, y)
    print(f"test accuracy {model.score(X, y):.3f}; {model.log_partition(n_temperatures=1000)}")
    print(
        f"label clamped: residual after the pass {result.verdict:.2f} of a zero start's, sweeps "
        f"saved {result.speed_up:.2f} times"
    )
    if out:
        draw(model, X, out)
    if consistency:
        result.plot().savefig(consistency, dpi=80)
    return model


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out")
    parser.add_argument("--consistency")
    arguments = parser.parse_args()
    main(arguments.out, arguments.consistency)
