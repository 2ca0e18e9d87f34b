"""Weights in the low-precision forms of published checkpoints: FP8 with block scales, and MXFP4."""

import torch

FP8_BLOCK = 128
FP8_MAX = 448.0
# The values of the codes 0..7 of FP4 E2M1; codes 8..15 are their negatives.
FP4_VALUES = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0])
MXFP4_BLOCK = 32


def to_fp8_blocks(weight):
    """[out, in] -> (float8_e4m3fn [out, in], float32 [ceil(out/128), ceil(in/128)]); weight = fp8 * scale."""
    rows, columns = weight.shape
    scales = torch.empty(-(-rows // FP8_BLOCK), -(-columns // FP8_BLOCK))
    values = torch.empty(rows, columns, dtype=torch.float8_e4m3fn)
    for r in range(scales.shape[0]):
        for c in range(scales.shape[1]):
            block = (slice(r * FP8_BLOCK, (r + 1) * FP8_BLOCK), slice(c * FP8_BLOCK, (c + 1) * FP8_BLOCK))
            scales[r, c] = weight[block].abs().max() / FP8_MAX
            values[block] = (weight[block] / scales[r, c]).to(torch.float8_e4m3fn)
    return values, scales


def from_fp8_blocks(values, scales):
    rows, columns = values.shape
    spread = scales.repeat_interleave(FP8_BLOCK, 0)[:rows].repeat_interleave(FP8_BLOCK, 1)[:, :columns]
    return values.float() * spread


def to_mxfp4(weight):
    """[..., out, in] -> (uint8 blocks [..., out, in/32, 16], uint8 scales [..., out, in/32]).

    Byte b of a block holds the elements 2b (low four bits) and 2b + 1; a scale s stands for 2^(s - 127).
    """
    blocks = weight.unflatten(-1, (-1, MXFP4_BLOCK))
    # The scale brings the largest element between 3 and 6, so that every code is used.
    exponent = torch.ceil(torch.log2(blocks.abs().amax(-1) / 6.0))
    scaled = blocks / torch.exp2(exponent)[..., None]
    code = (scaled.abs()[..., None] - FP4_VALUES).abs().argmin(-1) + 8 * (scaled < 0)
    packed = (code[..., 0::2] | (code[..., 1::2] << 4)).to(torch.uint8)
    return packed, (exponent + 127).to(torch.uint8)


def from_mxfp4(blocks, scales):
    code = torch.stack((blocks & 15, blocks >> 4), -1).flatten(-2).long()
    values = FP4_VALUES[code & 7] * torch.where(code >= 8, -1.0, 1.0)
    return (values * torch.exp2(scales.float() - 127)[..., None]).flatten(-2)
