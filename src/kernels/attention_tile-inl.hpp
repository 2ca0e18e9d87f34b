// Register-tile products and transposes of attention, compiled once for each Highway target.
//
// Scores and probabilities of a tile are kept transposed, [key, query], with queries in the vector lanes. Then K and V
// rows are read as they lie, one broadcast element at a time, the softmax runs down the lanes without any horizontal
// sum, and the only packing is the transpose of the query tile. Lanes come in panels of two vectors.
#if defined(SWITCHYARD_KERNELS_ATTENTION_TILE_INL_HPP) == defined(HWY_TARGET_TOGGLE)
#ifdef SWITCHYARD_KERNELS_ATTENTION_TILE_INL_HPP
#undef SWITCHYARD_KERNELS_ATTENTION_TILE_INL_HPP
#else
#define SWITCHYARD_KERNELS_ATTENTION_TILE_INL_HPP
#endif

#include <algorithm>
#include <limits>

#include "simd-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace switchyard::kernels::HWY_NAMESPACE {

using FloatVector = hn::Vec<FloatTag>;

inline constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

enum class Start { kZero, kLoad, kScale };  // what a product is added to: nothing, c, or c times a vector

// Where element (i, k) of the broadcast operand lies: a[i * stride + k], or a[i + k * stride].
enum class Layout { kRowsApart, kRowsTogether };

template <int kRow, int kRows, Start kStart>
HWY_INLINE void start_row(const float* c, Index c_stride, FloatVector scale0, FloatVector scale1, FloatVector& c0,
                          FloatVector& c1) {
  const FloatTag d;
  if constexpr (kRow < kRows && kStart != Start::kZero) {
    c0 = hn::LoadU(d, c + kRow * c_stride);
    c1 = hn::LoadU(d, c + kRow * c_stride + lanes(d));
    if constexpr (kStart == Start::kScale) {
      c0 = hn::Mul(c0, scale0);
      c1 = hn::Mul(c1, scale1);
    }
  }
}

template <int kRow, int kRows, Layout kLayout>
HWY_INLINE void step_row(const float* a, Index a_stride, FloatVector b0, FloatVector b1, FloatVector& c0,
                         FloatVector& c1) {
  if constexpr (kRow < kRows) {
    const FloatVector x = hn::Set(FloatTag(), kLayout == Layout::kRowsTogether ? a[kRow] : a[kRow * a_stride]);
    c0 = hn::MulAdd(x, b0, c0);
    c1 = hn::MulAdd(x, b1, c1);
  }
}

template <int kRow, int kRows>
HWY_INLINE void store_row(float* c, Index c_stride, FloatVector c0, FloatVector c1) {
  const FloatTag d;
  if constexpr (kRow < kRows) {
    hn::StoreU(c0, d, c + kRow * c_stride);
    hn::StoreU(c1, d, c + kRow * c_stride + lanes(d));
  }
}

// kRows <= 6 rows of c, two vectors wide. Twelve accumulators, two vectors of b and one broadcast fill the sixteen
// registers of SSE and AVX2. The accumulators are named because not every compiler keeps an array in registers.
template <int kRows, Start kStart, Layout kLayout>
HWY_INLINE void product_rows(const float* a, Index a_stride, const float* b, Index b_stride, Index depth, float* c,
                             Index c_stride, FloatVector scale0, FloatVector scale1) {
  const FloatTag d;
  FloatVector c00 = hn::Zero(d), c01 = c00, c10 = c00, c11 = c00, c20 = c00, c21 = c00;
  FloatVector c30 = c00, c31 = c00, c40 = c00, c41 = c00, c50 = c00, c51 = c00;
  start_row<0, kRows, kStart>(c, c_stride, scale0, scale1, c00, c01);
  start_row<1, kRows, kStart>(c, c_stride, scale0, scale1, c10, c11);
  start_row<2, kRows, kStart>(c, c_stride, scale0, scale1, c20, c21);
  start_row<3, kRows, kStart>(c, c_stride, scale0, scale1, c30, c31);
  start_row<4, kRows, kStart>(c, c_stride, scale0, scale1, c40, c41);
  start_row<5, kRows, kStart>(c, c_stride, scale0, scale1, c50, c51);
  for (Index k = 0; k < depth; ++k) {
    const FloatVector b0 = hn::LoadU(d, b), b1 = hn::LoadU(d, b + lanes(d));
    step_row<0, kRows, kLayout>(a, a_stride, b0, b1, c00, c01);
    step_row<1, kRows, kLayout>(a, a_stride, b0, b1, c10, c11);
    step_row<2, kRows, kLayout>(a, a_stride, b0, b1, c20, c21);
    step_row<3, kRows, kLayout>(a, a_stride, b0, b1, c30, c31);
    step_row<4, kRows, kLayout>(a, a_stride, b0, b1, c40, c41);
    step_row<5, kRows, kLayout>(a, a_stride, b0, b1, c50, c51);
    a += kLayout == Layout::kRowsTogether ? a_stride : 1;
    b += b_stride;
  }
  store_row<0, kRows>(c, c_stride, c00, c01);
  store_row<1, kRows>(c, c_stride, c10, c11);
  store_row<2, kRows>(c, c_stride, c20, c21);
  store_row<3, kRows>(c, c_stride, c30, c31);
  store_row<4, kRows>(c, c_stride, c40, c41);
  store_row<5, kRows>(c, c_stride, c50, c51);
}

