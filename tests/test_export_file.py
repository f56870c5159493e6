"""The model file .eqp: Python and C give the same verdict on any bytes."""

import os
import pickle
import re
import struct
import subprocess
import sys
import zlib
from dataclasses import replace

import cffi
import numpy as np
import pytest
from eqprop_fast.kernels.spec import ACTIVATIONS

from eqprop_fast import Conv, Dense, EqPropClassifier
from eqprop_fast.export import c_texts, load_eqp, save_eqp, untrained
from eqprop_fast.export.eqpfile import EqpFileError, from_bytes, to_bytes
from eqprop_fast.export.template import runtime_text
from tests import embedded_host as host

pytestmark = [
    pytest.mark.skipif(host.CC is None, reason="needs a C compiler"),
    pytest.mark.skipif(
        sys.platform == "win32", reason="the compiler's flags are those of gcc and clang"
    ),
]

MODELS = {
    "plain": host.random_model((3, 2), proba="share"),
    "learns": host.random_model(
        (3, 2, 2), schedule="asynchronous", learn={}, dt=0.5, tol_free=1e-3
    ),
    "words": untrained((2, 3), ["a", "für", "\U0001f41f"], random_state=0),
    "values": host.random_model((2, 2), kind="regressor", out_activation="identity"),
    "labels": host.random_model((2, 2), kind="multilabel", proba="clip"),
    "binary": host.random_model((2, 1), proba="binary", cost="cross_entropy", nudge_inside=True),
    "circuit": host.resistive_model((2, 2, 2)),
    "pairs": host.resistive_model((2, 2), pairs=True, scaled=True, diodes="none", g_max=np.inf),
    "volts": host.resistive_model((2, 3, 1), kind="regressor", diodes="clipped", scaled=True),
    "sets": host.resistive_model((2, 2), kind="multilabel", schedule="backward", beta=-0.1),
    "two": host.resistive_model((1, 1, 1), nudging="positive"),
    "maps": host.graph_model(
        ((1, 4, 4), Conv(2, 3, padding=1, pool="max"), Dense(1, "tanh"), Dense(2)),
        readout=True,
        nudge_inside=True,
        learn={},
    ),
    "mean": host.graph_model(((2, 3, 3), Conv(1, 2, pool="average"), Dense(1)), proba="binary"),
    "sizes": host.graph_model(((1, 3, 3), Conv(2, 2, stride=2)), kind="regressor"),
}
MODELS["mean"].classes = [False, True]
MODELS["mean"].input_center, MODELS["mean"].input_scale = np.full(18, 0.5), np.full(18, 2.0)
MODELS["floats"] = replace(MODELS["labels"], classes=[0.5, -1.0])


