"""Learned weights in two slots of flash: newest wins, power may fail at any byte."""

import sys

import numpy as np
import pytest

from eqprop_fast import Conv, Dense
from tests import embedded_host as host

pytestmark = [
    pytest.mark.skipif(host.CC is None, reason="needs a C compiler"),
    pytest.mark.skipif(
        sys.platform == "win32", reason="the compiler's flags are those of gcc and clang"
    ),
]


class PowerCut(Exception):
    pass


class Flash:
    """Two slots whose erase and write stop after `power` bytes, or fail by their return value."""

    def __init__(self, device, size):
        self.slots, self.size, self.power, self.fails = (
            [bytearray(b"\xff" * size) for _ in range(2)],
            size,
            None,
            (),
        )
        ffi = device.ffi
        name = f"{device.name}_flash *"

        def write(_, slot, offset, data, n):
            if "write" in self.fails:
                return 1
            for i, byte in enumerate(ffi.buffer(data, n)):
                if not self._alive():
                    return 1
                assert self.slots[slot][offset + i] == 0xFF, "written twice without erasing"
                self.slots[slot][offset + i] = byte[0]
            return 0

        def erase(_, slot):
            if "erase" in self.fails:
                return 1
            for i in range(self.size):
                if not self._alive():
                    return 1
                self.slots[slot][i] = 0xFF
            return 0

        def read(_, slot, offset, data, n):
            if "read" in self.fails or ("read", slot) in self.fails:
                return 1
            ffi.buffer(data, n)[:] = bytes(self.slots[slot][offset : offset + n])
            return 0

        types = (
            "int(void *, int)",
            "int(void *, int, uint32_t, const void *, uint32_t)",
            "int(void *, int, uint32_t, void *, uint32_t)",
        )
        self.kept = [ffi.callback(t, f) for t, f in zip(types, (erase, write, read))]
        self.c = ffi.new(name, dict(zip(("erase", "write", "read"), self.kept)))

    def _alive(self):
        if self.power is None:
            return True
        self.power -= 1
        return self.power >= 0


HARD = dict(activation="hard_sigmoid", out_activation="hard_sigmoid", schedule="asynchronous")
KINDS = {
    "float32": host.random_model((4, 3, 2), learn={}, **HARD),
    "int16": host.random_model((4, 3, 2), learn={}, **HARD),
    "resistive": host.resistive_model((4, 2, 2)),
    "maps": host.graph_model(((1, 2, 2), Conv(2, 2), Dense(2)), learn={}, **HARD),
    "maps_int16": host.graph_model(((1, 2, 2), Conv(2, 2), Dense(2)), learn={}, **HARD),
}


@pytest.fixture(scope="module", params=KINDS)
def device(request, tmp_path_factory):
    dtype = "int16" if "int16" in request.param else "float32"
    model, options = KINDS[request.param], {"learn": True, "dtype": dtype}
    models = {
        "slots": (model, options),
        "others": (host.random_model((4, 3, 2), seed=9, learn={}), {"learn": True}),
        "larger": (host.random_model((5, 3, 2), learn={}), {"learn": True}),
    }
    devices = host.compile_library(tmp_path_factory.mktemp("slots"), models)
    devices["slots"].devices = devices
    return devices["slots"]


def _size(device):
    return 16 + device.ffi.sizeof(f"{device.name}_learned")


def _teach(device, n=5, seed=0):
    rng = np.random.default_rng(seed)
    for _ in range(n):
        x = rng.uniform(0, 1, device.model.spec.sizes[0])
        x = (x * 16384).astype(np.int16) if device.value is np.int16 else x.astype(np.float32)
        assert device.learn(device.net, device.pointer(x), int(rng.integers(2))) == 0


def _learned(device):
    return bytes(device.ffi.buffer(device.ffi.addressof(device.net, "learned")))


def _forget(device):
    assert device.reset(device.net) == 0
    return _learned(device)


def _fitted(theirs, flash):
    """The first slot of another flash in the size of this one."""
    return bytes(theirs.slots[0])[: flash.size].ljust(flash.size, b"\xff")


