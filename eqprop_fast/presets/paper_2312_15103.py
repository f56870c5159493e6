"""2312.15103, a comparative study of energy-based learning: deep convolutional Hopfield networks.

Hidden units clip(., 0, 1), linear output, asynchronous sweeps, centered EP; free phases start where
the batch before ended.
"""

from ..networks.graph import Conv
from ..networks.initial import FanInUniform
from ..rules import EP
from ..training.augment import Crop, Flip
from ..training.schedules import Cosine
from .paper_2402_11674 import hopfield
from .record import conv

FLOOR = 2e-6  # that rates fall to
_DCHN = tuple(Conv(n, 3, padding=1, pool="max") for n in (128, 256, 512, 512))
_SHARE = "the code lets every rate fall to 2e-6, ours to its share of the first one"


def _parameters(layers, input_shape, beta, K, gains, rates, weight_decay, **more):
    return hopfield(
        60,
        K,
        100,
        rates,
        layers=layers,
        input_shape=input_shape,
        learning_rule=EP(beta=beta, nudging="centered", n_steps=K, tol=None),
        solver="momentum",
        momentum=0.9,
        weight_decay=weight_decay,
        learning_rate=Cosine(min_factor=FLOOR / rates[0]),
        batch_size=128,
        weight_init=FanInUniform(gain=gains, bias_gain=0.5),
        **more,
    )


CONV_PRESETS = [
    conv(
        "2312.15103/dchn",
        "2312.15103, authors' papers/ebl-algorithms/sota-dchn.py",
        _parameters(
            _DCHN,
            (3, 32, 32),
            0.1,
            20,
            (0.4, 0.7, 0.6, 0.3, 0.4),
            (0.03,) * 5,
            2.5e-4,
            augment=[Flip(0.5), Crop(4, fill="edge")],
        ),
        n_train=50_000,
        notes="the paper's error table is not known to us",
        dataset="CIFAR-10, (x - mean) / (3 deviations) of each channel",
        data="cifar10",
    ),
    conv(
        "2312.15103/dchn-fashion",
        "2312.15103, authors' papers/ebl-algorithms/comparative-study.py",
        _parameters(
            _DCHN,
            (1, 32, 32),
            0.25,
            15,
            (0.5,) * 5,
            (0.0625, 0.0375, 0.025, 0.02, 0.0125),
            3e-4,
            augment=[Crop(2, fill="edge"), Flip(0.5)],
        ),
        notes=f"the paper's error table is not known to us; {_SHARE}",
        dataset="Fashion-MNIST, padded to 32 x 32, (x - mean) / deviation",
        data="fashion_mnist",
    ),
    conv(
        "2312.15103/conv-28",
        "rain-neuromorphics/energy-based-learning: `ConvHopfieldEnergy28`, layers and gains alone",
        _parameters(
            (Conv(32, 5, pool="max"), Conv(64, 5, pool="max")),
            (1, 28, 28),
            0.25,
            15,
            (0.6, 0.6, 1.5),
            (0.0625, 0.0375, 0.025),
            3e-4,
        ),
        notes="no paper trains it: steps, beta and rates are those of the study's first three layers of "
        f"weights; {_SHARE}",
    ),
]
