"""Folders for Arduino, PlatformIO, Zephyr and ESP-IDF, and the commands `export` and `size`."""

import json
import re
import shutil
import subprocess

import pytest
from click.testing import CliRunner

from eqprop_fast.cli import main
from eqprop_fast.export import save_eqp, to_c, untrained
from eqprop_fast.export.layouts import LAYOUTS
from tests import embedded_host as host

MODEL = untrained((4, 3, 2), random_state=0)
FILES = {
    "plain": set(),
    "arduino": {"library.properties"},
    "platformio": {"library.json"},
    "zephyr": {"zephyr/module.yml", "Kconfig", "CMakeLists.txt"},
    "esp-idf": {"CMakeLists.txt", "idf_component.yml"},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_has_its_files_and_nothing_else(layout, tmp_path):
    written = to_c(MODEL, tmp_path / "out", name="small", layout=layout)
    found = {
        str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*") if p.is_file()
    }
    where = "" if layout == "plain" else "src/"
    assert found == FILES[layout] | {f"{where}small.h", f"{where}small.c"}
    assert {str(p.relative_to(tmp_path / "out")) for p in written} == found


def test_manifests_have_what_their_schemas_ask_for(tmp_path):
    for layout in FILES:
        to_c(MODEL, tmp_path / layout, name="small", layout=layout)
    lines = (tmp_path / "arduino" / "library.properties").read_text().splitlines()
    rows = dict(line.split("=", 1) for line in lines)
    # arduino.github.io/arduino-cli/latest/library-specification
    needed = "name version author maintainer sentence paragraph category url architectures"
    assert set(needed.split()) <= set(rows)
    assert rows["category"] == "Data Processing" and re.fullmatch(r"\d+\.\d+\.\d+", rows["version"])
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 _.-]{0,62}", rows["name"])
    # docs.platformio.org: name, version, description, keywords, authors
    manifest = json.loads((tmp_path / "platformio" / "library.json").read_text())
    assert {"name", "version", "description", "keywords", "authors"} <= set(manifest)
    module = (tmp_path / "zephyr" / "zephyr" / "module.yml").read_text()
    assert module == "name: small\nbuild:\n  cmake: .\n  kconfig: Kconfig\n"
    option = re.search(
        r"^config (\w+)$", (tmp_path / "zephyr" / "Kconfig").read_text(), flags=re.M
    )[1]
    assert f"CONFIG_{option})" in (tmp_path / "zephyr" / "CMakeLists.txt").read_text()
    component = (tmp_path / "esp-idf" / "CMakeLists.txt").read_text()
    assert component == 'idf_component_register(SRCS "src/small.c" INCLUDE_DIRS "src")\n'


@pytest.mark.skipif(
    shutil.which("cmake") is None or host.CC is None, reason="needs CMake and a compiler"
)
@pytest.mark.parametrize("layout", ["zephyr", "esp-idf"])
def test_cmake_files_build_with_their_functions_stood_in_for(layout, tmp_path):
    to_c(MODEL, tmp_path / "out", name="small", layout=layout)
    stand_in = {
        "zephyr": "set(CONFIG_SMALL y)\nmacro(zephyr_include_directories)\ninclude_directories(out/${ARGV})\n"
        "endmacro()\nmacro(zephyr_library)\nendmacro()\nmacro(zephyr_library_sources s)\n"
        "add_library(small STATIC ${s})\nendmacro()\n",
        "esp-idf": 'function(idf_component_register)\ncmake_parse_arguments(A "" "" "SRCS;INCLUDE_DIRS" '
        "${ARGN})\nadd_library(small STATIC ${A_SRCS})\ntarget_include_directories(small PUBLIC "
        "${A_INCLUDE_DIRS})\nendfunction()\n",
    }
    text = f"cmake_minimum_required(VERSION 3.13)\nproject(t C)\n{stand_in[layout]}add_subdirectory(out)\n"
    (tmp_path / "CMakeLists.txt").write_text(text)
    for command in (["cmake", "-S", ".", "-B", "b"], ["cmake", "--build", "b"]):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


