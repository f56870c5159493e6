"""One hidden layer of sigmoids learning by EP, written out: what estimators' training is held to."""

import numpy as np

# Three free and two nudged steps of the plain map on batches of 8, plain SGD.
PARAMETERS = dict(
    hidden_layer_sizes=(7,),
    max_iter=2,
    batch_size=8,
    shuffle=False,
    solver="sgd",
    learning_rate_init=0.1,
    layer_decay=1.0,
    weight_decay=0.0,
    input_scaling=None,
    activation="sigmoid",
    out_activation="sigmoid",
    relaxation__schedule="synchronous",
    relaxation__tol=None,
    learning_rule__tol=None,
    relaxation__n_steps=3,
    learning_rule__n_steps=2,
    learning_rule__beta=0.3,
    random_state=0,
    dtype="float64",
)


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def relax(w, b, x, y, h, o, beta, n_steps):
    """Hidden and output states after synchronous steps, nudged by beta."""
    for _ in range(n_steps):
        new_h = sigmoid(x @ w[0] + b[0] + o @ w[1].T)
        h, o = new_h, sigmoid(h @ w[1] + b[1]) + beta * (y - o)
    return h, o


def learn(w, b, x, low, high, scale):
    """Adds scale times the contrast of two pairs of states to weights and biases, in place."""
    w[0] += scale * x.T @ (high[0] - low[0])
    w[1] += scale * (high[0].T @ high[1] - low[0].T @ low[1])
    b[0] += scale * (high[0] - low[0]).sum(0)
    b[1] += scale * (high[1] - low[1]).sum(0)
