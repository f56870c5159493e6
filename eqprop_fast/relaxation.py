"""How long a network relaxes, in which order its layers move, where it starts (docs/equations.md
3).
"""

from __future__ import annotations

from functools import partial
from numbers import Integral, Real

from sklearn.utils._param_validation import Interval, StrOptions

from . import auto
from .auto import AUTO
from .docstrings import documented
from .parts import Part

MAX_INT = 2**31 - 1  # of the counters that kernels take
STARTS = ("zero", "feedforward", "recognition", "persistent", "carry_over", "normal")
STEPS = [Interval(Integral, 1, MAX_INT, closed="both")]
TOLERANCE = [None, Interval(Real, 0, None, closed="left")]
OR_AUTO = StrOptions({AUTO})


def kernel_tol(tol):
    """A tolerance as kernels take it: below 0 for none."""
    return -1.0 if tol is None else float(tol)


@documented
class Recognition(Part):
    """A start that is learnt: a pass upwards through weights of its own (Initialised EP, ICLR 2019).

    They begin as the pass of "feedforward" and learn beside the network, batch by batch, to predict
    where free phases end: each layer by a normalised delta rule of its own (docs/equations.md 3),
    which touches nothing that the learning rule does. The fitted estimator has them as
    `recognition_coefs_` and `recognition_intercepts_`; ``predict(X, relax=False)`` is the pass
    alone.

    Parameters
    ----------
    learning_rate : float in (0, 2)
        Share of its error that a layer makes up for in a batch whose samples are all alike.
    """

    word = "recognition"
    _parameter_constraints: dict = {"learning_rate": [Interval(Real, 0, 2, closed="neither")]}

    def __init__(self, *, learning_rate=1.0):
        self.learning_rate = learning_rate


@documented
class Relaxation(Part):
    """The free phase of a layered network.

    Parameters
    ----------
    schedule : {"asynchronous", "synchronous"}
        Odd layers then even ones, or all layers at once (the papers' map): same fixed points, the
        former in about half the work.
    n_steps : int or "auto"
        Steps at most (T of the papers), in training and in prediction; "auto": 10, and 10 more for
        each hidden layer.
    tol : float, None or "auto"
        A sample stops after the step in which no unit changed by more than this (per unit time);
        None: always all steps; "auto": 1e-3, or a hundredth of the rule's beta if that is less.
    over_relaxation : float in [1, 2) or "auto"
        Asynchronous sweeps of the undamped discrete map: step by ``over_relaxation * (rho(field) -
        s)``, which reaches the same fixed points in fewer sweeps (docs/equations.md 1.6). 1.2 suits
        deep networks that converge slowly, 1.5 those of hard sigmoids; 1: plain sweeps. "auto": of
        what the contraction of the untrained network asks for, at most 1.3, where it is allowed.
    start : {"zero", "feedforward", "recognition", "persistent", "carry_over", "normal"} or Recognition
        Where a free phase of training starts: at zero; after one pass upwards, in which inputs
        count twice under a hidden layer (1606.01651; the undamped discrete map; it runs batch by
        batch, and serves prediction too, but not exports); after a pass that learns to predict
        the end (`Recognition`; the same); where that sample's last one ended
        (1602.05179), for `fit` alone, which takes as many rows as before for the same samples;
        where the nudged phase of the batch before ended, the +beta one under centered nudging, or
        at zero after a batch of another size (the code of 2402.11674; it runs batch by batch, and
        the nudged phase twice); at fresh standard normal states (smonsays/equilibrium-propagation).
        Prediction starts at zero but for "feedforward" and "recognition".
    """

    _parameter_constraints: dict = {
        "schedule": [StrOptions({"asynchronous", "synchronous"})],
        "n_steps": [OR_AUTO, *STEPS],
        "tol": [OR_AUTO, *TOLERANCE],
        "over_relaxation": [OR_AUTO, Interval(Real, 1, 2, closed="left")],
        "start": [StrOptions(set(STARTS)), Recognition],
    }

    def __init__(
        self, schedule="asynchronous", *, n_steps=AUTO, tol=AUTO, over_relaxation=AUTO, start="zero"
    ):
        self.schedule = schedule
        self.n_steps = n_steps
        self.tol = tol
        self.over_relaxation = over_relaxation
        self.start = start

    @property
    def start_word(self):
        return self.start if isinstance(self.start, str) else self.start.word

    @property
    def recognition(self):
        """The `Recognition` that `start` is or names; None: another start."""
        if self.start == Recognition.word:
            return Recognition()
        return self.start if isinstance(self.start, Recognition) else None

    def _validate_params(self):
        super()._validate_params()
        if isinstance(self.start, Part):
            self.start.validate()

    def in_numbers(self, n_hidden, over_relaxation=1.0, tol=auto.TOLERANCE):
        """The same for a network of `n_hidden` hidden layers, without "auto"."""
        return self.settled(
            n_steps=auto.free_steps(n_hidden), tol=tol, over_relaxation=over_relaxation
        )

    def can_over_relax(self, dynamics):
        """Whether there is over-relaxation under these dynamics."""
        plain = dynamics.word == "discrete" and dynamics.dt == 1
        return plain and self.schedule == "asynchronous"

    def check(self, dynamics):
        """Refuse what these dynamics cannot do.

        Raises
        ------
        ValueError
        """
        if self.over_relaxation not in (1, AUTO) and not self.can_over_relax(dynamics):
            raise ValueError(
                f"relaxation__over_relaxation={self.over_relaxation}: only for schedule='asynchronous' and "
                f"dynamics=Discrete(dt=1), not for schedule={self.schedule!r} and {dynamics!r}"
            )
        passes = self.start_word in ("feedforward", Recognition.word)
        if passes and not (dynamics.word == "discrete" and dynamics.dt == 1):
            raise ValueError(
                f"relaxation__start={self.start_word!r}: only for dynamics=Discrete(dt=1), not {dynamics!r}: "
                "elsewhere one step is not a layer's answer"
            )


