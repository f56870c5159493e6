"""Files: written whole or not at all, where and as the user meant; read by one strict reader."""

import copy
import io
import json
import os
import stat
import subprocess
import sys
import time
import zipfile

import numpy as np
import pytest

from eqprop_fast import EP, EqPropClassifier, ResistiveClassifier, ResistiveRegressor
from eqprop_fast._archive import Archive, ArchiveError
from eqprop_fast.datasets import DatasetUnavailableError, load_mnist
from eqprop_fast.training.checkpoint import CheckpointError
from eqprop_fast.training.files import MAX_NAME, check_writable, write_atomically

from .fuzz.fuzz_checkpoints import archive_of, members, npy
from .kinds import KINDS, RESISTIVE, small

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
X = np.random.default_rng(0).normal(size=(30, 3)).astype(np.float32)
Y = np.arange(30) % 3


def fitted(kind=EqPropClassifier, **options):
    options = {"max_iter": 2, "random_state": 0, "backend": "numpy", **options}
    return kind(small(kind), **options).fit(X, Y)


# ---- writing ----


def write(path, content=b"new"):
    write_atomically(path, lambda file: file.write(content))


@pytest.mark.skipif(os.name != "posix", reason="modes and links of POSIX")
@pytest.mark.parametrize("mask, mode", [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_a_new_file_gets_what_umask_leaves(tmp_path, mask, mode):
    before = os.umask(mask)
    try:
        fitted().save_checkpoint(tmp_path / "a.npz")
        fitted(checkpoint=tmp_path / "b.npz")
        fitted(ResistiveClassifier).export_conductances(tmp_path / "c.csv")
    finally:
        os.umask(before)
    assert {stat.S_IMODE(p.stat().st_mode) for p in tmp_path.iterdir()} == {mode}
    os.chmod(tmp_path / "a.npz", 0o640)
    fitted().save_checkpoint(tmp_path / "a.npz")
    assert stat.S_IMODE((tmp_path / "a.npz").stat().st_mode) == 0o640


@pytest.mark.skipif(os.name != "posix", reason="modes and links of POSIX")
def test_links_are_written_through(tmp_path):
    (tmp_path / "there").mkdir()
    target = tmp_path / "there" / "target"
    for name, points_to in (("link", target), ("relative", "there/target"), ("second", "link")):
        (tmp_path / name).symlink_to(points_to)
        write(tmp_path / name, name.encode())
        assert (tmp_path / name).is_symlink() and target.read_bytes() == name.encode()
    target.unlink()
    write(tmp_path / "link")  # a link to what is not there yet
    assert target.read_bytes() == b"new" and os.listdir(tmp_path / "there") == ["target"]


def test_leftovers_of_kills_are_removed_and_nothing_else(tmp_path):
    killed = """if True:
        import os, sys
        from eqprop_fast.training.files import write_atomically
        write_atomically(sys.argv[1], lambda file: (file.write(b"half"), os._exit(9)))
    """
    for _ in range(2):
        subprocess.run([sys.executable, "-c", killed, str(tmp_path / "a.npz")], check=False)
        assert len(os.listdir(tmp_path)) == 1, "the second removes what the first has left"
    others = ["b.npz.12345678.tmp", "a.npz.tmp", "a.npz.1234567.tmp", "a.npz.12345678.tmp.gz"]
    for name in others:
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "a.npz.ab_34xyz.tmp").write_bytes(b"of an older version")
    fitted(checkpoint=tmp_path / "a.npz")
    assert sorted(os.listdir(tmp_path)) == sorted(["a.npz", *others])


@pytest.mark.skipif(os.name != "posix", reason="locks of POSIX")
def test_the_file_of_another_writer_is_no_leftover(tmp_path):
    path = tmp_path / "a"

    def outer(file):
        write(path, b"inner")
        file.write(b"outer")

    write_atomically(path, outer)
    assert path.read_bytes() == b"outer" and os.listdir(tmp_path) == ["a"]


def test_a_name_may_be_as_long_as_the_system_allows(tmp_path):
    path = tmp_path / ("n" * MAX_NAME)
    write(path)
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("kind", KINDS)
def test_a_path_that_cannot_be_written_is_refused_before_the_first_epoch(tmp_path, kind):
    (tmp_path / "file").write_bytes(b"")
    bad = [
        tmp_path,
        tmp_path / "none" / "a",
        tmp_path / ("n" * 256),
        tmp_path / "file" / "a",
        "a\0b",
        "",
    ]
    if os.name == "posix":
        (tmp_path / "loose").symlink_to(tmp_path / "none" / "a")
        (tmp_path / "loop").symlink_to(tmp_path / "loop")
        bad += [tmp_path / "loose", tmp_path / "loop", "/dev/null"]
        if os.geteuid() != 0:
            closed = tmp_path / "closed"
            closed.mkdir(mode=0o500)
            bad.append(closed / "a")
    epochs = []
    for path in bad:
        with pytest.raises(ValueError, match="checkpoint="):
            fitted(kind, checkpoint=path, callbacks=lambda record: epochs.append(record.epoch))
    assert not epochs
    if os.name == "posix":
        assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_permissions_are_asked_for(tmp_path, monkeypatch):
    """Of the file and of its folder; the superuser, who may all, hears what others would."""
    path = os.path.realpath(tmp_path / "run.ckpt")
    write(path)
    for closed in (path, os.path.dirname(path)):
        monkeypatch.setattr(os, "access", lambda name, mode, closed=closed: name != closed)
        with pytest.raises(PermissionError) as refused:
            check_writable(path)
        assert refused.value.filename == closed
    monkeypatch.undo()
    assert check_writable(path) == path


def test_what_cannot_be_stored_is_refused_before_the_first_epoch(tmp_path):
    epochs = []
    options = dict(
        checkpoint=tmp_path / "a.npz", callbacks=lambda record: epochs.append(record.epoch)
    )
    with pytest.raises(ValueError, match="checkpoint=.*class_weight"):
        fitted(class_weight={0: 1.0, 1: 1.0, 2: 10**30}, **options)
    pandas = pytest.importorskip("pandas")
    model = EqPropClassifier((4,), max_iter=2, backend="numpy", **options)
    with pytest.raises(ValueError, match="checkpoint=.*feature_names_in_"):
        model.fit(pandas.DataFrame(X, columns=["a", "b", "c\0"]), Y)
    assert not epochs and not list(tmp_path.iterdir())


def test_parameters_changed_since_the_fit_are_refused_when_saved(tmp_path):
    for changed, match in (
        (dict(dtype="float64"), "dtype"),
        (dict(hidden_layer_sizes=(5,)), "hidden"),
        (dict(learning_rule=EP(beta="x")), "beta"),
    ):
        with pytest.raises(ValueError, match=match):
            fitted().set_params(**changed).save_checkpoint(tmp_path / "a.npz")
    assert not list(tmp_path.iterdir())


# ---- reading checkpoints ----


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Content of a checkpoint of each kind, by class."""
    path = tmp_path_factory.mktemp("files") / "a.npz"
    found = {}
    for kind in KINDS:
        solver = "momentum" if kind in RESISTIVE else "adam"
        fitted(kind, solver=solver, early_stopping=True).save_checkpoint(path)
        found[kind] = path.read_bytes()
    return found


def with_meta(data, change):
    content = members(data)
    meta = json.loads(str(np.load(io.BytesIO(content["meta.npy"]))))
    change(meta)
    return with_member(data, "meta.npy", npy(np.array(json.dumps(meta))))


def with_member(data, name, content):
    return archive_of({**members(data), name: content}.items())


def refused(kind, path, data, why=None):
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=why):
        kind.load_checkpoint(path)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_is_not_obeyed(tmp_path, kind):
    victim = tmp_path / "victim"
    model = fitted(kind, checkpoint=victim, callbacks=[lambda record: None], n_threads=2)
    model.save_checkpoint(tmp_path / "a.npz")
    victim.write_bytes(b"precious")
    loaded = kind.load_checkpoint(tmp_path / "a.npz")
    assert loaded.checkpoint is None and loaded.callbacks is None
    assert loaded.n_threads is None and loaded.backend == "auto"
    loaded.set_params(max_iter=3, backend="numpy").resume(X, Y)
    assert victim.read_bytes() == b"precious"
    text = (tmp_path / "a.npz").read_bytes().replace(b"\0", b"")
    assert b"victim" not in text


def set_in(*path, value):
    def change(meta):
        for name in path[:-1]:
            meta = meta[name]
        meta[path[-1]] = value

    return change


RECORD = {  # that callbacks have not answered
    "stats": dict(loss=1.0, n_correct=1, free_steps=1, nudged_steps=1, n_samples=9, n_batches=1),
    "rates": [0.1, 0.1],
    "seconds": 1.0,
}
WRONG_RECORDS = [
    3,
    {},
    {**RECORD, "other": 1},
    {**RECORD, "rates": [0.1]},
    {**RECORD, "rates": [0.1, float("nan")]},
    {**RECORD, "seconds": float("inf")},
    {**RECORD, "seconds": "1"},
    *({**RECORD, "stats": {**RECORD["stats"], name: -1}} for name in ("n_samples", "free_steps")),
    {**RECORD, "stats": {**RECORD["stats"], "n_samples": 0}},
    {**RECORD, "stats": {"loss": 1.0}},
]
FIELDS = [
    (("plain", "predict"), "x"),
    (("plain", "_state"), 3),
    (("plain", "n_outputs_"), 2**31),
    (("plain",), []),
    (("plain", "n_layers_"), 10**9),
    (("plain", "n_features_in_"), True),
    (("plain", "out_activation_"), "tanh"),
    (("params", "checkpoint"), "/tmp/x"),
    (("params", "nonsense"), 1),
    (("params", "max_iter"), 10**400),
    (("params", "max_iter"), 2**70),
    (("params", "max_iter"), "3"),
    (("params", "tol"), float("nan")),
    (("params", "hidden_layer_sizes"), [5]),
    (("params", "hidden_layer_sizes"), {"tuple": [10**9]}),
    (("params", "hidden_layer_sizes"), {"object": "Popen", "params": {}}),
    (("params", "dtype"), "float64"),
    (("params", "random_state"), {"dict": [[[1], 2]]}),
    (("params",), {"tuple": []}),
    (("params",), None),
    (("counters", "epoch"), -1),
    (("counters", "epoch"), 2.0),
    (("counters", "epoch"), 3),
    (("counters", "loss_curve"), [1.0, float("inf")]),
    (("counters", "loss_curve"), [1.0, "2"]),
    (("counters", "loss_curve"), None),
    (("counters", "best_loss"), float("nan")),
    (("counters", "extra"), 1),
    (("counters", "rate_factor"), 2),
    (("counters", "ended"), "bored"),
    (("counters", "split_seed"), 2**40),
    (("counters", "n_updates"), 10**39),
    (("counters", "position"), {}),
    *((("counters", "unanswered"), value) for value in WRONG_RECORDS),
    (("streams", "init"), None),
    (("streams", "init", "state", "inc"), 2),
    (("streams", "init", "state", "state"), 2**128),
    (("streams", "init", "bit_generator"), "MT19937"),
    (("streams", "other"), {}),
    (("objects",), ["coefs_"]),
    (("present",), ["velocity", "particles"]),
    (("present",), []),
    (("present",), 3),
    (("target_type",), "binary"),
    (("target_type",), 5),
    (("version",), 1),
    (("version",), None),
    (("class",), "object"),
    (("format",), []),
]


@pytest.mark.parametrize("path, value", FIELDS)
@pytest.mark.parametrize("kind", [EqPropClassifier, ResistiveRegressor])
def test_a_wrong_field_is_refused(tmp_path, files, kind, path, value):
    refused(kind, tmp_path / "a.npz", with_meta(files[kind], set_in(*path, value=value)))


def test_an_unanswered_record_is_heard_once(tmp_path, files):
    told, kind = [], EqPropClassifier
    (tmp_path / "a.npz").write_bytes(
        with_meta(files[kind], set_in("counters", "unanswered", value=RECORD))
    )
    model = kind.load_checkpoint(tmp_path / "a.npz").set_params(callbacks=told.append)
    assert model.resume(X, Y).n_iter_ == 2 and model.resume(X, Y) is model
    (record,) = told
    assert record.rates == (0.1, 0.1) and record.stats.n_samples == 9 and record.seconds == 1.0


@pytest.mark.parametrize("kind", KINDS)
def test_every_missing_or_unknown_field_and_member_is_refused(tmp_path, files, kind):
    path, content = tmp_path / "a.npz", members(files[kind])
    meta = json.loads(str(np.load(io.BytesIO(content["meta.npy"]))))
    places = [(), ("params",), ("counters",), ("plain",), ("streams",), ("streams", "init")]
    for place in places:
        node = meta
        for name in place:
            node = node[name]
        for name in [*node, None]:

            def change(meta, place=place, name=name):
                for step in place:
                    meta = meta[step]
                if name is None:
                    meta["other"] = 1
                else:
                    del meta[name]

            refused(kind, path, with_meta(files[kind], change))
    for name in content:
        refused(kind, path, archive_of((n, c) for n, c in content.items() if n != name))
    for name in ("other.npy", "best/9.npy", "coefs_/2.npy", "readme.txt", "a/"):
        refused(kind, path, with_member(files[kind], name, npy(np.zeros(3, np.float32))))
    path.write_bytes(archive_of(content.items()))
    assert kind.load_checkpoint(path).n_iter_ == 2, "the same members, untouched"


@pytest.mark.parametrize("kind", KINDS)
def test_every_array_has_one_dtype_shape_order_and_only_finite_numbers(tmp_path, files, kind):
    path, content = tmp_path / "a.npz", members(files[kind])
    seen = set()
    for name, raw in content.items():
        a = np.load(io.BytesIO(raw))
        part = name.split("/")[0], a.ndim
        if name == "meta.npy" or part in seen:
            continue
        seen.add(part)
        wrong = [
            a.astype("c8"),
            a.astype("S4"),
            a[:-1],
            a[None],
            np.zeros(0, a.dtype),
            a.astype(">f8"),
        ]
        if a.ndim == 2 and 1 not in a.shape:
            wrong.append(np.asfortranarray(a))
        if a.dtype.kind == "f":
            last = np.arange(a.size).reshape(a.shape) == a.size - 1
            wrong += [
                np.where(last, value, a).astype(a.dtype) for value in (np.nan, np.inf, -np.inf)
            ]
            wrong.append(a.astype("f2"))
        else:  # classes
            wrong += [a[::-1], np.zeros_like(a), a.astype(object)]
        for array in wrong:
            refused(kind, path, with_member(files[kind], name, npy(array)))


def test_resistive_conductances_are_not_negative_and_second_moments_neither(tmp_path, files):
    resistive = ResistiveClassifier
    for kind, name in (
        (resistive, "coefs_/0"),
        (resistive, "best/0"),
        (EqPropClassifier, "second/0"),
    ):
        a = np.load(io.BytesIO(members(files[kind])[f"{name}.npy"]))
        a[0, 0] = -1e-3
        refused(kind, tmp_path / "a.npz", with_member(files[kind], f"{name}.npy", npy(a)), ">= 0")


def encrypted(data):
    changed = bytearray(data)
    at = -1
    while (at := changed.find(b"PK\1\2", at + 1)) >= 0:
        changed[at + 8] |= 1
    return bytes(changed)


def header_of(shape, dtype="<f4"):
    text = (
        f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117)
        + b"\n"
    )
    return b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text


def bomb():
    """A member of 100 kB that unpacks to 100 MB."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("bomb.npy", "w") as member:
            member.write(header_of((25_000_000,)))
            for _ in range(100):
                member.write(bytes(1_000_000))
    return file.getvalue()


def test_members_that_overlap_are_refused_before_one_is_read(tmp_path, files):
    """A directory that lists the same bytes again and again."""
    file = io.BytesIO(files[EqPropClassifier])
    with zipfile.ZipFile(file, "a") as archive:
        info = max(archive.infolist(), key=lambda member: member.compress_size)
        for k in range(len(file.getvalue()) // info.compress_size + 1):
            again = copy.copy(info)
            again.filename = again.orig_filename = f"again{k}.npy"
            archive.filelist.append(again)
        archive._didModify = True
    (tmp_path / "a.npz").write_bytes(file.getvalue())
    with pytest.raises(ArchiveError, match="members are larger than the file"):
        Archive(tmp_path / "a.npz")


def test_hostile_archives_cost_nothing_and_end_in_the_one_error(tmp_path, files):
    resource = pytest.importorskip("resource")
    kind, path = EqPropClassifier, tmp_path / "a.npz"
    good = files[kind]
    huge = header_of((2**40,))
    deep = "[" * 100_000 + "]" * 100_000
    cases = {
        "encrypted": encrypted(good),
        "4 TB, unknown": with_member(good, "other.npy", huge),
        "4 TB, known": with_member(good, "coefs_/0.npy", huge),
        "4 TB of text": with_member(good, "classes_.npy", header_of((2**38,), "<U4")),
        "wide text": with_member(good, "meta.npy", header_of((), "<U999999999")),
        "deep header": with_member(good, "coefs_/0.npy", header_of("(" * 5000 + ")" * 5000)),
        "deep JSON": with_member(good, "meta.npy", npy(np.array(deep))),
        "deep objects": with_member(
            good, "meta.npy", npy(np.array('{"a":' * 50_000 + "1" + "}" * 50_000))
        ),
        "many digits": with_member(good, "meta.npy", npy(np.array("[" + "9" * 1_000_000 + "]"))),
        "bomb": bomb(),
        "compressed": archive_of(members(good).items(), zipfile.ZIP_DEFLATED),
        "twice": archive_of([*members(good).items(), ("meta.npy", members(good)["meta.npy"])]),
        "no text": with_member(good, "meta.npy", npy(np.zeros(3))),
        "not in Unicode": with_member(good, "meta.npy", header_of((), "<U1") + b"\xff\xff\xff\xff"),
        "too long": with_member(good, "coefs_/0.npy", members(good)["coefs_/0.npy"] + bytes(8)),
        "empty": b"",
    }
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    for name, data in cases.items():
        path.write_bytes(data)
        with pytest.raises(CheckpointError):
            kind.load_checkpoint(path)
            pytest.fail(name)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000, "kB"
    assert time.process_time() - start < 20
    with pytest.raises(CheckpointError):
        kind.load_checkpoint(tmp_path)


def test_labels_of_every_kind_survive(tmp_path):
    many = np.column_stack([Y > 0, Y == 1]).astype(int)
    labels = [
        Y.astype("i1"),
        Y * 1.0,
        Y == 1,
        np.array(["", "b", "\u00e9\U0001f600"])[Y],
        np.array(["x", "y", "z"], object)[Y],
        np.zeros(30, int),
        many,
    ]
    for y in labels:
        for kind in (EqPropClassifier, ResistiveClassifier):
            model = kind((4,), max_iter=1, backend="numpy", random_state=0).fit(X, y)
            model.save_checkpoint(tmp_path / "a.npz")
            loaded = kind.load_checkpoint(tmp_path / "a.npz").set_params(backend="numpy")
            np.testing.assert_array_equal(loaded.predict(X), model.predict(X))
            assert loaded.classes_.dtype == model.classes_.dtype
    import scipy.sparse as sp

    model = EqPropClassifier((4,), max_iter=1, backend="numpy").fit(X, sp.csr_matrix(many))
    model.save_checkpoint(tmp_path / "a.npz")
    loaded = EqPropClassifier.load_checkpoint(tmp_path / "a.npz").set_params(backend="numpy")
    assert sp.issparse(model.predict(X)) and (loaded.predict(X) != model.predict(X)).nnz == 0


# ---- the archive reader and mnist.npz ----


def test_compressed_members_are_read_no_further_than_their_shape(tmp_path):
    path = tmp_path / "a.npz"
    path.write_bytes(bomb())
    with Archive(path, compressed=True) as archive:
        assert archive.look("bomb") == (np.dtype("<f4"), (25_000_000,))
        with pytest.raises(ArchiveError, match="more than 1000"):
            archive.read("bomb", "<f4", (25_000_000,), max_bytes=1000)
    data = bytearray(archive_of([("x.npy", npy(np.arange(9.0)))]))
    data[data.index(np.arange(9.0)[3:4].tobytes())] ^= 1
    path.write_bytes(data)
    with Archive(path) as archive, pytest.raises(ArchiveError, match="CRC"):
        archive.read("x", "f8", (9,))


def mnist(**changes):
    x, y = np.zeros((3, 28, 28), np.uint8), np.array([1, 2, 3], np.uint8)
    parts = {"x_train": x, "x_test": x[:2], "y_train": y, "y_test": y[:2], **changes}
    file = io.BytesIO()
    np.savez_compressed(file, **parts)
    return file.getvalue()


BAD_MNIST = {
    "y too long": mnist(y_train=np.zeros(4, np.uint8)),
    "y 2-D": mnist(y_train=np.zeros((3, 1), np.uint8)),
    "NaN": mnist(x_test=np.full((2, 28, 28), np.nan)),
    "too bright": mnist(x_test=np.full((2, 28, 28), 256)),
    "below black": mnist(x_train=np.full((3, 28, 28), -1)),
    "other images": mnist(x_train=np.zeros((3, 27, 28), np.uint8)),
    "scalar": mnist(x_train=np.zeros((), np.uint8)),
    "none": mnist(x_train=np.zeros((0, 28, 28), np.uint8), y_train=np.zeros(0, np.uint8)),
    "text": mnist(y_test=np.array(["1", "2"])),
    "objects": mnist(y_test=np.array([1, None])),
    "complex": mnist(x_test=np.zeros((2, 784), complex)),
    "a label of 10": mnist(y_test=np.array([1, 10])),
    "half a label": mnist(y_test=np.array([1, 0.5])),
    "a label beyond int64": mnist(y_test=np.array([1, 2**64 - 1], np.uint64)),
    "4 TB": with_member(mnist(), "x_train.npy", header_of((2**40, 784), "|u1")),
    "a 4 TB label": with_member(mnist(), "y_train.npy", header_of((2**40,), "|u1")),
    "encrypted": encrypted(mnist()),
    "cut": mnist()[:-100],
    "another method": archive_of(members(mnist()).items(), zipfile.ZIP_LZMA),
}


@pytest.mark.parametrize("what", BAD_MNIST)
def test_no_mnist_archive(tmp_path, monkeypatch, what):
    monkeypatch.setenv("EQPROP_DATA", str(tmp_path))
    (tmp_path / "mnist.npz").write_bytes(BAD_MNIST[what])
    with pytest.raises(DatasetUnavailableError, match="mnist.npz"):
        load_mnist()


def test_mnist_of_other_writers(tmp_path, monkeypatch):
    """Flat, in Fortran order, as floats; with a member more that is not read."""
    monkeypatch.setenv("EQPROP_DATA", str(tmp_path))
    x = np.random.default_rng(0).integers(0, 256, (3, 784))
    data = mnist(x_train=np.asfortranarray(x), x_test=x[:2].astype(float), y_train=np.arange(3.0))
    extra = {**members(data), "other.npy": header_of((2**40,))}
    (tmp_path / "mnist.npz").write_bytes(archive_of(extra.items(), zipfile.ZIP_DEFLATED))
    x_train, x_test, y_train, _ = load_mnist("float64")
    np.testing.assert_allclose(x_train, x / 255)
    np.testing.assert_array_equal(x_test, x_train[:2])
    assert y_train.tolist() == [0, 1, 2]
    for dtype in ("int64", "complex64"):
        with pytest.raises(ValueError, match="dtype"):
            load_mnist(dtype)


def test_endless_and_foreign_csv(tmp_path):
    model = fitted(ResistiveRegressor)
    path = tmp_path / "g.csv"
    model.export_conductances(path)
    before = [g.copy() for g in model.conductances_]
    header, repeated = "layer,row,column,siemens\n", "1,0,0,0.5\n" * 10**4
    for text in ("a" * 10**6, path.read_text() + repeated, header + "1,0," + "9" * 5000):
        (tmp_path / "bad.csv").write_text(text)
        with pytest.raises(ValueError, match="bad.csv"):
            model.import_conductances(tmp_path / "bad.csv")
    for other in (tmp_path, "/dev/zero"):
        with pytest.raises(ValueError, match="not a file"):
            model.import_conductances(other)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.conductances_))