def test_what_was_saved_is_loaded_the_newest_first(device):
    flash, saved = Flash(device, _size(device)), []
    start = _forget(device)
    assert device.load(device.net, flash.c) == device.status("ERROR_EMPTY")
    assert _learned(device) == start
    for seed in range(5):
        _teach(device, seed=seed)
        saved.append(_learned(device))
        assert device.save(device.net, flash.c) == 0
        _forget(device)
        assert device.load(device.net, flash.c) == 0
        assert _learned(device) == saved[-1]
    assert len(set(saved)) == 5
    newest = max((0, 1), key=lambda s: flash.slots[s][4])
    flash.slots[newest][20] ^= 1  # the older one serves
    assert device.load(device.net, flash.c) == 0
    assert _learned(device) == saved[-2]


def test_the_counter_may_go_round(device):
    import zlib

    flash = Flash(device, _size(device))
    _forget(device)
    _teach(device)
    assert device.save(device.net, flash.c) == 0
    flash.slots[0][4:8] = b"\xff\xff\xff\xff"
    body = bytes(flash.slots[0])
    flash.slots[0][12:16] = zlib.crc32(body[:12] + body[16:]).to_bytes(4, sys.byteorder)
    _teach(device)
    expected = _learned(device)
    assert device.save(device.net, flash.c) == 0
    assert bytes(flash.slots[1][4:8]) == bytes(4)
    _forget(device)
    assert device.load(device.net, flash.c) == 0
    assert _learned(device) == expected


def test_power_may_fail_after_any_byte(device):
    size = _size(device)
    flash = Flash(device, size)
    _forget(device)
    _teach(device)
    assert device.save(device.net, flash.c) == 0
    old = _learned(device)
    kept = [bytes(slot) for slot in flash.slots]
    _teach(device, seed=1)
    new = _learned(device)
    for slot1 in (kept[1], kept[0]):  # an empty slot, and one with an older save
        for power in range(2 * size + 1):
            device.ffi.buffer(device.ffi.addressof(device.net, "learned"))[:] = new
            flash.slots[:] = [bytearray(kept[0]), bytearray(slot1)]
            flash.power = power
            saved = device.save(device.net, flash.c)
            assert saved == (0 if power >= 2 * size else device.status("ERROR_FLASH"))
            assert _learned(device) == new
            flash.power = None
            _forget(device)
            assert device.load(device.net, flash.c) == 0
            assert _learned(device) == (new if power >= 2 * size else old)


def test_any_flipped_byte_of_both_slots_is_told(device):
    flash = Flash(device, _size(device))
    _forget(device)
    _teach(device)
    assert device.save(device.net, flash.c) == 0
    good = bytes(flash.slots[0])
    start = _forget(device)
    for i in range(len(good)):
        for bits in (1, 0x80, 0xFF):
            flash.slots[0][:] = good
            flash.slots[0][i] ^= bits
            status = device.load(device.net, flash.c)
            size_field = 8 <= i < 12
            assert status == device.status(
                "ERROR_OTHER_MODEL" if size_field else "ERROR_CORRUPT"
            ), i
            assert _learned(device) == start


def test_another_network_and_broken_flash(device):
    flash = Flash(device, _size(device))
    start = _forget(device)
    if device.value is np.float32:
        other = device.devices["others"]
        theirs = Flash(other, _size(other))
        assert other.save(other.net, theirs.c) == 0
        flash.slots[0][:] = _fitted(theirs, flash)
        assert device.load(device.net, flash.c) == device.status("ERROR_OTHER_MODEL")
    larger = device.devices["larger"]
    theirs = Flash(larger, _size(larger))
    assert larger.save(larger.net, theirs.c) == 0
    flash.slots[0][:] = _fitted(theirs, flash)
    assert device.load(device.net, flash.c) == device.status("ERROR_OTHER_MODEL")
    assert _learned(device) == start
    flash.slots[0][:] = b"\x00" * len(flash.slots[0])
    assert device.load(device.net, flash.c) == device.status("ERROR_EMPTY")
    for broken in ("erase", "write", "read", ("read", 1)):
        flash.fails = (broken,)
        before = [bytes(s) for s in flash.slots]
        assert device.save(device.net, flash.c) == device.status("ERROR_FLASH")
        if broken != "write":
            assert [bytes(s) for s in flash.slots] == before
        assert _learned(device) == start
    flash.fails = ("read",)
    assert device.load(device.net, flash.c) == device.status("ERROR_FLASH")
    assert _learned(device) == start
