"""Microcontrollers as QEMU emulates them: an exported network compiled, run and measured there."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .csource import c_texts
from .model import as_model
from .simulation import simulate
from .template import c_float, runtime_text, table

WARNINGS = "-Wall -Wextra -Wconversion -Wshadow -Wpedantic -Wdouble-promotion -Werror".split()
COMMON = ["-std=c99", "-Os", "-ffreestanding", "-ffunction-sections", "-fdata-sections"]


@dataclass(frozen=True)
class Target:
    """One microcontroller.

    Attributes
    ----------
    compiler, emulator : str
        Programs; `packages` are Debian's that have them.
    flags, machine : tuple of str
        Of the compiler and of the emulator.
    flash, ram : (int, int)
        Address and size.
    mhz : int
        Clock of SysTick, which counts instructions; 0 where there is a counter of them.
    """

    name: str
    compiler: str
    emulator: str
    packages: str
    flags: tuple
    machine: tuple
    flash: tuple
    ram: tuple
    mhz: int

    def missing(self):
        """Programs that are not there."""
        return [p for p in (self.compiler, self.emulator) if shutil.which(p) is None]


def _arm(name, flags, machine, flash, ram, mhz):
    flags = ("-mthumb", *flags)
    return Target(
        name,
        "arm-none-eabi-gcc",
        "qemu-system-arm",
        "gcc-arm-none-eabi qemu-system-arm",
        flags,
        ("-machine", machine),
        flash,
        ram,
        mhz,
    )


_MPS2 = ((0, 4 << 20), (0x20000000, 4 << 20), 25)
TARGETS = (
    _arm("cortex-m0", ("-mcpu=cortex-m0",), "microbit", (0, 256 << 10), (0x20000000, 16 << 10), 16),
    _arm("cortex-m3", ("-mcpu=cortex-m3",), "mps2-an385", *_MPS2),
    _arm(
        "cortex-m4f",
        ("-mcpu=cortex-m4", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16"),
        "mps2-an386",
        *_MPS2,
    ),
    _arm(
        "cortex-m7",
        ("-mcpu=cortex-m7", "-mfloat-abi=hard", "-mfpu=fpv5-sp-d16"),
        "mps2-an500",
        *_MPS2,
    ),
    Target(
        "rv32imac",
        "riscv64-unknown-elf-gcc",
        "qemu-system-riscv32",
        "gcc-riscv64-unknown-elf qemu-system-misc",
        ("-march=rv32imac", "-mabi=ilp32", "-mno-relax"),
        ("-machine", "virt", "-bios", "none"),
        (0x80000000, 1 << 20),
        (0x80100000, 1 << 20),
        0,
    ),
)

_LINK = """ENTRY({entry})
MEMORY {{
    FLASH (rx) : ORIGIN = {flash[0]}, LENGTH = {flash[1]}
    RAM (rwx) : ORIGIN = {ram[0]}, LENGTH = {ram[1]}
}}
SECTIONS {{
    .text : {{ KEEP(*(.vectors)) *(.text*) *(.rodata*) *(.srodata*) }} > FLASH
    .bss (NOLOAD) : {{
        bss_start = .;
        *(.bss*) *(.sbss*) *(COMMON)
        . = ALIGN(4);
        bss_end = .;
    }} > RAM
    .data : {{ *(.data*) *(.sdata*) }} > RAM
    ASSERT(SIZEOF(.data) == 0, "nothing here may need initialised RAM")
    stack_top = ORIGIN(RAM) + LENGTH(RAM);
    /DISCARD/ : {{ *(.comment) *(.ARM.exidx*) *(.eh_frame*) *(.note*) }}
}}
"""


@dataclass
class Vectors:
    """What a target must give: pixels are bytes of 1/16 (digits).

    With `learn`, the rows of `learn_pixels` are streamed once.
    """

    pixels: np.ndarray
    labels: np.ndarray
    learn_pixels: np.ndarray
    learn_labels: np.ndarray


def run(target, model, dtype="float32", learn=False, vectors=None, twin=None, **options):
    """Compile a network for a target, run it there, and read what it printed.

    Parameters
    ----------
    target : Target
    model : NetModel
    dtype, learn, options : as of `eqprop_fast.export.to_c`
    vectors : Vectors or None
        None: only the costs are measured, of one zero sample.
    twin : callable or None
        ``twin(model, x, labels)`` gives the weights and biases that float32 shall learn.

    Returns
    -------
    dict
        Numbers by name: flash, ram (without stack), arena, stack_predict, stack_learn,
        instructions_relax, instructions_learn, sweeps; with `vectors` same_predictions,
        same_weights, same_biases, right_before, right_after.

    Raises
    ------
    RuntimeError
        Compiler or emulator failed; the message is theirs.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        header, source = c_texts(model, dtype, learn, "net_on_target", **options)
        (folder / "net_on_target.h").write_text(header)
        (folder / "net_on_target.c").write_text(source)
        (folder / "vectors.h").write_text(
            _vectors(model, dtype, learn, vectors, twin, source, options)
        )
        (folder / "driver.c").write_text(runtime_text("targets/driver.c"))
        elf = build(target, folder, {"net_on_target.c": WARNINGS, "driver.c": []})
        return {**sizes(target, elf), **emulate(target, elf)}


