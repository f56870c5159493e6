"""make aarch64-test: the library on AArch64, in QEMU's user mode: python -m tests.aarch64 [FOLDER].

The C kernels' own tests, scalar and NEON. With FOLDER, also a Python smoke test: FOLDER/root holds an
AArch64 Python (Debian: dpkg --add-architecture arm64; apt-get download python3.11-minimal:arm64
libpython3.11-minimal:arm64 libpython3.11-stdlib:arm64 and the libraries that they need; dpkg -x of
each), FOLDER/site the packages (pip download --platform manylinux_2_28_aarch64 --only-binary :all:
numpy scipy scikit-learn cffi rich click; unpacked). The C backend is cross-compiled for it.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
COMPILER, EMULATOR = "aarch64-linux-gnu-gcc", "qemu-aarch64"
PACKAGES = "gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user"

# setup.py asks this machine what it is
_BUILD = """
import platform, runpy, sys
platform.machine = lambda: "aarch64"
sys.argv = ["setup.py", "-q", "build_ext", "--inplace"]
runpy.run_path("setup.py", run_name="__main__")
"""
_SMOKE = """
import platform
import numpy as np, eqprop_fast as e
assert platform.machine() == "aarch64" and e.get_backend("c").isa == "neon"
rng = np.random.default_rng(0)
x = rng.random((80, 6))
y = (x[:, 0] + x[:, 1] > 1).astype(int)
for cls in (e.EqPropClassifier, e.ResistiveClassifier):
    c, numpy = (cls((8,), max_iter=5, random_state=0, backend=b).fit(x, y) for b in ("c", "numpy"))
    for a, b in zip(c.coefs_, numpy.coefs_):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
print("python on", platform.machine(), "backend c,", e.get_backend("c").isa, "as numpy: ok")
"""


def kernels():
    """The programs of csrc/tests, compiled for AArch64 and run by the emulator."""
    words = [f"CC={COMPILER}", "MACHINE=aarch64", "SAN=-static", "OUT=build/aarch64"]
    command = [
        "make",
        "-s",
        "-C",
        str(ROOT / "csrc" / "tests"),
        "run",
        *words,
        f"RUNNER={EMULATOR}",
    ]
    return subprocess.run(command).returncode


def library(folder):
    """The Python package with a C backend for AArch64, in the Python of `folder`."""
    with tempfile.TemporaryDirectory() as name:
        source = Path(name) / "source"
        for part in ("csrc", "eqprop_fast", "kernels"):
            shutil.copytree(ROOT / part, source / part, ignore=shutil.ignore_patterns("*.so"))
        for part in ("setup.py", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in"):
            shutil.copy(ROOT / part, source)
        cross = {"CC": COMPILER, "LDSHARED": f"{COMPILER} -shared", "EQPROP_REQUIRE_C": "1"}
        build = [sys.executable, "-c", _BUILD]
        subprocess.run(build, cwd=source, env={**os.environ, **cross}, check=True)
        (source / "kernels").rename(source / "eqprop_fast" / "kernels")  # as it is installed
        shutil.copy(source / "csrc" / "core" / "jobs.h", source / "eqprop_fast" / "kernels")
        python = next((folder / "root" / "usr" / "bin").glob("python3.*"))
        there = {
            "PYTHONHOME": str(folder / "root" / "usr"),
            "PYTHONPATH": f"{source}{os.pathsep}{folder / 'site'}",
        }
        run = [
            EMULATOR,
            "-L",
            str(folder / "root"),
            str(python),
            "-S",
            "-W",
            "ignore",
            "-c",
            _SMOKE,
        ]
        return subprocess.run(run, env={**os.environ, **there}, cwd=name).returncode


def main():
    missing = [program for program in (COMPILER, EMULATOR) if shutil.which(program) is None]
    if missing:
        print(f"{', '.join(missing)} not found. Debian: apt-get install {PACKAGES}")
        return 2
    failed = kernels()
    if len(sys.argv) > 1:
        failed |= library(Path(sys.argv[1]).resolve())
    else:
        print("Python: not run, no folder with a Python for AArch64 was given (tests/aarch64.py)")
    return failed


if __name__ == "__main__":
    sys.exit(main())
