"""An MLP of emlearn's and a network of ours, both 64-32-10 in float32, on the emulated Cortex-M0.

python -m bench.embedded_emlearn --emlearn-python VENV/bin/python (a venv where emlearn is installed);
needs arm-none-eabi-gcc with newlib, qemu-system-arm.

Each program predicts one image: start-up code, libgcc and libm are in its flash. Ours is measured
with one sweep, which is what a feedforward pass is, and with as many as it was trained with.
"""

import argparse
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier

from eqprop_fast import EqPropClassifier
from eqprop_fast.export import as_model
from eqprop_fast.export.targets import TARGETS, build, emulate, run, sizes
from eqprop_fast.export.template import table

# In emlearn's own Python; sklearn need not be there: what it reads of an MLP stands in for it.
_CONVERT = """
import sys
import numpy as np
import emlearn
with np.load(sys.argv[1]) as data:
    class MLPClassifier:
        n_layers_, activation, out_activation_ = 3, "relu", "softmax"
        coefs_ = [data["w0"], data["w1"]]
        intercepts_ = [data["b0"], data["b1"]]
emlearn.convert(MLPClassifier(), method="inline").save(file=sys.argv[2], name="mlp")
print(list(emlearn.__path__)[0])
"""
_DRIVER = """
#include "mlp.h"
#include "start.h"
static const float x[64] = {{
{pixels}
}};
int main(void)
{{
    volatile int32_t label;
    uint32_t before;
    label = mlp_predict(x, 64); /* once, so that nothing is measured that only the first call does */
    begin_count();
    before = instructions();
    label = mlp_predict(x, 64);
    print_number("instructions_relax", instructions() - before);
    print_number("label", (uint32_t)label);
    print("done\\n");
    return 0;
}}
"""


def emlearn_costs(python, target, mlp, image):
    """Flash, RAM without stack and instructions of emlearn's program; the label it gives."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        arrays = dict(zip(("w0", "w1", "b0", "b1"), (*mlp.coefs_, *mlp.intercepts_)))
        np.savez(folder / "mlp.npz", **arrays)
        command = [python, "-c", _CONVERT, folder / "mlp.npz", folder / "mlp.h"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        include = done.stdout.split()[-1]
        pixels = table([f"{v:.9g}f" if "." in f"{v:.9g}" else f"{v:.9g}.0f" for v in image])
        (folder / "driver.c").write_text(_DRIVER.format(pixels=pixels))
        elf = build(target, folder, {"driver.c": ["-I", include]}, ["-lm", "-lc"], data=True)
        return {**sizes(target, elf), **emulate(target, elf)}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--emlearn-python", default=sys.executable)
    args = parser.parse_args()
    target = next(t for t in TARGETS if t.name == "cortex-m0")
    if target.missing():
        parser.error(f"not found: {', '.join(target.missing())} ({target.packages})")
    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype(np.float32)
    mlp = MLPClassifier((32,), max_iter=30, random_state=0).fit(x[:1200], y[:1200])
    keep = dict(activation="hard_sigmoid", out_activation="hard_sigmoid", random_state=0)
    fitted = EqPropClassifier((32,), max_iter=20, **keep).fit(x[:1200], y[:1200])
    ours, used = as_model(fitted), fitted.equilibrium(x[1200:]).steps
    image = np.full(64, 0.5, np.float32)  # as of size_report: no pixel is 0
    theirs = emlearn_costs(args.emlearn_python, target, mlp, image)
    right = 100 * mlp.score(x[1200:], y[1200:])
    assert theirs["label"] == mlp.predict(image[None])[0]
    print(
        f"ours uses {used.mean():.1f} sweeps on average, {used.max()} at most (tol {ours.tol_free:g})"
    )
    print(
        f"emlearn MLP: flash {theirs['flash']:,}, RAM {theirs['ram']:,} and its stack, "
        f"{theirs['instructions_relax']:,} instructions a prediction; {right:.1f} % right"
    )
    for steps in (1, 2, 4, ours.n_free_steps):
        found = run(target, replace(ours, n_free_steps=steps, tol_free=-1.0), "float32")
        fitted.set_params(relaxation__n_steps=steps, relaxation__tol=None)
        right = 100 * fitted.score(x[1200:], y[1200:])
        ratio = found["instructions_relax"] / theirs["instructions_relax"]
        print(
            f"ours, {steps} sweeps: flash {found['flash']:,}, RAM {found['ram']:,} and its stack, "
            f"{found['instructions_relax']:,} instructions: {ratio:.2f} of emlearn's; {right:.1f} % right"
        )


if __name__ == "__main__":
    main()
