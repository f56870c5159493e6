"""Train XOR in a circuit of resistors, diodes and amplifiers, write it as SPICE, and draw it.

python examples/circuit_xor.py [folder]
"""

import sys
from pathlib import Path

import numpy as np

from eqprop_fast.circuits import operating_point, write_spice
from eqprop_fast.circuits.builders import complementary, layered_netlist
from eqprop_fast.circuits.learning import CircuitTrainer
from eqprop_fast.circuits.ngspice import ngspice_available, run_ngspice

X = np.array([[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]])  # volt
Y = np.array([[-0.3], [0.3], [0.3], [-0.3]])


def main(folder="."):
    """Train, compare with ngspice if it is there, and leave xor.cir and xor.png in `folder`."""
    net = layered_netlist(
        [2, 4, 1],
        bias=1.0,
        output_pairs=True,
        low=0.3,
        high=-0.3,
        g_init=(1e-4, 1e-3),
        g_min=1e-6,
        g_max=1e-2,
        random_state=0,
    )
    inputs = complementary(X)
    trainer = CircuitTrainer(net, learning_rate=1e-5, beta=1e-5, momentum=0.9)
    trainer.fit(inputs, Y, epochs=300, random_state=0)
    point = operating_point(net, inputs)
    print(
        f"loss {trainer.losses[0]:.4f} -> {trainer.losses[-1]:.1e}; power {point.power.mean():.2e} W"
    )
    for k, x in enumerate(X):
        line = f"{x} -> {point.outputs[k, 0]:+.4f} V (target {Y[k, 0]:+.1f})"
        if ngspice_available():
            plus, minus = net.outputs[0]
            volts = run_ngspice(net, inputs[k])
            line += f", ngspice {volts[plus] - volts[minus]:+.4f} V"
        print(line)
    write_spice(net, Path(folder) / "xor.cir", inputs[1])
    try:
        import matplotlib
    except ImportError:
        print("matplotlib is not installed: no picture")
        return
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    from eqprop_fast.circuits.plots import plot_circuit, plot_crossbar

    figure, axes = plt.subplots(1, 2, figsize=(13, 5), layout="constrained")
    plot_circuit(point, 1, ax=axes[0])
    rows = [f"x{k}{sign}" for k in range(2) for sign in "pn"] + ["bp", "bn"]
    plot_crossbar(point, rows, [f"h1_{k}" for k in range(4)], 1, ax=axes[1])
    figure.savefig(Path(folder) / "xor.png", dpi=110)


if __name__ == "__main__":
    main(*sys.argv[1:])
