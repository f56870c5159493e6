"""Exports inside QEMU: a short version of make embedded-test, and the size report."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from eqprop_fast.export import untrained
from eqprop_fast.export.targets import TARGETS, report_text, run, size_report
from tests import embedded_targets

BY_NAME = {target.name: target for target in TARGETS}


def _need(name):
    target = BY_NAME[name]
    if target.missing():
        pytest.skip(f"{', '.join(target.missing())} not found")
    return target


@pytest.mark.parametrize("name", ["cortex-m0", "rv32imac"])
@pytest.mark.parametrize("dtype", ["float32", "int16", "int8"])
def test_a_device_learns_what_python_learns(name, dtype):
    target = _need(name)
    model = untrained((64, 12, 10), learning_rate=0.05, random_state=0)
    data = embedded_targets.vectors(30, 20)
    found = run(target, model, dtype, True, data, embedded_targets.twin)
    assert found["same_predictions"] == 30 and found["failed"] == 0
    assert (found["same_weights"], found["same_biases"]) == (model.n_weights, model.n_biases)


@pytest.mark.parametrize(
    ("name", "dtype"), [("cortex-m0", "int16"), ("cortex-m4f", "float32"), ("rv32imac", "int8")]
)
def test_a_convolutional_network_learns_there(name, dtype):
    target, model = _need(name), embedded_targets.maps(True)
    data = embedded_targets.vectors(30, 20)
    found = run(target, model, dtype, True, data, embedded_targets.twin)
    assert found["same_predictions"] == 30 and found["failed"] == 0
    assert (found["same_weights"], found["same_biases"]) == (model.n_weights, model.n_biases)


def test_convolutional_digits_fit_a_cortex_m0():
    target, model = _need("cortex-m0"), embedded_targets.maps(True)
    infers, learns = size_report(model, ("int8",), (False,), [target]) + size_report(
        model, ("int16",), (True,), [target]
    )
    assert infers["flash"] < 8 << 10 and infers["ram"] < 2 << 10
    assert learns["flash"] < 16 << 10 and learns["ram"] < 12 << 10


def test_the_check_finds_what_is_wrong():
    """A twin that says otherwise must be told from one that agrees."""
    target = _need("cortex-m3")
    model = untrained((64, 6, 10), learning_rate=0.05, random_state=0)
    data = embedded_targets.vectors(10, 5)

    def other(m, x, labels):
        answer = embedded_targets.twin(m, x, labels)
        if labels is None:
            return (answer + (np.arange(len(x)) == 3)) % 10
        return answer[0] + 1e-4 * (np.arange(len(answer[0])) == 7), answer[1]

    found = run(target, model, "float32", True, data, other)
    assert found["same_predictions"] == 9 and found["same_weights"] == model.n_weights - 1
    wrong = embedded_targets.check(found, data, model, True)
    assert "1 predictions differ" in wrong and "weights differ" in wrong


def test_digits_fit_a_cortex_m0():
    target = _need("cortex-m0")
    model = untrained((64, 32, 10), random_state=0)
    infers, learns = size_report(model, ("int8",), (False,), [target]) + size_report(
        model, ("int16",), (True,), [target]
    )
    assert infers["flash"] < 8 << 10 and infers["ram"] < 2 << 10
    assert learns["flash"] < 16 << 10 and learns["ram"] < 12 << 10
    assert 0 < infers["stack"] < 256 and 0 < learns["stack"] < 512
    assert infers["multiply_accumulates"] == 64 * 32 + 8 * 2 * 320
    assert infers["multiply_accumulates"] < infers["instructions_predict"] < 300_000
    assert "cortex-m0" in report_text([infers, learns])


def test_what_cannot_be_measured_says_why():
    from dataclasses import replace

    nowhere = replace(TARGETS[0], compiler="no-such-gcc")
    rows = size_report(untrained((4, 3, 2)), ("int8",), (False,), [nowhere])
    assert rows[0]["refused"].startswith("no-such-gcc") and "no-such-gcc" in report_text(rows)


def test_the_example_follows_the_drift(tmp_path):
    """examples/embedded from a copy: what its README says."""
    folder = Path(__file__).parents[1]
    target = _need("cortex-m0")
    if shutil.which("make") is None:
        pytest.skip("make not found")
    shutil.copytree(
        folder / "examples" / "embedded", tmp_path / "e", ignore=shutil.ignore_patterns("build")
    )
    headers = folder / "csrc" / "embedded" / "targets"
    command = [
        "make",
        "sensor",
        f"PYTHON={sys.executable}",
        f"TARGETS={headers}",
        f"CC_ARM={target.compiler}",
    ]
    done = subprocess.run(command, cwd=tmp_path / "e", capture_output=True, text=True)
    printed = done.stdout + done.stderr
    assert done.returncode == 0 and printed.rstrip().endswith("ok"), printed
    rights = [
        [int(n) for n in re.findall(rf"right, {who}: +(\d+)", printed)]
        for who in ("fixed", "learning")
    ]
    assert len(rights[0]) == 6 and rights[0][-1] < 70 and min(rights[1]) > 90
