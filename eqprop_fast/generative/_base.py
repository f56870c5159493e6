"""What both generative estimators share: parameters, inference, samples and likelihood."""

from __future__ import annotations

import zlib
from numbers import Integral, Real

import numpy as np
from scipy.special import expit, logit
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import ClassifierTags, check_random_state
from sklearn.utils._param_validation import Interval, Options, StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from .._backends import effective_n_threads
from ..kernels import Boltzmann, Sweeps, get_backend
from ..kernels.registry import BACKENDS
from ..kernels.spec import MAX_WEIGHTS
from ..parts import Parameters, check_numbers
from . import likelihood
from ._fitting import MOST_SEED, FittingMixin
from ._input import InputMixin
from .machine import STARTS, Machine

PLAIN_MEAN = (0.01, 0.99)  # bounds of means whose log odds begin an annealing


def labelled(estimator):
    if hasattr(estimator, "weights_") and not hasattr(estimator, "classes_"):
        raise AttributeError(f"this {type(estimator).__name__} was fitted without labels")
    return True


class GenerativeEstimator(
    InputMixin, FittingMixin, ClassNamePrefixFeaturesOutMixin, TransformerMixin, Parameters
):
    """Base of the estimators; not for direct use.

    Parameters
    ----------
    hidden_layer_sizes : int or sequence of int
        Units of the hidden layers, from the data upwards.
    n_components : int or None
        Units of one hidden layer, under the name that it has in BernoulliRBM; None:
        `hidden_layer_sizes` says.
    learning_rate : float
    schedule : {"auto", "constant", "linear"}
        "linear": the rate falls to 0 over the epochs of `fit`. "auto": "linear" in a Boltzmann
        machine of more than one hidden layer.
    batch_size : int
    n_iter : int
        Epochs.
    n_steps : int or "auto"
        Sweeps of the second phase. "auto": 1, in a Boltzmann machine of more than one hidden layer 5;
        in a Hopfield network 3.
    n_mean_field : int
        Mean-field sweeps of the first phase, at most, after the pass upwards, which with one hidden
        layer gives the posterior itself.
    tol : float
        A row has settled when a sweep changed no mean by more.
    centering : bool or "auto"
        States count from their running means in the gradient (Melchior et al. 2016): learning then
        does not depend on whether ones or zeros are common. "auto": with more than one hidden layer.
    momentum : float
    weight_decay : float
        Of the weights, never of biases.
    pretrain : int
        Epochs for each pair of layers before `fit` trains all of them (Salakhutdinov and Hinton
        2009); 0: none.
    use_labels : bool
        True: `y` in `fit` is learnt too, by a layer of one unit a class above the hidden ones; samples
        can then be of a given class, and classes be predicted. False: `y` is ignored, as
        BernoulliRBM does.
    input_scaling : {"minmax"} or None
        None: X must lie in [0, 1]. "minmax": each feature is mapped to it by its range in the first
        fit, and clipped.
    shuffle : bool
        Whether to shuffle the samples before each epoch.
    verbose : int
    random_state : int, RandomState instance or None
        Of initial weights, shuffling and every draw; the same on all backends, for any number of
        threads and in both precisions.
    backend : {"auto", "c", "numba", "numpy"}
    n_threads : int or None
        None: all usable cores, at most OMP_NUM_THREADS.

    Attributes
    ----------
    weights_ : list of ndarray (N[k], N[k + 1])
        Layer 0 is the visible one.
    biases_ : list of ndarray (N[k],)
    components_ : ndarray of shape (N[1], n_features)
    intercept_visible_, intercept_hidden_ : ndarray
        The first layer of weights, transposed, and the biases on both sides of it.
    classes_ : ndarray, with labels
    visible_mean_ : ndarray of shape (n_features,)
        Mean of the data of the first fit.
    n_features_in_ : int
    feature_names_in_ : ndarray of str, when X had string column names
    input_min_, input_range_ : ndarray, under `input_scaling` "minmax"
    n_iter_ : int
        Epochs run.
    """

    _draw = True
    _parameter_constraints: dict = {
        "hidden_layer_sizes": [Interval(Integral, 1, None, closed="left"), "array-like"],
        "n_components": [None, Interval(Integral, 1, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "schedule": [StrOptions({"auto", "constant", "linear"})],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "n_iter": [Interval(Integral, 0, None, closed="left")],
        "n_steps": [Interval(Integral, 1, None, closed="left"), Options(str, {"auto"})],
        "n_mean_field": [Interval(Integral, 0, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "centering": ["boolean", Options(str, {"auto"})],
        "momentum": [Interval(Real, 0, 1, closed="left")],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "pretrain": [Interval(Integral, 0, None, closed="left")],
        "use_labels": ["boolean"],
        "input_scaling": [None, StrOptions({"minmax"})],
        "shuffle": ["boolean"],
        "verbose": ["verbose"],
        "random_state": ["random_state"],
        "backend": [StrOptions({"auto", *BACKENDS})],
        "n_threads": [None, Interval(Integral, 1, None, closed="left")],
    }

    # --- parameters and fitted state ---

    def _validate_params(self):
        check_numbers(self)
        super()._validate_params()

    def _sizes(self):
        if self.n_components is not None:
            return (self.n_components,)
        sizes = np.atleast_1d(np.asarray(self.hidden_layer_sizes))
        if sizes.ndim != 1 or not sizes.size or sizes.dtype.kind not in "iu" or (sizes < 1).any():
            raise ValueError(
                f"hidden_layer_sizes must be integers above 0, got {self.hidden_layer_sizes!r}"
            )
        if len(sizes) >= MAX_WEIGHTS:
            raise ValueError(f"hidden_layer_sizes must have at most {MAX_WEIGHTS - 1} entries")
        return tuple(int(n) for n in sizes)

    @property
    def _deep(self):
        return len(self._sizes()) > 1

    def _auto(self, name):
        """A parameter, or what "auto" or None stands for at this depth."""
        value = getattr(self, name)
        return self._automatic()[name] if value in (None, "auto") else value

    def _automatic(self):
        return {"centering": self._deep}

    def _machine(self):
        """The fitted machine, over the fitted arrays."""
        check_is_fitted(self)
        parameters = Boltzmann(self.weights_, self.biases_, hasattr(self, "classes_"))
        kernels = get_backend(self.backend)
        return Machine(parameters, kernels, effective_n_threads(self.n_threads))

    @property
    def components_(self):
        if not hasattr(self, "weights_"):
            raise AttributeError("components_")
        return self.weights_[0].T

    @property
    def intercept_visible_(self):
        if not hasattr(self, "weights_"):
            raise AttributeError("intercept_visible_")
        return self.biases_[0]

    @property
    def intercept_hidden_(self):
        if not hasattr(self, "weights_"):
            raise AttributeError("intercept_hidden_")
        return self.biases_[1]

    @property
    def _n_features_out(self):
        return sum(len(b) for b in self._hidden(self.biases_))

    def _hidden(self, layers):
        """The hidden layers among all."""
        return layers[1:-1] if hasattr(self, "classes_") else layers[1:]

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        tags.classifier_tags = ClassifierTags()  # of an estimator that may have predict_proba
        return tags

    # --- inference ---

    def _inference(self):
        return {"n_sweeps": max(self.n_mean_field, 1), "tol": float(self.tol)}

    def mean_field(self, X, y=None, *, start="feedforward"):
        """Means of all layers with X clamped, and y where it is given.

        Parameters
        ----------
        X : {array-like, CSR matrix} of shape (n_samples, n_features)
        y : array-like of shape (n_samples,), optional
        start : {"feedforward", "zero"}
            A pass upwards that counts inputs twice where a layer above is going to answer
            (1606.01651), or all units off.

        Returns
        -------
        means : list of ndarray (n_samples, N[k])
        n_sweeps : ndarray of shape (n_samples,)
            Sweeps that each row took to settle.
        """
        if start not in STARTS:
            raise ValueError(f"start must be one of {sorted(STARTS)}, got {start!r}")
        machine = self._machine()
        x = self._dense(self._checked(X))
        return machine.mean_field(x, self._given(y, len(x)), start=start, **self._inference())

    def _given(self, y, n):
        """Labels as units, for n rows; None for None."""
        if y is None:
            return None
        if not hasattr(self, "classes_"):
            raise ValueError(f"this {type(self).__name__} was fitted without labels")
        y = np.broadcast_to(np.asarray(y), (n,)) if np.ndim(y) == 0 else column_or_1d(y)
        if len(y) != n:
            raise ValueError(f"{n} labels are needed, got {len(y)}")
        return self._one_hot(self._places(y, "labels"), self.biases_[0].dtype)

    def transform(self, X):
        """Means of the hidden units given X, the labels unknown; all layers side by side.

        Parameters
        ----------
        X : {array-like, CSR matrix} of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, sum of hidden_layer_sizes)
        """
        return np.concatenate(self._hidden(self.mean_field(X)[0]), axis=1)

    def inverse_transform(self, H):
        """Means of the visible units given what `transform` returns; only the first layer matters.

        Parameters
        ----------
        H : array-like of shape (n_samples, N[1]) or (n_samples, sum of hidden_layer_sizes)

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
        """
        machine = self._machine()
        H = np.asarray(H)
        n = len(machine.biases[1])
        if H.ndim != 2 or H.shape[1] not in (n, self._n_features_out):
            raise ValueError(
                f"H must have shape (n_samples, {self._n_features_out}) as from transform, or the "
                f"{n} columns of the first hidden layer, got {H.shape}"
            )
        h = H[:, :n].astype(machine.dtype)
        return self._unscaled(expit(h @ machine.weights[0].T + machine.biases[0]))

    def reconstruct(self, X):
        """Means of the visible units given the means of the hidden ones given X."""
        return self.inverse_transform(self.transform(X))

    def complete(self, X, mask=None, *, n_steps=100, draw=None, random_state=None):
        """X with what is missing filled in, given what is there.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Missing entries may be NaN.
        mask : array-like of bool of shape (n_samples, n_features) or (n_features,), optional
            True where X is known; None: where it is not NaN.
        n_steps : int
            Sweeps.
        draw : bool, optional
            Gibbs sampling, of which the last means are returned, or mean field. None: sampling in a
            Boltzmann machine, mean field in a Hopfield network.
        random_state : int, RandomState instance or None
            None: the estimator's.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            Known entries as they are.
        """
        machine = self._machine()
        X = validate_data(
            self, X, reset=False, dtype=(np.float64, np.float32), ensure_all_finite="allow-nan"
        )
        if mask is None:
            mask = ~np.isnan(X)
        mask = np.asarray(mask)
        if mask.dtype.kind != "b" or mask.shape not in (X.shape, X.shape[1:]):
            raise ValueError(
                f"mask must be boolean, of shape {X.shape} or {X.shape[1:]}, got {mask.dtype} of "
                f"shape {mask.shape}"
            )
        mask = np.broadcast_to(mask, X.shape)
        if np.isnan(X[mask]).any():
            raise ValueError("X is NaN where mask says that it is known")
        plain = np.broadcast_to(self._unscaled(self.visible_mean_[None]), X.shape)
        known = np.where(mask, X, plain)
        x = self._dense(self._checked(known))
        means, _ = machine.mean_field(x, **self._inference())
        draw = self._draw if draw is None else draw
        states = means
        extra = {"mask": np.ascontiguousarray(mask, np.int8)}
        if draw:
            shown = [s.copy() for s in states]
            machine.sweep(
                states,
                self._draws(n_steps, random_state),
                [False] * len(states),
                means=shown,
                **extra,
            )
            states = shown
        else:
            sweeps = Sweeps(n_steps, draw=False, tol=float(self.tol))
            machine.sweep(states, sweeps, [False] * len(states), **extra)
        return np.where(mask, X, self._unscaled(states[0])).astype(X.dtype)

    # --- samples ---

    def _rng(self, random_state):
        """None: the estimator's own."""
        return check_random_state(self.random_state if random_state is None else random_state)

    def _draws(self, n_steps, random_state):
        rng = self._rng(random_state)
        return Sweeps(n_steps, seed=int(rng.randint(MOST_SEED)))

    def sample(self, n_samples=1, n_steps=1000, *, given=None, mean=False, random_state=None):
        """Samples, each from a Gibbs chain of its own that begins at random.

        Parameters
        ----------
        n_samples : int
        n_steps : int
            Sweeps of each chain.
        given : label, or array-like of n_samples labels, optional
            Class of the samples, which stays clamped.
        mean : bool
            Return the probabilities of the last visible states instead of the states.
        random_state : int, RandomState instance or None
            None: the estimator's.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
        """
        machine = self._machine()
        for name, n in (("n_samples", n_samples), ("n_steps", n_steps)):
            if not isinstance(n, Integral) or isinstance(n, bool) or n < 1:
                raise ValueError(f"{name} must be an integer above 0, got {n!r}")
        rng = self._rng(random_state)
        states = [
            (rng.uniform(size=(n_samples, len(b))) < 0.5).astype(machine.dtype)
            for b in machine.biases
        ]
        states[0][...] = rng.uniform(size=states[0].shape) < self.visible_mean_
        clamped = [False] * len(states)
        if hasattr(self, "classes_"):
            place = rng.randint(len(self.classes_), size=n_samples)
            states[-1][...] = self._one_hot(place, machine.dtype)
        if given is not None:
            states[-1][...] = self._given(given, n_samples)
            clamped[-1] = True
        means = [s.copy() for s in states]
        machine.sweep(states, self._draws(n_steps, rng), clamped, means=means)
        return self._unscaled((means if mean else states)[0])

    def gibbs(self, v, n_steps=1):
        """The visible units after Gibbs sweeps from v: as in BernoulliRBM, of which one is a step.

        Every call goes on in one stream of random numbers.
        """
        machine = self._machine()
        x = self._dense(self._checked(v))
        if not hasattr(self, "random_state_"):
            self.random_state_ = check_random_state(self.random_state)
        means, _ = machine.mean_field(x, **self._inference())
        machine.sweep(means, self._draws(n_steps, self.random_state_), [False] * len(means))
        return self._unscaled(means[0])

    # --- energies and likelihood ---

    def energy(self, X, hidden=None, y=None):
        """Energy of the states given, or free energy of X.

        Parameters
        ----------
        X : {array-like, CSR matrix} of shape (n_samples, n_features)
        hidden : list of array-like (n_samples, N[k]), optional
            States of the hidden layers. None: they are summed over, exactly with one hidden layer,
            else up to the variational bound, which is not below it.
        y : array-like of shape (n_samples,), optional
            Labels.

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        machine = self._machine()
        x = self._dense(self._checked(X))
        labels = self._given(y, len(x))
        if hidden is None:
            return -machine.log_evidence(x, labels, **self._inference())
        shapes = [(len(x), len(b)) for b in self._hidden(self.biases_)]
        hidden = [np.asarray(h, machine.dtype) for h in hidden]
        if [h.shape for h in hidden] != shapes:
            raise ValueError(
                f"hidden must have arrays of shapes {shapes}, got {[h.shape for h in hidden]}"
            )
        if hasattr(self, "classes_") and labels is None:
            raise ValueError("y is needed beside hidden: labels have an energy too")
        return machine.energy([x, *hidden, *([] if labels is None else [labels])])

    def score_samples(self, X):
        """Pseudo-log-likelihood: the sum over features of log p(x_i | all others).

        With one hidden layer and no labels it is exact, where BernoulliRBM takes one feature at
        random. Else free energies of x and of x with one feature flipped are compared, as there; the
        feature is made from the row, so that the score is always the same.

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        machine = self._machine()
        x = self._dense(self._checked(X))
        if machine.exact and not machine.labelled:
            return machine.pseudo_log_likelihood(x)
        place = np.array([_place_of(row) for row in x])
        flipped = x.copy()
        rows = np.arange(len(x))
        flipped[rows, place] = 1 - flipped[rows, place]
        gain = machine.log_evidence(flipped, **self._inference()) - machine.log_evidence(
            x, **self._inference()
        )
        return -x.shape[1] * np.logaddexp(0, gain)

    def log_partition(
        self,
        method="auto",
        *,
        n_chains=100,
        n_temperatures=10_000,
        reverse=False,
        n_burn_in=1000,
        random_state=None,
    ):
        """log Z, with its error.

        Parameters
        ----------
        method : {"auto", "exact", "ais"}
            "exact": all states of every other layer, which may have 20 units. "auto": exact if that
            can be, else annealed importance sampling.
        n_chains, n_temperatures : int
            Of the annealing, from units without weights, which know the data's means.
        reverse : bool
            Anneal backwards as well, from samples of the machine: exact ones if they can be had,
            else those of persistent chains after `n_burn_in` more sweeps. What is then between both
            estimates is their error.
        n_burn_in : int
        random_state : int, RandomState instance or None

        Returns
        -------
        LogPartition

        Warns
        -----
        ConvergenceWarning
            A few chains decide.
        """
        machine = self._machine()
        if method not in ("auto", "exact", "ais"):
            raise ValueError(f"method must be 'auto', 'exact' or 'ais', got {method!r}")
        for name, n in (("n_chains", n_chains), ("n_temperatures", n_temperatures)):
            if not isinstance(n, Integral) or isinstance(n, bool) or n < 2:
                raise ValueError(f"{name} must be an integer above 1, got {n!r}")
        exact = likelihood.enumerable(machine) is not None
        if method == "exact" or (method == "auto" and exact):
            return likelihood.enumerated(machine)
        rng = self._rng(random_state)
        base = [np.zeros_like(b) for b in machine.biases]
        base[0][...] = logit(np.clip(self.visible_mean_, *PLAIN_MEAN))
        how = {
            "n_temperatures": n_temperatures,
            "seed": int(rng.randint(MOST_SEED)),
            "even_first": len(machine.weights) > 1,
        }
        found = likelihood.annealed(machine, base, n_chains=n_chains, rng=rng, **how)
        if reverse:
            states = self._own_samples(machine, n_chains, exact, n_burn_in, rng)
            upper = likelihood.reverse_annealed(machine, base, states, **how)
            found = likelihood.LogPartition(**{**vars(found), "upper": upper})
        likelihood.say_if_unreliable(found, stacklevel=3)
        return found

    def _own_samples(self, machine, n, exact, n_burn_in, rng):
        seed = int(rng.randint(MOST_SEED))
        if exact:
            states, parity = likelihood.exact_samples(machine, n, rng)
            machine.sweep(
                states, Sweeps(1, even_first=parity == 1, seed=seed), [False] * len(states)
            )
            return states
        if self._draw:
            chosen = rng.randint(len(self.particles_[0]), size=n)
            states = [p[chosen].copy() for p in self.particles_]
        else:
            states = [np.zeros((n, len(b)), machine.dtype) for b in machine.biases]
        machine.sweep(states, Sweeps(n_burn_in, even_first=True, seed=seed), [False] * len(states))
        return states

    def log_likelihood(self, X, log_z=None):
        """log p(x) in nats: exact up to log Z with one hidden layer, else the variational bound.

        Parameters
        ----------
        X : {array-like, CSR matrix} of shape (n_samples, n_features)
        log_z : LogPartition or float, optional
            None: `log_partition()`.

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        machine = self._machine()
        x = self._dense(self._checked(X))
        log_z = self.log_partition() if log_z is None else log_z
        value = log_z.value if isinstance(log_z, likelihood.LogPartition) else float(log_z)
        return machine.log_evidence(x, **self._inference()) - value

    # --- labels ---

    @available_if(labelled)
    def predict_proba(self, X):
        """Probabilities of the classes, ordered as `classes_`."""
        machine = self._machine()
        x = self._dense(self._checked(X))
        return np.exp(machine.log_posterior(x, **self._inference()))

    @available_if(labelled)
    def predict(self, X):
        """The most probable class of each row."""
        best = self.predict_proba(X).argmax(axis=1)
        return self.classes_[best]

    @available_if(labelled)
    def score(self, X, y):
        """Share of the rows whose class is predicted."""
        return float(np.mean(self.predict(X) == column_or_1d(y)))


def _place_of(row):
    """A feature made from a row's values: spread evenly over rows that differ."""
    return zlib.crc32(np.ascontiguousarray(row, np.float32).tobytes()) % len(row)
