"""Exports where an int has 16 bits: an AVR, compiled without warnings and run by simavr.

(QEMU 7.2's AVR stops in optimised code that simavr runs.)
"""

import re
import shutil
import subprocess

import numpy as np
import pytest

from eqprop_fast import Conv, Dense
from eqprop_fast.export import c_texts, simulate, untrained
from eqprop_fast.export.template import runtime_text, table
from eqprop_fast.networks.graph import chain
from tests import embedded_host as host
from tests.embedded_maps import networks

pytestmark = pytest.mark.skipif(
    shutil.which("avr-gcc") is None, reason="needs avr-gcc (Debian: gcc-avr avr-libc)"
)
MAPS = networks({})
AVR = ["avr-gcc", "-mmcu=atmega2560", "-std=c99", "-Os", "-Woverflow", *host.WARNINGS]

# every state and weight over the serial line; asleep without interrupts, the simulator ends
_MAIN = """
#include <avr/interrupt.h>
#include <avr/io.h>
#include <avr/sleep.h>
#include "tiny.c"
#include "data.h"
static tiny_memory arena;
static void put(char c) { while (!(UCSR0A & (1 << UDRE0))) {} UDR0 = (uint8_t)c; }
static void number(int32_t n)
{
    char digits[12]; int i = 0; uint32_t left = n < 0 ? 0u - (uint32_t)n : (uint32_t)n;
    if (n < 0) put('-');
    do digits[i++] = (char)('0' + left % 10); while (left /= 10);
    while (i > 0) put(digits[--i]);
    put(' ');
}
int main(void)
{
    tiny_memory *net; uint16_t row, k; int bad = 0; uint16_t p[TINY_CLASSES];
    UCSR0B = 1 << TXEN0;
    bad |= tiny_init(&arena, sizeof arena, &net) != TINY_OK;
    for (row = 0; row < ROWS; row++) {
        const int16_t *sample = inputs + row * TINY_INPUTS;
        bad |= tiny_predict_proba(net, sample, p) != TINY_OK;
        for (k = 0; k < TINY_CLASSES; k++) number(p[k]);
        for (k = 0; k < TINY_UNITS; k++) number(net->states[k]);
        bad |= tiny_learn(net, sample, labels[row]) != TINY_OK;
    }
    for (k = 0; k < TINY_WEIGHTS; k++) number(net->learned.weights[k]);
    for (k = 0; k < TINY_BIASES; k++) number(net->learned.biases[k]);
    put(bad ? 'F' : 'D');
    put('\\n');
    cli();
    sleep_mode();
    return 0;
}
"""


def _write(folder, name, text):
    (folder / name).write_text(text)


def test_no_warning_of_overflow_or_lost_bits(tmp_path):
    """Of every dtype, of circuits and of the reader of model files."""
    model = dict(schedule="asynchronous", learn={})
    networks = {
        **{f"curved_{d}": (host.random_model(**model), d) for d in ("float32", "int16", "int8")},
        "softmax": (
            host.random_model(out_activation="identity", proba="softmax", gain=0.5, **model),
            "int16",
        ),
        "circuit": (host.resistive_model(pairs=True, scaled=True), "float32"),
    }
    for name in ("deep", "read", "scaled"):
        networks |= {f"{name}_{d}": (MAPS[name], d) for d in ("float32", "int16", "int8")}
    for name, (network, dtype) in networks.items():
        for end, text in zip("hc", c_texts(network, dtype, True, name)):
            _write(tmp_path, f"{name}.{end}", text)
    for name in ("eqp_file.h", "eqp_file.c"):
        _write(tmp_path, name, runtime_text(name))
    for name in (*networks, "eqp_file"):
        command = [*AVR, "-c", f"{name}.c", "-o", "out.o"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[:2000]


@pytest.mark.skipif(shutil.which("simavr") is None, reason="needs simavr")
@pytest.mark.parametrize("kind", ["hard_sigmoid", "tanh", "maps"])
@pytest.mark.parametrize("dtype", ["int16", "int8"])
def test_an_avr_learns_bit_for_bit_what_python_does(dtype, kind, tmp_path):
    """Inputs over all of int16, so that every product needs its 32 bits."""
    sizes, activation = (8, 6, 3), kind
    if kind == "maps":
        layers = [Conv(2, 3, padding=1, pool="max"), Conv(2, 2, pool="average"), Dense(3)]
        sizes, activation = chain((1, 6, 6), layers), "hard_sigmoid"
    model = untrained(sizes, activation=activation, learning_rate=0.1, random_state=0)
    rng, rows = np.random.default_rng(0), 20
    x = rng.integers(-32768, 32768, (rows, model.spec.sizes[0])).astype(np.int16)
    x[0], x[1] = -32768, 32767
    labels = rng.integers(0, 3, rows)
    for end, text in zip("hc", c_texts(model, dtype, True, "tiny")):
        _write(tmp_path, f"tiny.{end}", text)
    arrays = [("int16_t", "inputs", x.ravel()), ("uint8_t", "labels", labels)]
    text = "".join(
        f"static const {t} {name}[] = {{\n{table([str(v) for v in values])}\n}};\n"
        for t, name, values in arrays
    )
    text = text.replace("-32768", "-32767 - 1")  # 32768 is no int there
    _write(tmp_path, "data.h", f"#define ROWS {rows}\n{text}")
    _write(tmp_path, "main.c", _MAIN)
    build = [*AVR[:4], "main.c", "-o", "main.elf"]
    done = subprocess.run(build, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[:2000]
    emulate = ["simavr", "-m", "atmega2560", "-f", "16000000", "main.elf"]
    done = subprocess.run(emulate, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    # what was printed is coloured, in lines of the simulator's choice
    printed = re.sub(r"\x1b\[[0-9;]*m|[\n.]", "", done.stdout + done.stderr)
    printed = re.search("[-0-9 ]*[DF]", printed)[0]
    assert printed.endswith("D"), printed[-500:]
    device, expected = simulate(model, dtype, learn=True), []
    for row, label in zip(x, labels):
        expected += [*device.predict_proba(row[None])[0], *device.relax(row[None])[0][0]]
        device.learn(row[None], [label])
    expected += [*device.weights, *device.biases]
    np.testing.assert_array_equal(np.array(printed[:-1].split(), np.int64), expected)
