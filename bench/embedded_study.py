"""Accuracy of learning from scratch in integers: python -m bench.embedded_study digits|mnist [options].

Rates were chosen on a validation split (--validation); tests are on what was held out from that
choice too.
"""

import argparse
import time

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from eqprop_fast.datasets import load_mnist
from eqprop_fast.export import simulate, untrained


def data(name, seed, validation):
    """Training part and the part that is scored."""
    if name == "digits":
        x, y = load_digits(return_X_y=True)
        x, x_test, y, y_test = train_test_split(
            x / 16, y, test_size=360, random_state=seed, stratify=y
        )
    else:
        x, x_test, y, y_test = load_mnist()
        x, x_test, y, y_test = (
            x * (255 / 256),
            x_test * (255 / 256),
            y.astype(int),
            y_test.astype(int),
        )
    if validation:
        x, x_test, y, y_test = train_test_split(
            x, y, test_size=len(y) // 6, random_state=seed, stratify=y
        )
    return x, x_test, y, y_test


def run(args, seed):
    x, x_test, y, y_test = data(args.data, seed, args.validation)
    sizes = (x.shape[1], args.hidden, 10)
    rng, device = np.random.default_rng(seed), None
    for epoch in range(args.passes):
        rate = args.rate * args.decay**epoch
        model = untrained(sizes, beta=args.beta, learning_rate=rate, random_state=seed)
        fresh = simulate(model, args.dtype, learn=True)
        device = device or fresh
        device.rates = fresh.formats.rates
        order = rng.permutation(len(x))
        device.learn(x[order], y[order])
        if args.every:
            print(
                f"  seed {seed} epoch {epoch + 1}: {100 * device.score(x_test, y_test):.2f}",
                flush=True,
            )
    return device.score(x_test, y_test)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", choices=["digits", "mnist"])
    parser.add_argument("--dtype", choices=["int16", "int8"], default="int16")
    parser.add_argument("--hidden", type=int, default=None)
    parser.add_argument("--passes", type=int, default=5)
    parser.add_argument("--rate", type=float, default=None)
    parser.add_argument("--decay", type=float, default=None)
    parser.add_argument("--beta", type=float, default=0.5)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument(
        "--validation", action="store_true", help="score a sixth of the training data"
    )
    parser.add_argument("--every", action="store_true", help="score after each epoch")
    args = parser.parse_args()
    digits = args.data == "digits"
    args.hidden = args.hidden or (32 if digits else 128)
    args.rate = args.rate or (0.05 if digits else 0.015)
    args.decay = args.decay or (0.8 if digits else 0.6)
    start, scores = time.perf_counter(), []
    for seed in range(args.first, args.first + args.seeds):
        scores.append(100 * run(args, seed))
    print(
        f"{args.data} {args.dtype} rate {args.rate} x {args.decay}, beta {args.beta}, {args.passes} passes, "
        f"{args.seeds} seeds: mean {np.mean(scores):.2f}, lowest {min(scores):.2f} "
        f"({', '.join(f'{s:.2f}' for s in scores)}); {time.perf_counter() - start:.0f} s",
        flush=True,
    )


if __name__ == "__main__":
    main()
