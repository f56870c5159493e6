"""A third party's Hopfield network: rho' everywhere, no clamping, Adam, free phases from random
states.
"""

from ..dynamics import Continuous
from ..relaxation import Relaxation
from ..rules import EP
from .record import LAYERED, mnist

PRESETS = [
    mnist(
        "smonsays/hopfield",
        "third party: github.com/smonsays/equilibrium-propagation, etc/energy_restr_hopfield.json",
        dict(
            hidden_layer_sizes=(1000,),
            activation="sigmoid",
            out_activation="sigmoid",
            dynamics=Continuous(dt=0.1, clamp=False, prime_hidden=True, prime_output=True),
            relaxation=Relaxation("synchronous", n_steps=50, tol=None, start="normal"),
            learning_rule=EP(beta=1.0, nudging="positive", n_steps=50, tol=None),
            solver="adam",
            learning_rate_init=(1e-3, 1e-3),
            batch_size=100,
            max_iter=100,
            learning_rate="constant",
            **LAYERED,
        ),
        test_error=2.82,
        notes="free phases start at standard normal states; the factor of the cost is not stored: 1/2",
    ),
]
