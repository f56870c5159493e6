"""What the fuzz targets share: the clock, byte mutations, and keeping an input that failed."""

import hashlib
import tempfile
import time
from pathlib import Path

CORPUS = Path(__file__).parent.parent / "corpus"
INTERESTING = (
    b"\0",
    b"\xff",
    b"-1",
    b"1e400",
    b"nan",
    b"inf",
    b"9" * 20,
    b"2147483648",
    b'"',
    b"(",
    b"\n",
)


def corpus(name):
    """Contents of the files in ``tests/corpus/NAME``, by file name."""
    return {p.name: p.read_bytes() for p in sorted((CORPUS / name).glob("*")) if p.is_file()}


def mutate(rng, data, tokens=INTERESTING):
    """`data` after a few random edits: bits, bytes, tokens, cuts, repeats."""
    data = bytearray(data)
    for _ in range(int(rng.integers(1, 8))):
        at = int(rng.integers(0, len(data) + 1))
        length = int(rng.integers(1, 1 + min(64, max(1, len(data)))))
        kind = rng.integers(0, 6)
        if kind == 0 and at < len(data):
            data[at] ^= 1 << int(rng.integers(0, 8))
        elif kind == 1:
            data[at : at + length] = rng.bytes(length)
        elif kind == 2:
            data[at:at] = tokens[int(rng.integers(0, len(tokens)))]
        elif kind == 3:
            del data[at : at + length]
        elif kind == 4:
            data[at:at] = data[at : at + length] * int(rng.integers(1, 4))
        elif kind == 5 and rng.random() < 0.1:
            del data[at:]
    return bytes(data)


def run_inputs(name, seconds, seed, make, check):
    """Calls ``check(make(rng))`` until the time is over; counts of inputs and of those accepted.

    An input on which `check` raises is kept in the temporary folder and named in the
    AssertionError.
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    end = time.monotonic() + seconds
    counts = {"inputs": 0, "accepted": 0}
    while time.monotonic() < end:
        data = make(rng)
        try:
            accepted = check(data)
        except Exception as error:
            path = (
                Path(tempfile.gettempdir()) / f"fuzz-{name}-{hashlib.sha1(data).hexdigest()[:12]}"
            )
            path.write_bytes(data)
            raise AssertionError(
                f"{name}, seed {seed}, input {counts['inputs']}, kept in {path}: "
                f"{type(error).__name__}: {error}"
            ) from error
        counts["inputs"] += 1
        counts["accepted"] += bool(accepted)
    return counts
