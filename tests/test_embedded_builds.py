"""Exported C under every compiler here: no warnings, no undefined behaviour, no recursion."""

import itertools
import re
import shutil
import subprocess
import sys

import pytest
from eqprop_fast.kernels.spec import ACTIVATIONS

from eqprop_fast.export import c_texts
from tests import embedded_host as host
from tests import embedded_maps

pytestmark = [
    pytest.mark.skipif(host.CC is None, reason="needs a C compiler"),
    pytest.mark.skipif(
        sys.platform == "win32", reason="the compiler's flags are those of gcc and clang"
    ),
]

COMPILERS = {
    "gcc": ["-std=c99"],
    "g++": ["-x", "c++", "-std=c++11"],
    "clang": ["-std=c99"],
    "clang++": ["-x", "c++", "-std=c++11"],
}
DTYPES = ("float32", "int16", "int8")


def _networks():
    """{name: (model, dtype, learn)}: every activation, output, nudging, schedule; each also alone
    with what makes the text differ."""
    variants = {f"act_{a}": dict(activation=a, out_activation=a, gain=0.5) for a in ACTIVATIONS}
    variants |= {
        "mixed": dict(sizes=(6, 5, 4, 3), activation="tanh", out_activation="hard_sigmoid"),
        "sync": dict(sizes=(6, 5, 4, 3), schedule="synchronous"),
        "forward": dict(sizes=(6, 5, 4, 3), schedule="forward"),
        "flat": dict(sizes=(7, 4)),
        "unit": dict(sizes=(1, 1, 1), proba="binary"),
        "single": dict(sizes=(6, 5, 1), proba="one"),
        "softmax": dict(out_activation="identity", proba="softmax", gain=0.5),
        "labels": dict(kind="multilabel", proba="clip"),
        "values": dict(kind="regressor", out_activation="identity", gain=0.5),
        "damped": dict(dt=0.7),
        "inside": dict(nudge_inside=True),
        "once": dict(learn=dict(nudging="positive", beta=-0.3)),
        "drawn": dict(learn=dict(nudging="random_sign")),
    }
    found = {}
    for (name, options), dtype, learn in itertools.product(variants.items(), DTYPES, (False, True)):
        model = host.random_model(**{"schedule": "asynchronous", "learn": {}, **options})
        found[f"{name}_{dtype}_{int(learn)}"] = model, dtype, learn
    only_float = {
        "entropy": dict(out_activation="identity", cost="cross_entropy", proba="softmax"),
        "input": dict(input_activation="tanh"),
    }
    for (name, options), learn in itertools.product(only_float.items(), (False, True)):
        model = host.random_model(schedule="asynchronous", learn={}, **options)
        found[f"{name}_{int(learn)}"] = model, "float32", learn
    circuits = {
        **{f"r_{d}": dict(diodes=d) for d in ("signed", "clipped", "none")},
        "r_pairs": dict(pairs=True),
        "r_once": dict(nudging="positive"),
        "r_away": dict(nudging="positive", beta=-0.1),
        "r_pairs_once": dict(pairs=True, nudging="positive"),
        "r_sync": dict(schedule="synchronous"),
        "r_back": dict(schedule="backward"),
        "r_labels": dict(kind="multilabel"),
        "r_values": dict(kind="regressor"),
        "r_two": dict(sizes=(3, 4, 1)),
        "r_flat": dict(sizes=(3, 2), diodes="none"),
        "r_unit": dict(sizes=(1, 1, 1)),
    }
    for (name, options), learn in itertools.product(circuits.items(), (False, True)):
        found[f"{name}_{int(learn)}"] = host.resistive_model(**options), "float32", learn
    for (name, model), learn in itertools.product(
        embedded_maps.networks({}).items(), (False, True)
    ):
        found[f"m_{name}_{int(learn)}"] = model, "float32", learn
        if name in ("deep", "deep_sync", "mean", "padded", "read", "scaled", "maps"):
            for dtype in DTYPES[1:]:
                found[f"m_{name}_{dtype}_{int(learn)}"] = model, dtype, learn
    return found


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """A folder with all networks' files, and one that includes all the sources."""
    folder = tmp_path_factory.mktemp("builds")
    for name, (model, dtype, learn) in _networks().items():
        header, source = c_texts(model, dtype, learn, name)
        (folder / f"{name}.h").write_text(header)
        (folder / f"{name}.c").write_text(source)
    for file, names in (("all.c", _networks()), ("some.c", SOME)):
        (folder / file).write_text("".join(f'#include "{n}.c"\n' for n in names))
    return folder


def _compile(folder, compiler, *options):
    if shutil.which(compiler) is None:
        pytest.skip(f"needs {compiler}")
    command = [compiler, *COMPILERS[compiler], *host.WARNINGS, "-Wvla", *options]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


SOME = [*(f"mixed_{d}_{n}" for d in DTYPES for n in (0, 1)), "softmax_int16_0", "r_pairs_1"]
SOME += ["m_deep_1", "m_read_0", "m_entropy_1", "m_scaled_0", "m_deep_int8_1", "m_scaled_int16_1"]


