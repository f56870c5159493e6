"""Build of the C kernels: one cffi extension, the generic sources compiled once per instruction
set.

Everything static lives in pyproject.toml. A machine without a compiler still installs: the
extension is optional, one line says that it is missing, and the Numba or NumPy backend serves.
"""

import os
import platform
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent

CSRC = ROOT / "csrc"
sys.path.insert(0, str(CSRC))
# Every file of these is compiled for each instruction set and each precision; so is core/table.c.
FAMILIES = ("layered", "graph", "crossbar", "nodal", "boltzmann")

# Never -ffast-math (it would let the compiler drop the non-finite checks), nor -march=native:
# wheels travel.
CFLAGS = [
    "-O3",
    "-g0",
    "-std=gnu99",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-ffp-contract=off",
    "-fPIC",
]
CFLAGS += os.environ.get("EQPROP_CFLAGS", "").split()  # tests/sanitized.py


def instruction_sets(machine):
    """Name, compiler flags of each variant that `machine` can be built for; the first is the
    baseline.

    EQPROP_BUILD_ISAS="avx2", for development, names those that are wanted.
    """
    wanted = os.environ.get("EQPROP_BUILD_ISAS", "").split()
    return [
        variant
        for variant in _instruction_sets(machine.lower())
        if not wanted or variant[0] in wanted
    ]


def _instruction_sets(machine):
    if machine in {"x86_64", "amd64"}:
        return [
            ("sse2", []),
            ("avx2", ["-mavx2", "-mfma"]),
            (
                "avx512",
                [
                    "-mavx512f",
                    "-mavx512dq",
                    "-mavx512bw",
                    "-mavx512vl",
                    "-mfma",
                    "-mprefer-vector-width=512",
                ],
            ),
        ]
    if machine in {"aarch64", "arm64"}:
        return [("neon", [])]
    return [("scalar", [])]


class BuildKernels(build_ext):
    """Compiles the per-instruction-set objects, then links them into the cffi extension."""

    def build_extension(self, ext):
        try:
            ext.extra_objects = list(ext.extra_objects) + self._compile_variants()
            super().build_extension(ext)
        except Exception as error:  # any compiler trouble: the package must still install
            if os.environ.get("EQPROP_REQUIRE_C"):
                raise
            why = " ".join(
                f"{type(error).__name__}: {error}".split()
            )  # may hold a whole command line
            print(
                f"eqprop_fast: C kernels not built ({why[:100]}); Numba or NumPy will serve.",
                file=sys.stderr,
            )

    def copy_extensions_to_source(self):
        if any(
            Path(self.get_ext_fullpath(ext.name)).exists() or self._built(ext)
            for ext in self.extensions
        ):
            super().copy_extensions_to_source()

    def _built(self, ext):
        return (
            Path(self.build_lib) / self.get_ext_filename(self.get_ext_fullname(ext.name))
        ).exists()

    def get_outputs(self):
        return [path for path in super().get_outputs() if Path(path).exists()]

    def _compile_variants(self):
        temp, jobs = Path(self.build_temp), []
        kernels = [
            CSRC / "core" / "table.c",
            *(s for f in FAMILIES for s in sorted((CSRC / f).glob("*.c"))),
        ]
        headers = sorted(map(str, CSRC.glob("*/*.h")))
        for isa, flags in instruction_sets(platform.machine()):
            for real in ("f32", "f64"):
                names = (f"EQP_ISA_{isa.upper()}", f"EQP_REAL_{real.upper()}")
                macros = [("EQP_ISA", isa), *((name, "1") for name in names)]
                jobs += [
                    (kernel, temp / f"{isa}_{real}", macros, CFLAGS + flags) for kernel in kernels
                ]

        def compile_one(job):
            source, out_dir, macros, flags = job
            return self.compiler.compile(
                [os.path.relpath(source, ROOT)],
                output_dir=str(out_dir),
                macros=macros,
                include_dirs=[str(CSRC)],
                extra_postargs=flags,
                depends=headers,
            )

        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            return [obj for objs in pool.map(compile_one, jobs) for obj in objs]


class BuildModules(build_py):
    """Puts C that Python reads beside its readers: jobs.h, the embedded runtime."""

    def _copies(self):
        if self.editable_mode:
            return {}
        package, embedded = Path(self.build_lib) / "eqprop_fast", CSRC / "embedded"
        return {
            package / "kernels" / "jobs.h": CSRC / "core" / "jobs.h",
            **{
                package / "export" / p.relative_to(embedded): p
                for p in sorted(embedded.rglob("*.[ch]"))
            },
        }

    def run(self):
        super().run()
        for target, source in self._copies().items():
            self.mkpath(str(target.parent))
            self.copy_file(str(source), str(target))

    def get_outputs(self, include_bytecode=True):
        return [*super().get_outputs(include_bytecode), *map(str, self._copies())]


def extensions():
    try:
        from build_ffi import make_extension
    except ImportError as error:
        print(
            f"eqprop_fast: C kernels not built ({error}); Numba or NumPy will serve.",
            file=sys.stderr,
        )
        return []
    variants = instruction_sets(platform.machine())
    macros = [(f"EQP_HAVE_{isa.upper()}", "1") for isa, _ in variants]
    return [make_extension(ROOT, macros, CFLAGS)]


FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))

if __name__ == "__main__":
    os.chdir(ROOT)
    setup(
        ext_modules=extensions(),
        cmdclass={"build_ext": BuildKernels, "build_py": BuildModules},
        options={} if FREE_THREADED else {"bdist_wheel": {"py_limited_api": "cp310"}},
    )
