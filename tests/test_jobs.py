"""The records of kernels/jobs.py are the structs of csrc/core/jobs.h."""

import numpy as np
import pytest
from eqprop_fast.kernels.jobs import Job, record_dtype, structs


@pytest.mark.needs_cc
@pytest.mark.parametrize("real", ("float32", "float64"))
def test_records_lie_as_the_structs(real):
    ffi = pytest.importorskip("eqprop_fast._native").ffi
    assert len(structs()) >= 5
    for name in structs():
        dtype, struct = record_dtype(name, np.dtype(real)), ffi.typeof(name)
        assert dtype.names == (*(field for field, _ in struct.fields), "real")
        for field, declared in struct.fields:
            kind, offset = dtype.fields[field][:2]
            assert (offset, kind.itemsize) == (declared.offset, ffi.sizeof(declared.type)), field
        assert dtype.itemsize >= ffi.sizeof(name)
        assert dtype.fields["real"][1] >= max(offset for _, offset, *_ in dtype.fields.values())


def test_copies_are_written_back():
    job, strided = Job("eqp_nodal_update_job", "float32"), np.zeros((2, 6), np.float32)[:, ::2]
    job.writes(gradient=strided)
    with pytest.raises(KeyboardInterrupt), job:
        copy = job.kept[-1]
        copy[...] = 3
        raise KeyboardInterrupt
    assert (strided == 3).all()
    strided.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        job.writes(gradient=strided)


def test_null_and_tables():
    job = Job("eqp_layered_job", "float64")
    arrays = [None, np.ones(3)]
    job.reads(weight=arrays, back=None, size=[2, 3])
    table = job.kept[0]
    assert job["back"] == 0 and job["weight"] == table.ctypes.data
    assert table.tolist() == [0, arrays[1].ctypes.data]
