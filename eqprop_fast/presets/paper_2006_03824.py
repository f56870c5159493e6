"""2006.03824, centered nudging: states follow the gradient of Phi - beta C, so the nudge is inside
rho.
"""

from ..dynamics import Discrete
from ..relaxation import Relaxation
from ..rules import EP
from .record import LAYERED, mnist

PRESETS = [
    mnist(
        "2006.03824/MLP",
        "2006.03824, authors' check of a small MNIST network",
        dict(
            hidden_layer_sizes=(512,),
            activation="shifted_sigmoid",
            out_activation="shifted_sigmoid",
            dynamics=Discrete(nudge_inside=True),
            relaxation=Relaxation("synchronous", n_steps=30, tol=None),
            learning_rule=EP(beta=0.1, nudging="centered", n_steps=10, tol=None),
            solver="adam",
            learning_rate_init=(5e-4, 5e-4),
            batch_size=50,
            max_iter=2,
            learning_rate="constant",
            **LAYERED,
        ),
        notes="the stored command does not say which kind of nudging; we take the paper's, centered",
    ),
]