@pytest.fixture(scope="module")
def verdict(tmp_path_factory):
    """What C says of some bytes; whatever is read beyond them is a fault of the guarded page
    behind.
    """
    folder = tmp_path_factory.mktemp("eqp")
    for name in ("eqp_file.h", "eqp_file.c"):
        (folder / name).write_text(runtime_text(name))
    flags = [*host.CFLAGS, *host.TRAPS, "-shared", "-fPIC", "-o", "eqp.so", "eqp_file.c"]
    done = subprocess.run([host.CC, *flags], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    text = subprocess.run(
        [host.CC, "-E", "-P", folder / "eqp_file.h"], capture_output=True, text=True
    ).stdout
    ffi = cffi.FFI()
    ffi.cdef(text[text.index("typedef enum") :])
    lib = ffi.dlopen(str(folder / "eqp.so"))
    names = {getattr(lib, f"EQP_FILE_{s}"): s for s in ("OK", *_statuses())}
    guarded = _guarded_page()

    def ask(data, seal=False):
        file = ffi.new("eqp_file *")
        address = guarded(data)
        pointer = ffi.cast("uint8_t *", address)
        found = names[
            (
                lib.eqp_file_seal(pointer, len(data))
                if seal
                else lib.eqp_file_open(pointer, len(data), file)
            )
        ]
        return (found, bytes(ffi.buffer(pointer, len(data)))) if seal else found

    ask.lib, ask.ffi = lib, ffi
    return ask


def _statuses():
    return ("SHORT", "MAGIC", "VERSION", "SIZE", "CRC", "VALUE")


def _guarded_page():
    """Puts bytes at the end of a mapping whose next page cannot be read."""
    import ctypes
    import mmap

    size = 1 << 16
    memory = mmap.mmap(-1, 2 * size)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.mprotect(ctypes.c_void_p(start + size), ctypes.c_size_t(size), 0) == 0

    def put(data):
        assert len(data) <= size
        memory[size - len(data) : size] = data
        return start + size - len(data)

    put.memory = memory
    return put


def _python(data):
    try:
        from_bytes(data)
    except EqpFileError as error:
        return error.status
    return "OK"


def _sealed(data):
    """With the size and checksum that belong to these bytes."""
    data = data[:8] + struct.pack("<I", len(data)) + bytes(4) + data[16:]
    crc = zlib.crc32(data[16:], zlib.crc32(data[:12]))
    return data[:12] + struct.pack("<I", crc) + data[16:]


@pytest.mark.parametrize("name", MODELS)
def test_a_model_comes_back_as_it_was(name, verdict, tmp_path):
    model = MODELS[name]
    save_eqp(model, tmp_path / "net.eqp")
    back = load_eqp(tmp_path / "net.eqp")
    assert verdict((tmp_path / "net.eqp").read_bytes()) == "OK"
    for a, b in zip([*model.weights, *model.biases], [*back.weights, *back.biases]):
        np.testing.assert_array_equal(a, b)
    for key in ("n_free_steps", "kind", "classes", "proba", "sharpness", "source_limit"):
        assert getattr(back, key) == getattr(model, key)
    learn = model.learn is not None
    # numbers have single precision in the file
    single = (
        back if not learn else replace(back, learn=replace(back.learn, rates=model.learn.rates))
    )
    assert c_texts(single, learn=learn) == c_texts(model, learn=learn)
    for key in ("mean", "scale", "input_center", "input_scale"):
        np.testing.assert_array_equal(getattr(back, key), getattr(model, key))
    if model.is_resistive or model.is_graph:
        assert back.spec == model.spec
    assert to_bytes(back) == to_bytes(model)


@pytest.mark.parametrize("name", MODELS)
def test_every_flip_and_cut_has_the_same_verdict(name, verdict):
    data, seen = to_bytes(MODELS[name]), set()
    for n in range(len(data)):
        assert verdict(data[:n]) == _python(data[:n]) == "SHORT"
    for extra in (b"\0", b"x" * 9):
        assert verdict(data + extra) == _python(data + extra) == "SIZE"
    for i in range(len(data)):
        for value in range(256):
            if value != data[i] and (
                value % 16 == 0 or value == 255 or bin(value ^ data[i]).count("1") == 1
            ):
                bad = data[:i] + bytes([value]) + data[i + 1 :]
                found = verdict(bad)
                assert found == _python(bad), (i, value)
                seen.add(found)
    assert seen == {"MAGIC", "VERSION", "SHORT", "SIZE", "CRC"}


@pytest.mark.parametrize("name", MODELS)
def test_a_right_checksum_over_wrong_numbers_has_the_same_verdict(name, verdict):
    data, seen = to_bytes(MODELS[name]), set()
    for i in [*range(4, 8), *range(16, len(data))]:
        for value in {0, 1, 2, 3, 5, 9, 127, 128, 192, 237, 240, 255, data[i] ^ 1, data[i] ^ 128}:
            bad = _sealed(data[:i] + bytes([value]) + data[i + 1 :])
            found = verdict(bad)
            assert found == _python(bad), (i, value)
            seen.add(found)
    for n in range(64, len(data)):
        bad = _sealed(data[:n])
        assert verdict(bad) == _python(bad) == "SIZE"
    assert seen >= {"OK", "VALUE", "SIZE", "VERSION"}


@pytest.mark.parametrize("name", MODELS)
def test_hostile_sizes_are_told_before_anything_is_read_or_allocated(name, verdict):
    """Layers, units, classes, names: numbers whose products leave 32 or 64 bits, or memory."""
    data, model = to_bytes(MODELS[name]), MODELS[name]
    at = 64 + 52 * model.is_resistive + 4 * model.is_graph
    sizes = [at + 4 * k for k in range((len(model.weights) + 1) * (3 if model.is_graph else 1))]
    for value in (0, 1, 2, 16, 17, 32767, 32768, 65535, 65536, 2**30, 2**31, 2**32 - 1):
        word = struct.pack("<I", value)
        wrong = [data[:i] + word + data[i + 4 :] for i in (56, 60, *sizes)]
        wrong.append(data[:6] + word[:2] + data[8:])
        wrong.append(data[: sizes[0]] + word * len(sizes) + data[sizes[-1] + 4 :])
        wrong.append(data[:56] + word * 2 + data[64:])
        for bad in map(_sealed, wrong):
            assert verdict(bad) == _python(bad), value
        bad = data[:8] + word + data[12:]  # the size that it says
        assert verdict(bad) == _python(bad) != "OK"


def test_what_is_right_makes_c_or_is_refused(verdict):
    """A network of any numbers that a file may hold: no constant of its C is infinite or NaN."""
    rng, seen = np.random.default_rng(1), set()
    for model in MODELS.values():
        data = to_bytes(model)
        for _ in range(60):
            bad, at = bytearray(data), int(rng.integers(16, len(data)))
            bad[at] = int(rng.choice([0, 1, 2, 3, 64, 120, 127, 128, 255]))
            bad = _sealed(bytes(bad))
            if verdict(bad) != "OK":
                continue
            try:
                text = "".join(c_texts(from_bytes(bad), learn=model.learn is not None))
                seen.add("made")
            except ValueError as error:
                text = ""
                seen.add(str(error).partition(":")[0])
            assert not re.search(r"\b(inf|nan)\b", text)
    assert {"made", "learning_rate"} <= seen


def test_random_bytes_have_the_same_verdict(verdict):
    rng = np.random.default_rng(0)
    models = [to_bytes(m) for m in MODELS.values()]
    for k in range(3000):
        data = bytearray(models[k % len(models)])
        for _ in range(rng.integers(1, 5)):
            at = int(rng.integers(4, len(data)))
            data[at : at + 4] = rng.integers(
                0, 256, min(4, len(data) - at), dtype=np.uint8
            ).tobytes()
        bad = _sealed(bytes(data)) if k % 4 else bytes(data)
        assert verdict(bad) == _python(bad), k


def test_names_are_utf8_in_both(verdict):
    data = to_bytes(MODELS["words"])
    start = data.index(b"a\0f")
    for lead in range(256):
        for second in (0, 0x20, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0):
            tail = bytes([lead, second]) + data[start + 2 :]
            bad = data[:60] + struct.pack("<I", len(tail)) + data[64:start] + tail
            bad = _sealed(bad)
            assert verdict(bad) == _python(bad), (lead, second)


def test_c_seals_what_python_seals(verdict):
    data = to_bytes(MODELS["learns"])
    assert verdict(data[:8] + bytes(8) + data[16:], seal=True) == ("OK", data)
    assert verdict(data[:10], seal=True)[0] == "SHORT"
    lib, ffi = verdict.lib, verdict.ffi
    assert lib.eqp_file_open(ffi.NULL, 5, ffi.new("eqp_file *")) == lib.EQP_FILE_NULL
    texts = [ffi.string(lib.eqp_file_text(i)) for i in range(lib.EQP_FILE_N_STATUS)]
    assert len(set(texts)) == len(texts)
    for status in _statuses():
        text = ffi.string(lib.eqp_file_text(getattr(lib, f"EQP_FILE_{status}"))).decode()
        assert str(EqpFileError(status)) == text


def test_c_finds_the_numbers(verdict):
    model, lib, ffi = MODELS["learns"], verdict.lib, verdict.ffi
    data, file = to_bytes(model), ffi.new("eqp_file *")
    pointer = ffi.from_buffer("uint8_t[]", data)
    assert lib.eqp_file_open(pointer, len(data), file) == 0
    assert list(file.sizes)[: file.layers + 1] == list(model.spec.sizes)
    for k, (w, b) in enumerate(zip(model.weights, model.biases)):
        found = [lib.eqp_file_f32(pointer, file.weights[k] + 4 * i) for i in range(w.size)]
        np.testing.assert_array_equal(np.float32(found), w.ravel())
        found = [lib.eqp_file_f32(pointer, file.biases[k] + 4 * i) for i in range(b.size)]
        np.testing.assert_array_equal(np.float32(found), b)


def test_what_a_file_cannot_hold(tmp_path):
    model = untrained((2, 2), ["a", "b\n"])
    with pytest.raises(ValueError, match="classes_"):
        save_eqp(model, tmp_path / "x.eqp")
    with pytest.raises(ValueError, match="classes_"):
        save_eqp(untrained((2, 2), [0.5, np.inf]), tmp_path / "x.eqp")
    with pytest.raises(OSError):
        save_eqp(MODELS["plain"], tmp_path / "no" / "x.eqp")
    assert not list(tmp_path.iterdir())
    (tmp_path / "x.eqp").write_bytes(b"nothing of this kind" * 9)
    with pytest.raises(EqpFileError, match="x.eqp: not a model file") as caught:
        load_eqp(tmp_path / "x.eqp")
    assert pickle.loads(pickle.dumps(caught.value)).status == "MAGIC"


_ASK = """
import sys
import numpy as np
from eqprop_fast.export import load_eqp
for path in sys.argv[1:]:
    model = load_eqp(path)
    assert len(model.predict(np.zeros((3, model.layer_sizes[0]), np.float32))) == 3
print([name for name in ("sklearn", "numba", "click", "matplotlib") if name in sys.modules])
with open("/proc/self/status") as file:
    print(int(next(line for line in file if line.startswith("VmRSS")).split()[1]) / 1024)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc/self")
def test_a_file_is_asked_without_scikit_learn_in_80_megabytes(tmp_path):
    """The path of small Linux machines (docs/embedded.md), of every kind of network."""
    names = "learns", "pairs", "maps"
    paths = [str(tmp_path / f"{name}.eqp") for name in names]
    for path, name in zip(paths, names):
        save_eqp(MODELS[name], path)
    one = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-c", _ASK, *paths]
    done = subprocess.run(command, capture_output=True, text=True, env=one)
    assert done.returncode == 0, done.stderr
    loaded, megabytes = done.stdout.splitlines()
    assert loaded == "[]" and float(megabytes) < 80


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(
    "y",
    [
        np.array([False, True, True]),
        np.array([0.0, 1.0, 2.0]),
        np.array([0.0, 1.0], np.float32),
        *(np.array([1, 2, 3], kind) for kind in ("i1", "u1", "i2", "i4", "u4", "i8", "u8")),
        np.array([-5, 2**40]),
        np.array(["a", "b", "c"]),
        np.array(["yes", "no"], object),
        ["für", "gegen"],
        [True, False],
    ],
    ids=str,
)
def test_classes_come_back_as_they_were(y, tmp_path):
    """Values, and their kind: what is asked of a file is what is asked of the estimator."""
    y = np.resize(np.asarray(y), 12)
    x = np.random.default_rng(0).random((12, 4))
    model = EqPropClassifier((3,), max_iter=1, tol=0, random_state=0, backend="numpy").fit(x, y)
    save_eqp(model, tmp_path / "net.eqp")
    net = load_eqp(tmp_path / "net.eqp")
    expected, found = model.predict(x), net.predict(x)
    assert net.classes == model.classes_.tolist()
    assert list(map(type, net.classes)) == list(map(type, model.classes_.tolist()))
    np.testing.assert_array_equal(found, expected)
    alike = {"u": "i", "O": "U"}  # integers have 64 bits in a file, objects were names
    kinds = [alike.get(a.dtype.kind, a.dtype.kind) for a in (found, expected)]
    assert kinds[0] == kinds[1]


def test_a_file_holds_every_activation(verdict):
    for name in ACTIVATIONS:
        act = dict(activation=name, out_activation=name, input_activation=name)
        chain = ((1, 3, 3), Conv(1, 2), Dense(2))
        for model in (host.random_model((2, 2, 2), **act), host.graph_model(chain, **act)):
            data = to_bytes(model)
            assert verdict(data) == "OK" and from_bytes(data).activations == model.activations


def test_models_answer_only_what_they_can(tmp_path):
    for X in (np.zeros(3), np.zeros((2, 4)), [["a", "b", "c"]], [[np.nan, 0, 0]], [[1e300, 0, 0]]):
        with pytest.raises(ValueError, match="^X"):
            MODELS["plain"].predict(X)
    with pytest.raises(ValueError, match="predict_proba"):
        MODELS["values"].predict_proba(np.zeros((1, 2)))
