"""A copy of the tree, built for one instruction set, that mutants are put into and tests run in."""

import hashlib
import multiprocessing
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PARTS = [
    "csrc",
    "kernels",
    "eqprop_fast",
    "tests",
    "docs",
    "setup.py",
    "pyproject.toml",
    "README.md",
    "LICENSE",
]
SANITIZED = {
    "boltzmann": "test_boltzmann",
    "crossbar": "test_crossbar",
    "graph": "test_graph",
    "nodal": "test_nodal_scalar_f32 test_nodal_scalar_f64",
}
MEMORY = 8 << 30  # bytes: a mutated size must not take the machine down


class Tree:
    """The copy. `isa`: the instruction set of its C kernels."""

    def __init__(self, folder, isa):
        self.folder, self.isa = Path(folder), isa
        for part in PARTS:
            source, target = ROOT / part, self.folder / part
            if source.is_dir():
                shutil.copytree(
                    source, target, ignore=shutil.ignore_patterns("*.so", "__pycache__", "build")
                )
            else:
                shutil.copy(source, target)
        for part in ("kernels", "csrc"):  # where an editable install looks for them
            (self.folder / "eqprop_fast" / part).symlink_to(self.folder / part)
        compiler = os.environ.get("CC", "gcc")
        if shutil.which("ccache") and not compiler.startswith("ccache"):
            compiler = f"ccache {compiler}"
        self.environment = {
            **os.environ,
            "CC": compiler,
            "PYTHONPATH": str(self.folder),
            "PYTHONDONTWRITEBYTECODE": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "NUMBA_DISABLE_JIT": "1",  # as Python: compiling a mutant would take minutes
            "EQPROP_REQUIRE_C": "1",
            "EQPROP_BUILD_ISAS": isa,
            "EQPROP_CFLAGS": "-O1",  # compiles in a third of the time
            "CCACHE_BASEDIR": str(self.folder),
            "CCACHE_NOHASHDIR": "1",  # what another run has compiled, with -g too
        }

    def files(self, patterns):
        return sorted(
            {str(p.relative_to(self.folder)) for s in patterns for p in self.folder.glob(s)}
        )

    def build(self):
        """Digest of the compiled kernels, None if they do not compile."""
        command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True
        )
        if done.returncode != 0:
            self.trouble = done.stdout[-2000:] + done.stderr[-2000:]
            return None
        (library,) = (self.folder / "eqprop_fast").glob("_native*.so")
        return hashlib.sha256(library.read_bytes()).hexdigest()

    def test(self, tests, backends, cpu_seconds, wall_seconds, environment):
        """(verdict, by what, seconds): "survived", "test", "crash" or "time"."""
        options = ["-x", "-q", "-m", "not slow", "-p", "no:cacheprovider", "--tb=no", "--no-header"]
        options += ["-k", "numba" if "numba" in backends else "not numba"]

        def target():
            import pytest

            os.chdir(self.folder)
            os.environ.update(self.environment, EQPROP_TEST_BACKENDS=backends, **environment)
            for name in [n for n in sys.modules if n.split(".")[0] in ("tests", "eqprop_fast")]:
                del sys.modules[name]
            sys.path[:] = [str(self.folder)] + [
                p for p in sys.path if p and Path(p).resolve() != ROOT
            ]
            os._exit(pytest.main([*options, *tests]))

        return self._run(target, cpu_seconds, wall_seconds)

    def sanitized(self, path, cpu_seconds, wall_seconds, threads=False):
        """The program of csrc/tests that runs the kernels of `path`, in plain C, under the address
        and undefined-behaviour sanitizers or that of `threads`.
        """
        program = SANITIZED.get(Path(path).parent.name, "test_layered")
        out = self.folder / ("tsan" if threads else "san")
        programs = " ".join(str(out / name) for name in program.split())
        flags = "SAN='-fsanitize=thread -fno-omit-frame-pointer'" if threads else ""
        make = f"make -s -C csrc/tests ISAS=scalar {flags} OUT={out} {programs}"
        script = f"set -e; {make}; for program in {programs}; do $program; done"

        def target():
            os.chdir(self.folder)
            os.execvpe("sh", ["sh", "-c", script], {**self.environment, "MAKEFLAGS": ""})

        return self._run(target, cpu_seconds, wall_seconds, memory=resource.RLIM_INFINITY)

    def _run(self, target, cpu_seconds, wall_seconds, memory=MEMORY):
        """`target` in a forked process: what it needs is imported once, in this one."""
        log = self.folder / "output.txt"

        def child():
            os.setpgrp()
            out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(out, 1)
            os.dup2(out, 2)
            resource.setrlimit(resource.RLIMIT_CPU, (int(cpu_seconds), int(cpu_seconds) + 5))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
            target()

        before = time.monotonic()
        process = multiprocessing.get_context("fork").Process(target=child)
        process.start()
        process.join(wall_seconds)
        code = -signal.SIGXCPU if process.is_alive() else process.exitcode
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.join()
        seconds = round(time.monotonic() - before, 1)
        self.output = log.read_text(errors="replace")
        if code == 0:
            return "survived", "", seconds
        if code in (-signal.SIGXCPU, -signal.SIGKILL):
            return "time", "", seconds
        if code < 0:
            return "crash", signal.Signals(-code).name, seconds
        failed = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", self.output, re.M)
        return "test", failed.group(1) if failed else f"exit {code}", seconds
