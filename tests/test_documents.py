"""What the pages and the code say of each other is so: sections, links, files, commands, words of
the code, signatures, numbers of the defaults.
"""

import ast
import inspect
import re
from pathlib import Path

import pytest
from eqprop_fast.kernels import ACTIVATIONS

import eqprop_fast
from eqprop_fast import (
    EqPropClassifier,
    EqPropRegressor,
    ResistiveClassifier,
    auto,
    circuits,
    cli,
    list_conv_presets,
    list_graph_presets,
    list_presets,
    list_resistive_presets,
    theory,
)
from eqprop_fast.circuits.devices import DeviceModel

ROOT = Path(__file__).resolve().parent.parent
SOURCES = [
    path
    for folder in ("eqprop_fast", "kernels", "csrc", "tests", "bench", "docs", "examples")
    for path in sorted((ROOT / folder).rglob("*"))
    if path.suffix in {".py", ".c", ".h", ".md"} and path != Path(__file__)
] + sorted(ROOT.glob("*.md"))
PAGES = [path for path in SOURCES if path.suffix == ".md"]
NAMES = [path.name for path in PAGES]
CODE = [path for path in SOURCES if path.suffix != ".md"] + sorted(
    [ROOT / "Makefile", ROOT / "setup.py", ROOT / "csrc/core/cdef.txt", Path(__file__)]
)
FILES = {path.relative_to(ROOT).as_posix() for path in (*SOURCES, *CODE)}
# Names that pages use of other people's files, of files that are made, and of what is no more.
ELSEWHERE = {
    *("mnist.npz", "cifar10.npz", "fashion_mnist.npz", "build/digits.h", "build/digits.c"),
    *("digits_text", "digits_save", "digits_load", "digits_reset", "digits_classes"),
}
PUBLIC = {
    name: value
    for module in (eqprop_fast, circuits, theory)
    for name in module.__all__
    if callable(value := getattr(module, name))
}
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


@pytest.mark.parametrize("path", PAGES, ids=NAMES)
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


# ---- what the pages name is there ----


def prose(path):
    """A page without its blocks of code."""
    return re.sub(r"^( *)```.*?^ *```", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)


def spans(path):
    """What stands between single backquotes in a page."""
    return re.findall(r"`([^`\n]+)`", prose(path))


@pytest.fixture(scope="module")
def code():
    return "\n".join(path.read_text() for path in CODE)


@pytest.fixture(scope="module")
def words(code):
    return set(re.findall(r"[^\W\d]\w*", code))


@pytest.mark.parametrize("path", PAGES, ids=NAMES)
def test_files_that_pages_name_exist(path):
    for name in spans(path):
        if re.fullmatch(r"[\w./]+(\.(py|c|h|md|txt|json|toml|npz)|/)", name):
            found = (ROOT / name).exists() or (path.parent / name).exists()
            within = any(f"/{file}".endswith(f"/{name}") or f"/{name}" in file for file in FILES)
            assert found or within or name in ELSEWHERE, f"{path.name} names {name}"


@pytest.mark.parametrize("path", PAGES, ids=NAMES)
def test_words_of_code_that_pages_use_are_in_the_code(path, words):
    """Names with an underscore; a page about a removed parameter would use one that is not."""
    for span in spans(path):
        if "/" in span or span.endswith(".py"):
            continue
        for name in re.findall(r"(?<![\w{<])[a-z]{2,}(?:_+[a-z]\w*)+(?![\w{<])", span):
            assert name in words or name in ELSEWHERE, f"{path.name}: {name} in `{span}`"


@pytest.mark.parametrize("path", PAGES, ids=NAMES)
def test_commands_and_variables_that_pages_give_exist(path, code):
    text = path.read_text()
    makefiles = [f for f in {ROOT / "Makefile", path.parent / "Makefile"} if f.exists()]
    rules = "".join(f.read_text() for f in makefiles)
    targets = set(re.findall(r"^([a-z0-9-]+):", rules, re.MULTILINE))
    for target in re.findall(r"(?:^ {4}|`)(?:\w+=\S+ )*make ([a-z0-9-]+)", text, re.MULTILINE):
        assert target in targets, f"{path.name}: make {target}"
    for command in re.findall(r"`eqprop-fast ([a-z]+)", text):
        assert command in cli.main.commands, f"{path.name}: eqprop-fast {command}"
    for variable in re.findall(r"\bEQPROP_[A-Z_]+\b", text):
        assert f'"{variable}"' in code, f"{path.name}: {variable}"


# ---- what the pages say of the API is so ----


