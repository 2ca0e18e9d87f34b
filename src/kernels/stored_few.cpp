#include "stored_few.hpp"

#include <algorithm>
#include <cstdint>
#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "stored_few.cpp"
#include <hwy/cache_control.h>
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "columns-inl.hpp"

#ifndef SWITCHYARD_KERNELS_STORED_FEW_FORMATS
#define SWITCHYARD_KERNELS_STORED_FEW_FORMATS
namespace switchyard::kernels {
namespace {

// How a number becomes float32 once it stands at the upper end of a word: shifted down arithmetically by kShift and
// masked with kMask, its exponent and mantissa are where float32 has them, but for the exponent's bias, which
// multiplying by kFactor sets right (exactly, also for subnormals). Numbers whose bits under kSpecial are all ones are
// infinity or NaN.
struct WordsOfBF16 {
  static constexpr int kBits = 16, kShift = 0;
  static constexpr std::uint32_t kMask = 0xFFFF0000U, kSpecial = 0;
  static constexpr float kFactor = 1.0F;
};
struct WordsOfF16 {
  static constexpr int kBits = 16, kShift = 3;
  static constexpr std::uint32_t kMask = 0x8FFFE000U, kSpecial = 0x0F800000U;
  static constexpr float kFactor = 0x1.0p112F;
};
struct WordsOfE4M3 {
  static constexpr int kBits = 8, kShift = 4;
  static constexpr std::uint32_t kMask = 0x87F00000U, kSpecial = 0x07F00000U;
  static constexpr float kFactor = 0x1.0p120F;
};
struct WordsOfF4 {
  static constexpr int kBits = 4, kShift = 6;
  static constexpr std::uint32_t kMask = 0x81C00000U, kSpecial = 0;
  static constexpr float kFactor = 0x1.0p126F;
};

}  // namespace
}  // namespace switchyard::kernels
#endif

