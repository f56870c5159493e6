"""Training on real devices, bounds that survive float32, and networks too small, too deep or torn."""

import csv

import numpy as np
import pytest

from eqprop_fast import ResistiveClassifier
from eqprop_fast.circuits import ElementError, FloatingNodeError, Netlist, operating_point, to_spice
from eqprop_fast.circuits.devices import DeviceModel
from eqprop_fast.datasets import load_digits

from .backend_list import BACKENDS
from .build import build

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
BASE = dict(hidden_layer_sizes=(16,), max_iter=3, random_state=0, backend=BACKENDS[0])


@pytest.fixture(scope="module")
def digits():
    X, _, y, _ = load_digits()
    return X[:400], y[:400]


def test_what_devices_can_hold_is_fixed_while_training(digits):
    device = dict(stuck_on=0.05, variability=0.5, write_noise=0.02)
    limit = 4 / np.sqrt(
        2 * digits[0].shape[1]
    )  # of the first crossbar: 4 conductance_gain / sqrt(rows)
    factor = np.exp(0.5 * 5)  # of the largest of a few thousand devices
    peaks = []
    for epochs in (1, 10):
        est = build(
            ResistiveClassifier,
            **{**BASE, "max_iter": epochs},
            device=device,
            n_iter_no_change=1000,
        )
        peaks.append(est.fit(*digits).conductances_[0].max())
    assert peaks[1] <= limit * factor and peaks[1] <= 1.5 * peaks[0]


def test_resumed_training_meets_the_same_devices(digits, tmp_path):
    device = dict(stuck_on=0.05, variability=0.5, n_levels=16)
    whole = build(ResistiveClassifier, **BASE, device=device).fit(*digits)
    part = build(ResistiveClassifier, **{**BASE, "max_iter": 1}, device=device).fit(*digits)
    part.save_checkpoint(tmp_path / "part.npz")
    again = (
        ResistiveClassifier.load_checkpoint(tmp_path / "part.npz")
        .set_params(max_iter=3)
        .resume(*digits)
    )
    for a, b in zip(whole.conductances_, again.conductances_):
        np.testing.assert_array_equal(a, b)


def test_wires_limit_the_range_of_training(digits):
    ideal, slight, strong = (
        build(ResistiveClassifier, **BASE, device=dict(wire_resistance=r))
        .fit(*digits)
        .conductances_[0]
        for r in (0.0, 1e-9, 1.0)
    )
    np.testing.assert_allclose(slight, ideal, rtol=1e-5)
    rows, columns = np.indices(strong.shape)
    assert (strong <= 1 / (columns + 1 + len(strong) - rows) + 1e-7).all()
    assert ideal.max() > strong.max() > 0.05  # near the corner, where wires are short


def test_a_verified_write_makes_up_for_wires():
    g = np.random.default_rng(0).uniform(0.1, 1, (6, 5))
    model = DeviceModel(g_on=4.0, wire_resistance=0.01, variability=0.2)
    array = model.array(g.shape, 0)
    np.testing.assert_allclose(array.write(g, verify=True), g, rtol=1e-12)
    assert np.abs(array.write(g) / g - 1).max() > 0.05


def test_conductances_at_the_bound_leave_as_a_netlist(digits, tmp_path):
    est = build(
        ResistiveClassifier,
        **{**BASE, "max_iter": 10},
        circuit__g_max=0.1,
        learning_rule__beta=0.01,
        learning_rate_init=0.05,
    ).fit(*digits)
    top = max(float(g.max()) for g in est.conductances_)
    assert float(np.float32(0.1)) > 0.1 and 0.0999999 < top <= 0.1
    est.to_spice(tmp_path / "net.cir", digits[0][0])
    outputs = operating_point(est.to_netlist(digits[0][0])).outputs
    tight = est.set_params(relaxation__n_steps=200, relaxation__tol=1e-7)
    np.testing.assert_allclose(
        outputs.ravel(), tight.decision_function(digits[0][:1]).ravel(), atol=1e-4
    )
    est.program(dict(variability=0.8, g_on=0.1), 0).to_netlist(digits[0][0])  # devices beyond g_max


@pytest.mark.parametrize(
    "bounds", [dict(circuit__g_min=0.1, circuit__g_max=0.1 + 1e-12), dict(circuit__g_min=1e39)]
)
def test_bounds_between_which_there_is_no_number(digits, bounds):
    with pytest.raises(ValueError, match="g_min"):
        build(ResistiveClassifier, **BASE, **bounds).fit(*digits)


