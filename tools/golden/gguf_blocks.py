#!/usr/bin/env python3
"""Writes the fixtures of tests/golden/gguf with the Python package of llama.cpp.

Needs: gguf, numpy, safetensors (written with gguf 0.19.0, numpy 2.4.6, safetensors 0.8.0). Run from the root of the
repository.

  blocks.safetensors   TYPE.bytes: random blocks of each quantised type, TYPE.values: what gguf dequantises them to.
                       encode.from: float32 rows, encode.TYPE: what gguf makes of them.
  whole.gguf           metadata of every type and a few tensors, by gguf's writer
  split-*.gguf         the same tensors in three parts

Every number of a block is rounded at most once (a half times small integers is exact, and so is a product of such a
half and a six-bit scale; the last product or sum is rounded), so that the values hold for any order of operations.
"""

import pathlib

import gguf
import numpy as np
from gguf import GGMLQuantizationType as T
from gguf.quants import dequantize, quantize
from safetensors.numpy import save_file

golden = pathlib.Path("tests/golden/gguf")
golden.mkdir(parents=True, exist_ok=True)
rng = np.random.default_rng(20240501)

TYPES = ["Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS", "MXFP4"]


def blocks_of(name):
    """Rows of random bytes: any bit pattern, halves that are infinite or no number among them."""
    block, size = gguf.GGML_QUANT_SIZES[T[name]]
    rows = 3 if block == 256 else 8
    data = rng.integers(0, 256, (rows, 2 * size), dtype=np.uint8)
    with np.errstate(all="ignore"):
        return data, dequantize(data, T[name]).astype(np.float32)


def rows_to_encode():
    rows = rng.standard_normal((12, 64)).astype(np.float32)
    rows[1] *= 1e-5
    rows[2] *= 3e4
    rows[3, :32] = 0
    rows[4] = np.arange(64) - 32
    rows[4, 0] = 127  # scale 1, so that what lies halfway is rounded
    rows[5] = np.arange(64) / 2 - 15.5
    rows[5, 0] = -127
    rows[5, 32] = 127
    rows[6] *= 1e-9  # the scale underflows as a half
    rows[7, :] = 0.1
    rows[8, :] = -0.0
    rows[9] = np.ldexp(rows[9], rng.integers(-20, 14, 64))
    rows[10] *= 1e7  # the scale overflows
    rows[11] *= 1e-42  # the reciprocal of the scale overflows
    return rows


tensors = {}
for name in TYPES:
    tensors[f"{name}.bytes"], tensors[f"{name}.values"] = blocks_of(name)
rows = rows_to_encode()
tensors["encode.from"] = rows
with np.errstate(all="ignore"):
    # numpy leaves open what an infinite quotient becomes as an integer, so the last row is left to our own tests.
    tensors["encode.Q8_0"] = quantize(rows[:11], T.Q8_0)
    tensors["encode.F16"] = quantize(rows, T.F16).view(np.uint8)
    tensors["encode.BF16"] = quantize(rows, T.BF16).view(np.uint8)
save_file(tensors, golden / "blocks.safetensors")


def write(path, **split):
    writer = gguf.GGUFWriter(path, "test", **split)
    writer.add_uint8("u8", 255)
    writer.add_int8("i8", -128)
    writer.add_uint16("u16", 65535)
    writer.add_int16("i16", -32768)
    writer.add_uint32("u32", 4294967295)
    writer.add_int32("i32", -2147483648)
    writer.add_float32("f32", 0.1)
    writer.add_bool("bool", True)
    writer.add_string("string", "gr\u00fc\u00dfe \u2603")
    writer.add_uint64("u64", 2**64 - 1)
    writer.add_int64("i64", -(2**63))
    writer.add_float64("f64", 0.1)
    writer.add_array("strings", ["a", "", "\u2581the"])
    writer.add_array("integers", [1, -2, 3])
    writer.add_array("floats", [0.5, -1.5])
    writer.add_array("bools", [True, False])
    f32 = (np.arange(6, dtype=np.float32) / 4 - 1).reshape(2, 3)
    writer.add_tensor("f32", f32)
    writer.add_tensor("f16", np.array([0.5, -1, 65504], dtype=np.float16))
    writer.add_tensor("stack", np.arange(24, dtype=np.int32).reshape(2, 3, 4))
    writer.add_tensor("q8", quantize(np.arange(128, dtype=np.float32).reshape(2, 64), T.Q8_0), raw_dtype=T.Q8_0)
    writer.add_tensor("q6", tensors["Q6_K.bytes"], raw_dtype=T.Q6_K)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


write(golden / "whole.gguf")
write(golden / "split.gguf", split_max_tensors=2)