_SKETCH = """#include <small.h>
static small_memory arena;
static small_memory *net;
void setup() { Serial.begin(9600); Serial.println(small_text(small_init(&arena, sizeof arena, &net))); }
void loop() {
  small_value x[SMALL_INPUTS] = {0};
  int label;
  if (small_predict(net, x, &label) == SMALL_OK && small_learn(net, x, label) == SMALL_OK)
    Serial.println(label);
}
"""


@pytest.mark.skipif(
    shutil.which("arduino-builder") is None,
    reason="needs arduino-builder (Debian: arduino-builder arduino-core-avr)",
)
def test_arduinos_builder_finds_and_builds_the_library(tmp_path):
    for name in ("libraries", "build", "sketch"):
        (tmp_path / name).mkdir()
    to_c(MODEL, tmp_path / "libraries" / "small", "int16", True, "small", layout="arduino")
    (tmp_path / "sketch" / "sketch.ino").write_text(_SKETCH)
    places = ["-hardware", "/usr/share/arduino-builder", "-hardware", "/usr/share/arduino/hardware"]
    places += ["-tools", "/usr/bin", "-libraries", "libraries"]
    places += ["-build-path", str(tmp_path / "build")]
    # Debian's core needs a macro that its compiler has no longer
    prefs = ["-prefs=compiler.path=/usr/bin/", "-prefs=compiler.cpp.extra_flags=-DDECIMAL_DIG=17"]
    board = ["-fqbn", "arduino:avr:mega:cpu=atmega2560", "-warnings", "all"]
    command = ["arduino-builder", "-compile", *places, *board, *prefs, "sketch/sketch.ino"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "small.c" not in done.stderr and "small.h" not in done.stderr  # no warning of ours
    assert (tmp_path / "build" / "libraries" / "small" / "small.c.o").exists()


@pytest.mark.skipif(
    shutil.which("compote") is None, reason="needs compote (PyPI: idf-component-manager)"
)
def test_espressifs_manager_packs_the_component(tmp_path):
    to_c(MODEL, tmp_path / "out", name="small", layout="esp-idf")
    command = ["compote", "component", "pack", "--name", "small", "--dest-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path / "out", capture_output=True, text=True)
    assert done.returncode == 0 and list(tmp_path.glob("small_*.tgz")), done.stdout + done.stderr


def test_kconfig_has_one_option_that_is_on(tmp_path):
    kconfiglib = pytest.importorskip("kconfiglib")
    to_c(MODEL, tmp_path, name="small", layout="zephyr")
    found = kconfiglib.Kconfig(str(tmp_path / "Kconfig"))
    options = [(option.name, option.str_value) for option in found.unique_defined_syms]
    assert options == [("SMALL", "y")] and not found.warnings


def test_commands(tmp_path):
    save_eqp(MODEL, tmp_path / "net.eqp")
    call = CliRunner().invoke
    out = str(tmp_path / "out")
    options = ["--dtype", "int16", "--learn", "--name", "small", "--layout", "arduino"]
    done = call(main, ["export", str(tmp_path / "net.eqp"), out, *options])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "out" / "src" / "small.h").exists()
    done = call(main, ["export", str(tmp_path / "net.eqp"), out, "--name", "2x"])
    assert done.exit_code == 1 and "name must be" in done.output
    (tmp_path / "bad.eqp").write_bytes(b"x" * 99)
    for command in (
        ["export", str(tmp_path / "bad.eqp"), out],
        ["size", str(tmp_path / "bad.eqp")],
    ):
        done = call(main, command)
        assert done.exit_code == 2 and "not a model file" in done.output
    with pytest.raises(ValueError, match="layout"):
        to_c(MODEL, tmp_path / "other", layout="cargo")
    assert not (tmp_path / "other").exists()