@pytest.mark.parametrize("value", ["0.2", "0.001", "1e39", "nan", "-1"])
def test_import_refuses_what_the_model_cannot_hold(digits, tmp_path, value):
    est = build(
        ResistiveClassifier,
        **BASE,
        circuit__g_min=0.01,
        circuit__g_max=0.1,
        learning_rule__beta=0.01,
    ).fit(*digits)
    before = [g.copy() for g in est.conductances_]
    path = tmp_path / "g.csv"
    est.export_conductances(path)
    rows = list(csv.reader(path.open()))
    rows[7][3] = value
    path.write_text("\n".join(",".join(r) for r in rows) + "\n")
    with pytest.raises(ValueError, match="line 8"):
        est.import_conductances(path)
    path.write_bytes(b"\xff\xfe\x00garbage")
    with pytest.raises(ValueError, match="no CSV"):
        est.import_conductances(path)
    for a, b in zip(before, est.conductances_):
        np.testing.assert_array_equal(a, b)


def test_import_takes_the_bounds_themselves(digits, tmp_path):
    """0.1 is more than g_max=0.1 once both are float32 and compared as such."""
    est = build(
        ResistiveClassifier,
        **BASE,
        circuit__g_min=0.001,
        circuit__g_max=0.1,
        learning_rule__beta=0.01,
    ).fit(*digits)
    path = tmp_path / "g.csv"
    est.export_conductances(path)
    rows = list(csv.reader(path.open()))
    for row, value in zip(
        rows[1:], ("0.1", "0.001", "0.10000000149011612", "0.0010000000474974513")
    ):
        row[3] = value
    path.write_text("\n".join(",".join(r) for r in rows) + "\n")
    first = est.import_conductances(path).conductances_[0][0, :4].astype(float)
    np.testing.assert_allclose(first, [0.1, 0.001, 0.1, 0.001], rtol=1e-7)
    assert (first <= 0.1).all() and (first >= 0.001).all()
    est.to_spice(tmp_path / "net.cir", digits[0][0])


def test_conductances_from_elsewhere_are_what_training_goes_on_with(digits, tmp_path):
    """Not with the best or the last ones of the fit before."""
    options = {**BASE, "max_iter": 6, "early_stopping": True, "n_iter_no_change": 1000}
    est = build(ResistiveClassifier, **options).fit(*digits)
    other = build(ResistiveClassifier, **{**BASE, "random_state": 5}).fit(*digits)
    other.export_conductances(tmp_path / "g.csv")
    programmed = est.program(dict(n_levels=4), 0)
    for new in (programmed, est.import_conductances(tmp_path / "g.csv")):
        given = [g.copy() for g in new.conductances_]
        new.set_params(max_iter=7, learning_rate_init=1e-9).resume(*digits)
        assert new.n_iter_ == 7
        for a, b in zip(given, new.conductances_):
            np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.parametrize(
    "content",
    [b"\x00\x01\x80garbage", b"layer,row,column,siemens\n" + b"1" * 200_000, b"\x00\x00", b""],
)
def test_a_file_that_is_no_csv_of_conductances(digits, tmp_path, content):
    est = build(ResistiveClassifier, **{**BASE, "max_iter": 1}).fit(*digits)
    (tmp_path / "g.csv").write_bytes(content)
    with pytest.raises(ValueError, match="g.csv"):
        est.import_conductances(tmp_path / "g.csv")


def test_a_torn_output_is_an_error(digits):
    est = build(ResistiveClassifier, **BASE).fit(*digits)
    torn = est.program(dict(stuck_off=1.0), 0)
    for method in ("predict", "predict_proba", "equilibrium", "dissipated_power"):
        with pytest.raises(FloatingNodeError, match="output node 0.*layer 2"):
            getattr(torn, method)(digits[0])


