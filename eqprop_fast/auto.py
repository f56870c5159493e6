"""What "auto" means: one function for each fact, and every number of the recipe.

docs/defaults.md says what the numbers were chosen on and what they reach. Pure functions of plain
values: estimators and parts call them, and publish what they answer as ``*_`` attributes.
"""

from __future__ import annotations

import numpy as np

AUTO = "auto"

# ---- the network ----


def enough_for_products(n_rows, n_features):
    """Whether rows are many enough to tell what products of features do."""
    return ROWS_A_PRODUCT * n_features * (n_features + 3) / 2 <= n_rows


def small_signals(dynamics, continual, own_back, solver):
    """Whether a chain that learns numbers does so with small targets.

    What the outputs send back, W y, is then little beside what comes from below, and the network
    nearly one that only feeds forward, whose gradients depth does not spoil. It asks for units
    that bend at 0, whatever the scale, and for a solver that does not mind small gradients. Weights
    of their own for the way back find the way forward only with large ones.

    Where rows are not `enough_for_products` the almost straight units of the other recipe do better.
    """
    return dynamics == "discrete" and solver == "adam" and not (continual or own_back)


AMPLITUDE = 0.2  # of small targets, in standard deviations


def activation(dynamics, continual, small=False):
    """Of the hidden units: tanh, whose mean is 0, keeps deep layers from saturating.

    The continuous dynamics clip their states to [0, 1], and so want a function onto it; the
    continual rules, which are plain SGD, learn more steadily with one. Small signals want relu6,
    which is bounded too.
    """
    if small:
        return "relu6"
    return "tanh" if dynamics == "discrete" and not continual else "shifted_sigmoid"


def weight_init(small):
    """Of small signals such that no loop amplifies them."""
    return "orthogonal" if small else "fan_in_uniform"


# ---- phases ----

STEPS_ONCE, STEPS_PER_LAYER = 10, 10  # of the free phase; half of both for the nudged one
TOLERANCE, NUDGE_PARTS = 1e-3, 100


def free_steps(n_hidden):
    """At most; a sample that has settled takes no more."""
    return STEPS_ONCE + STEPS_PER_LAYER * max(n_hidden, 1)


def nudged_steps(n_hidden):
    return free_steps(n_hidden) // 2


def tolerance(beta=None, amplitude=1.0):
    """Of both phases: what they leave unsettled is divided by beta, if the rule has one.

    In proportion to the amplitude of the targets.
    """
    tol = TOLERANCE if beta is None else min(TOLERANCE, abs(beta) / NUDGE_PARTS)
    return tol * amplitude


OVER_RELAXATION = 1.3  # at most: beyond, what is gained early is lost near the equilibrium
PROBE_ROWS, PROBE_STEPS = 64, 6  # of the measurement of the contraction


def over_relaxation(contraction):
    """Young's best factor for red-black sweeps that shrink the residual by `contraction` each.

    In whole steps of 0.05: backends round the measurement differently.
    """
    contraction = min(max(contraction, 0.0), 1.0)
    best = 2.0 / (1.0 + np.sqrt(1.0 - contraction))
    return min(round(20 * best) / 20, OVER_RELAXATION)


# ---- learning ----

BATCH_SIZE, RESISTIVE_BATCH_SIZE = 64, 32
RATES = {"adam": 4e-3, "sgd": 0.05, "momentum": 5e-3, "nesterov": 5e-3}
SMALL_RATE, WIDE = 3e-3, 128  # of small signals; units of a hidden layer above another
LAYER_DECAY = 0.35  # each layer of weights learns this much slower than the one below it
DECAY_SHARE, NOISE_SHARE, LARGEST_DECAY = 0.1, 0.3, 0.02  # of classes; of numbers


def solver(continual):
    """Adam, but for rules that move the weights at every nudged step: they are plain SGD."""
    return "sgd" if continual else "adam"


def schedule(continual, streams):
    """Slower once the loss stands still, so that the last steps of Adam are no noise.

    A stream has no loss that could: each call brings other rows.
    """
    return "constant" if continual or streams else "adaptive"


def patience(schedule):
    """Epochs without a better loss: before a smaller rate, or, as scikit-learn's MLP, the end."""
    return 5 if schedule == "adaptive" else 10


def learning_rate_init(solver):
    """Rate of the weights that the input feeds."""
    return RATES[solver]


