"""python -m tests.mutation FAMILY... [--kind KIND...] [--mutants N] [--seed S] [--seconds T]

A family's verdicts gather in build/mutation/FAMILY.json: a run goes on where the last one ended,
until N mutants of each kind are judged or T seconds are over. --again judges the survivors once
more, --named those of named.json, which survived once; --report prints the table of what is there.
"""

import os

os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = (
    "1"  # a process with threads cannot fork
)

import argparse
import json
import platform
import random
import sys
import tempfile
import time
from pathlib import Path

from setup import instruction_sets

from .families import BACKENDS, FAMILIES
from .operators import Mutant, candidates, changes_python
from .tree import ROOT, Tree

TARGET = 0.95
KEY = ("file", "above", "before", "after")
RESULTS = ROOT / "build" / "mutation"
FEW_DRAWS = {"EQPROP_RANDOM_DRAWS": "250", "EQPROP_RANDOM_WORK": "5e4"}  # not compiled
FIRST = 12  # tests that killed before, tried first


def preload():
    """What every test imports, once."""
    for name in (
        "numpy",
        "scipy.sparse",
        "scipy.linalg",
        "pytest",
        "hypothesis",
        "sklearn.utils.estimator_checks",
    ):
        __import__(name)


def key(record):
    return tuple(record[k] for k in KEY)


# mutants that change nothing a test could see, each with its argument
REVIEWED = {
    key(e): e["why"] for e in json.loads(Path(__file__).with_name("equivalent.json").read_text())
}


def offered(tree, family, kind):
    """{operator: [Mutant]} of all files of a kind."""
    pools = {}
    for path in tree.files(FAMILIES[family].sources[kind]):
        for operator, found in candidates(path, (tree.folder / path).read_text()).items():
            pools.setdefault(operator, []).extend(found)
    return pools


def drawn(tree, family, kind, seed):
    """Mutants without end: operator, then place, each evenly; none twice."""
    rng, pools = random.Random(f"{seed} {family} {kind}"), offered(tree, family, kind)
    while pools:
        operator = rng.choice(list(pools))
        pool = pools[operator]
        yield pool.pop(rng.randrange(len(pool)))
        if not pool:
            del pools[operator]


def named(tree, family, kind):
    """Those of named.json."""
    for row in json.loads(Path(__file__).with_name("named.json").read_text()):
        if row["family"] == family and row["path"] in tree.files(FAMILIES[family].sources[kind]):
            text = (tree.folder / row["path"]).read_text()
            start = text.index(row["before"])
            end = start + len(row["before"])
            yield Mutant(row["path"], start, end, row["after"], "named")


def again(tree, family, kind, ledger):
    """Its survivors, found by their lines; one whose lines have changed leaves the ledger."""
    ledger.load()  # another run may have written, of another kind
    gone = {key(m) for m in ledger if m["kind"] == kind and m["verdict"] == "survived"}
    pools = offered(tree, family, kind) | {"named": named(tree, family, kind)}
    for mutant in (mutant for pool in pools.values() for mutant in pool):
        text = (tree.folder / mutant.path).read_text()
        if (name := (Path(mutant.path).name, *mutant.lines(text))) in gone:
            gone.discard(name)
            yield mutant
    for name in gone:
        print("no longer there:", *name, sep="\n    ")
    ledger[:] = [m for m in ledger if key(m) not in gone]


class Ledger(list):
    """The verdicts of a family, kept in a file; one a mutant, the last counts."""

    def __init__(self, family):
        self.path = RESULTS / f"{family}.json"
        self.load()

    def load(self):
        self[:] = json.loads(self.path.read_text()) if self.path.exists() else []
        for record in self:
            if record["verdict"] == "survived" and (why := REVIEWED.get(key(record))):
                record.update(verdict="equivalent", by=why)

    def note(self, record):
        self.load()  # another run may have written, of another kind
        self[:] = [m for m in self if key(m) != key(record)] + [record]
        self.save()

    def save(self):
        RESULTS.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps(self, indent=1))

    def killers(self, backends):
        """Tests that killed on these backends, the latest first."""
        mine = [m["by"] for m in self if m["verdict"] == "test" and m.get("backends") == backends]
        return list(dict.fromkeys(by for by in reversed(mine) if "::" in by))[:FIRST]


