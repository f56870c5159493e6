"""Writes build/: the digits network as C with pixels to stream, and a small one for a drifting sensor."""

from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

from eqprop_fast.export import simulate, to_c, untrained
from eqprop_fast.export.targets import TARGETS, link_script
from eqprop_fast.export.template import table

BUILD = Path(__file__).parent / "build"


def array(c_type, name, values):
    return (
        f"static const {c_type} {name}[] = {{\n{table([str(v) for v in np.ravel(values)])}\n}};\n"
    )


def digits():
    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data.target))
    pixels, labels = data.data[order].astype(int), data.target[order]
    # beta and rate as docs/embedded.md chose them
    model = untrained((64, 32, 10), beta=0.25, learning_rate=0.05, random_state=0)
    to_c(model, BUILD, "int16", learn=True, name="digits")
    text = array("uint8_t", "pixels", pixels) + array("uint8_t", "labels", labels)
    (BUILD / "digits_data.h").write_text(text)


def drifting_sensor():
    """Three smells on six sensors; it is calibrated once, then gains and offsets of the sensors drift."""
    rng = np.random.default_rng(0)
    patterns = rng.uniform(0.15, 0.85, (3, 6))
    calibration, n = 600, 3000
    labels = rng.integers(0, 3, calibration + n)
    time = np.concatenate([np.zeros(calibration), np.linspace(0, 1, n)])[:, None]
    gain, offset = 1 + time * rng.uniform(-0.6, 0.6, 6), time * rng.uniform(-0.45, 0.45, 6)
    x = gain * patterns[labels] + offset + rng.normal(0, 0.04, (len(labels), 6))
    model = untrained((6, 12, 3), beta=0.25, learning_rate=0.1, random_state=0)
    device = simulate(model, "int16", learn=True)
    for _ in range(3):
        device.learn(x[:calibration], labels[:calibration])
    parts = zip(model.weights, model.biases, device.formats.weight_bits)
    at = u = 0
    for w, b, bits in parts:  # the calibrated network is what is exported
        w[...] = device.weights[at : at + w.size].reshape(w.shape) / 2.0**bits
        b[...] = device.biases[u : u + b.size] / 2.0**24
        at, u = at + w.size, u + b.size
    # slower than the calibration: at 0.1 a wrong answer can win over all that was learnt before
    to_c(model, BUILD, "int16", learn=True, name="sensor", learning_rate=0.02)
    readings = np.clip(np.rint(x[calibration:] * 2**14), -32767, 32767).astype(int)
    text = array("int16_t", "readings", readings) + array("uint8_t", "labels", labels[calibration:])
    (BUILD / "sensor_data.h").write_text(text)


if __name__ == "__main__":
    BUILD.mkdir(exist_ok=True)
    digits()
    drifting_sensor()
    (BUILD / "link.ld").write_text(link_script(TARGETS[0]))
    print(f"wrote {BUILD}")
