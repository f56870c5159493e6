"""Without Numba and without a compiler: what is installed then, what it weighs, that it works."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import cffi
import numpy as np
import pytest
import sklearn

from eqprop_fast.export import save_eqp, untrained

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not sys.platform.startswith("linux"), reason="reads the memory of /proc/self"
    ),
]
ROOT = Path(__file__).parents[1]
_RSS = """
import sys
sys.modules["numba"] = sys.modules["llvmlite"] = None  # which comes with it
def rss():
    with open("/proc/self/status") as file:
        return int(next(line for line in file if line.startswith("VmRSS")).split()[1]) / 1024
"""


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Runs code on a wheel that was built without a compiler; nothing of this checkout is seen."""
    folder = tmp_path_factory.mktemp("small")
    source = folder / "source"  # a copy: builds leave things where they are made
    for name in ("csrc", "eqprop_fast", "kernels"):
        shutil.copytree(
            ROOT / name, source / name, ignore=shutil.ignore_patterns("*.so", "__pycache__")
        )
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in"):
        shutil.copy(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    env = {**os.environ, "CC": "/bin/false", "CXX": "/bin/false", "EQPROP_REQUIRE_C": ""}
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", str(folder), str(source)]
    done = subprocess.run(build, capture_output=True, text=True, env=env, cwd=folder)
    if "No module named" in done.stderr:
        pytest.skip("needs pip, setuptools and cffi")
    assert done.returncode == 0, done.stderr
    wheel = next(folder.glob("*.whl"))
    unpack = [*pip, "install", "--no-deps", "--target", str(folder / "site"), str(wheel)]
    done = subprocess.run(unpack, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    packages = {str(Path(m.__file__).parents[1]) for m in (np, sklearn, cffi)}

    def run(code):
        # -S: no .pth files, which would find the checkout
        clean = {k: v for k, v in env.items() if not k.startswith(("EQPROP_", "PYTHON"))}
        clean |= {"PYTHONPATH": os.pathsep.join([str(folder / "site"), *packages])}
        command = [sys.executable, "-S", "-W", "ignore", "-c", _RSS + code]
        done = subprocess.run(command, capture_output=True, text=True, env=clean, cwd=folder)
        assert done.returncode == 0, done.stderr
        return done.stdout.split()

    return run


def test_import_is_small_and_numpy_serves(small):
    where, megabytes, backend = small(
        "import eqprop_fast; m = rss(); print(eqprop_fast.__file__, m, eqprop_fast.get_backend().name)"
    )
    assert "small" in where and float(megabytes) < 80 and backend == "numpy"


def test_estimators_add_little_to_scikit_learn(small):
    before, after = small(
        "import sklearn.base, sklearn.model_selection; a = rss(); "
        "from eqprop_fast import EqPropClassifier, ResistiveClassifier; print(a, rss())"
    )
    assert float(after) - float(before) < 20


def test_it_fits_predicts_and_exports(small, tmp_path):
    score, *files = small(
        "import numpy as np, eqprop_fast as e; X = np.eye(6); y = [0, 1] * 3\n"
        "m = e.EqPropClassifier((8,), max_iter=60, random_state=0).fit(X, y)\n"
        f"print(m.score(X, y), *m.to_c({str(tmp_path)!r}, dtype='int8', learn=True))\n"
    )
    assert float(score) == 1.0 and len(files) == 2 and Path(files[1]).exists()


def test_a_model_file_is_asked_in_80_megabytes(small, tmp_path):
    """Without a compiler, without Numba, without scikit-learn's memory."""
    model = untrained((64, 32, 10), random_state=0)
    x = np.random.default_rng(0).random((20, 64))
    save_eqp(model, tmp_path / "net.eqp")
    megabytes, loaded, *labels = small(
        "import numpy as np; from eqprop_fast.export import load_eqp\n"
        f"model = load_eqp({str(tmp_path / 'net.eqp')!r})\n"
        "labels = model.predict(np.random.default_rng(0).random((20, 64)))\n"
        "print(rss(), 'sklearn' in sys.modules, *labels)\n"
    )
    assert float(megabytes) < 80 and loaded == "False"
    assert list(map(int, labels)) == model.predict(x, "numpy").tolist()
