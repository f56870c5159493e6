"""`eqprop-fast reproduce`: resuming, the record, the table."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from eqprop_fast import BPTT, EP, results
from eqprop_fast import reproduce as module
from eqprop_fast.cli import main
from eqprop_fast.datasets import load_digits
from eqprop_fast.presets import preset


@pytest.fixture
def digits():
    return load_digits()


@pytest.fixture
def row():
    from dataclasses import replace

    whole = preset("1905.13633/P-1h")
    parameters = dict(whole.parameters, hidden_layer_sizes=(16,), max_iter=4)
    return replace(whole, parameters=parameters, n_train=300)


def test_a_stopped_run_goes_on_bit_for_bit(tmp_path, digits, row):
    """Stopped after 2 epochs, then resumed: same errors and losses as without the stop."""
    options = dict(backend="numpy", n_threads=1)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    whole = module.run_seed(row, digits, 0, tmp_path / "a", **options)
    part = module.run_seed(
        row, digits, 0, tmp_path / "b", on_epoch=lambda h: len(h) == 2, **options
    )
    assert len(part) == 2 and len(whole) == 4
    # as after a kill between log and checkpoint
    log = tmp_path / "b" / "seed0.json"
    log.write_text(json.dumps([*json.loads(log.read_text()), {"epoch": 3, "loss": -1}]))
    rest = module.run_seed(row, digits, 0, tmp_path / "b", **options)
    keys = ("epoch", "loss", "train_error", "test_error")
    assert [[e[k] for k in keys] for e in rest] == [[e[k] for k in keys] for e in whole]
    assert (
        module.run_seed(row, digits, 0, tmp_path / "b", **options) == rest
    )  # done: nothing more to run


def test_other_settings_are_not_resumed(tmp_path, digits, row):
    from dataclasses import replace

    module.run_seed(row, digits, 0, tmp_path, epochs=1, backend="numpy")
    changed = replace(row, parameters=dict(row.parameters, learning_rule=EP(beta=0.3)))
    with pytest.raises(ValueError, match="beta.*--fresh"):
        module.run_seed(changed, digits, 0, tmp_path, backend="numpy")
    assert (
        len(module.run_seed(changed, digits, 0, tmp_path, epochs=1, backend="numpy", fresh=True))
        == 1
    )


def test_command_writes_json_plot_and_row(tmp_path, digits, row, monkeypatch):
    monkeypatch.setattr("eqprop_fast.datasets.load_mnist", lambda download=False: digits)
    monkeypatch.setattr("eqprop_fast.reproduce.experiment", lambda name: row)
    args = [
        "reproduce",
        "1905.13633/P-1h",
        "--seeds",
        "2",
        "--epochs",
        "1",
        "--backend",
        "numpy",
        "--docs",
        str(tmp_path / "docs"),
        "--work",
        str(tmp_path / "runs"),
    ]
    for _ in range(2):  # the second time finds everything done and replaces its row
        result = CliRunner().invoke(main, args)
        assert result.exit_code == 0, result.output
    record = json.loads((tmp_path / "docs/results/1905.13633-P-1h.json").read_text())
    assert (
        record["seeds"] == [0, 1]
        and record["epochs"] == [1, 1]
        and 0 <= record["test_error_mean"] <= 100
    )
    finals = [h[-1]["test_error"] for h in record["history"].values()]
    assert record["test_error_mean"] == pytest.approx(np.mean(finals))
    table = (tmp_path / "docs/results.md").read_text()
    assert table.count("| 1905.13633-P-1h |  | 1 of 4 | 2 |") == 1
    assert (tmp_path / "runs/1905.13633-P-1h/curves.png").stat().st_size > 1000


def test_seeds_of_two_commands_make_one_row(tmp_path, digits, row, monkeypatch):
    """Seeds join the record; what trained an epoch is what did it, whoever writes the row."""
    monkeypatch.setattr("eqprop_fast.datasets.load_mnist", lambda download=False: digits)
    monkeypatch.setattr("eqprop_fast.reproduce.experiment", lambda name: row)
    places = ["--docs", str(tmp_path / "docs"), "--work", str(tmp_path / "runs")]

    def run(*more):
        return CliRunner().invoke(
            main, ["reproduce", "1905.13633/P-1h", "--threads", "1", *places, *more]
        )

    assert run("--epochs", "2", "--backend", "numpy").exit_code == 0
    assert run("--epochs", "2", "--backend", "numba", "--first-seed", "1").exit_code == 0
    assert run("--epochs", "2", "--backend", "c").exit_code == 0  # nothing left to train
    path = tmp_path / "docs/results/1905.13633-P-1h.json"
    record = json.loads(path.read_text())
    assert record["seeds"] == [0, 1] and record["epochs"] == [2, 2] and len(record["history"]) == 2
    assert (
        record["how"].startswith("seed 0: numpy, 1 threads") and "; seed 1: numba" in record["how"]
    )
    longer = run("--epochs", "3", "--backend", "numpy")
    assert longer.exit_code == 1 and "3 of seed 0, 2 of seed 1" in longer.output
    shorter = run("--epochs", "1", "--backend", "numpy", "--fresh")
    assert shorter.exit_code == 1 and "holds 2 epochs of seed 0" in shorter.output
    assert json.loads(path.read_text()) == record


def test_a_damaged_log_is_named(tmp_path, digits, row):
    module.run_seed(row, digits, 0, tmp_path, epochs=1, backend="numpy")
    (tmp_path / "seed0.json").write_text('{"bad')
    with pytest.raises(ValueError, match="seed0.json cannot be read.*--fresh"):
        module.run_seed(row, digits, 0, tmp_path, backend="numpy")


def test_unknown_experiment_lists_the_known_ones():
    result = CliRunner().invoke(main, ["reproduce", "nobody/nothing"])
    assert result.exit_code == 2 and "speed_net3" in result.output and "P-1h" in result.output


@pytest.mark.parametrize(
    "change, match",
    [
        ("random_state=7", "--first-seed"),
        ("max_iter=1", "--epochs"),
        ("backend=numpy", "--backend"),
        ("n_threads=1", "--threads"),
        ("tol=10", "a row has its own"),
        ("checkpoint=a", "a row has its own"),
        ("nonsense=1", "NAME=VALUE"),
        ("learning_rule__beta", "NAME=VALUE"),
        ("beta=0.5", "NAME=VALUE"),
        ("learning_rule__angle=3", "Invalid parameter 'angle' for estimator EP"),
    ],
)
def test_what_a_row_has_no_say_in_cannot_be_set(change, match):
    result = CliRunner().invoke(main, ["reproduce", "1905.13633/P-1h", "--set", change])
    assert result.exit_code == 2 and match in result.output


def test_a_changed_row_names_its_layers(row):
    assert module.changed(row, ["hidden_layer_sizes=[10, 5]"]).layers[1:-1] == (10, 5)
    assert module.changed(row, ["hidden_layer_sizes=7"]).layers[1:-1] == (7,)
    assert module.changed(row, ["learning_rule__beta=0.3"]).layers == row.layers


def test_a_changed_row_reaches_into_parts(row):
    """One part after another, words first; the row itself stays as it was."""
    changes = ["learning_rule=bptt", "learning_rule__n_steps=7", "relaxation__start=normal"]
    rule = module.changed(row, changes).parameters["learning_rule"]
    assert rule == BPTT(n_steps=7)
    assert (
        row.parameters["learning_rule"].word == "ep"
        and row.parameters["relaxation"].start == "zero"
    )


def test_missing_data_is_said(monkeypatch, tmp_path):
    monkeypatch.setenv("EQPROP_DATA", str(tmp_path))
    monkeypatch.setenv("EQPROP_OFFLINE", "1")
    result = CliRunner().invoke(main, ["reproduce", "1905.13633/P-1h"])
    assert result.exit_code == 1 and "EQPROP_DATA" in result.output


@pytest.mark.parametrize(
    "name", ["1602.05179/speed_net1", "2005.04168/C-EP-1h", "2005.04168/C-VF-1h"]
)
def test_rows_with_other_rules_resume_too(tmp_path, digits, name):
    """Particles, continual updates and backward weights survive the checkpoint."""
    from dataclasses import replace

    row = preset(name)
    row = replace(
        row, parameters=dict(row.parameters, hidden_layer_sizes=(16,), max_iter=3), n_train=200
    )
    runs = []
    for folder, first_stop in [("whole", None), ("parts", lambda history: len(history) == 1)]:
        (tmp_path / folder).mkdir()
        entries = module.run_seed(
            row, digits, 0, tmp_path / folder, backend="numpy", on_epoch=first_stop
        )
        if first_stop:
            assert len(entries) == 1
            entries = module.run_seed(row, digits, 0, tmp_path / folder, backend="numpy")
        runs.append([(e["loss"], e["test_error"]) for e in entries])
    assert runs[0] == runs[1] and len(runs[0]) == 3


def test_resistive_rows_run_and_resume(tmp_path, digits):
    from dataclasses import replace

    row = module.experiment("2402.11674/DRN-XS")
    row = replace(row, parameters=dict(row.parameters, max_iter=3), n_train=200)
    runs = []
    for folder in ("whole", "parts"):
        (tmp_path / folder).mkdir()
        stop = (lambda history: len(history) == 1) if folder == "parts" else None
        entries = module.run_seed(row, digits, 0, tmp_path / folder, backend="numpy", on_epoch=stop)
        if stop:
            entries = module.run_seed(row, digits, 0, tmp_path / folder, backend="numpy")
        runs.append([(e["loss"], e["test_error"]) for e in entries])
    assert runs[0] == runs[1] and len(runs[0]) == 3


def test_presets_lists_resistive_rows():
    output = CliRunner().invoke(main, ["presets"]).output
    for name in (
        *(f"2402.11674/DRN-{size}" for size in ("XS", "1H", "2H", "3H", "XL")),
        "2006.01981/mnist",
    ):
        assert name in output


def test_changes_want_a_name_and_keep_it(tmp_path, digits, row, monkeypatch):
    """A changed row has a record of its own; the same name for other changes is refused."""
    monkeypatch.setattr("eqprop_fast.datasets.load_mnist", lambda download=False: digits)
    monkeypatch.setattr("eqprop_fast.reproduce.experiment", lambda name: row)
    places = ["--docs", str(tmp_path / "docs"), "--work", str(tmp_path / "runs"), "--epochs", "1"]

    def run(*more):
        command = ["reproduce", "1905.13633/P-1h", "--backend", "numpy", *places, *more]
        return CliRunner().invoke(main, command)

    beta = ("--set", "learning_rule__beta=0.3")
    assert "--set and --as" in run(*beta).output
    assert "--set and --as" in run("--as", "strong").output
    assert "--as takes a short name" in run(*beta, "--as", "a=b").output
    assert run(*beta, "--as", "strong").exit_code == 0
    record = json.loads((tmp_path / "docs/results/1905.13633-P-1h-strong.json").read_text())
    assert record["changes"] == {"learning_rule__beta": 0.3}
    assert (
        "| 1905.13633-P-1h-strong | learning_rule__beta=0.3 |"
        in (tmp_path / "docs/results.md").read_text()
    )
    other = run("--set", "learning_rule__beta=0.4", "--as", "strong", "--fresh")
    assert other.exit_code == 1 and "choose another --as" in other.output


def test_the_table_is_that_of_the_records():
    docs = Path(__file__).resolve().parent.parent / "docs"
    assert results.table(docs) in (docs / "results.md").read_text()
    for path in (docs / "results").glob("*.json"):
        record = json.loads(path.read_text())
        row = module.experiment(record["experiment"])
        module.changed(
            row, [f"{name}={json.dumps(value)}" for name, value in record["changes"].items()]
        )
        assert path.stem == record["id"] and len(path.stem) <= results.MAX_ID


def test_a_convolutional_row_is_trained_and_written_down(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    images = rng.random((12, 784), dtype=np.float32)
    data = images, images[:4], np.arange(12) % 10, np.arange(4)
    monkeypatch.setattr("eqprop_fast.datasets.load_mnist", lambda download=False: data)
    steps = ["relaxation__n_steps=3", "learning_rule__n_steps=2", "learning_rule__nudging=centered"]
    changes = [word for step in steps for word in ("--set", step)]
    places = ["--docs", str(tmp_path / "docs"), "--work", str(tmp_path / "runs")]
    args = [
        "reproduce",
        "1905.13633/P-conv",
        "--epochs",
        "1",
        "--backend",
        "numpy",
        "--as",
        "small",
    ]
    result = CliRunner().invoke(main, [*args, *changes, *places])
    assert result.exit_code == 0, result.output
    assert "seed 0  epoch 1/1" in result.output
    record = json.loads((tmp_path / "docs/results/1905.13633-P-conv-small.json").read_text())
    assert record["layers"] == ["1x28x28", "32x12x12", "64x4x4", "10"]
    assert (tmp_path / "runs/1905.13633-P-conv-small/curves.png").stat().st_size > 1000


@pytest.mark.parametrize(
    "name, file, pixels",
    [
        ("2006.03824/cifar10", "cifar10.npz", 3072),
        ("2312.15103/dchn-fashion", "fashion_mnist.npz", 784),
        ("2509.26003/hopfield-resnet13", "cifar10.npz", 3072),
    ],
)
def test_a_row_says_what_data_it_needs(tmp_path, monkeypatch, name, file, pixels):
    monkeypatch.setenv("EQPROP_DATA", str(tmp_path))
    monkeypatch.setenv("EQPROP_OFFLINE", "1")
    result = CliRunner().invoke(main, ["reproduce", name])
    assert result.exit_code == 1
    assert f"holds {file}, with x_train and x_test of {pixels} pixels" in result.output
