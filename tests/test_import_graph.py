"""Imports among our modules: no circles, and nothing imports upwards (docs/architecture.md)."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = {"eqprop_fast": ROOT / "eqprop_fast", "eqprop_fast.kernels": ROOT / "kernels"}
ABOVE = {  # what each folder may not import, at the head of a module or inside a function
    "kernels": {"networks", "training", "estimators", "rules", "presets", "circuits", "theory"},
    "rules": {"networks", "training", "estimators", "presets", "theory"},
    "networks": {"training", "estimators", "rules", "presets", "theory"},
    "training": {"estimators", "networks", "presets", "theory"},
    "circuits": {"estimators", "networks", "training", "presets", "theory"},
    "estimators": {"theory", "reproduce", "cli"},
    "generative": {"estimators", "networks", "training", "presets", "theory", "rules"},
}


def modules():
    found = {}
    for package, folder in SOURCES.items():
        for path in folder.rglob("*.py"):
            name = ".".join((package, *path.relative_to(folder).with_suffix("").parts))
            found[name.removesuffix(".__init__")] = path
    return found


def imports_of(name, path, nodes, known):
    """Our modules that these nodes of a module's syntax import."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in nodes:
        if not isinstance(node, ast.ImportFrom):
            continue
        parent = (
            package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
        )
        source = ".".join([*parent, *([node.module] if node.module else [])])
        for alias in node.names:
            if f"{source}.{alias.name}" in known:
                yield f"{source}.{alias.name}"
            elif source in known:
                yield source


def graph(everywhere):
    known = modules()
    edges = {}
    for name, path in known.items():
        tree = ast.parse(path.read_text())
        nodes = list(ast.walk(tree)) if everywhere else tree.body
        edges[name] = set(imports_of(name, path, nodes, known)) - {name}
    return edges


def folder(name):
    return name.split(".")[1] if "." in name else "eqprop_fast"


def test_no_circles():
    list(TopologicalSorter(graph(everywhere=False)).static_order())  # CycleError names one


def test_no_circles_within_the_reference_kernels():
    """There not even by an import inside a function."""
    inside = "eqprop_fast.kernels.reference."
    edges = {
        name: {other for other in others if other.startswith(inside)}
        for name, others in graph(everywhere=True).items()
        if name.startswith(inside)
    }
    list(TopologicalSorter(edges).static_order())


@pytest.mark.parametrize("low", ABOVE)
def test_nothing_imports_upwards(low):
    for name, others in graph(everywhere=True).items():
        if folder(name) == low:
            wrong = {other for other in others if folder(other) in ABOVE[low]}
            assert not wrong, f"{name} imports {wrong}"
