"""Documents that the code and the pages point to exist, and so do the sections they name."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = [
    path
    for folder in ("eqprop_fast", "kernels", "csrc", "tests", "bench", "docs", "examples")
    for path in sorted((ROOT / folder).rglob("*"))
    if path.suffix in {".py", ".c", ".h", ".md"} and path != Path(__file__)
] + sorted(ROOT.glob("*.md"))
SECTIONS = set(re.findall(r"^#+ ([\d.]+) ", (ROOT / "docs/equations.md").read_text(), re.MULTILINE))


def slug(heading):
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_named_sections_of_the_equations_exist(path):
    for numbers in re.findall(
        r"equations\.md\s+((?:[\d.]+\d|\d)(?:(?:, | and |-)[\d.]*\d)*)", path.read_text()
    ):
        for number in re.split(r", | and |-", numbers):
            assert number in SECTIONS, f"{path}: docs/equations.md has no section {number}"


@pytest.mark.parametrize(
    "path", [p for p in SOURCES if p.suffix == ".md"], ids=lambda path: path.name
)
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        page = (path.parent / name).resolve() if name else path
        assert page.exists(), f"{path.name} links to {target}"
        if anchor and page.suffix == ".md":
            headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
            assert anchor in {slug(h) for h in headings}, f"{path.name} links to {target}"
