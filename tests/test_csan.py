"""The C kernels without Python, under the address and undefined-behaviour sanitizers."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

C_TESTS = Path(__file__).resolve().parent.parent / "csrc" / "tests"
COMPILER = os.environ.get("CC", "gcc").split()[0]


@pytest.mark.slow
@pytest.mark.needs_cc
@pytest.mark.skipif(not shutil.which(COMPILER), reason=f"no C compiler: {COMPILER} was not found")
@pytest.mark.skipif(not shutil.which("make"), reason="no make")
def test_sanitizers(tmp_path):
    command = [
        "make",
        "-C",
        str(C_TESTS),
        f"CC={os.environ.get('CC', 'gcc')}",
        f"OUT={tmp_path}",
        "run",
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    programs = ("layered:", "graph:", "crossbar:", "boltzmann:")
    assert all(name in done.stdout for name in programs) and "test_nodal: ok" in done.stdout
    assert done.stdout.count(" 0 failures") == len(programs)
