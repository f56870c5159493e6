"""The folders that firmware tools unpack: Arduino, PlatformIO, Zephyr, ESP-IDF."""

from __future__ import annotations

import json

from .. import __version__
from .template import macro_prefix

URL = "https://pypi.org/project/eqprop-fast/"
_SENTENCE = "A network trained by equilibrium propagation, exported by eqprop_fast"


def layout_files(layout, name, header, source):
    """{path in the folder: text} of an export.

    Parameters
    ----------
    layout : {"plain", "arduino", "platformio", "zephyr", "esp-idf"}
    name : str
        A C identifier.
    header, source : str

    Raises
    ------
    ValueError
        Unknown layout.
    """
    if layout not in LAYOUTS:
        raise ValueError(f"layout must be one of {sorted(LAYOUTS)}, got {layout!r}")
    where = "" if layout == "plain" else "src/"
    return {f"{where}{name}.h": header, f"{where}{name}.c": source, **LAYOUTS[layout](name)}


def _arduino(name):
    rows = {
        "name": name,
        "version": __version__,
        "author": "eqprop_fast",
        "maintainer": "eqprop_fast",
        "sentence": f"{_SENTENCE}.",
        "paragraph": "Plain C99 without malloc or libm; see the header.",
        "category": "Data Processing",
        "url": URL,
        "architectures": "*",
        "includes": f"{name}.h",
    }
    return {"library.properties": "".join(f"{key}={value}\n" for key, value in rows.items())}


def _platformio(name):
    manifest = {
        "name": name,
        "version": __version__,
        "description": _SENTENCE,
        "keywords": "machine learning",
        "authors": [{"name": "eqprop_fast", "url": URL}],
        "headers": f"{name}.h",
        "frameworks": "*",
        "platforms": "*",
    }
    return {"library.json": json.dumps(manifest, indent=2) + "\n"}


def _zephyr(name):
    option = macro_prefix(name)
    return {
        "zephyr/module.yml": f"name: {name}\nbuild:\n  cmake: .\n  kconfig: Kconfig\n",
        "Kconfig": f'config {option}\n\tbool "{name}: {_SENTENCE[2:]}"\n\tdefault y\n',
        "CMakeLists.txt": (
            f"if(CONFIG_{option})\n  zephyr_include_directories(src)\n  zephyr_library()\n"
            f"  zephyr_library_sources(src/{name}.c)\nendif()\n"
        ),
    }


def _esp_idf(name):
    return {
        "CMakeLists.txt": f'idf_component_register(SRCS "src/{name}.c" INCLUDE_DIRS "src")\n',
        "idf_component.yml": f'version: "{__version__}"\ndescription: {_SENTENCE}\nurl: {URL}\n',
    }


LAYOUTS = {
    "plain": lambda name: {},
    "arduino": _arduino,
    "platformio": _platformio,
    "zephyr": _zephyr,
    "esp-idf": _esp_idf,
}