def link_script(target):
    """A linker script for a program with start.h."""
    entry = "reset" if target.mhz == 0 else "start"
    return _LINK.format(entry=entry, flash=target.flash, ram=target.ram)


def build(target, folder, sources, libraries=(), data=False):
    """Compile the C files of a folder, with start.h and a linker script there, to a program.

    Parameters
    ----------
    target : Target
    folder : Path
    sources : dict
        Name in the folder -> options of the compiler.
    libraries : sequence of str
        For the linker.
    data : bool
        Other people's programs may have initialised RAM, which the emulator loads.

    Returns
    -------
    Path
        The program.
    """
    script = link_script(target)
    if data:
        script = "".join(line for line in script.splitlines(True) if "ASSERT" not in line)
    (folder / "link.ld").write_text(script)
    (folder / "start.h").write_text(runtime_text("targets/start.h"))
    compiler = [target.compiler, *COMMON, *target.flags]
    clock = [f"-DNS_PER_1024_TICKS={1024 * 1000 // target.mhz}"] if target.mhz else []
    for source, options in sources.items():
        _call([*compiler, *clock, *options, "-c", source, "-o", f"{source[:-2]}.o"], folder)
    objects = [f"{source[:-2]}.o" for source in sources]
    link = ["-nostdlib", "-Wl,--gc-sections", "-Wl,--no-warn-rwx-segments", "-T", "link.ld"]
    _call([*compiler, *link, *objects, *libraries, "-lgcc", "-o", "a.elf"], folder)
    return folder / "a.elf"


def _call(command, folder=None, seconds=300):
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=seconds)
    if done.returncode != 0:
        raise RuntimeError(
            f"{' '.join(command[:3])} ...: {done.stdout[-1500:]}{done.stderr[-1500:]}"
        )
    return done.stdout + done.stderr


def sizes(target, elf):
    """Bytes of flash and of RAM (without stack) of a program or object."""
    size = target.compiler.replace("gcc", "size")
    text, data, bss = (int(n) for n in _call([size, str(elf)]).splitlines()[1].split()[:3])
    return {"flash": text + data, "ram": data + bss}


def emulate(target, elf):
    """Run a program; the numbers that it printed, by name."""
    command = [
        target.emulator,
        *target.machine,
        "-icount",
        "shift=0",
        "-nographic",
        "-monitor",
        "none",
        "-serial",
        "none",
        "-semihosting-config",
        "enable=on,target=native",
        "-kernel",
        str(elf),
    ]
    printed = _call(command)
    found = {name: int(n) for name, n in re.findall(r"^(\w+) (\d+)$", printed, flags=re.M)}
    if not re.search(r"^done$", printed, flags=re.M):
        raise RuntimeError(f"{target.name}: {printed[-1500:]}")
    return found


def _vectors(model, dtype, learn, vectors, twin, source, options):
    """The text of vectors.h."""
    n_in = model.spec.sizes[0]
    names = sorted(set(re.findall(r"\bnet_on_target_\w+|\bNET_ON_TARGET_\w+", source)))
    lines = ['#include "net_on_target.h"', "#define net_init net_on_target_init"]
    words = ["memory", "value", "result", "relax", "predict", "learn", "reset"]
    lines += [f"#define net_{w} net_on_target_{w}" for w in words]
    lines += ["#define NET_OK NET_ON_TARGET_OK"]
    lines += [f"#define NET_{w} NET_ON_TARGET_{w}" for w in ("INPUTS", "BIASES", "WEIGHTS")]
    assert "net_on_target_relax" in names
    if dtype == "float32":
        lines += ["#define PIXEL(p) ((float)(p) / 16.0f)"]
        lines += ["#define SAME(a, b) ((a) - (b) < 1e-5f && (b) - (a) < 1e-5f)"]
    else:
        shift = "NET_ON_TARGET_INPUT_BITS"
        lines += [f"#define PIXEL(p) ((int16_t)((int32_t)(p) * ((int32_t)1 << {shift}) / 16))"]
        lines += ["#define SAME(a, b) ((a) == (b))"]
    if learn:
        lines.append("#define LEARNS")
    lines += [
        _array("uint8_t", "cost_pixels", [8] * n_in if vectors is None else vectors.pixels[0])
    ]
    lines += [f"#define N_PREDICT {0 if vectors is None else len(vectors.pixels)}"]
    lines += [
        f"#define N_LEARN {len(vectors.learn_pixels) if vectors is not None and learn else 0}"
    ]
    if vectors is not None:
        lines += _expected(model, dtype, learn, vectors, twin, options)
    return "\n".join(lines) + "\n"