@pytest.mark.parametrize("compiler", COMPILERS)
def test_no_compiler_warns(sources, compiler):
    """All networks by the front end; some of them optimised, which warns of more."""
    optimised = ["-Os", "-c", "some.c", "-o", f"{compiler}.o"]
    for options in (["all.c", "-fsyntax-only"], optimised):
        done = _compile(sources, compiler, "-ffreestanding", *options)
        assert done.returncode == 0 and not done.stderr, done.stderr[:3000]


def test_networks_live_in_one_program(sources):
    """Each symbol has its network's prefix, and nothing of a library is needed."""
    done = _compile(sources, "gcc", "-Os", "-c", "some.c", "-o", "one.o")
    assert done.returncode == 0, done.stderr[:2000]
    if shutil.which("nm") is None:
        pytest.skip("needs nm")
    shown = subprocess.run(["nm", "one.o"], cwd=sources, capture_output=True, text=True).stdout
    symbols = re.findall(r" [TRDBC] (\w+)$", shown, flags=re.M)
    assert len(symbols) > 4 * len(SOME) and all(s.startswith(tuple(SOME)) for s in symbols)
    needed = set(re.findall(r"^ +U (\w+)$", shown, flags=re.M))
    assert needed <= {"memset", "memcpy", "_GLOBAL_OFFSET_TABLE_", "__stack_chk_fail"}, needed


def _calls(text):
    """{function: functions of this file that it calls}."""
    bodies, current = {}, None
    for line in re.sub(r"/\*.*?\*/", "", text, flags=re.S).splitlines():
        head = re.match(r"[a-z][\w \*]*?(\w+)\(", line)
        if current is None and head:
            one_line = line.endswith("}")
            current, bodies[head[1]] = None if one_line else head[1], line.partition("{")[2]
        elif line.startswith("}"):
            current = None
        elif current is not None:
            bodies[current] += line + "\n"
    return {f: set(re.findall(r"\b(\w+)\(", body)) & set(bodies) for f, body in bodies.items()}


def test_no_function_calls_itself(sources):
    """Neither directly nor through others: the stack has a bound."""
    for name in _networks():
        calls = _calls((sources / f"{name}.c").read_text())
        assert calls[f"{name}_predict"] == {f"{name}_relax"}
        left = dict(calls)
        while leaves := {f for f in left if not left[f] & set(left)}:
            left = {f: c for f, c in left.items() if f not in leaves}
        assert not left, left  # what no order of calls can end
    assert _calls("int f(void) {\n    g();\n}\nint g(void) {\n    f();\n}\n") == {
        "f": {"g"},
        "g": {"f"},
    }


_MISUSE = """
#include <string.h>
#include <stdio.h>
#include <math.h>
static unsigned char slots[2][NET_SLOT_BYTES];
static int broken;
static int erase(void *c, int s) { (void)c; memset(slots[s], 255, sizeof slots[s]); return 0; }
static int put(void *c, int s, uint32_t at, const void *d, uint32_t n)
{ (void)c; if (broken || at + n > sizeof slots[s]) return 1; memcpy(slots[s] + at, d, n); return 0; }
static int get(void *c, int s, uint32_t at, void *d, uint32_t n)
{ (void)c; if (at + n > sizeof slots[s]) return 1; memcpy(d, slots[s] + at, n); return 0; }
static net_memory arena, before;
#define SAME(call, status) do { memcpy(&before, &arena, sizeof arena); \\
    if ((call) != (status) || memcmp(&before, &arena, sizeof arena)) { \\
        printf("line %d: %d\\n", __LINE__, (int)(call)); return 1; } } while (0)
int main(void)
{
    net_memory *net = NULL;
    net_value x[NET_INPUTS];
    net_flash flash = {NULL, erase, put, get}, none = {NULL, NULL, NULL, NULL};
    ANSWER
    int i, n;
    memset(x, 0, sizeof x);
    SAME(net_predict((net_memory *)&arena, x, out), NET_ERROR_NOT_READY);
    SAME(net_init(NULL, sizeof arena, &net), NET_ERROR_NULL);
    SAME(net_init(&arena, sizeof arena, NULL), NET_ERROR_NULL);
    SAME(net_init(&arena, sizeof arena - 1, &net), NET_ERROR_ARENA);
    SAME(net_init((char *)&arena + 1, sizeof arena, &net), NET_ERROR_ARENA);
    if (net != NULL || net_init(&arena, sizeof arena, &net) != NET_OK) return 2;
    for (n = 0; n < 50; n++) {
        for (i = 0; i < NET_INPUTS; i++) x[i] = VALUE;
        if (net_predict(net, x, out) != NET_OK || net_learn(net, x, TARGET) != NET_OK) return 3;
    }
    SAME(net_predict(NULL, x, out), NET_ERROR_NULL);
    SAME(net_predict(net, NULL, out), NET_ERROR_NULL);
    SAME(net_predict(net, x, NULL), NET_ERROR_NULL);
    SAME(net_relax(net, NULL, NULL), NET_ERROR_NULL);
    SAME(net_learn(net, NULL, TARGET), NET_ERROR_NULL);
    SAME(net_set_rate(net, 0, net->learned.rates[0]), NET_ERROR_ARGUMENT);
    SAME(net_set_rate(net, NET_LAYERS + 1, net->learned.rates[0]), NET_ERROR_ARGUMENT);
    SAME(net_save(net, NULL), NET_ERROR_NULL);
    SAME(net_save(net, &none), NET_ERROR_NULL);
    SAME(net_load(net, &none), NET_ERROR_NULL);
    memset(slots, 255, sizeof slots);
    SAME(net_load(net, &flash), NET_ERROR_EMPTY);
    broken = 1;
    SAME(net_save(net, &flash), NET_ERROR_FLASH);
    broken = 0;
    SAME(net_save(net, &flash), NET_OK);
    slots[0][NET_SLOT_BYTES - 1] ^= 1;
    SAME(net_load(net, &flash), NET_ERROR_CORRUPT);
    slots[0][NET_SLOT_BYTES - 1] ^= 1;
    if (net_reset(net) != NET_OK || net_load(net, &flash) != NET_OK) return 4;
    if (memcmp(&before.learned, &arena.learned, sizeof arena.learned) != 0) return 5;
#ifdef IS_FLOAT
    x[0] = NAN;
    SAME(net_predict(net, x, out), NET_ERROR_NOT_FINITE);
    SAME(net_learn(net, x, TARGET), NET_ERROR_NOT_FINITE);
    x[0] = -INFINITY;
    SAME(net_relax(net, x, NULL), NET_ERROR_NOT_FINITE);
#endif
    return 0;
}
"""