def calls(text):
    """(name, positional arguments, keywords) of each call in Python text."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else None
            name = node.func.id if isinstance(node.func, ast.Name) else name
            yield name, node.args, [k.arg for k in node.keywords if k.arg]


def check_call(place, name, keywords):
    """Refuse keywords that a public class or function has not; of ``rule__beta`` the first part."""
    if name in PUBLIC:
        for keyword in keywords:
            known = keyword.partition("__")[0] in inspect.signature(PUBLIC[name]).parameters
            assert known, f"{place}: {name} has no parameter {keyword}"


@pytest.mark.parametrize("path", PAGES, ids=NAMES)
def test_calls_on_pages_name_parameters(path):
    for block in re.findall(r"^```python\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL):
        for name, _, keywords in calls(block):
            check_call(path.name, name, keywords)
    for span in spans(path):
        try:
            found = list(calls(span))
        except SyntaxError:
            continue
        for name, args, keywords in found:
            check_call(path.name, name, keywords)
            listed = [arg.id for arg in args if isinstance(arg, ast.Name)]
            everything = len(listed) == len(args) > 0 and not keywords  # a list of all there are
            if everything and isinstance(PUBLIC.get(name), type):
                assert listed == list(inspect.signature(PUBLIC[name]).parameters), span


def rows(path, *heads):
    """The rows of the table of a page whose head begins with these columns, as lists of cells."""
    head = r" \| ".join(heads)
    found = re.search(rf"^\| {head}.*\n\|[-|]+\n((?:\|.*\n)+)", path.read_text(), re.MULTILINE)
    return [[c.strip() for c in row.strip("|").split("|")] for row in found[1].splitlines()]


def test_the_guide_lists_every_word_and_preset():
    guide = ROOT / "docs/guide.md"
    rules = {
        word for row in rows(guide, "learning rule") for word in re.findall(r'"(\w+)" `', row[0])
    }
    assert rules == set(EqPropClassifier._words["learning_rule"])
    for parameter, listed, _ in rows(guide, "parameter", "words"):
        kind = ResistiveClassifier if "resistive" in parameter else EqPropClassifier
        there = set(kind._words[re.match(r"`(\w+)`", parameter)[1]]) - {"auto"}
        words = set(re.findall(r'"(\w+)"', listed))
        if "and" in listed:  # those of the row above, and these
            assert words <= there, parameter
        elif words:
            assert words == there, parameter
    presets = set()
    for _, names in rows(guide, "paper", "names"):
        first, *others = re.findall(r"`([^`]+)`", names)
        paper = first.partition("/")[0]
        presets |= {first, *(f"{paper}/{other}" for other in others)}
    lists = list_presets, list_resistive_presets, list_conv_presets, list_graph_presets
    assert presets == {name for listed in lists for name in listed()}


def test_the_devices_page_lists_every_parameter_of_a_device():
    listed = rows(ROOT / "docs/devices.md", "parameter", "what it does")
    names = [name for row in listed for name in re.findall(r"`(\w+)`", row[0])]
    assert names == list(inspect.signature(DeviceModel).parameters)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation_is_in_the_equations_and_in_the_docstring(name):
    first = [row[0] for row in rows(ROOT / "docs/equations.md", "name", "`ρ\\(x\\)`")]
    assert f"`{name}`" in " ".join(first)
    assert f'"{name}"' in EqPropClassifier.__doc__


# Numbers of `eqprop_fast.auto`, as the docstrings say them and, by row, docs/defaults.md.
RECIPE = {
    "learning_rate_init": [auto.RATES["adam"], auto.RATES["sgd"]],
    "layer_decay": [auto.LAYER_DECAY],
    "weight_decay": [auto.DECAY_SHARE, auto.NOISE_SHARE, auto.LARGEST_DECAY],
    "batch_size": [auto.BATCH_SIZE, auto.RESISTIVE_BATCH_SIZE],
    "n_iter_no_change": [auto.patience("adaptive")],
    "relaxation__n_steps": [auto.STEPS_ONCE, auto.STEPS_PER_LAYER],
    "learning_rule__n_steps": [auto.STEPS_ONCE // 2, auto.STEPS_PER_LAYER // 2],
    "relaxation__tol": [auto.TOLERANCE],
    "learning_rule__tol": [auto.TOLERANCE],
    "relaxation__over_relaxation": [auto.OVER_RELAXATION, auto.PROBE_ROWS],
    "input_scaling": [auto.SCALE_ROWS, 100 * auto.WINSORISED],
}
POINTS_TO_THE_PAGE = {"input_scaling", "relaxation__over_relaxation"}


def numbers(text):
    """The numbers in a text."""
    return {float(n.replace(",", "")) for n in re.findall(r"\d[\d,]*(?:\.\d+)?(?:e-?\d+)?", text)}


@pytest.mark.parametrize("parameter", RECIPE)
def test_the_defaults_page_has_the_numbers_of_the_recipe(parameter):
    cells = [
        row for row in rows(ROOT / "docs/defaults.md", "parameter") if parameter in row[0] + row[1]
    ]
    assert numbers(cells[0][1]) >= set(RECIPE[parameter]), cells[0]


@pytest.mark.parametrize("parameter", sorted(set(RECIPE) - POINTS_TO_THE_PAGE))
def test_docstrings_have_the_numbers_of_the_recipe(parameter):
    part, _, name = parameter.rpartition("__")
    owner = EqPropClassifier()._part(part) if part else EqPropClassifier
    entry = re.search(
        rf"^[\w, ]*\b{name}\b.* : .*\n((?: .*\n|\n)*)", inspect.getdoc(owner) + "\n", re.MULTILINE
    )[1]
    said = re.search(r'"auto"(.*)', entry, re.DOTALL)
    assert numbers(said[1]) >= set(RECIPE[parameter]), entry


def test_small_signals_have_their_numbers_on_the_page_and_in_the_docstring():
    said = inspect.getdoc(EqPropRegressor).partition("Small signals")[2]
    page = (ROOT / "docs/defaults.md").read_text()
    row = next(line for line in page.splitlines() if line.startswith("| `learning_rate_init`,"))
    rate = {auto.SMALL_RATE, auto.WIDE}
    assert numbers(said) >= rate | {auto.AMPLITUDE}
    assert numbers(row) >= rate
    assert auto.AMPLITUDE in numbers(page.partition("**Small signals.**")[2].partition("##")[0])


@pytest.mark.parametrize("path", PAGES, ids=NAMES)
def test_lines_of_prose_are_at_most_120_wide(path):
    for line in prose(path).splitlines():
        assert len(line) <= 120 or line.startswith(("|", "!["))


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().split()) <= 450