@documented
class ResistiveRelaxation(Part):
    """How a resistive network is solved: layer by layer, each exactly given its neighbours.

    Parameters
    ----------
    schedule : {"asynchronous", "synchronous", "forward", "backward"}
        Order of the layers in a step (docs/equations.md 11).
    n_steps : int
        Steps at most, in training and in prediction. A sample that still moves after them is no
        error (the papers take 4 to 6): `equilibrium(X).success` tells. Fewer than the input needs
        to the output are.
    tol : float or None
        A sample stops after a step that moved no node by more than this many volt; None: always all
        steps.
    start : {"zero", "carry_over"}
        Training: at 0 V, or where the last batch ended (as in the code of 2402.11674). There is no
        "feedforward": each layer is solved exactly, and a pass upwards with the layers above cut
        off saved no step at the median (one to three hidden layers).
    """

    _parameter_constraints: dict = {
        "schedule": [StrOptions({"asynchronous", "synchronous", "forward", "backward"})],
        "n_steps": STEPS,
        "tol": TOLERANCE,
        "start": [StrOptions({"zero", "carry_over"})],
    }

    def __init__(self, schedule="asynchronous", *, n_steps=20, tol=1e-4, start="zero"):
        self.schedule = schedule
        self.n_steps = n_steps
        self.tol = tol
        self.start = start

    def _validate_params(self):
        if self.start == "recognition" or isinstance(self.start, Recognition):
            raise ValueError(
                "relaxation__start='recognition': only networks of EqProp* learn a pass"
            )
        if self.start == "feedforward":
            raise ValueError(
                "relaxation__start='feedforward': a resistive network starts at 0 V or, with "
                "'carry_over', where it was: its layers are solved exactly in turn, of which a pass "
                "upwards saves no step"
            )
        super()._validate_params()

    def check(self, spec):
        """Refuse fewer steps than the input of a `ResistiveSpec` needs to the output.

        Raises
        ------
        ValueError
        """
        if self.n_steps < spec.steps_to_output:
            raise ValueError(
                f"relaxation__n_steps={self.n_steps}: with schedule={self.schedule!r} the input needs "
                f"{spec.steps_to_output} steps to the output of {spec.n_weights - 1} hidden layers"
            )


def _words(cls):
    return {word: partial(cls, word) for word in cls._parameter_constraints["schedule"][0].options}


RELAXATIONS = _words(Relaxation)
RESISTIVE_RELAXATIONS = _words(ResistiveRelaxation)