def _expected(model, dtype, learn, vectors, twin, options):
    """Python's answers."""
    x = vectors.pixels / np.float32(16)
    if dtype == "float32":
        labels = twin(model, x, None)
    else:
        simulation = simulate(model, dtype, learn, **options)
        labels = simulation.labels(x)
    lines = [
        _array("uint8_t", "predict_pixels", vectors.pixels.ravel()),
        _array("int16_t", "predict_labels", labels),
    ]
    if learn:
        x = vectors.learn_pixels / np.float32(16)
        if dtype == "float32":
            weights, biases = (list(map(c_float, a)) for a in twin(model, x, vectors.learn_labels))
        else:
            simulation.learn(x, vectors.learn_labels)
            weights, biases = simulation.weights, simulation.biases
        kinds = ("float", "float") if dtype == "float32" else ("int16_t", "int32_t")
        lines += [
            _array("int16_t", "true_labels", vectors.labels),
            _array("uint8_t", "learn_pixels", vectors.learn_pixels.ravel()),
            _array("int16_t", "learn_labels", vectors.learn_labels),
            _array(kinds[0], "learned_weights", weights),
            _array(kinds[1], "learned_biases", biases),
        ]
    return lines


def _array(c_type, name, values):
    return f"static const {c_type} {name}[] = {{\n{table([str(v) for v in values])}\n}};"


def size_report(model, dtypes=("float32", "int16", "int8"), learn=(False, True), targets=TARGETS):
    """What a network costs on each target whose compiler and emulator are here.

    Parameters
    ----------
    model : fitted estimator or NetModel
    dtypes, learn : sequences
        Which exports are measured.
    targets : sequence of Target

    Returns
    -------
    list of dict
        One a target and export, with target, dtype, learn; flash, ram and stack in bytes, of all
        told with start-up code; multiply_accumulates, sweeps and instructions_predict of one
        prediction, instructions_learn. Exports that are refused, and targets whose programs are
        missing, have "refused" instead.
    """
    model = as_model(model)
    rows = []
    for target in targets:
        for dtype in dtypes:
            for learns in learn:
                row = {"target": target.name, "dtype": dtype, "learn": learns}
                if target.missing():
                    row["refused"] = f"{', '.join(target.missing())} not found ({target.packages})"
                else:
                    row.update(_row(target, model, dtype, learns))
                rows.append(row)
    return rows


def _row(target, model, dtype, learns):
    try:
        found = run(target, model, dtype, learns)
    except (ValueError, RuntimeError) as error:
        return {"refused": str(error).splitlines()[0][:200]}
    stack = max(found["stack_predict"], found.get("stack_learn", 0))
    return {
        "flash": found["flash"],
        "ram": found["ram"] + stack,
        "stack": stack,
        "multiply_accumulates": multiply_accumulates(model, found["sweeps"]),
        "sweeps": found["sweeps"],
        "instructions_predict": found["instructions_relax"],
        "instructions_learn": found.get("instructions_learn"),
    }


def multiply_accumulates(model, sweeps):
    """Of one free phase, all inputs other than 0: the first layer once, the others both ways a
    sweep (a resistive first layer: once for both sources of an input; a read-out: once, upwards).
    """
    pairs = [_products(model, k) for k in range(len(model.weights))]
    once = pairs[0][0] // (2 if model.is_resistive else 1)
    if model.reads_out:
        once += pairs.pop()[0]
    return once + sweeps * sum(up + down for up, down in pairs[1:])


def _products(model, k):
    """Multiplications of connection k upwards, and downwards; as if nothing lay in the padding."""
    w, link = model.weights[k], model.links[k]
    if link is None:
        return w.size, w.size
    pooled = w[0].size * model.layer_sizes[k + 1]
    whole = pooled * link.window**2  # all places of a square; of the largest one place comes back
    return whole, pooled if link.pool == "max" else whole


def report_text(rows):
    """`size_report` as a table."""
    head = (
        "target",
        "dtype",
        "learns",
        "flash",
        "RAM",
        "stack",
        "MACs",
        "sweeps",
        "instr/predict",
        "instr/learn",
    )
    lines = []
    for row in rows:
        start = (row["target"], row["dtype"], "yes" if row["learn"] else "no")
        if "refused" in row:
            lines.append((*start, row["refused"]))
            continue
        keys = ("flash", "ram", "stack", "multiply_accumulates", "sweeps", "instructions_predict")
        numbers = [f"{row[k]:,}" for k in keys]
        learn = row["instructions_learn"]
        lines.append((*start, *numbers, "-" if learn is None else f"{learn:,}"))
    full = [line for line in lines if len(line) == len(head)]
    widths = [max(len(line[i]) for line in [head, *full]) for i in range(len(head))]
    return "\n".join("  ".join(t.rjust(w) for t, w in zip(line, widths)) for line in [head, *lines])
