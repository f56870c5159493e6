"""The backends tests run on: all that load here, or those named in EQPROP_TEST_BACKENDS."""

import os

from eqprop_fast import available_backends

BACKENDS = os.environ.get("EQPROP_TEST_BACKENDS", "").split() or available_backends()