def small_rate(hidden_layer_sizes):
    """Rate of small signals: between wide layers each step of Adam moves many weights at once."""
    between = max(hidden_layer_sizes, default=1) if len(hidden_layer_sizes) > 1 else 1
    return SMALL_RATE * min(1.0, WIDE / between)


def layer_rates(rate, decay, n_weights, small=False):
    """One rate a layer of weights, falling geometrically from input to output.

    Small signals saturate no layer, and need no fall.
    """
    if decay == AUTO:
        decay = 1.0 if small else LAYER_DECAY
    decay = float(decay)
    return tuple(float(rate) * decay**k for k in range(n_weights))


def batch_size(n_samples, most=BATCH_SIZE):
    return min(most, n_samples)


def weight_decay(n_samples, n_features, n_hidden, continual, noise=None, small=False):
    """The fewer samples (their weights' sum) for a feature, the more; continual rules take none.

    Of numbers also in proportion to their `noise`, as the best ridge is; of classes, None, it is
    of order 1. Upper layers of deep networks, whose updates are small, would follow nothing else.
    """
    if continual:
        return 0.0
    share = DECAY_SHARE if noise is None else NOISE_SHARE * noise
    decay = min(share * n_features / n_samples, LARGEST_DECAY)
    return decay / max(n_hidden, 1) ** (1 if small else 2)


