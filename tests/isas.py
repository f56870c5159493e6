"""`make test-isas`: the kernels' and the estimators' tests under each EQPROP_ISA, OpenBLAS core
type and Numba target that this processor can run; the others are skipped, with the reason. Ends
with a table.

Arguments: seconds that a run may take; words such as avx2 or Haswell, for only the runs that have
one; from the first that begins with - on, what goes to pytest.
"""

import os
import subprocess
import sys
import time

from eqprop_fast.kernels import available_backends

TESTS = """test_activations test_batch_mates test_random_options test_layered_kernels test_layered_rules
test_layered_gradients test_layered_numba test_graph_kernels test_crossbar test_nodal test_nodal_update
test_boltzmann_kernels test_rules test_inputs test_estimators test_resistive test_threads""".split()
# Numba compiles all it meets anew for each target: minutes a file
NUMBA_TESTS = """test_activations test_batch_mates test_layered_kernels test_crossbar test_nodal
test_nodal_update""".split()
SECONDS = 1800.0
AVX2 = {"avx2", "fma"}
AVX512 = {"avx512f", "avx512dq", "avx512bw", "avx512vl"}
# (EQPROP_ISA, OPENBLAS_CORETYPE, what the latter needs: OpenBLAS falls back in silence, so it is
# asked here). Each instruction set of ours meets the core type of its processors; the other core
# types serve NumPy alone.
PAIRS = (
    ("sse2", "Nehalem", {"sse4_2"}),
    ("avx2", "Haswell", AVX2),
    ("avx512", "SkylakeX", AVX512),
    ("", "Prescott", {"pni"}),
    ("", "Sandybridge", {"avx"}),
    ("", "Zen", AVX2),
    ("", "Cooperlake", AVX512 | {"avx512_bf16"}),
    ("", "SapphireRapids", AVX512 | {"avx512_bf16", "amx_tile", "amx_bf16"}),
)
NUMBA_CPUS = {"x86-64": set(), "nehalem": {"sse4_2"}, "haswell": {"avx2", "fma", "bmi2"}}


def processor_flags():
    """Features of this processor in /proc/cpuinfo's words; empty where there is no such file."""
    try:
        with open("/proc/cpuinfo") as file:
            return set(next((line for line in file if line.startswith("flags")), "").split())
    except OSError:
        return set()


def settings():
    """(environment variables, reason to skip or "") of each run."""
    flags, backends, usable = processor_flags(), available_backends(), ()
    if "c" in backends:
        from eqprop_fast.kernels.native import isa_names

        usable = isa_names()

    def lacking(needed):
        missing = sorted(needed - flags)
        return "the processor lacks " + ", ".join(missing) if missing else ""

    for isa, core, needed in PAIRS:
        changes = {"EQPROP_ISA": isa, "OPENBLAS_CORETYPE": core, "EQPROP_TEST_BACKENDS": "c numpy"}
        if not isa:
            changes.pop("EQPROP_ISA")
            changes["EQPROP_TEST_BACKENDS"] = "numpy"
        yield (
            changes,
            lacking(needed) or ("" if not isa or isa in usable else f"no C kernels for {isa} here"),
        )
    for name, needed in NUMBA_CPUS.items():
        changes = {
            "NUMBA_CPU_NAME": name,
            "NUMBA_CPU_FEATURES": "",
            "EQPROP_TEST_BACKENDS": "numba",
        }
        yield changes, lacking(needed) or ("" if "numba" in backends else "no Numba here")


def run(changes, seconds, arguments):
    """Run the tests; what became of them, in a few words, and whether all is well."""
    names = NUMBA_TESTS if "NUMBA_CPU_NAME" in changes else TESTS
    files = [f"tests/{name}.py" for name in names]
    command = [sys.executable, "-m", "pytest", "-q", "-m", "not slow", *files, *arguments]
    start = time.monotonic()
    try:
        status = subprocess.run(command, env={**os.environ, **changes}, timeout=seconds).returncode
    except subprocess.TimeoutExpired:
        return f"not ended after {seconds:.0f} s", False
    return f"{'failed' if status else 'passed'} in {time.monotonic() - start:.0f} s", not status


def main(arguments):
    seconds = float(arguments[0]) if arguments else SECONDS
    first = next((k for k, a in enumerate(arguments) if a.startswith("-")), len(arguments))
    only, options = set(arguments[1:first]), arguments[first:]
    table, failed = [], 0
    for changes, reason in settings():
        if only and not only & set(changes.values()):
            continue
        name = " ".join(f"{key}={value}" for key, value in changes.items() if value)
        if reason:
            table.append(f"skipped: {reason:38} {name}")
            continue
        print(f"=== {name}", flush=True)
        verdict, well = run(changes, seconds, options)
        failed += not well
        table.append(f"{verdict:47} {name}")
    print(*table, sep="\n", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
