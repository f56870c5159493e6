"""Whole-training-step comparison: everybody in one run, in turns, on the same data; medians of
ratios.

A shared machine drifts (other jobs, clock, temperature). Turns A B C A B C ... put that drift on
everybody alike, and a ratio is taken inside one round, between neighbours in time, before the
median over rounds.
"""

from __future__ import annotations

import statistics
import time

import numpy as np

from .contenders import BASELINES, Block, Unavailable, make_contender, parameter_gap
from .settings import BATCH_SIZE, published_flop, training_flop

SAME_TRAJECTORY = 1e-5
# every exact contender's parameters after these are compared with the reference's
CHECKED_BATCHES = 3
PAUSE = 0.2  # seconds between turns: OpenMP workers of the last contender stop spinning


def compare(setting, names, thread_counts, batches, rounds=7, seconds=0.3, tol=1e-3, say=print):
    """Time the contenders `names` at one setting.

    Returns
    -------
    dict
        The setting, its FLOP count, one record per contender and thread count (all rates, median,
        best, largest gap to the float64 NumPy twin after three batches), the reasons of those that
        could not run, and the ratios.
    """
    block = Block(setting, batches)
    racers, absent = [], {}
    reference = _reference(setting, block, absent)
    for name in names:
        for n_threads in thread_counts:
            try:
                racers.append(_enter(name, setting, block, n_threads, tol, reference))
            except Unavailable as reason:
                absent[name] = str(reason)
    for _ in range(rounds):
        for racer in racers:
            _turn(racer, seconds)
    entries = [_summary(racer, setting) for racer in racers]
    result = {
        "setting": setting.name,
        "layers": setting.layers,
        "n_free_steps": setting.n_free_steps,
        "n_nudged_steps": setting.n_nudged_steps,
        "batch_size": BATCH_SIZE,
        "tol_async": tol,
        "flop_per_sample": training_flop(setting),
        "flop_per_sample_published": published_flop(setting),
        "authors_rate": setting.authors_rate,
        "entries": entries,
        "absent": absent,
        "ratios": _ratios(racers),
    }
    for entry in entries:
        say(_line(setting, entry))
    return result


def _reference(setting, block, absent):
    """The float64 NumPy twin (PyTorch, should the twin be missing) after the first batches of the
    block.
    """
    for name in ("numpy", "torch-hoisted"):
        try:
            twin = make_contender(name, setting, block, 1, dtype=np.float64)
        except Unavailable as reason:
            absent.setdefault(f"reference {name}", str(reason))
            continue
        twin.train(0, CHECKED_BATCHES)
        return twin
    raise Unavailable("neither the NumPy twin nor PyTorch can serve as the reference")


def _enter(name, setting, block, n_threads, tol, reference):
    """A contender ready to race: compiled, compared with the reference, timed once to size its
    turns.
    """
    gap = None
    contender = make_contender(name, setting, block, n_threads, tol=tol)
    try:
        contender.train(0, CHECKED_BATCHES)
    except ValueError as error:
        if "learning_rule" not in str(error):
            raise
        raise Unavailable(str(error)) from error
    if contender.exact:
        gap = parameter_gap(contender, reference)
    start = time.perf_counter()
    contender.train(CHECKED_BATCHES, 1)
    single = time.perf_counter() - start
    position = CHECKED_BATCHES + 1
    return {
        "contender": contender,
        "gap": gap,
        "single": single,
        "position": position,
        "rates": [],
        "cpu": [],
    }


def _turn(racer, seconds):
    """One turn of about `seconds`, after one untimed batch that fills the caches; appends samples
    per second.

    Processor time is kept too: with one thread it is the wall time of a quiet machine, whatever
    else runs.
    """
    contender = racer["contender"]
    count = max(1, int(seconds / racer["single"]))
    time.sleep(PAUSE)
    if count > 1:
        contender.train(racer["position"], 1)
    start, cpu_start = time.perf_counter(), time.process_time()
    contender.train(racer["position"] + 1, count)
    elapsed, cpu = time.perf_counter() - start, time.process_time() - cpu_start
    racer["position"] += count + 1
    racer["single"] = elapsed / count
    racer["rates"].append(count * BATCH_SIZE / elapsed)
    racer["cpu"].append(count * BATCH_SIZE / max(cpu, 1e-9))


def _summary(racer, setting):
    contender, rates = racer["contender"], racer["rates"]
    if not all(np.isfinite(p).all() for p in contender.weights + contender.biases):
        raise ArithmeticError(f"{contender.name} at {setting.name}: non-finite weights, no rate")
    median = statistics.median(rates)
    return {
        "name": contender.name,
        "n_threads": contender.n_threads,
        "isa": getattr(contender, "isa", None),
        "rates": rates,
        "median": median,
        "best": max(rates),
        "per_cpu_second": statistics.median(racer["cpu"]),
        "gap": racer["gap"],
        "same_trajectory": None if racer["gap"] is None else racer["gap"] <= SAME_TRAJECTORY,
        "gflops": median * training_flop(setting) / 1e9,
    }


def _ratios(racers):
    """Ours against each baseline at its better thread count: median over rounds of the round's
    ratio.
    """
    ratios = []
    for baseline in BASELINES:
        candidates = [r for r in racers if r["contender"].name == baseline]
        if not candidates:
            continue
        best = max(candidates, key=lambda r: statistics.median(r["rates"]))
        for racer in racers:
            contender = racer["contender"]
            if contender.name in BASELINES:
                continue
            pairs = [a / b for a, b in zip(racer["rates"], best["rates"], strict=True)]
            ratios.append(
                {
                    "name": contender.name,
                    "n_threads": contender.n_threads,
                    "baseline": baseline,
                    "baseline_threads": best["contender"].n_threads,
                    "ratio": statistics.median(pairs),
                    "low": min(pairs),
                    "high": max(pairs),
                }
            )
    return ratios


def _line(setting, entry):
    gap = "" if entry["gap"] is None else f"  gap to float64 {entry['gap']:.1e}"
    return (
        f"{setting.name:6s} {entry['name']:16s} {entry['n_threads']} thr  {entry['median']:10,.0f} samples/s "
        f"({entry['per_cpu_second']:,.0f} per CPU second)  {entry['gflops']:6.1f} GFLOP/s{gap}"
    )
