"""`make test-isas`: the kernels' and the estimators' tests under each EQPROP_ISA, OpenBLAS core type and Numba
target that this processor can run; the others are skipped, with the reason. Arguments go to pytest.
"""

import os
import subprocess
import sys

from eqprop_fast.kernels import available_backends

TESTS = """test_batch_mates test_layered_kernels test_layered_rules test_layered_gradients test_layered_numba
test_crossbar test_nodal test_nodal_update test_rules test_inputs test_estimators test_resistive test_threads
""".split()
ISAS = ("sse2", "avx2", "avx512")
# OpenBLAS falls back in silence where the processor lacks what a core type needs, so it is asked here
CORE_TYPES = {
    "Prescott": {"pni"},
    "Nehalem": {"sse4_2"},
    "Sandybridge": {"avx"},
    "Haswell": {"avx2", "fma"},
    "Zen": {"avx2", "fma"},
    "SkylakeX": {"avx512f", "avx512dq", "avx512bw", "avx512vl"},
    "Cooperlake": {"avx512f", "avx512dq", "avx512bw", "avx512vl", "avx512_bf16"},
    "SapphireRapids": {"avx512f", "avx512_bf16", "amx_tile", "amx_bf16"},
}
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
    flags = processor_flags()

    def lacking(needed):
        missing = sorted(needed - flags)
        return "the processor lacks " + ", ".join(missing) if missing else ""

    usable, why = (), "the C backend is not available"
    if "c" in available_backends():
        from eqprop_fast.kernels.native import isa_names

        usable, why = isa_names(), "not built, or the processor lacks it"
    for isa in ISAS:
        yield {"EQPROP_ISA": isa}, "" if isa in usable else why
    for name, needed in CORE_TYPES.items():
        yield {"OPENBLAS_CORETYPE": name}, lacking(needed)
    for name, needed in NUMBA_CPUS.items():
        yield {"NUMBA_CPU_NAME": name, "NUMBA_CPU_FEATURES": ""}, lacking(needed)


def environment(changes):
    """What a run gets: BLAS matters to NumPy alone, and a target of Numba's to Numba."""
    names = {"EQPROP_ISA": "c", "OPENBLAS_CORETYPE": "c numpy", "NUMBA_CPU_NAME": "numba"}
    return {**os.environ, "EQPROP_TEST_BACKENDS": names[next(iter(changes))], **changes}


def main(arguments):
    files, failed = [f"tests/{name}.py" for name in TESTS], []
    for changes, reason in settings():
        name = " ".join(f"{key}={value}" for key, value in changes.items() if value)
        if reason:
            print(f"skipped {name}: {reason}", flush=True)
            continue
        print(f"=== {name}", flush=True)
        command = [sys.executable, "-m", "pytest", "-q", "-m", "not slow", *files, *arguments]
        if subprocess.run(command, env=environment(changes)).returncode:
            failed.append(name)
    print("failed: " + ", ".join(failed) if failed else "all passed", flush=True)
    return len(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
