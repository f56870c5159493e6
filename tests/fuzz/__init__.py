"""Fuzz targets, one module `fuzz_NAME.py` each; ``python -m tests.fuzz SECONDS [SEED] [NAMES...]``
runs them.

A target has `run(seconds, seed)`, which returns counts and raises AssertionError on a finding, and
`check(data)`, which judges one input given as bytes. What was once found lies in
`tests/corpus/NAME/` and is replayed through `check` by `tests/test_corpus.py`.
"""