def _misuse(name, model, dtype):
    answer, target = {
        "exclusive": ("int label = 0, *out = &label;", f"{model.n_outputs - 1}"),
        "multilabel": ("uint8_t out[NET_OUTPUTS]; net_value y[NET_OUTPUTS] = {0};", "y"),
        "regressor": ("net_value out[NET_OUTPUTS], y[NET_OUTPUTS] = {0};", "y"),
    }[model.kind]
    value = "(net_value)((n * 7 + i * 3) % 11) / 11.0f"
    if dtype != "float32":
        value = "(net_value)((n * 7919 + i * 104729) % 65536 - 32768)"
    text = _MISUSE.replace("ANSWER", answer).replace("TARGET", target).replace("VALUE", value)
    text = re.sub(r"\bnet_", f"{name}_", re.sub(r"\bNET_", f"{name.upper()}_", text))
    return f'#include "{name}.c"\n' + ("#define IS_FLOAT\n" if dtype == "float32" else "") + text


@pytest.mark.parametrize("kind", [*DTYPES, "resistive", "maps"])
def test_misuse_has_its_codes_under_the_sanitizers(sources, kind):
    """Predict, learn, save and load, and every bad argument: the exact code, and not a bit moved."""
    if kind == "resistive":
        models = {
            n: m for n, m in _networks().items() if n in ("r_signed_1", "r_pairs_1", "r_values_1")
        }
    elif kind == "maps":
        wanted = [f"m_{n}_1" for n in ("deep", "labels", "values", "entropy", "deep_int16")]
        models = {n: m for n, m in _networks().items() if n in wanted}
    else:
        wanted = [f"{n}_{kind}_1" for n in ("mixed", "labels", "values", "unit")]
        models = {n: m for n, m in _networks().items() if n in wanted}
    for name, (model, dtype, _) in models.items():
        (sources / "misuse.c").write_text(_misuse(name, model, dtype))
        command = [
            host.CC,
            "-std=c99",
            "-O1",
            "-g",
            "-fsanitize=address,undefined",
            "-fno-sanitize-recover=all",
            "misuse.c",
            "-o",
            "misuse",
            "-lm",
        ]
        done = subprocess.run(command, cwd=sources, capture_output=True, text=True)
        if "cannot find" in done.stderr:
            pytest.skip("needs the sanitizers' libraries")
        assert done.returncode == 0, done.stderr[:2000]
        ran = subprocess.run(["./misuse"], cwd=sources, capture_output=True, text=True)
        assert ran.returncode == 0, (name, ran.stdout, ran.stderr[:2000])


def test_cppcheck_finds_nothing(sources):
    if shutil.which("cppcheck") is None:
        pytest.skip("needs cppcheck")
    command = ["cppcheck", "-q", "--error-exitcode=1", "--enable=warning,portability,performance"]
    files = [
        f"{name}.c"
        for name in ("mixed_int8_1", "mixed_float32_1", "softmax_int16_0", "r_pairs_1", "m_deep_1")
    ]
    done = subprocess.run([*command, *files], cwd=sources, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[:3000]
