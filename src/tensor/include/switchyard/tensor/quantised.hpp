#pragma once
// The quantised types by their definition: blocks of small integers with the scales that make numbers of them. Kernels
// have faster ways to the same bits. Layouts and formulas: docs/formats/gguf.md. Source: ggml-common.h and
// ggml-quants.c of ggml (ggml-org/ggml).

#include <cstddef>
#include <span>

#include "switchyard/tensor/dtype.hpp"

namespace switchyard {

// The numbers of whole blocks, `to` being exactly as many as `blocks` hold. A half times integers is exact in float32,
// so each number is rounded at most once and no order of the operations changes it. kInternal where the type is not
// quantised or the sizes do not fit.
void dequantise(DType dtype, std::span<const std::byte> blocks, std::span<float> to);

// The reverse for Q8_0, with the bytes of ggml's reference: a block's scale is its largest magnitude / 127, a number
// is rounded to the nearest multiple of the scale, halves away from zero, and the scale is then rounded to half
// precision. A block that holds NaN or infinity becomes one of NaN, since integers cannot say it.
void quantise_q8_0(std::span<const float> from, std::span<std::byte> blocks);

// What 4 bits stand for in IQ4_NL and IQ4_XS, and, twice as large, in MXFP4.
inline constexpr signed char kIQ4Values[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                               1,    13,   25,  38,  53,  69,  89,  113};
inline constexpr signed char kMXFP4Values[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};
// Half of the scale that MXFP4's first byte stands for: 2^(bits - 128). ggml knows no NaN here: 255 is one more power.
float mxfp4_half_scale(unsigned char bits);

}  // namespace switchyard