// c[i][lane] = start + sum over k, ascending, of a(i, k) * b[k][lane], for one panel of lanes. The rows are cut into
// blocks of nearly equal height, because a block of one or two rows would wait on the latency of its few chains.
template <Start kStart, Layout kLayout>
HWY_NOINLINE void product(Index rows, const float* a, Index a_stride, const float* b, Index b_stride, Index depth,
                          float* c, Index c_stride, FloatVector scale0, FloatVector scale1) {
  for (Index blocks = ceil_div(rows, 6); blocks > 0; --blocks) {
    const Index height = ceil_div(rows, blocks);
    switch (height) {
      case 6:
        product_rows<6, kStart, kLayout>(a, a_stride, b, b_stride, depth, c, c_stride, scale0, scale1);
        break;
      case 5:
        product_rows<5, kStart, kLayout>(a, a_stride, b, b_stride, depth, c, c_stride, scale0, scale1);
        break;
      case 4:
        product_rows<4, kStart, kLayout>(a, a_stride, b, b_stride, depth, c, c_stride, scale0, scale1);
        break;
      case 3:
        product_rows<3, kStart, kLayout>(a, a_stride, b, b_stride, depth, c, c_stride, scale0, scale1);
        break;
      case 2:
        product_rows<2, kStart, kLayout>(a, a_stride, b, b_stride, depth, c, c_stride, scale0, scale1);
        break;
      default:
        product_rows<1, kStart, kLayout>(a, a_stride, b, b_stride, depth, c, c_stride, scale0, scale1);
    }
    a += kLayout == Layout::kRowsTogether ? height : height * a_stride;
    c += height * c_stride;
    rows -= height;
  }
}

template <Start kStart, Layout kLayout>
HWY_INLINE void product(Index rows, const float* a, Index a_stride, const float* b, Index b_stride, Index depth,
                        float* c, Index c_stride) {
  const FloatVector unused = hn::Zero(FloatTag());
  product<kStart, kLayout>(rows, a, a_stride, b, b_stride, depth, c, c_stride, unused, unused);
}

// to[j][i] = factor * from[i][j].
HWY_NOINLINE inline void transpose(const float* from, Index from_stride, Index rows, Index cols, float factor,
                                   float* to, Index to_stride) {
  const hn::FixedTag<float, 4> d;
  const auto f = hn::Set(d, factor);
  const Index full_rows = rows / 4 * 4, full_cols = cols / 4 * 4;
  for (Index i = 0; i < full_rows; i += 4) {
    for (Index j = 0; j < full_cols; j += 4) {
      const float* at = from + i * from_stride + j;
      const auto r0 = hn::Mul(f, hn::LoadU(d, at)), r1 = hn::Mul(f, hn::LoadU(d, at + from_stride));
      const auto r2 = hn::Mul(f, hn::LoadU(d, at + 2 * from_stride));
      const auto r3 = hn::Mul(f, hn::LoadU(d, at + 3 * from_stride));
      const auto lower02 = hn::InterleaveLower(d, r0, r2), upper02 = hn::InterleaveUpper(d, r0, r2);
      const auto lower13 = hn::InterleaveLower(d, r1, r3), upper13 = hn::InterleaveUpper(d, r1, r3);
      float* out = to + j * to_stride + i;
      hn::StoreU(hn::InterleaveLower(d, lower02, lower13), d, out);
      hn::StoreU(hn::InterleaveUpper(d, lower02, lower13), d, out + to_stride);
      hn::StoreU(hn::InterleaveLower(d, upper02, upper13), d, out + 2 * to_stride);
      hn::StoreU(hn::InterleaveUpper(d, upper02, upper13), d, out + 3 * to_stride);
    }
  }
  for (Index i = 0; i < rows; ++i)
    for (Index j = i < full_rows ? full_cols : 0; j < cols; ++j)
      to[j * to_stride + i] = factor * from[i * from_stride + j];
}

