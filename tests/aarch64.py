"""make aarch64-test: the library on AArch64, in QEMU's user mode: python -m tests.aarch64 [FOLDER].

The C kernels' own tests, scalar and NEON; then a smoke test of the Python package with its C backend,
cross-compiled, in an AArch64 Python: FOLDER/root, with the packages FOLDER/site. Where FOLDER is not
there, `fetch` fills it from Debian's packages and PyPI; nothing is installed on this machine.
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
PYTHON = ["python3-minimal", "libpython3-stdlib", "libstdc++6"]  # Debian's, with what they need
SITE = ["numpy", "scipy", "scikit-learn", "cffi", "rich", "click"]

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
from eqprop_fast.export import load_eqp, save_eqp
assert platform.machine() == "aarch64" and e.get_backend("c").isa == "neon"
rng = np.random.default_rng(0)
x = rng.random((80, 6))
y = (x[:, 0] + x[:, 1] > 1).astype(int)
for cls, layers, more in (
    (e.EqPropClassifier, (8,), {}),
    (e.ResistiveClassifier, (8,), {}),
    (e.ConvEqPropClassifier, [e.Conv(3, 2, padding=1)], {"input_shape": (3, 2)}),
):
    keep = dict(max_iter=5, random_state=0, **more)
    c, numpy = (cls(layers, backend=b, **keep).fit(x, y) for b in ("c", "numpy"))
    for a, b in zip(c.coefs_, numpy.coefs_):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    save_eqp(c, "net.eqp")
    assert (load_eqp("net.eqp").predict(x) == c.predict(x)).all()
print("python on", platform.machine(), "backend c,", e.get_backend("c").isa, "as numpy: ok")
"""


_APT = """
APT::Architecture "arm64";
APT::Architectures { "arm64"; };
Dir::State "%(apt)s/state";
Dir::State::status "%(apt)s/status";
Dir::Cache "%(apt)s/cache";
"""


def fetch(folder):
    """Download an AArch64 Python into `folder`, with an apt of its own: no root, no new architecture.

    Raises
    ------
    OSError, subprocess.CalledProcessError
        No apt, no network, no such package.
    """
    apt = folder / "apt"
    for name in ("state/lists/partial", "cache/archives/partial"):
        (apt / name).mkdir(parents=True, exist_ok=True)
    (apt / "status").touch()
    (apt / "apt.conf").write_text(_APT % {"apt": apt})
    env = {**os.environ, "APT_CONFIG": str(apt / "apt.conf")}
    install = ["install", "-qq", "-y", "--download-only", "--no-install-recommends", *PYTHON]
    for words in (["update", "-qq"], install):
        subprocess.run(["apt-get", *words], env=env, check=True, stdin=subprocess.DEVNULL)
    root, wheels = folder / "root", folder / "wheels"
    root.mkdir(exist_ok=True)
    for package in sorted((apt / "cache" / "archives").glob("*.deb")):
        subprocess.run(["dpkg-deb", "-x", str(package), str(root)], check=True)
    version = _python(folder).name.removeprefix("python")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q", "download", *SITE]
    pip += ["-d", str(wheels), "--only-binary", ":all:", "--python-version", version]
    for platform in ("manylinux_2_28_aarch64", "manylinux2014_aarch64"):
        pip += ["--platform", platform]
    subprocess.run(pip, check=True)
    for wheel in wheels.glob("*.whl"):
        shutil.unpack_archive(str(wheel), str(folder / "site"), "zip")
    shutil.rmtree(apt)
    shutil.rmtree(wheels)


def _python(folder):
    return next((folder / "root" / "usr" / "bin").glob("python3.*"))


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
        there = {
            "PYTHONHOME": str(folder / "root" / "usr"),
            "PYTHONPATH": f"{source}{os.pathsep}{folder / 'site'}",
        }
        run = [
            EMULATOR,
            "-L",
            str(folder / "root"),
            str(_python(folder)),
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
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "build" / "aarch64").resolve()
    if not folder.exists():
        try:
            print(f"fetching an AArch64 Python into {folder}", flush=True)
            fetch(folder)
        except (OSError, subprocess.CalledProcessError) as error:
            shutil.rmtree(folder, ignore_errors=True)
            print(f"Python: not run, an AArch64 one cannot be had: {error}")
            return failed or 3
    return library(folder) or failed


if __name__ == "__main__":
    sys.exit(main())
