"""Python with C kernels that the address and undefined-behaviour sanitizers watch.

``python tests/sanitized.py -m pytest tests/test_checks.py`` builds the extension once more, in
``build/sanitized``, as setup.py does but with the sanitizers, and runs what follows over it. The
first finding ends the process.
"""

import os
import runpy
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "sanitized"
FLAGS = "-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer"
OPTIONS = {
    "ASAN_OPTIONS": "detect_leaks=0",
    "UBSAN_OPTIONS": "print_stacktrace=1",
}  # Python itself leaks


def build():
    flags = {"EQPROP_CFLAGS": f"-O1 -g {FLAGS}", "LDFLAGS": FLAGS}
    env = {**os.environ, **flags, "EQPROP_REQUIRE_C": "1"}
    command = [
        "setup.py",
        "-q",
        "build_ext",
        "--build-lib",
        str(BUILD),
        "--build-temp",
        str(BUILD / "obj"),
    ]
    subprocess.run([sys.executable, *command], cwd=ROOT, env=env, check=True)


def library(name):
    compiler = os.environ.get("CC", "gcc").split()[-1]
    return subprocess.check_output([compiler, f"-print-file-name={name}"], text=True).strip()


def main(arguments):
    if not arguments or arguments[0] != "-m":
        sys.exit(__doc__)
    if "EQPROP_SANITIZED" not in os.environ:
        build()
        env = {
            **os.environ,
            **OPTIONS,
            "EQPROP_SANITIZED": "1",
            "LD_PRELOAD": library("libasan.so"),
        }
        return subprocess.run([sys.executable, __file__, *arguments], env=env).returncode
    del os.environ["LD_PRELOAD"]  # not for child processes
    sys.path.insert(0, os.getcwd())
    import eqprop_fast

    eqprop_fast.__path__.insert(0, str(BUILD / "eqprop_fast"))
    from eqprop_fast import _native

    assert Path(_native.__file__).is_relative_to(BUILD), _native.__file__
    sys.argv = arguments[1:]
    runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