def _looked_at(X, weight):
    """How many rows one stands for where at most SCALE_ROWS are looked at, and those' weights."""
    step = -(-X.shape[0] // SCALE_ROWS)
    weight = np.ones(X.shape[0]) if weight is None else np.asarray(weight, np.float64)
    return step, weight[::step]


def unexplained(X, y, weight=None):
    """Share of the variance of the targets that a model linear in the features leaves, or one of
    their products too where rows are many; its coefficients discounted.

    In whole steps of 0.01, since a BLAS rounds as it likes; 1 where rows are too few to tell.

    Parameters
    ----------
    X : ndarray or CSR, shape (n_samples, n_features)
    y : ndarray, shape (n_samples,) or (n_samples, n_outputs)
    weight : ndarray of shape (n_samples,) or None
        A row of weight 2 counts as two.
    """
    # not before it is needed: import stays light
    from sklearn.preprocessing import MaxAbsScaler, PolynomialFeatures, StandardScaler

    step, weight = _looked_at(X, weight)
    rows = np.flatnonzero(weight) * step
    weight = weight[weight != 0]
    n_rows, n_features = weight.sum(), X.shape[1]
    largest = np.abs(y[rows]).max(initial=0)
    if n_rows <= n_features + 1 or not largest > 0:
        return 1.0
    X, y = X[rows].astype(np.float64), y[rows] / largest
    X = MaxAbsScaler().fit_transform(X)  # or the squares of the next one might leave float64
    left = _left_by_ridge(X, y, weight)
    if enough_for_products(n_rows, n_features):
        X = X.toarray() if hasattr(X, "indptr") else X
        X = np.clip(StandardScaler().fit_transform(X, sample_weight=weight), -WILD, WILD)
        X = PolynomialFeatures(2, include_bias=False).fit_transform(X)
        left = min(left, _left_by_ridge(X, y, weight, centred=True))
    return round(100 * min(max(left, 0.0), 1.0)) / 100


def _left_by_ridge(X, y, weight, centred=False):
    from sklearn.linear_model import Ridge
    from sklearn.metrics import r2_score
    from sklearn.preprocessing import StandardScaler

    n_rows = weight.sum()
    X = StandardScaler(with_mean=centred).fit_transform(X, sample_weight=weight)
    model = Ridge(RIDGE * n_rows).fit(X, y, sample_weight=weight)
    left = 1.0 - r2_score(y, model.predict(X), sample_weight=weight)
    return left * (n_rows - 1) / (n_rows - X.shape[1] - 1)


# ---- the scale of the input ----

SCALE_ROWS = 2000  # that centre, scale and noise are taken from, evenly spaced
ROWS_A_PRODUCT, WILD = 3, 3.0  # rows needed; of the noise: deviations in products, at most
RIDGE = 1e-3  # of features of unit scale, a row: nothing but a safeguard against collinear ones
WINSORISED = 0.95  # deviations beyond this quantile count as it
SOURCE_LIMIT = 10.0  # scaled inputs beyond are held there by the sources of resistive networks


def centre_and_scale(X, weight=None, pixels=1):
    """Median of each feature, and root mean square of what deviates from it, outliers winsorised.

    A feature that is 0 for most rows keeps its zeros; features that do not vary keep the scale 1.
    No scale, None, if none varies.

    Parameters
    ----------
    X : ndarray or CSR, shape (n_samples, n_features)
    weight : ndarray of shape (n_samples,) or None
        A row of weight 2 counts as two.
    pixels : int
        So many columns are one feature: a channel of a map.

    Returns
    -------
    centre, scale : ndarray of float64, shape (n_features / pixels,)
    """
    step, weight = _looked_at(X, weight)
    X = X[::step]
    if pixels > 1:
        X = X.toarray() if hasattr(X, "indptr") else X
        X = X.reshape(len(weight), -1, pixels).swapaxes(1, 2).reshape(len(weight) * pixels, -1)
        weight = np.repeat(weight, pixels)
    pairs = [_column(values, w, weight.sum() - w.sum()) for values, w in _columns(X, weight)]
    centre, scale = np.array([c for c, _ in pairs]), [s for _, s in pairs]
    if all(s is None for s in scale):
        return centre, None
    return centre, np.array([1.0 if s is None else s for s in scale])


def _columns(X, weight):
    """Of each feature the numbers that are not 0, and the weights of their rows."""
    if hasattr(X, "indptr"):
        X = X.tocsc()
        at = [slice(*ends) for ends in zip(X.indptr[:-1], X.indptr[1:])]
        columns = [(X.data[rows].astype(np.float64), weight[X.indices[rows]]) for rows in at]
    else:
        columns = [(column, weight) for column in np.asarray(X, np.float64).T]
    counts = [(values != 0) & (w > 0) for values, w in columns]
    return [(values[c], w[c]) for (values, w), c in zip(columns, counts)]


def _column(values, weight, of_zeros):
    """Centre and scale of a feature, given what is not 0 of it; scale None: it does not vary."""
    centre = 0.0
    if weight.sum() >= of_zeros:
        values, weight = np.append(values, 0.0), np.append(weight, of_zeros)
        centre = median(values, weight)
    deviation = np.abs(values - centre)
    varies = (deviation > 0) & (weight > 0)
    deviation, weight = deviation[varies], weight[varies]
    if not len(deviation):
        return centre, None
    order = np.argsort(deviation)
    below = np.cumsum(weight[order])
    largest = deviation[order][np.searchsorted(below, WINSORISED * below[-1])]
    squares = np.minimum(deviation / largest, 1.0) ** 2
    return centre, largest * np.sqrt(np.average(squares, weights=weight))


def median(values, weight):
    """Where half of the weight lies on either side, as `numpy.median` of repeated values."""
    order = np.argsort(values)
    values, below = values[order], np.cumsum(weight[order])
    half = below[-1] / 2
    ends = np.searchsorted(below, half), np.searchsorted(below, half, side="right")
    return float(np.mean(values[np.minimum(ends, len(values) - 1)]))


SCALES_APART = 1e3  # beyond, features are warned of


def worst_scale(scale):
    """The feature farthest from the others' scale, and the ratio of the largest to the smallest."""
    logs = np.log(scale)
    return int(np.argmax(np.abs(logs - np.median(logs)))), float(np.exp(np.ptp(logs)))


def scaled(X, centre, scale, limit=np.inf):
    """``(X - centre) / scale``, at most `limit` in size; float64, CSR if X is.

    Features with a centre are not 0 for half of the rows: at most twice as much of X is stored.
    """
    if not hasattr(X, "indptr"):
        return _held((X - centre) / scale, limit)
    X, shifted = type(X)(X, dtype=np.float64), np.flatnonzero(centre)
    if len(shifted):
        n_rows, k = X.shape[0], len(shifted)
        every = np.arange(n_rows + 1) * k
        shift = np.tile(centre[shifted], n_rows), np.tile(shifted, n_rows), every
        X = X - type(X)(shift, shape=X.shape)
    return type(X)((_held(X.data / scale[X.indices], limit), X.indices, X.indptr), shape=X.shape)


def _held(values, limit):
    return values if limit == np.inf else np.clip(values, -limit, limit)