@pytest.mark.parametrize("diodes", ["signed", "none"])
def test_outputs_without_a_path_to_the_sources(digits, diodes):
    """As in the circuit: diodes hold nodes without conductances from below; without diodes they
    float.
    """
    options = {
        **BASE,
        "hidden_layer_sizes": (6, 5),
        "dtype": "float64",
        "relaxation__n_steps": 5000,
    }
    est = build(ResistiveClassifier, **options, circuit__diodes=diodes, relaxation__tol=1e-13).fit(
        *digits
    )

    def agree():
        point = operating_point(est.to_netlist(digits[0][0]))
        assert point.success
        np.testing.assert_allclose(
            point.outputs.ravel(), est.equilibrium(digits[0][:1]).states[-1][0], atol=1e-9
        )

    est.conductances_[1][:, 0] = est.conductances_[2][0] = 0  # a loose hidden node harms no output
    assert est.bias_currents_[1][0] != 0
    agree()
    est.conductances_[1][...] = 0
    if diodes == "none":
        with pytest.raises(FloatingNodeError, match="output node 0.*node: 0 of layer 2"):
            est.predict(digits[0])
        with pytest.raises(FloatingNodeError):
            operating_point(est.to_netlist(digits[0][0]))
    else:
        agree()


@pytest.mark.parametrize(
    "schedule, steps", [("asynchronous", 2), ("synchronous", 4), ("backward", 4), ("forward", 1)]
)
def test_too_few_steps_for_the_depth(digits, schedule, steps):
    options = {
        **BASE,
        "hidden_layer_sizes": (4, 4, 4),
        "relaxation__schedule": schedule,
        "max_iter": 1,
    }
    est = build(ResistiveClassifier, **options, relaxation__n_steps=steps).fit(*digits)
    assert np.ptp(est.decision_function(digits[0]), axis=0).max() > 0
    if steps > 1:
        with pytest.raises(ValueError, match="relaxation__n_steps"):
            build(ResistiveClassifier, **options, relaxation__n_steps=steps - 1).fit(*digits)
        est.set_params(relaxation__n_steps=steps - 1, warm_start=True)
        for call in (est.predict, est.equilibrium, lambda X: est.fit(X, digits[1])):
            with pytest.raises(ValueError, match="relaxation__n_steps"):
                call(digits[0])
        est.to_netlist(digits[0][0])  # a circuit takes no steps


@pytest.mark.parametrize("hidden, least", [(1, 0), (2, 0), (4, 0.17), (8, 0.3), (16, 0.65)])
def test_small_networks_train_with_the_defaults(hidden, least):
    """One hidden node cannot tell digits apart (outputs are its voltage plus constants)."""
    X, X_test, y, y_test = load_digits()
    scores = []
    for seed in range(4):
        est = ResistiveClassifier(
            (hidden,), max_iter=30, random_state=seed, backend=BACKENDS[0]
        ).fit(X, y)
        assert 0 < est.beta_ <= 0.1 and np.isfinite(est.loss_)
        live = (est.equilibrium(X).states[0] != 0).any(axis=0)
        assert 2 * live.sum() >= hidden  # their diodes have not closed for good
        scores.append(est.score(X_test, y_test))
    assert np.mean(scores) > least and min(scores) > 0.7 * least


def test_auto_rates_leave_other_networks_alone(digits):
    options = {**BASE, "hidden_layer_sizes": (32,), "max_iter": 2}
    given, auto = (
        build(ResistiveClassifier, **options, learning_rate_init=r).fit(*digits)
        for r in (0.02, "auto")
    )
    np.testing.assert_array_equal(given.conductances_[0], auto.conductances_[0])
    assert ResistiveClassifier((8, 8)).fit(*digits)._rates(3)[0] == (0.02,) * 3
    with pytest.raises(ValueError, match="learning_rate_init"):
        ResistiveClassifier(learning_rate_init="fast").fit(*digits)


def test_an_array_of_devices_keeps_its_range_from_write_to_write():
    array = DeviceModel(stuck_on=0.05, variability=0.5).array((64, 32), 0)
    g = np.random.default_rng(0).uniform(0, 1, (64, 32))
    peaks = []
    for epoch in range(20):
        g = array.write(g, epoch, verify=True)
        peaks.append(g.max())
    assert array.g_on <= 1 and max(peaks) == pytest.approx(peaks[0])