HWY_BEFORE_NAMESPACE();
namespace switchyard::kernels::HWY_NAMESPACE {
namespace {

using Words = hn::RebindToUnsigned<Tag>;
using Word = hn::Vec<Words>;

constexpr Index kRowBytes = 4 * kLanes;  // of a row, a step
template <class Format>
constexpr Index kStep = kLanes * 32 / Format::kBits;  // columns

// The numbers at place p of the words, without the factor.
template <class Format, int p>
HWY_INLINE Word number(Word word) {
  const Words d;
  constexpr int kUp = 32 - Format::kBits * (p + 1);
  if constexpr (kUp > 0) word = hn::ShiftLeft<kUp>(word);
  if constexpr (Format::kShift > 0)
    word = hn::BitCast(d, hn::ShiftRight<Format::kShift>(hn::BitCast(hn::RebindToSigned<Words>(), word)));
  if constexpr (Format::kShift > 0 || kUp == 0) word = hn::And(word, hn::Set(d, Format::kMask));
  return word;
}

// The numbers at place p. `factor` is their scale times Format::kFactor.
template <class Format, bool kSpecials, int p>
HWY_INLINE Vector decoded(Word word, Vector factor) {
  const Tag d;
  const Words d32;
  const Word bits = number<Format, p>(word);
  Vector v = hn::BitCast(d, bits);
  if constexpr (kSpecials && Format::kSpecial != 0) {
    const auto ones = hn::Set(d32, Format::kSpecial);
    const auto special = hn::VecFromMask(d32, hn::Eq(hn::And(bits, ones), ones));
    v = hn::Mul(v, hn::Set(d, Format::kFactor));
    v = hn::BitCast(d, hn::Or(hn::BitCast(d32, v), hn::And(special, hn::Set(d32, 0x7F800000U))));
    return hn::Mul(v, hn::Mul(factor, hn::Set(d, 1.0F / Format::kFactor)));
  }
  if constexpr (Format::kFactor != 1.0F) v = hn::Mul(v, factor);
  return v;
}

// One number of each row and those behind it in the words: acc[t] += x[t] * number. `left` columns are there.
template <class Format, int kCount, bool kSpecials, int p = 0>
HWY_INLINE void add_numbers(Word word, Vector factor, const float* const* x, Index column, Index left, Vector* acc) {
  const Tag d;
  if constexpr (p < 32 / Format::kBits) {
    if (p >= left) return;
    const Vector v = decoded<Format, kSpecials, p>(word, factor);
    _Pragma("GCC unroll 4") for (Index t = 0; t < kCount; ++t) acc[t] =
        hn::MulAdd(hn::Set(d, x[t][column + p]), v, acc[t]);
    add_numbers<Format, kCount, kSpecials, p + 1>(word, factor, x, column, left, acc);
  }
}

// The words of a step, a column of them at a time. All columns are there where kWhole, otherwise `left`.
template <class Format, int kCount, bool kSpecials, bool kWhole>
HWY_INLINE void add_words(const float* HWY_RESTRICT words, const StoredRows& w, Index row, const float* const* x,
                          Index column, Index left, Vector* acc) {
  const Tag d;
  constexpr Index kInWord = 32 / Format::kBits;
  Vector factor = hn::Zero(d);
  for (Index i = 0; i < kLanes; ++i) {
    const Index at = column + i * kInWord;
    if (!kWhole && i * kInWord >= left) return;
    if constexpr (Format::kFactor != 1.0F)
      factor = hn::LoadU(d, w.factors + (at >> w.block_log2) * w.factors_stride + row);
    add_numbers<Format, kCount, kSpecials>(hn::BitCast(Words(), hn::Load(d, words + i * kLanes)), factor, x, at,
                                           kWhole ? kInWord : left - i * kInWord, acc);
  }
}

// Whether there may be infinity or NaN among the words.
template <class Format>
HWY_INLINE bool any_special(const Vector* v) {
  if constexpr (Format::kSpecial == 0) return false;
  constexpr std::uint32_t kTop = Format::kSpecial << Format::kShift;  // of a number at the upper end
  if constexpr (Format::kBits == 16) {
    const hn::Repartition<std::uint16_t, Words> lanes;
    const auto ones = hn::Set(lanes, static_cast<std::uint16_t>(kTop >> 16U));
    auto found = hn::Zero(lanes);
    _Pragma("GCC unroll 16") for (Index i = 0; i < kLanes; ++i) found =
        hn::Max(found, hn::And(hn::BitCast(lanes, v[i]), ones));
    return !hn::AllFalse(lanes, hn::Eq(found, ones));
  } else {
    const hn::Repartition<std::uint8_t, Words> lanes;
    const auto ones = hn::Set(lanes, static_cast<std::uint8_t>(kTop >> 24U));
    auto found = hn::Zero(lanes);
    _Pragma("GCC unroll 16") for (Index i = 0; i < kLanes; ++i) found =
        hn::Max(found, hn::And(hn::BitCast(lanes, v[i]), ones));
    return !hn::AllFalse(lanes, hn::Eq(found, ones));
  }
}

// A step of which only `left` columns are there, or which has infinity or NaN. Rare, so a token at a
// time and out of line: inlined into every loop it made most of the code.
template <class Format>
HWY_NOINLINE Vector add_rare_step(const StoredRows& w, Index row, Index column, Index left, const float* x,
                                  Vector sum) {
  const Tag d;
  const auto* from = reinterpret_cast<const std::uint8_t*>(w.data) + row * w.stride + column * Format::kBits / 8;
  const Index columns = std::min(left, kStep<Format>);
  HWY_ALIGN std::uint8_t bytes[kLanes * kRowBytes] = {};
  for (Index i = 0; i < kLanes; ++i) {
    std::memcpy(bytes + i * kRowBytes, from + i * w.stride,
                static_cast<std::size_t>((columns * Format::kBits + 7) / 8));
  }
  Vector v[kLanes];
  load_columns(bytes, kRowBytes, v);
  HWY_ALIGN float words[kLanes * kLanes];
  for (Index i = 0; i < kLanes; ++i) hn::Store(v[i], d, words + i * kLanes);
  add_words<Format, 1, true, false>(words, w, row, &x, column, columns, &sum);
  return sum;
}

// kLanes rows from `row` on, the step that begins at `column`: acc[t] += their products. `left` columns are there.
template <class Format, int kCount>
HWY_INLINE void add_step(const StoredRows& w, Index row, Index column, Index left, const float* const* x, Vector* acc) {
  const Tag d;
  constexpr Index kAhead = 256;  // bytes; as for float32
  if (HWY_LIKELY(left >= kStep<Format>)) {
    const auto* from = reinterpret_cast<const std::uint8_t*>(w.data) + row * w.stride + column * Format::kBits / 8;
    for (Index i = 0; i < kLanes; ++i) hwy::Prefetch(from + i * w.stride + kAhead);
    Vector v[kLanes];
    load_columns(from, w.stride, v);
    if (HWY_LIKELY(!any_special<Format>(v))) {
      HWY_ALIGN float words[kLanes * kLanes];
      _Pragma("GCC unroll 16") for (Index i = 0; i < kLanes; ++i) hn::Store(v[i], d, words + i * kLanes);
      add_words<Format, kCount, false, true>(words, w, row, x, column, left, acc);
      return;
    }
  }
  for (Index t = 0; t < kCount; ++t) acc[t] = add_rare_step<Format>(w, row, column, left, x[t], acc[t]);
}

// Groups of kLanes rows, each a chain of its own, go side by side to hide the latency of multiply-add, each one block
// of k behind the one before it: rows are often a power of two apart, and no more than eight such places fit the cache.
template <class Format, int kCount, int kGroups>
void few(const StoredRows& w, const float* const* x, float* const* c, bool add) {
  const Tag d;
  constexpr Index kRows = kGroups * kLanes;
  HWY_ALIGN float sums[kCount][kRows];
  if (add)
    for (Index t = 0; t < kCount; ++t) std::copy_n(c[t], kRows, sums[t]);
  const Index blocks = ceil_div(w.k, kKBlock);
  for (Index n = 0; n < blocks + kGroups - 1; ++n) {
    Vector acc[kGroups][kCount];
    for (Index g = 0; g < kGroups; ++g)
      for (Index t = 0; t < kCount; ++t) acc[g][t] = hn::Zero(d);
    for (Index z = 0; z < kKBlock; z += kStep<Format>) {
      _Pragma("GCC unroll 4") for (Index g = 0; g < kGroups; ++g) {
        const Index column = (n - g) * kKBlock + z;
        if (n >= g && column < w.k) add_step<Format, kCount>(w, g * kLanes, column, w.k - column, x, acc[g]);
      }
    }
    for (Index g = 0; g < kGroups; ++g) {
      if (n < g || n - g >= blocks) continue;
      for (Index t = 0; t < kCount; ++t) {
        float* sum = sums[t] + g * kLanes;
        hn::Store(add || n > g ? hn::Add(hn::Load(d, sum), acc[g][t]) : acc[g][t], d, sum);
      }
    }
  }
  for (Index t = 0; t < kCount; ++t) std::copy_n(sums[t], kRows, c[t]);
}

template <class Format>
StoredFewKernel make_kernel() {
  StoredFewKernel kernel;
  kernel.many[0] = &few<Format, 1, 4>;
  kernel.some[0] = &few<Format, 1, 2>;
  kernel.some[1] = &few<Format, 2, 2>;
  kernel.some[2] = &few<Format, 3, 2>;
  kernel.some[3] = &few<Format, 4, 2>;
  kernel.factor = Format::kFactor;
  return kernel;
}

}  // namespace

const StoredFewKernel* stored_few_of_target(DType dtype) {
  static const StoredFewKernel bf16 = make_kernel<WordsOfBF16>(), f16 = make_kernel<WordsOfF16>(),
                               e4m3 = make_kernel<WordsOfE4M3>(), f4 = make_kernel<WordsOfF4>();
  switch (dtype) {
    case DType::kBF16:
      return &bf16;
    case DType::kF16:
      return &f16;
    case DType::kF8E4M3:
      return &e4m3;
    case DType::kF4:
      return &f4;
    default:
      return nullptr;
  }
}

}  // namespace switchyard::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace switchyard::kernels {

HWY_EXPORT(stored_few_of_target);

const StoredFewKernel* stored_few_kernel(DType dtype) { return HWY_DYNAMIC_DISPATCH(stored_few_of_target)(dtype); }

}  // namespace switchyard::kernels
#endif  // HWY_ONCE