class Runner:
    def __init__(self, tree, family, ledger, passing):
        self.tree, self.family, self.passing = tree, family, passing
        self.ledger = ledger
        self.library, self.base = tree.build(), {}
        self.built = self.library
        if self.library is None:
            sys.exit(f"the tree does not build:\n{tree.trouble}")

    def restore(self):
        """The kernels without the last mutant of theirs."""
        if self.built != self.library:
            self.built = self.tree.build()
            assert self.built == self.library, "the compiler makes something else each time"

    def test(self, backends, *limits, first=None, path=""):
        """What becomes of all tests, those that share a word with the name of `path` before the
        others, or of those named `first`.
        """
        family, numba = FAMILIES[self.family], "numba" in backends
        drawn = {"EQPROP_RANDOM_FAMILY": family.drawn} | (FEW_DRAWS if numba else {})
        words = set(Path(path).stem.split("_"))
        near = sorted(
            family.numba if numba else family.tests,
            key=lambda test: -len(words & set(Path(test).stem.split("_"))),
        )
        tests = first or near
        return self.tree.test(tests, backends, *limits, environment=drawn)

    def baseline(self, backends):
        """Seconds of the tests without a mutant, which they must pass."""
        if self.passing is not None:
            return self.passing
        if backends not in self.base:
            self.restore()
            verdict, by, seconds = self.test(backends, 1800, 3600)  # no limit that counts
            if verdict != "survived":
                sys.exit(
                    f"{self.family} fails without a mutant: {verdict} {by}\n{self.tree.output[-3000:]}"
                )
            print(f"{self.family} without a mutant ({backends}): {seconds} s", flush=True)
            self.base[backends] = seconds
        return self.base[backends]

    def judge(self, kind, mutant, known=()):
        """Its record, None where it changes nothing, does not compile or is `known`."""
        path = self.tree.folder / mutant.path
        text = path.read_text()
        record = dict(zip(KEY, (path.name, *mutant.lines(text))))
        if key(record) in known:
            return None
        line = text.count("\n", 0, mutant.start) + 1
        record.update(family=self.family, kind=kind, path=mutant.path, line=line)
        record["operator"] = mutant.operator
        compiled = not mutant.path.endswith(".py")
        if why := REVIEWED.get(key(record)):
            return {**record, "verdict": "equivalent", "by": why}
        if not compiled and not changes_python(text, mutant.applied(text)):
            return None
        backends = BACKENDS.get(kind, "c")
        if not compiled:
            self.restore()
        seconds = self.baseline(backends)
        try:
            path.write_text(mutant.applied(text))
            if compiled:
                self.built = self.tree.build()
                if self.built in (None, self.library):
                    return None
            verdict, by = self.tried(backends, seconds, mutant.path)
            if verdict == "survived" and compiled:
                threads = "eqp_wait" in record["before"]
                verdict, by, _ = self.tree.sanitized(mutant.path, 600, 1800, threads)
                by = by and "sanitizers"
        finally:
            path.write_text(text)
        return {**record, "backends": backends, "verdict": verdict, "by": by}

    def tried(self, backends, seconds, path):
        """(verdict, by): of the tests that killed before, then of all."""
        limits = 30 + 4 * seconds, 120 + 10 * seconds
        if first := self.ledger.killers(backends):
            verdict, by, _ = self.test(backends, *limits, first=first)
            if verdict != "survived" and not by.startswith("exit"):  # a test may have gone
                return verdict, by
        return self.test(backends, *limits, path=path)[:2]


def summary(ledgers):
    """One line a kind and family: of the mutants that are not equivalent, how many were killed."""
    lines, good = [f"{'':<22} tried  test crash  time equivalent survived  killed"], True
    for family, ledger in ledgers.items():
        kinds = sorted({m["kind"] for m in ledger})
        for kind in [*kinds, None]:
            mine = [m["verdict"] for m in ledger if kind in (m["kind"], None)]
            count = {v: mine.count(v) for v in ("test", "crash", "time", "equivalent", "survived")}
            killable = len(mine) - count["equivalent"]
            share = (killable - count["survived"]) / max(killable, 1)
            good &= kind is not None or share >= TARGET
            lines.append(
                f"{family + ' ' + (kind or 'all'):<22} {len(mine):5} {count['test']:5}"
                f" {count['crash']:5} {count['time']:5} {count['equivalent']:10}"
                f" {count['survived']:8} {share:7.1%}"
            )
    return "\n".join(lines), good


def shown(record):
    place = f"{record['path']}:{record['line']}"
    print(f"{record['verdict']:<10} {place}  {record['operator']}  {record['by']}")
    if record["verdict"] == "survived":
        print(f"    - {record['before']}\n    + {record['after']}")
    sys.stdout.flush()


def run(tree, family, given, until):
    """Judge a family's mutants, kind after kind."""
    ledger = Ledger(family)
    runner = Runner(tree, family, ledger, given.passing)
    whole = given.again or given.named
    for kind in FAMILIES[family].sources:
        if given.kind and kind not in given.kind:
            continue
        if given.again:
            mutants, known = list(again(tree, family, kind, ledger)), ()
            ledger.save()
        elif given.named:
            mutants, known = named(tree, family, kind), ()
        else:
            mutants, known = drawn(tree, family, kind, given.seed), {key(m) for m in ledger}
        for mutant in mutants:
            tried = sum(m["kind"] == kind for m in ledger)
            if time.monotonic() > until or (tried >= given.mutants and not whole):
                break
            if record := runner.judge(kind, mutant, known):
                shown(record)
                ledger.note(record)


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("family", nargs="*", help=" ".join(FAMILIES))
    parser.add_argument("--mutants", type=int, default=20, help="of each kind in each family")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="start none after this")
    parser.add_argument(
        "--kind", nargs="*", help="only these kinds of source: c numpy numba python ..."
    )
    parser.add_argument(
        "--passing", type=float, help="seconds of the tests, which are known to pass: not run first"
    )
    parser.add_argument("--again", action="store_true", help="only those that survived")
    parser.add_argument("--named", action="store_true", help="only those of named.json")
    parser.add_argument("--report", action="store_true", help="only the table")
    given = parser.parse_args()
    if unknown := set(given.family) - set(FAMILIES):
        parser.error(f"unknown family {sorted(unknown)}; there are {', '.join(FAMILIES)}")
    families = given.family or FAMILIES
    if not given.report:
        until = time.monotonic() + given.seconds
        preload()
        isas = [name for name, _ in instruction_sets(platform.machine())]
        isa = "avx2" if "avx2" in isas and "avx2" in Path("/proc/cpuinfo").read_text() else isas[0]
        with tempfile.TemporaryDirectory(prefix="mutation-") as folder:
            tree = Tree(folder, isa)
            for family in families:
                run(tree, family, given, until)
    text, good = summary({family: Ledger(family) for family in families})
    print(f"\n{text}\n{RESULTS}")
    sys.exit(not good)


if __name__ == "__main__":
    main()
