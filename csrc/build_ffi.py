"""What cffi sees: the structs of jobs.h and the functions of cdef.txt over the C of eqprop.h.

One setuptools Extension.
"""

import sysconfig
from pathlib import Path

import cffi

MODULE = "eqprop_fast._native"


def make_extension(root, macros, cflags):
    """Extension for `MODULE`, with dispatch.c beside the cffi wrapper; kernels come as extra
    objects.
    """
    csrc = Path(root) / "csrc"
    limited = not sysconfig.get_config_var("Py_GIL_DISABLED")
    ffi = cffi.FFI()
    ffi.cdef("typedef struct { int32_t arrived, generation, asleep; } eqp_barrier;")
    ffi.cdef((csrc / "core" / "jobs.h").read_text())
    ffi.cdef((csrc / "core" / "cdef.txt").read_text())
    ffi.set_source(
        MODULE,
        '#include "core/eqprop.h"\n',
        sources=["csrc/core/dispatch.c"],
        include_dirs=["csrc"],
        define_macros=list(macros) + ([] if limited else [("_CFFI_NO_LIMITED_API", "1")]),
        extra_compile_args=cflags,
        py_limited_api=limited,
    )
    extension = ffi.distutils_extension(tmpdir=str(Path(root) / "build" / "cffi"))
    extension.depends = [
        str(path) for path in csrc.glob("*/*.[ch]")
    ]  # the kernels are linked in as objects
    extension.optional = False
    return extension
