"""python -m tests.mutation FAMILY... --mutants N --seed S [--again FILE]; results in
build/mutation/.
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
from pathlib import Path

from setup import instruction_sets

from .families import BACKENDS, FAMILIES
from .operators import candidates, changes_python
from .tree import ROOT, Tree

EQUIVALENT = Path(__file__).parent / "equivalent.json"
TARGET = 0.95
KEY = ("file", "above", "before", "after")


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


def drawn(tree, family, seed):
    """Mutants without end: kind, then operator, then place, each evenly; none twice."""
    rng, pools = random.Random(f"{seed} {family}"), {}
    for kind, patterns in FAMILIES[family].sources.items():
        pools[kind] = {}
        for path in tree.files(patterns):
            for operator, found in candidates(path, (tree.folder / path).read_text()).items():
                pools[kind].setdefault(operator, []).extend(found)
    while pools:
        kind = rng.choice(list(pools))
        operator = rng.choice(list(pools[kind]))
        pool = pools[kind][operator]
        yield kind, pool.pop(rng.randrange(len(pool)))
        if not pool:
            del pools[kind][operator]
        if not pools[kind]:
            del pools[kind]


def again(tree, family, earlier):
    """The survivors of an earlier run, found by their lines."""
    mine = [m for m in earlier if m["family"] == family and m["verdict"] == "survived"]
    wanted = {tuple(m[k] for k in KEY) for m in mine}
    for kind, patterns in FAMILIES[family].sources.items():
        for path in tree.files(patterns):
            text = (tree.folder / path).read_text()
            for found in candidates(path, text).values():
                for mutant in found:
                    key = (Path(path).name, *mutant.lines(text))
                    if key in wanted:
                        wanted.discard(key)
                        yield kind, mutant
    for key in wanted:
        print("no longer there:", *key, sep="\n    ")


class Runner:
    def __init__(self, tree, family):
        self.tree, self.family, self.tests = tree, family, FAMILIES[family].tests
        reviewed = json.loads(EQUIVALENT.read_text())
        self.equivalent = {tuple(e[k] for k in KEY): e["why"] for e in reviewed}
        self.library, self.base = tree.build(), {}
        if self.library is None:
            sys.exit(f"the tree does not build:\n{tree.trouble}")

    def baseline(self, backends):
        """Seconds of the tests without a mutant, which they must pass."""
        if backends not in self.base:
            verdict, by, seconds = self.tree.test(
                self.tests, backends, 1800, 3600
            )  # no limit that counts
            if verdict != "survived":
                sys.exit(
                    f"{self.family} fails without a mutant: {verdict} {by}\n{self.tree.output[-3000:]}"
                )
            print(f"{self.family} without a mutant ({backends}): {seconds} s", flush=True)
            self.base[backends] = seconds
        return self.base[backends]

    def judge(self, kind, mutant):
        """Its record, None where it changes nothing or does not compile."""
        path = self.tree.folder / mutant.path
        text = path.read_text()
        record = dict(zip(KEY, (path.name, *mutant.lines(text))))
        line = text.count("\n", 0, mutant.start) + 1
        record.update(family=self.family, path=mutant.path, line=line, operator=mutant.operator)
        compiled = not mutant.path.endswith(".py")
        if why := self.equivalent.get(tuple(record[k] for k in KEY)):
            return {**record, "verdict": "equivalent", "by": why}
        if not compiled and not changes_python(text, mutant.applied(text)):
            return None
        backends = BACKENDS.get(kind, "c numpy")
        seconds = self.baseline(backends)
        try:
            path.write_text(mutant.applied(text))
            if compiled and self.tree.build() in (None, self.library):
                return None
            limits = 30 + 4 * seconds, 120 + 10 * seconds
            verdict, by, spent = self.tree.test(self.tests, backends, *limits)
            if verdict == "survived" and compiled:
                verdict, by, _ = self.tree.sanitized(mutant.path, 600, 1800)
                by = by and "sanitizers"
        finally:
            path.write_text(text)
        return {**record, "verdict": verdict, "by": by, "seconds": spent}


def summary(records):
    """One line a family: of the mutants that are not equivalent, how many were killed."""
    lines, good = ["family       tried  test crash  time equivalent survived  killed"], True
    for family in dict.fromkeys(r["family"] for r in records):
        mine = [r["verdict"] for r in records if r["family"] == family]
        count = {v: mine.count(v) for v in ("test", "crash", "time", "equivalent", "survived")}
        killable = len(mine) - count["equivalent"]
        share = (killable - count["survived"]) / max(killable, 1)
        good &= share >= TARGET
        lines.append(
            f"{family:<12} {len(mine):5} {count['test']:5} {count['crash']:5} {count['time']:5}"
            f" {count['equivalent']:10} {count['survived']:8} {share:7.1%}"
        )
    return "\n".join(lines), good


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("family", nargs="*", help=" ".join(FAMILIES))
    parser.add_argument("--mutants", type=int, default=20, help="in each family")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--kind", nargs="*", help="only these kinds of source: c numpy numba python ..."
    )
    parser.add_argument("--again", help="results of an earlier run: only its survivors")
    given = parser.parse_args()
    if unknown := set(given.family) - set(FAMILIES):
        parser.error(f"unknown family {sorted(unknown)}; there are {', '.join(FAMILIES)}")
    earlier = json.loads(Path(given.again).read_text()) if given.again else None
    preload()
    isas = [name for name, _ in instruction_sets(platform.machine())]
    isa = "avx2" if "avx2" in isas and "avx2" in Path("/proc/cpuinfo").read_text() else isas[0]
    records = []
    results = ROOT / "build" / "mutation"
    results.mkdir(parents=True, exist_ok=True)
    name = "-".join(given.family or ["all"]) + "".join(f"-{kind}" for kind in given.kind or [])
    results /= f"{name}-{'again' if given.again else given.seed}.json"
    with tempfile.TemporaryDirectory(prefix="mutation-") as folder:
        tree = Tree(folder, isa)
        for family in given.family or FAMILIES:
            runner, tried = Runner(tree, family), 0
            mutants = again(tree, family, earlier) if earlier else drawn(tree, family, given.seed)
            for kind, mutant in mutants:
                if tried == given.mutants and not earlier:
                    break
                if given.kind and kind not in given.kind:
                    continue
                record = runner.judge(kind, mutant)
                if record is None:
                    continue
                tried += 1
                records.append(record)
                place = f"{record['path']}:{record['line']}"
                print(f"{record['verdict']:<10} {place}  {record['operator']}  {record['by']}")
                if record["verdict"] == "survived":
                    print(f"    - {record['before']}\n    + {record['after']}")
                sys.stdout.flush()
                results.write_text(json.dumps(records, indent=1))
    text, good = summary(records)
    print(f"\n{text}\n{results}")
    sys.exit(not good)


if __name__ == "__main__":
    main()
