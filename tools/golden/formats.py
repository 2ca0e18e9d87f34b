#!/usr/bin/env python3
"""Writes the fixtures of tests/golden/npy and tests/golden/safetensors with the reference libraries.

Needs: numpy, safetensors (written with numpy 2.4.6, safetensors 0.8.0). Run from the root of the repository.
The values are simple enough that tests/formats states them again in C++.
"""

import pathlib

import numpy as np
from safetensors.numpy import save_file

golden = pathlib.Path("tests/golden")

npy = golden / "npy"
npy.mkdir(parents=True, exist_ok=True)
np.save(npy / "f32_2x3.npy", (np.arange(6, dtype="<f4") / 4 - 1).reshape(2, 3))
np.save(npy / "f64_scalar.npy", np.float64(1 / 3))
np.save(npy / "i32_5.npy", np.arange(-2, 3, dtype="<i4"))
np.save(npy / "i64_2x0x3.npy", np.zeros((2, 0, 3), dtype="<i8"))
with open(npy / "f32_version2.npy", "wb") as file:
    np.lib.format.write_array(file, np.array([1.5, -2.5], dtype="<f4"), version=(2, 0))
np.save(npy / "bad_fortran.npy", np.asfortranarray(np.ones((2, 2), dtype="<f4")))
np.save(npy / "bad_big_endian.npy", np.ones(2, dtype=">f4"))
np.save(npy / "bad_object.npy", np.array([None]), allow_pickle=True)
np.save(npy / "bad_struct.npy", np.zeros(1, dtype=[("a", "<f4")]))

folder = golden / "safetensors"
folder.mkdir(parents=True, exist_ok=True)
save_file(
    {
        "weight": (np.arange(6, dtype=np.float32) / 4 - 1).reshape(2, 3),
        "half": np.array([0.5, -1, 65504], dtype=np.float16),
        "scalar": np.array(7, dtype=np.int64),
        "empty": np.zeros((0, 4), dtype=np.float32),
        "bytes": np.array([0, 128, 255], dtype=np.uint8),
        "flag": np.array([True, False]),
        "grüße/☃": np.array([-3], dtype=np.int32),
    },
    folder / "numpy.safetensors",
    metadata={"format": "np", "note": "quotes \" and \n newline"},
)