@pytest.mark.parametrize("tol", [1e-6, None])
def test_equilibrium_says_which_samples_came_to_rest(digits, tol):
    options = {
        **BASE,
        "hidden_layer_sizes": (16, 16),
        "dtype": "float64",
        "circuit__diodes": "none",
    }
    est = build(ResistiveClassifier, **options, relaxation__n_steps=500).fit(*digits)
    rest = est.set_params(relaxation__tol=tol).equilibrium(digits[0])
    assert rest.success.shape == (400,) and rest.success.all()
    hurried = est.set_params(relaxation__n_steps=2).equilibrium(digits[0])
    largest = np.max([np.abs(s).max(axis=1, initial=1) for s in hurried.states], axis=0)
    moving = hurried.residual > (1e-4 * largest if tol is None else tol)
    assert moving.mean() > 0.9 and (hurried.success == ~moving).all()


@pytest.mark.parametrize(
    "device",
    [dict(write_noise="a"), dict(variability=[1, 2]), dict(stuck_on=None), dict(nonsense=1)],
)
def test_a_bad_device_parameter_is_named(digits, device):
    name = next(iter(device))
    est = build(ResistiveClassifier, **{**BASE, "max_iter": 1})
    with pytest.raises(ValueError, match=name):
        build(ResistiveClassifier, **BASE, device=device).fit(*digits)
    with pytest.raises(ValueError, match=name):
        est.fit(*digits).program(device)
    with pytest.raises(TypeError if name == "nonsense" else ValueError, match=name):
        DeviceModel(**device)


@pytest.mark.parametrize("early_stopping", [False, True])
def test_training_curves(digits, early_stopping):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    est = build(ResistiveClassifier, **BASE, early_stopping=early_stopping).fit(*digits)
    ax = est.plot_curves()
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), est.loss_curve_)
    assert len(ax.figure.axes) == 1 + early_stopping and est.plot_curves(ax) is ax


@pytest.mark.parametrize("verify", [False, True])
def test_writes_take_numbers_only(verify):
    array = DeviceModel(variability=0.1).array((2, 3), 0)
    good = np.full((2, 3), 0.5)
    for bad in (np.nan, np.inf, -np.inf, -0.1, 1j):
        wrong = good * (1 + 0j if bad == 1j else 1.0)
        wrong[1, 2] = bad
        with pytest.raises(ValueError, match="conductances"):
            array.write(wrong, verify=verify)
    assert array.g_on is None  # a refused write leaves nothing behind
    for bad in ("x", [[1, 2, 3]], None):
        with pytest.raises(ValueError, match="conductances"):
            array.write(bad, verify=verify)
    with pytest.raises(ValueError, match="random_state"):
        array.write(good, "x")


def test_whole_numbers_are_written_as_conductances():
    """Levels between them are not truncated to 0."""
    model = DeviceModel(n_levels=4, g_on=2.0)
    for dtype in (np.int64, np.uint8, bool):
        held = model.program(np.ones((2, 2), dtype), 0)
        assert held.dtype == np.float64 and held == pytest.approx(np.full((2, 2), 2 / 3))
    assert model.program([[1, 1]], 0) == pytest.approx(np.full((1, 2), 2 / 3))
    assert model.program(np.ones((2, 2), np.float32), 0).dtype == np.float32


def test_devices_that_are_off_are_open_circuits():
    """0 S in a circuit that has another way, and a clear error where it has none."""
    net = Netlist()
    net.voltage_source("v", "a", "0", 1.0)
    net.crossbar("w", ["a", "0"], ["b", "c"], np.full((2, 2), 1e-3))
    stuck = DeviceModel(stuck_off=1.0).program(net.conductances.reshape(2, 2), 0)
    assert (stuck == 0).all()
    net.set_conductances([1e-3, stuck[0, 1], 1e-3, 1e-3])
    for name in BACKENDS:
        point = operating_point(net, backend=name)
        assert point.success and point.voltage("b") == 0.5 and point.voltage("c") == 0.0
        assert point.branch_currents()["w_0_1"] == 0
    net.set_conductances([1e-3, 0.0, 1e-3, 0.0])
    with pytest.raises(ElementError, match="too small for SPICE"):
        to_spice(net)
    with pytest.raises(FloatingNodeError, match="'c'"):
        operating_point(net)
    other = Netlist()
    other.voltage_source("v", "a", "0", 1.0)
    other.crossbar("w", ["a", "0"], ["b", "c"], [[1e-3, 0], [1e-3, 1e-3]])
    assert operating_point(other).voltage("c") == 0
    held = Netlist()
    held.conductance("g", "a", "0", 1e-3, g_min=1e-6)
    with pytest.raises(ElementError, match="'g' set outside its bounds"):
        held.set_conductances([0.0])
