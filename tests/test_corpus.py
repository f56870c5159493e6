"""Inputs that were once found by `make fuzz` or by hand, replayed."""

import importlib

import pytest

from .fuzz.__main__ import names
from .fuzz.common import CORPUS, corpus

FOLDERS = [folder.name for folder in sorted(CORPUS.iterdir()) if folder.is_dir()]
CASES = [(name, file) for name in FOLDERS for file in corpus(name)]


@pytest.mark.parametrize("name, file", CASES)
def test_replay(name, file):
    importlib.import_module(f"tests.fuzz.fuzz_{name}").check(corpus(name)[file])


@pytest.mark.parametrize("name", names())
def test_targets_run(name):
    """A moment of each, so that none rots."""
    assert importlib.import_module(f"tests.fuzz.fuzz_{name}").run(0.2, 0)
