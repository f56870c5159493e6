"""The learning rules of the NumPy reference: their formulas, one against another, their refusals."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from eqprop_fast.kernels import DivergenceError, LayeredSpec, OptimizerState, TrainPlan
from eqprop_fast.kernels.reference import rules
from eqprop_fast.kernels.reference.activations import rho
from eqprop_fast.kernels.reference.layered import layered_contrast, layered_drive, layered_step
from eqprop_fast.kernels.reference.train import layered_train
from eqprop_fast.kernels.spec import RULES

from eqprop_fast.gradients import bptt, implicit
from eqprop_fast.networks.asymmetry import backward_weights
from eqprop_fast.theory.models import random_parameters
from eqprop_fast.theory.presets import uniform_batch

SIZES = (5, 7, 4, 3)
LEAKY = dict(
    dynamics="continuous", dt=0.3, prime_hidden=False, activation="tanh", out_activation="tanh"
)
HARD = dict(activation="hard_sigmoid", out_activation="hard_sigmoid")
VF = ("vector_field", "continual_vector_field")


def setting(rule, m=6, dtype=np.float64, sizes=SIZES, **spec_more):
    """spec, weights, back, biases, x, y, plan that suit `rule`."""
    spec = LayeredSpec(sizes=sizes, **{**(HARD if rule == "clamped_sweep" else {}), **spec_more})
    weights, biases = random_parameters(sizes, np.random.default_rng(3), dtype)
    back = backward_weights(weights, 30, 4) if rule in VF else None
    x, y = uniform_batch(m, sizes[0], sizes[-1], 5, dtype)
    n = spec.n_weights
    plan = TrainPlan(
        batch_size=m,
        beta=0.2,
        n_free_steps=30,
        n_nudged_steps=6,
        rate=tuple(0.1 / (k + 1) for k in range(n)),
        bias_rate=tuple(0.05 / (k + 1) for k in range(n)),
        rule=rule,
    )
    return spec, weights, back, biases, x, y, plan


def train(spec, weights, back, biases, x, y, plan, **more):
    """Copies of the parameters after one pass, and the statistics."""
    copies = [None if g is None else [p.copy() for p in g] for g in (weights, back, biases)]
    stats = layered_train(spec, *copies, x, y, np.arange(len(y)), plan, **more)
    return *copies, stats


def flat(weights, back, biases, *_):
    return np.concatenate([p.ravel() for p in [*weights, *biases, *(back or [])]])


@pytest.mark.parametrize("rule", sorted(RULES))
def test_every_rule_changes_the_weights_downhill(rule):
    args = setting(rule)
    spec, w, back, b, x, y, plan = args
    plan = replace(plan, rate=(0.01,) * 3, bias_rate=(0.01,) * 3, batch_size=2)
    losses = []
    for _ in range(60):
        stats = layered_train(spec, w, back, b, x, y, np.arange(6), plan)
        losses.append(stats.loss)
    assert (
        stats.n_batches == 3 and stats.n_samples == 6 and stats.free_steps == 6 * plan.n_free_steps
    )
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("rule", sorted(RULES))
def test_sample_weight_is_repetition(rule):
    """A row of weight 2 counts as that row twice, one of weight 0 as absent."""
    spec, w, back, b, x, y, plan = setting(rule, m=4)
    weighted = train(spec, w, back, b, x, y, plan, row_weight=np.array([2.0, 1.0, 0.0, 1.0]))
    rows = [0, 0, 1, 3]
    repeated = train(spec, w, back, b, x[rows], y[rows], plan)
    np.testing.assert_allclose(flat(*weighted), flat(*repeated), atol=1e-13)


@pytest.mark.parametrize("rule", sorted(RULES))
def test_sparse_and_float32(rule):
    spec, w, back, b, x, y, plan = setting(rule)
    x = np.where(x > 0.5, x, 0)
    dense = train(spec, w, back, b, x, y, plan)
    np.testing.assert_allclose(
        flat(*train(spec, w, back, b, sp.csr_matrix(x), y, plan)), flat(*dense), atol=1e-13
    )
    small = [None if g is None else [p.astype(np.float32) for p in g] for g in (w, back, b)]
    single = train(spec, *small, x.astype(np.float32), y.astype(np.float32), plan)
    assert flat(*single).dtype == np.float32
    np.testing.assert_allclose(flat(*single), flat(*dense), atol=2e-5)


def test_estimate_is_what_training_applies():
    for rule in set(RULES) - {"continual", "continual_vector_field"}:
        spec, w, back, b, x, y, plan = setting(rule)
        ascent, _ = rules.estimate(spec, w, back, b, x, y, plan)
        new_w, new_back, new_b, _ = train(spec, w, back, b, x, y, plan)
        for p, q, a, rate in zip(
            new_w + new_b, w + b, ascent.weights + ascent.biases, plan.rate + plan.bias_rate
        ):
            np.testing.assert_allclose(p - q, rate * a, atol=1e-14)
        if back is not None:
            for p, q, a, rate in zip(new_back[1:], back[1:], ascent.back[1:], plan.rate[1:]):
                np.testing.assert_allclose(p - q, rate * a, atol=1e-14)


def test_continual_by_hand():
    """C-EP written out step by step (docs/equations.md 5)."""
    spec, w, _, b, x, y, plan = setting("continual")
    expected_w, expected_b = [p.copy() for p in w], [p.copy() for p in b]
    states = [np.zeros((6, n)) for n in SIZES[1:]]
    for step in range(plan.n_free_steps + plan.n_nudged_steps):
        nudged = step >= plan.n_free_steps
        drive = layered_drive(spec, expected_w, expected_b, x)
        back = [p.T for p in expected_w]
        new, _ = layered_step(
            spec, expected_w, back, expected_b, drive, states, y, plan.beta if nudged else 0.0
        )
        if nudged:
            dw, db = layered_contrast(spec, x, states, new)
            for k in range(3):
                expected_w[k] += plan.rate[k] / (plan.beta * 6) * dw[k]
                expected_b[k] += plan.bias_rate[k] / (plan.beta * 6) * db[k]
        states = new
    got = train(spec, w, None, b, x, y, plan)
    np.testing.assert_allclose(flat(*got), flat(expected_w, None, expected_b), atol=1e-14)


@pytest.mark.parametrize("pair", [("continual", "ep"), ("continual_vector_field", "vector_field")])
@pytest.mark.parametrize("sign", [1, -1])
def test_continual_with_a_tiny_rate_is_its_frozen_rule(pair, sign):
    """The papers' debug procedure: the change at rate r * 1e-8, blown up, is the frozen rule's at
    r.
    """
    spec, w, back, b, x, y, plan = setting(pair[0])
    plan = replace(plan, sign=np.array([sign]))
    tiny = replace(
        plan,
        rate=tuple(1e-8 * r for r in plan.rate),
        bias_rate=tuple(1e-8 * r for r in plan.bias_rate),
    )
    moved = flat(*train(spec, w, back, b, x, y, tiny)) - flat(w, back, b)
    frozen = flat(*train(spec, w, back, b, x, y, replace(plan, rule=pair[1]))) - flat(w, back, b)
    np.testing.assert_allclose(1e8 * moved, frozen, atol=1e-6 * np.abs(frozen).max() + 1e-8)


def test_vector_field_by_hand():
    """Change of the post-synaptic state times pre-synaptic activity, both directions, both
    dynamics.
    """
    for more, act in [({}, lambda s: s), (LEAKY, np.tanh)]:
        spec, w, back, b, x, y, plan = setting("vector_field", **more)
        drive = layered_drive(spec, w, b, x)
        states = [np.zeros((6, n)) for n in SIZES[1:]]
        for _ in range(plan.n_free_steps):
            states, _ = layered_step(spec, w, back, b, drive, states)
        total = 0
        for _ in range(plan.n_nudged_steps):
            new, _ = layered_step(spec, w, back, b, drive, states, y, plan.beta)
            pre = [x] + [act(s) for s in states]  # before the step
            change = [n - o for n, o in zip(new, states)]
            forward = [pre[k].T @ change[k] for k in range(3)]
            backward = [0 * back[0]] + [pre[k + 1].T @ change[k - 1] for k in (1, 2)]
            total = total + np.concatenate(
                [a.ravel() for a in [*forward, *[c.sum(axis=0) for c in change], *backward]]
            ) / (plan.beta * 6)
            states = new
        ascent, _ = rules.estimate(spec, w, back, b, x, y, plan)
        np.testing.assert_allclose(
            flat(ascent.weights, ascent.back, ascent.biases), total, atol=1e-13
        )


def test_vector_field_and_ep_agree_as_beta_goes_to_0():
    """With symmetric weights the two directions' updates sum to EP's (discrete dynamics)."""
    gaps = []
    for beta in (1e-3, 5e-4):
        spec, w, _, b, x, y, plan = setting("vector_field")
        plan = replace(plan, beta=beta, n_free_steps=200)
        back = backward_weights(w, 0)
        vf, _ = rules.estimate(spec, w, back, b, x, y, plan)
        ep, _ = rules.estimate(spec, w, None, b, x, y, replace(plan, rule="ep"))
        both = [vf.weights[0]] + [f + d.T for f, d in zip(vf.weights[1:], vf.back[1:])]
        gaps.append(max(np.abs(a - e).max() for a, e in zip(both, ep.weights)))
    # second order: neighbours move at alternate steps, so the product of their first-order changes
    # is 0
    assert gaps[0] < 1e-3 and gaps[1] == pytest.approx(gaps[0] / 4, rel=0.05)


def test_clamped_sweep_by_hand():
    """1602.05179 v1: sweeps up, output clamped, one sweep down, pre x change of post."""
    spec, w, _, b, x, y, plan = setting("clamped_sweep")
    plan = replace(plan, n_free_steps=2, n_nudged_steps=1)
    s1, s2, s3 = (np.full((6, n), 0.3) for n in SIZES[1:])
    particles = [s1.copy(), s2.copy(), s3.copy()]
    for _ in range(2):
        s1 = np.clip(x @ w[0] + s2 @ w[1].T + b[0], 0, 1)
        s2 = np.clip(s1 @ w[1] + s3 @ w[2].T + b[1], 0, 1)
        s3 = np.clip(s2 @ w[2] + b[2], 0, 1)
    p3 = y
    p2 = np.clip(s1 @ w[1] + p3 @ w[2].T + b[1], 0, 1)
    p1 = np.clip(x @ w[0] + p2 @ w[1].T + b[0], 0, 1)
    new_w, _, new_b, _ = train(spec, w, None, b, x, y, plan, particles=particles)
    for k, (pre, post) in enumerate([(x, p1 - s1), (s1, p2 - s2), (s2, p3 - s3)]):
        np.testing.assert_allclose(new_w[k], w[k] + plan.rate[k] * pre.T @ post / 6, atol=1e-14)
        np.testing.assert_allclose(
            new_b[k], b[k] + plan.bias_rate[k] * post.mean(axis=0), atol=1e-14
        )
    for p, s in zip(particles, (s1, s2, s3)):  # the end of the free phase, not of the clamped one
        np.testing.assert_allclose(p, s, atol=1e-14)


@pytest.mark.parametrize("hidden", [(30,), (30, 20), (20, 15, 10)])
def test_clamped_sweep_fits_its_training_set(hidden):
    """The 0.00 % training error of 1602.05179 v1, on a small set, for 1, 2 and 3 hidden layers."""
    rng = np.random.default_rng(0)
    centres = rng.uniform(0, 1, (4, 12))
    labels = np.arange(60) % 4
    x, y = np.clip(centres[labels] + 0.25 * rng.normal(size=(60, 12)), 0, 1), np.eye(4)[labels]
    spec = LayeredSpec(sizes=(12, *hidden, 4), **HARD)
    w = [rng.uniform(-1, 1, s) * np.sqrt(6 / sum(s)) for s in zip(spec.sizes, spec.sizes[1:])]
    b = [np.zeros(n) for n in spec.sizes[1:]]
    n = len(hidden) + 1
    rate = {2: (0.1, 0.05), 3: (0.4, 0.1, 0.03), 4: (0.4, 0.1, 0.03, 0.01)}[n]
    plan = TrainPlan(
        batch_size=10,
        beta=1.0,
        n_free_steps=10 * n,
        n_nudged_steps=1,
        rate=rate,
        bias_rate=rate,
        rule="clamped_sweep",
    )
    particles = [np.zeros((60, m)) for m in spec.sizes[1:]]
    for _ in range(200):
        stats = layered_train(spec, w, None, b, x, y, np.arange(60), plan, particles=particles)
        if stats.n_correct == 60:
            return
    pytest.fail(f"{60 - stats.n_correct} of 60 still wrong")


@pytest.mark.parametrize("rule", RULES)
def test_forward_sweeps_are_for_relaxation_only(rule):
    spec, w, back, b, x, y, plan = setting(rule, schedule="forward")
    with pytest.raises(ValueError, match="schedule='forward'"):
        layered_train(spec, w, back, b, x, y, np.arange(6), plan)


def test_contrastive_is_coupled_learning_at_1():
    for schedule in ("synchronous", "asynchronous"):
        spec, w, _, b, x, y, plan = setting("contrastive", schedule=schedule)
        cl = train(spec, w, None, b, x, y, plan)
        cpl = train(spec, w, None, b, x, y, replace(plan, rule="coupled", beta=1.0))
        assert (flat(*cl) == flat(*cpl)).all()


@pytest.mark.parametrize("schedule", ["synchronous", "asynchronous"])
@pytest.mark.parametrize("sizes", [(5, 3), (5, 7, 3), SIZES])
def test_held_output_step(schedule, sizes):
    """The output stays, and both schedules come to the same rest."""
    spec, w, _, b, x, y, _ = setting("coupled", sizes=sizes, schedule=schedule)
    drive = layered_drive(spec, w, b, x)
    states = [np.zeros((6, n)) for n in sizes[1:-1]] + [y.copy()]
    for _ in range(100):
        states, change = rules.held_output_step(spec, w, [p.T for p in w], b, drive, states)
    assert (states[-1] == y).all() and change.max() < 1e-12
    for k in range(1, spec.n_weights):
        below = drive if k == 1 else states[k - 2] @ w[k - 1] + b[k - 1]
        at_rest = rho(spec.activation, below + states[k] @ w[k].T)
        np.testing.assert_allclose(states[k - 1], at_rest, atol=1e-12)


def test_coupled_learning_limits():
    """Centered coupled learning converges as b halves, quadratically."""
    values = []
    for beta in (0.4, 0.2, 0.1, 0.05):
        spec, w, _, b, x, y, plan = setting("coupled")
        plan = replace(plan, beta=beta, centered=True, n_free_steps=300, n_nudged_steps=300)
        ascent, _ = rules.estimate(spec, w, None, b, x, y, plan)
        values.append(flat(ascent.weights, None, ascent.biases))
    steps = [np.linalg.norm(a - b) for a, b in zip(values, values[1:])]
    assert steps[1] / steps[2] == pytest.approx(4, rel=0.1)


def test_gradient_rules_follow_the_gradient():
    spec, w, _, b, x, y, plan = setting("implicit", activation="tanh", out_activation="tanh")
    plan = replace(plan, n_free_steps=400, n_nudged_steps=300)
    exact = implicit(spec, w, b, x, y, n_free_steps=400, tol=1e-14)
    for rule in ("bptt", "recurrent_backprop", "implicit"):
        ascent, _ = rules.estimate(spec, w, None, b, x, y, replace(plan, rule=rule))
        np.testing.assert_allclose(
            flat(ascent.weights, None, ascent.biases), -exact.flat(), atol=1e-10
        )
    short, _ = rules.estimate(spec, w, None, b, x, y, replace(plan, rule="bptt", n_nudged_steps=2))
    by_call = bptt(spec, w, b, x, y, n_free_steps=400, truncate=2)
    np.testing.assert_allclose(flat(short.weights, None, short.biases), -by_call.flat(), atol=1e-15)


@pytest.mark.parametrize("rule", ["bptt", "recurrent_backprop", "implicit"])
def test_gradient_rules_train_independent_backward_weights(rule):
    spec, w, _, b, x, y, plan = setting(rule)
    back = backward_weights(w, 45, 0)
    new_w, new_back, _, _ = train(spec, w, back, b, x, y, plan)
    assert (new_back[0] == back[0]).all()
    assert all(np.abs(p - q).max() > 0 for p, q in zip(new_back[1:] + new_w, back[1:] + w))


@pytest.mark.parametrize("optimizer", ["momentum", "nesterov", "adam"])
def test_vector_field_uses_every_optimizer(optimizer):
    spec, w, back, b, x, y, plan = setting("vector_field")
    parameters = w + b + back
    state = OptimizerState(
        [np.zeros_like(p) for p in parameters], [np.zeros_like(p) for p in parameters]
    )
    train(spec, w, back, b, x, y, replace(plan, optimizer=optimizer), optimizer_state=state)
    assert all(
        v.any() for i, v in enumerate(state.velocity) if i != 6
    )  # slot 6: back[0], the clamped input


@pytest.mark.parametrize("rule", ["continual", "continual_vector_field"])
def test_divergence_restores_the_last_finite_weights(rule):
    more = dict(activation="relu", out_activation="relu")
    spec, w, back, b, x, y, plan = setting(rule, **more)
    plan = replace(plan, rate=(1e200,) * 3, bias_rate=(1e200,) * 3)
    copies = [None if g is None else [p.copy() for p in g] for g in (w, back, b)]
    with pytest.raises(DivergenceError, match="nudged phase") as caught, np.errstate(all="ignore"):
        layered_train(spec, *copies, x, y, np.arange(6), plan)
    assert caught.value.phase == "nudged" and caught.value.step >= 2
    assert (flat(*copies) == flat(w, back, b)).all()


@pytest.mark.parametrize(
    "rule, spec_change, plan_change, drop_back, particles, match",
    [
        ("nonsense", {}, {}, False, False, "learning_rule"),
        ("continual", {}, dict(optimizer="adam"), False, False, "optimizer"),
        ("continual", {}, dict(weight_decay=0.1), False, False, "weight_decay"),
        ("continual", {}, dict(centered=True), False, False, "nudging"),
        ("continual_vector_field", {}, dict(tol_nudged=1e-3), False, False, "tol"),
        ("vector_field", {}, {}, True, False, "back weights"),
        ("vector_field", dict(dynamics="continuous"), {}, False, False, "prime_hidden"),
        ("contrastive", dict(cost="cross_entropy"), {}, False, False, "cost"),
        ("contrastive", {}, dict(centered=True), False, False, "nudging"),
        ("clamped_sweep", dict(dynamics="continuous"), {}, False, False, "dynamics"),
        ("clamped_sweep", dict(dt=0.5), {}, False, False, "dt"),
        ("bptt", {}, {}, False, True, "persistent particles"),
        ("bptt", {}, dict(n_nudged_steps=31), False, False, "n_nudged_steps"),
        ("bptt", {}, dict(n_nudged_steps=0), False, False, "n_nudged_steps"),
        ("implicit", {}, dict(centered=True), False, False, "nudging"),
    ],
)
def test_refusals(rule, spec_change, plan_change, drop_back, particles, match):
    spec, w, back, b, x, y, plan = setting(rule if rule in RULES else "continual", **spec_change)
    plan = replace(plan, rule=rule, **plan_change)
    states = [np.zeros((6, n)) for n in SIZES[1:]] if particles else None
    with pytest.raises(ValueError, match=match):
        train(spec, w, None if drop_back else back, b, x, y, plan, particles=states)


def test_symmetric_rules_refuse_backward_weights():
    spec, w, _, b, x, y, plan = setting("continual")
    with pytest.raises(ValueError, match="back weights"):
        train(spec, w, backward_weights(w, 10, 0), b, x, y, plan)
