"""2006.03824, centered nudging: states follow the gradient of Phi - beta C, so the nudge is inside
rho.
"""

from ..dynamics import Discrete
from ..networks.graph import Conv
from ..relaxation import Relaxation
from ..rules import EP
from ..training.augment import Crop, Flip
from ..training.schedules import Cosine
from .record import ALL_EPOCHS, LAYERED, conv, mnist

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
CONV_PRESETS = [
    conv(
        "2006.03824/cnn-mnist",
        "2006.03824, authors' check of a small MNIST network",
        dict(
            layers=(Conv(32, 5, pool="max"), Conv(64, 5, pool="max")),
            input_shape=(1, 28, 28),
            activation="hard_sigmoid",
            out_activation="hard_sigmoid",
            dynamics=Discrete(nudge_inside=True),
            relaxation=Relaxation("synchronous", n_steps=200, tol=None),
            learning_rule=EP(beta=0.4, nudging="centered", n_steps=10, tol=None),
            solver="adam",
            learning_rate="constant",
            learning_rate_init=(5e-5, 1e-5, 8e-6),
            batch_size=100,
            max_iter=1,
            **LAYERED,
        ),
        notes="the stored command does not say which kind of nudging; we take the paper's, centered",
    ),
    conv(
        "2006.03824/cifar10",
        "2006.03824, authors' README: symmetric nudging, squared error",
        dict(
            layers=(
                *(Conv(n, 3, padding=1, pool="max") for n in (128, 256, 512)),
                Conv(512, 3, pool="max"),
            ),
            input_shape=(3, 32, 32),
            activation="half_hard_sigmoid",
            out_activation="half_hard_sigmoid",
            dynamics=Discrete(nudge_inside=True),
            relaxation=Relaxation("synchronous", n_steps=250, tol=None),
            learning_rule=EP(beta=0.5, nudging="centered", n_steps=30, tol=None),
            solver="momentum",
            momentum=0.9,
            weight_decay=3e-4,
            learning_rate=Cosine(min_factor=1e-5 / 0.25),
            learning_rate_init=(0.25, 0.15, 0.1, 0.08, 0.05),
            batch_size=128,
            max_iter=100,
            augment=[Flip(0.5), Crop(4, fill="edge")],
            **ALL_EPOCHS,
        ),
        n_train=50_000,
        notes="11.7 % is the abstract's, which does not say for which loss; the authors train 20 epochs "
        "more at the lowest rate, decay biases too, and every rate falls to 1e-5, ours to its share of the "
        "first one",
        test_error=11.7,
        dataset="CIFAR-10, (x - mean) / (3 deviations) of each channel",
        data="cifar10",
    ),
]
