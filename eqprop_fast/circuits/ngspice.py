"""Runs the ngspice program on a netlist, as a peer to compare with (tests, benchmark); never needed
to use the package.
"""

import os
import shutil
import subprocess
import tempfile

import numpy as np

from .errors import CircuitError
from .spice_write import spice_nodes, to_spice

#: Tight enough that Newton's last step leaves far less than our tolerances.
TIGHT = "reltol=1e-9 abstol=1e-16 vntol=1e-12 itl1=1000 numdgt=16"


class NgspiceError(CircuitError):
    """ngspice is missing, did not converge, or did not understand the netlist; the message ends
    with its output.
    """


def ngspice_available():
    """True if an `ngspice` program is on the path."""
    return shutil.which("ngspice") is not None


def run_ngspice(netlist, inputs=None, *, options=TIGHT, timeout=120.0):
    """Node voltages (n_nodes,) that ngspice finds, in the order of `netlist.node_names`, volt.

    Raises
    ------
    NgspiceError
    """
    nodes, _ = spice_nodes(netlist)
    text = to_spice(netlist, inputs, end=False)
    values = run_ngspice_text(text, options=options, timeout=timeout)
    missing = [name for name in nodes[1:] if name not in values]
    if missing:
        raise NgspiceError(f"ngspice reports no voltage of node {missing[0]!r}")
    return np.array([0.0] + [values[name] for name in nodes[1:]])


def run_ngspice_text(text, *, options=TIGHT, timeout=120.0):
    """Dictionary of node (and branch) name -> value for SPICE text without .end."""
    program = shutil.which("ngspice")
    if program is None:
        raise NgspiceError("the program ngspice is not on the path")
    with tempfile.TemporaryDirectory() as folder:
        raw = os.path.join(folder, "out.raw")
        deck = os.path.join(folder, "deck.cir")
        with open(deck, "w", encoding="utf-8") as file:
            file.write(text)
            file.write(
                f".options {options}\n.control\nset noaskquit\nop\nwrite {raw} all\nquit\n.endc\n.end\n"
            )
        try:
            done = subprocess.run(
                [program, "-b", deck],
                capture_output=True,
                text=True,
                timeout=timeout,
                cwd=folder,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise NgspiceError(f"ngspice did not finish within {timeout} s") from None
        said = (done.stdout + done.stderr)[-2000:]
        lost = any(
            word in said
            for word in ("aborted", "singular matrix", "Simulation interrupted", "No convergence")
        )
        if not os.path.exists(raw):
            raise NgspiceError(f"ngspice gave no operating point:\n{said}")
        values = _read_raw(raw)
        if lost and not values:
            raise NgspiceError(f"ngspice gave no operating point:\n{said}")
    return values


def _read_raw(path):
    """Values of the one point of a binary ngspice raw file."""
    with open(path, "rb") as file:
        data = file.read()
    head, _, body = data.partition(b"Binary:\n")
    lines = head.decode("utf-8", errors="replace").splitlines()
    count = next(int(line.split(":")[1]) for line in lines if line.startswith("No. Variables"))
    start = next(k for k, line in enumerate(lines) if line.startswith("Variables:"))
    names = [line.split()[1] for line in lines[start + 1 : start + 1 + count]]
    values = np.frombuffer(body[: 8 * count], dtype=np.float64)
    # A lone vector is called V(1) for v(1), and written a second time as v(all).
    strip = lambda name: name[2:-1] if name.startswith("v(") else name  # noqa: E731
    return {strip(name.lower()): float(value) for name, value in zip(names, values, strict=True)}
