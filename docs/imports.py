"""Draws docs/img/imports.svg: which folder imports which, from the graph that the tests check.

python docs/imports.py
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs" / "img" / "imports.svg"
# Modules beside the folders of eqprop_fast, in two groups.
COMMANDS = ("__main__", "cli", "reproduce", "results", "datasets")
WIDTH, HEIGHT, ROW, COLUMN = 112, 26, 66, 132


def box(module):
    """The box that a module of `eqprop_fast` is drawn in, or None."""
    _, *below = module.split(".")
    if not below or below[0].startswith("_") and below[0] != "__main__":
        return None
    if below[0] == "kernels":
        return f"kernels/{below[1]}" if len(below) > 2 else "kernels"
    if below[0] in COMMANDS:
        return "commands"
    return below[0] if (ROOT / "eqprop_fast" / below[0]).is_dir() else "parts"


def folders():
    """{box: boxes that it imports} at the heads of modules."""
    from tests.test_import_graph import SOURCES, graph

    packages = {
        ".".join((package, path.parent.relative_to(folder).as_posix())).removesuffix("..")
        for package, folder in SOURCES.items()
        for path in folder.rglob("__init__.py")
    }

    def box_of(module):
        return box(module + ".__init__" if module in packages else module)

    edges = {}
    for module, others in graph(everywhere=False).items():
        here = box_of(module)
        if here:
            edges.setdefault(here, set()).update(filter(None, map(box_of, others)))
    return {name: others - {name} for name, others in edges.items()}


def reaches(edges, name):
    """All that a box imports, directly or not."""
    found, ahead = set(), list(edges[name])
    while ahead:
        other = ahead.pop()
        if other not in found:
            found.add(other)
            ahead += edges[other]
    return found


def levels(edges):
    """Boxes by height: each stands above all that it imports."""
    height = {}

    def measure(name):
        if name not in height:
            height[name] = 1 + max((measure(other) for other in edges[name]), default=-1)
        return height[name]

    for name in edges:
        measure(name)
    return [sorted(n for n in height if height[n] == k) for k in range(max(height.values()) + 1)]


def places(edges):
    """{box: (x, y)} of the middle of each, boxes of a row near what they import."""
    rows = levels(edges)
    widest = max(map(len, rows))
    spot = {}
    for k, row in enumerate(rows):

        def lean(name):
            below = [spot[other][0] for other in edges[name]]
            return sum(below) / len(below) if below else 0

        for i, name in enumerate(sorted(row, key=lean)):
            x = (i + 0.5 + (widest - len(row)) / 2) * COLUMN
            spot[name] = x, (len(rows) - k - 0.5) * ROW
    return spot, widest * COLUMN, len(rows) * ROW


def draw():
    """The picture as SVG text. An arrow that others imply is left out."""
    edges = folders()
    spot, width, height = places(edges)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" '
        'font-family="sans-serif" font-size="13">',
        f'<rect width="{width:g}" height="{height:g}" fill="white"/>',
    ]
    for name, others in sorted(edges.items()):
        implied = set().union(*(reaches(edges, other) for other in others))
        for other in sorted(others - implied):
            (x0, y0), (x1, y1) = spot[name], spot[other]
            y0, y1 = y0 + HEIGHT / 2, y1 - HEIGHT / 2
            bend = (y1 - y0) / 2
            out.append(
                f'<path d="M{x0:g} {y0:g}C{x0:g} {y0 + bend:g} {x1:g} {y1 - bend:g} {x1:g} {y1:g}" '
                'fill="none" stroke="#667"/>'
                f'<path d="M{x1:g} {y1:g}l-4 -8h8z" fill="#667"/>'
            )
    for name, (x, y) in sorted(spot.items()):
        colour = "#dfe9f7" if name.startswith("kernels") else "#f5ecd7"
        out.append(
            f'<rect x="{x - WIDTH / 2:g}" y="{y - HEIGHT / 2:g}" width="{WIDTH}" height="{HEIGHT}" '
            f'rx="5" fill="{colour}" stroke="#667"/>'
            f'<text x="{x:g}" y="{y + 4.5:g}" text-anchor="middle">{name}</text>'
        )
    return "\n".join([*out, "</svg>", ""])


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    PICTURE.write_text(draw())
