"""``python -m tests.fuzz SECONDS [SEED] [NAMES...]``: every target, or those named, for so long
together.
"""

import importlib
import os
import sys
import time
import traceback
from pathlib import Path


def names():
    return sorted(p.stem.removeprefix("fuzz_") for p in Path(__file__).parent.glob("fuzz_*.py"))


def main(seconds, seed=0, *chosen):
    chosen = chosen or names()
    os.environ.setdefault("PYTHONWARNINGS", "ignore")  # of child processes too
    failed = []
    for name in chosen:
        target = importlib.import_module(f"tests.fuzz.fuzz_{name}")
        start = time.monotonic()
        try:
            counts = target.run(float(seconds) / len(chosen), int(seed))
            told = ", ".join(f"{count:,} {what}" for what, count in counts.items())
        except AssertionError:
            traceback.print_exc()
            failed.append(name)
            told = "FAILED"
        print(f"{name}: {told} in {time.monotonic() - start:.1f} s, seed {seed}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
