"""The tables and the plot of docs/defaults.md, from what `bench.defaults.run` has written."""

from __future__ import annotations

import json

import numpy as np

from .run import MLP, OURS, RESISTIVE, ROOT

RESULTS = ROOT / "bench" / "results"
PAGE, PLOT = ROOT / "docs" / "defaults.md", ROOT / "docs" / "img" / "defaults.png"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
ORDER = (OURS, RESISTIVE, MLP, "linear", "boosting")


def tables_text(found, raw):
    """Markdown: a row for each table, held-out part first, then the medians."""
    lines = []
    for classifies, measure in ((True, "accuracy / log-loss"), (False, "R2")):
        rows = [t for t in found["tables"] if t["classifies"] == classifies]
        if not rows:
            continue
        names = [n for n in ORDER if n in rows[0]["contenders"]]
        lines += ["", f"{'Raw' if raw else 'Standardised'} features, {measure}:", ""]
        lines += [
            f"| table | part | {' | '.join(names)} | fit, EqProp / MLP | a row, EqProp / MLP |"
        ]
        lines += ["|---" * (len(names) + 4) + "|"]
        for part in ("held-out", "recipe"):
            chosen = [t for t in rows if t["part"] == part]
            lines += [_row(t["name"], part, [t], names) for t in chosen]
            if chosen:
                lines += [_row("**median**", part, chosen, names)]
    return "\n".join(lines)


def _row(name, part, tables, names):
    def median(contender, measure):
        return np.median([t["contenders"][contender][measure] for t in tables])

    def ratio(measure):
        got = [t["contenders"] for t in tables]
        if not all(OURS in g and MLP in g for g in got):
            return "-"
        return f"{np.median([g[OURS][measure] / g[MLP][measure] for g in got]):.2f}"

    cells = []
    for contender in names:
        text = f"{median(contender, 'score'):.3f}"
        if tables[0]["classifies"]:
            text += f" / {median(contender, 'log_loss'):.2f}"
        cells.append(text)
    return (
        f"| {name} | {part} | {' | '.join(cells)} | {ratio('fit_seconds')} | "
        f"{ratio('predict_row_seconds')} |"
    )


def plot(found):
    """How far above or below MLP each contender's score is, a table a row."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    from ..pictures import keep

    figure, axes = plt.subplots(1, 2, figsize=(11, 5), layout="constrained")
    for ax, classifies in zip(axes, (True, False)):
        rows = [t for t in found["tables"] if t["classifies"] == classifies]
        rows.sort(key=lambda t: (t["part"], t["name"]), reverse=True)
        for offset, name in zip((-0.2, 0.0, 0.2), (OURS, RESISTIVE, "boosting")):
            held = [t for t in rows if name in t["contenders"] and MLP in t["contenders"]]
            gaps = [t["contenders"][name]["score"] - t["contenders"][MLP]["score"] for t in held]
            at = [rows.index(t) + offset for t in held]
            ax.plot(np.clip(gaps, -0.3, 0.3), at, "o", label=name, markersize=5)
        ax.axvline(0, color="0.5", linewidth=1)
        ax.axvline(-0.02 if classifies else -0.03, color="0.5", linewidth=1, linestyle=":")
        ax.set_yticks(range(len(rows)), [f"{t['name']} ({t['part']})" for t in rows])
        ax.set_xlabel(f"{'accuracy' if classifies else 'R2'} minus that of MLP (held at ±0.3)")
        ax.locator_params(axis="x", nbins=6)
        ax.grid(axis="y", alpha=0.3)
    axes[0].legend()
    PLOT.parent.mkdir(parents=True, exist_ok=True)
    keep(PLOT, lambda file: figure.savefig(file, dpi=90))
    plt.close(figure)


def main():
    """Write what has been measured into the page."""
    parts = []
    for name, raw in (("defaults", False), ("defaults-raw", True)):
        path = RESULTS / f"{name}.json"
        if path.exists():
            found = json.loads(path.read_text())
            parts.append(tables_text(found, raw))
            if not raw:
                plot(found)
    page = PAGE.read_text()
    before, after = page.split(BEGIN)[0], page.split(END)[1]
    text = "\n".join(parts).strip()
    PAGE.write_text(f"{before}{BEGIN}\n{text}\n\n{END}{after}")


if __name__ == "__main__":
    main()