// The transpose of `rows` query rows as panels [panel][col][lane], the lanes past the last row zero.
inline void pack_panels(const float* from, Index from_stride, Index rows, Index cols, float factor, Index width,
                        float* to) {
  for (Index i = 0; i < rows; i += width, to += cols * width) {
    const Index filled = rows - i < width ? rows - i : width;
    if (filled < width)
      for (Index at = 0; at < cols * width; ++at) to[at] = 0.0F;
    transpose(from + i * from_stride, from_stride, filled, cols, factor, to, width);
  }
}

// The keys that the lanes of a panel see: from the first begin on, all from the last begin on, until the first end, and
// none from the last end on.
struct PanelKeys {
  Index first_begin, last_begin, first_end, last_end;

  PanelKeys() = default;
  PanelKeys(const std::int32_t* begin, const std::int32_t* end, Index width)
      : first_begin(*std::min_element(begin, begin + width)),
        last_begin(*std::max_element(begin, begin + width)),
        first_end(*std::min_element(end, end + width)),
        last_end(*std::max_element(end, end + width)) {}
};

// Replaces the scores of keys outside [begin, end) of their lane by minus infinity. Row r is of key `key` + r.
inline void hide_keys(const PanelKeys& seen, const std::int32_t* begin, const std::int32_t* end, Index key, Index rows,
                      float* scores, Index stride) {
  const FloatTag d;
  const hn::RebindToSigned<FloatTag> di;
  const auto hide = [&](Index first, Index last) HWY_ATTR {
    if (first >= last) return;
    for (Index v = 0; v < 2 * lanes(d); v += lanes(d)) {
      const auto from = hn::Sub(hn::LoadU(di, begin + v), hn::Set(di, static_cast<std::int32_t>(key)));
      const auto most = hn::Sub(hn::LoadU(di, end + v), hn::Set(di, static_cast<std::int32_t>(key + 1)));
      for (Index r = first; r < last; ++r) {
        const auto at = hn::Set(di, static_cast<std::int32_t>(r));
        const auto hidden = hn::RebindMask(d, hn::Or(hn::Lt(at, from), hn::Gt(at, most)));
        float* const score = scores + r * stride + v;
        hn::StoreU(hn::IfThenElse(hidden, hn::Set(d, kMinusInfinity), hn::LoadU(d, score)), d, score);
      }
    }
  };
  const Index all_begun = std::clamp<Index>(seen.last_begin - key, 0, rows);
  hide(0, all_begun);
  hide(std::clamp<Index>(seen.first_end - key, all_begun, rows), rows);
}

// tanh(x) within a few ulp of every x: (1 - e) / (1 + e) with e = e^(-2|x|), where 1 - e does not cancel. NaN stays.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V tanh_fast(D d, V x) {
  const V lowest = hn::Set(d, -80.0F);
  V y = hn::Mul(hn::Abs(x), hn::Set(d, -2.0F));
  y = hn::IfThenElse(hn::Lt(y, lowest), lowest, y);
  const V shifted = hn::MulAdd(y, hn::Set(d, 1.44269504F), hn::Set(d, kRoundShift));
  const V n = hn::Sub(shifted, hn::Set(d, kRoundShift));
  V r = hn::NegMulAdd(n, hn::Set(d, 0.693145752F), y);
  r = hn::NegMulAdd(n, hn::Set(d, 1.42860677e-6F), r);
  const V power = power_of_two(d, shifted);
  const V below = hn::MulAdd(power, expm1_reduced(d, r), hn::Sub(power, hn::Set(d, 1.0F)));  // e - 1
  return hn::CopySign(hn::Div(below, hn::Add(below, hn::Set(d, 2.0F))), x);
}

// score = cap * tanh(score).
inline void cap_scores(float cap, Index count, float* scores) {
  for_each_vector(count, [=](auto d, Index i) HWY_ATTR {
    hn::StoreU(hn::Mul(hn::Set(d, cap), tanh_fast(d, hn::LoadU(d, scores + i))), d, scores + i);
  });
}
inline void cap_scores(float cap, Index rows, float* scores, Index stride) {
  for (Index r = 0; r < rows; ++r) cap_scores(cap, 2 * lanes(FloatTag()), scores + r * stride);
}

HWY_INLINE float one_dot(const float* q, const float* k, Index cols) {
  const FloatTag d;
  FloatVector s = hn::Zero(d);
  Index c = 0;
  for (; c + lanes(d) <= cols; c += lanes(d)) s = hn::MulAdd(hn::LoadU(d, q + c), hn::LoadU(d, k + c), s);
  float sum = sum_lanes(d, s);
  for (; c < cols; ++c) sum += q[c] * k[c];
  return sum;
}

}  // namespace switchyard::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
