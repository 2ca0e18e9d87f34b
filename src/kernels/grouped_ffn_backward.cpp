#include <numeric>

#include "activation_kernels.hpp"
#include "grouped_ffn_layout.hpp"
#include "scratch.hpp"
#include "switchyard/base/error.hpp"

namespace switchyard::kernels {
namespace {

constexpr Index kRowsAChunk = 1024;     // rows of an expert worked on at once; a multiple of kKBlock
constexpr Index kPanelsABlock = 8;      // panels of packed weights that fill a quarter of the L2 cache
constexpr Index kGradientRows = 96;     // rows of a weight gradient a block
constexpr Index kWaveFloats = 8 << 20;  // working memory of the chunks that all threads share

// Rows of h a block: whole panels of h^T.
Index hidden_block(Index nr) { return round_up(48, nr); }

// Some rows of one expert, and the working memory for them.
struct Chunk {
  std::size_t expert = 0;
  Index slot = 0;  // of the first row
  Index rows = 0;
  SavedPanels saved;
  Panels d_y;                    // [D, nr], one gradient a slot without its weight
  Panels d_gate, d_up;           // [F, nr]
  Panels x, h;                   // [rows, nr]: x and weight * h once more with rows as k, panels of D and of F
  float* weight_sums = nullptr;  // [hidden blocks (+ 1 for down's bias), rows rounded up to panels]: parts of d_weight
};

// The panels of consecutive chunks of k are read together (LeftLayout::kPanels): a stride that is a power of two would
// map them to the same cache sets, so each begins six rows of a tile further on.
Index skewed(Index floats, Index nr) { return floats + 6 * nr; }

class Backward {
 public:
  Backward(Activation activation, ConstMatrix x_TD, const GroupedRows& rows, std::span<const FfnWeights> experts,
           ConstMatrix d_y_TD, Matrix d_x_SD, std::span<float> d_weight_S, std::span<const FfnGradients> gradients)
      : activation_(activation),
        gated_(is_gated(activation)),
        x_TD_(x_TD),
        rows_(rows),
        experts_(experts),
        d_y_TD_(d_y_TD),
        d_x_SD_(d_x_SD),
        d_weight_S_(d_weight_S),
        gradients_(gradients) {}

  bool frozen() const { return gradients_.empty(); }
  Index width() const { return x_TD_.cols; }
  Index hidden_width(const Chunk& c) const { return experts_[c.expert].up_FD.rows; }
  Index panel_columns() const { return g_.nr; }

  void lay_out(Chunk& c, ScratchCutter& cutter) const {
    const Index nr = g_.nr, d = width(), f = hidden_width(c), panels = ceil_div(c.rows, nr);
    const auto take = [&](Panels& to, Index count, Index stride, Index columns) {
      to = {cutter.take(count * stride), stride, columns};
    };
    take(c.d_y, panels, skewed(d * nr, nr), c.rows);
    take(c.d_up, panels, skewed(f * nr, nr), c.rows);
    if (gated_) take(c.d_gate, panels, skewed(f * nr, nr), c.rows);
    c.weight_sums = cutter.take(weight_parts(c) * panels * nr);
    if (frozen()) return;
    take(c.x, ceil_div(d, nr), skewed(c.rows * nr, nr), d);
    take(c.h, ceil_div(f, nr), skewed(c.rows * nr, nr), f);
  }

  // Panels [begin, end) of rows.
  void gather(const Chunk& c, Index begin, Index end) const {
    const std::int32_t* token = rows_.token_of_slot_S.data() + c.slot;
    pack_rows_transposed(
        g_, [&](Index i) { return d_y_TD_.row(token[i]); }, begin, end, width(), c.d_y);
    if (const float* bias = bias_at(experts_[c.expert].down_bias_D, 0); bias != nullptr)
      for (Index p = begin; p < end; ++p) bias_part(c, bias, p);
    if (frozen()) return;
    for (Index i = begin * g_.nr; i < std::min(end * g_.nr, c.rows); ++i)
      g_.pack_row(x_TD_.row(token[i]), x_TD_.row(token[std::min(i + 2, c.rows - 1)]), width(), c.x.data + i * g_.nr,
                  c.x.stride);
  }

  // Rows [begin, end) of d_gate and d_up, and of h for its own gradient. begin is a multiple of hidden_block.
  void hidden(const Chunk& c, Index begin, Index end) const {
    const Index block = hidden_block(g_.nr);
    const Scratch scratch(block * kKBlock + block * g_.nr);
    float* packed = scratch.data();
    float* h = packed + block * kKBlock;
    const ConstMatrix down = experts_[c.expert].down_DF.matrix();
    for (Index f = begin; f < end; f += block) {
      const Index m = std::min(block, end - f);
      for (Index k0 = 0; k0 < width(); k0 += kKBlock) {
        const Index k = std::min(kKBlock, width() - k0);
        pack_left_transposed(down.row(k0) + f, down.stride, m, k, packed);
        for (Index p = 0; p < c.d_y.count(g_.nr); ++p)
          multiply_packed(g_, m, k, packed, c.d_y.at(p) + k0 * g_.nr, c.d_up.at(p) + f * g_.nr, g_.nr,
                          c.d_y.columns_of(p, g_.nr), k0 > 0);
      }
      for (Index p = 0; p < c.d_y.count(g_.nr); ++p) activation_block(c, f, m, p, h);
    }
  }

  // Columns [begin, end) of d_x = d_gate gate + d_up up.
  void input(const Chunk& c, Index begin, Index end) const {
    const Scratch scratch(kPanelsABlock * g_.nr * kKBlock);
    const FfnWeights& w = experts_[c.expert];
    for (Index first = begin; first < end; first += kPanelsABlock * g_.nr) {
      const Index columns = std::min(kPanelsABlock * g_.nr, end - first);
      if (gated_) input_part(c, w.gate_FD.matrix(), c.d_gate, first, columns, false, scratch.data());
      input_part(c, w.up_FD.matrix(), c.d_up, first, columns, gated_, scratch.data());
    }
  }

  // Rows [begin, end) of the gradients of gate and up.
  void gate_up_gradient(const Chunk& c, Index begin, Index end) const {
    const FfnGradients& to = gradients_[c.expert];
    for_each_gradient_block(c, begin, end, c.x, [&](Index row, Index m, Index k0, Index k, Index j, Index columns) {
      if (gated_) gradient_block(c.d_gate, row, m, k0, k, c.x, j, columns, to.gate_FD);
      gradient_block(c.d_up, row, m, k0, k, c.x, j, columns, to.up_FD);
    });
    if (gated_) bias_gradient(c, c.d_gate, begin, end, nullptr, to.gate_bias_F);
    bias_gradient(c, c.d_up, begin, end, nullptr, to.up_bias_F);
  }

  // Rows [begin, end) of the gradient of down.
  void down_gradient(const Chunk& c, Index begin, Index end) const {
    for_each_gradient_block(c, begin, end, c.h, [&](Index row, Index m, Index k0, Index k, Index j, Index columns) {
      gradient_block(c.d_y, row, m, k0, k, c.h, j, columns, gradients_[c.expert].down_DF);
    });
    bias_gradient(c, c.d_y, begin, end, rows_.weight_of_slot_S.data() + c.slot, gradients_[c.expert].down_bias_D);
  }

  void slot_weights(const Chunk& c) const {
    const Index parts = weight_parts(c), padded = round_up(c.rows, g_.nr);
    for (Index i = 0; i < c.rows; ++i) {
      float sum = 0.0F;
      for (Index b = 0; b < parts; ++b) sum += c.weight_sums[b * padded + i];
      d_weight_S_[static_cast<std::size_t>(c.slot + i)] = sum;
    }
  }

 private:
  Index weight_parts(const Chunk& c) const {
    return ceil_div(hidden_width(c), hidden_block(g_.nr)) + (experts_[c.expert].down_bias_D.empty() ? 0 : 1);
  }

  // The part of d_weight that is <d_y, bias of down>, for the rows of panel p.
  void bias_part(const Chunk& c, const float* bias, Index p) const {
    const Index nr = g_.nr;
    const float* d_y = c.d_y.at(p);
    float sums[kMaxPanelColumns] = {};
    for (Index d = 0; d < width(); ++d)
      for (Index j = 0; j < nr; ++j) sums[j] += d_y[d * nr + j] * bias[d];
    std::copy_n(sums, nr, c.weight_sums + (weight_parts(c) - 1) * round_up(c.rows, nr) + p * nr);
  }

  // to[i] += sum over the rows of d (times their weights, where given), for i in [begin, end). The columns of panels
  // are summed apart and then together: the order depends on nothing but nr.
  void bias_gradient(const Chunk& c, const Panels& d, Index begin, Index end, const float* weights,
                     std::span<float> to) const {
    if (to.empty()) return;
    const Index nr = g_.nr;
    for (Index i = begin; i < end; ++i) {
      float sums[kMaxPanelColumns] = {};
      for (Index p = 0; p < d.count(nr); ++p) {
        const float* row = d.at(p) + i * nr;
        const Index columns = d.columns_of(p, nr);
        if (weights == nullptr)
          for (Index j = 0; j < columns; ++j) sums[j] += row[j];
        else
          for (Index j = 0; j < columns; ++j) sums[j] += row[j] * weights[p * nr + j];
      }
      float sum = 0.0F;
      for (Index j = 0; j < std::min(nr, c.rows); ++j) sum += sums[j];
      to[static_cast<std::size_t>(i)] += sum;
    }
  }

  // Turns the gradient of h, which lies in d_up, into those of gate and up. h is room for m rows.
  void activation_block(const Chunk& c, Index f, Index m, Index p, float* h) const {
    const Index nr = g_.nr, columns = c.d_y.columns_of(p, nr), at = f * nr;
    const float* gate = gated_ ? c.saved.gate(p) + at : nullptr;
    const float* up = c.saved.up(p) + at;
    float* d_h = c.d_up.at(p) + at;
    activations_.forward(activation_, gate, up, h, m * nr);
    float weights[kMaxPanelColumns];
    copy_weights(rows_.weight_of_slot_S.data() + c.slot + p * nr, columns, weights);
    float sums[kMaxPanelColumns] = {};
    for (Index i = 0; i < m; ++i)
      for (Index j = 0; j < nr; ++j) {
        sums[j] += d_h[i * nr + j] * h[i * nr + j];
        d_h[i * nr + j] *= weights[j];
      }
    std::copy_n(sums, nr, c.weight_sums + f / hidden_block(nr) * round_up(c.rows, nr) + p * nr);
    activations_.backward(activation_, gate, up, d_h, gated_ ? c.d_gate.at(p) + at : nullptr, d_h, m * nr);
    if (frozen()) return;
    float* rows[kMaxPanelColumns];
    for (Index i = 0; i < m; i += nr) {
      for (Index j = 0; j < columns; ++j) rows[j] = c.h.at((f + i) / nr) + (p * nr + j) * nr;
      g_.unpack_transposed(h + i * nr, columns, std::min(nr, m - i), weights, rows);
    }
  }

  void input_part(const Chunk& c, ConstMatrix w, const Panels& d, Index first, Index columns, bool add,
                  float* packed) const {
    const Index nr = g_.nr;
    for (Index k0 = 0; k0 < w.rows; k0 += kKBlock) {
      const Index k = std::min(kKBlock, w.rows - k0);
      pack_rows(g_, w, k0, k, first, columns, packed);
      for (Index p = 0; p < d.count(nr); ++p)
        for (Index j = 0; j < columns; j += nr)
          multiply_block(g_, LeftLayout::kColumns, d.columns_of(p, nr), k, d.at(p) + k0 * nr, nr, packed + j * k,
                         d_x_SD_.row(c.slot + p * nr) + first + j, d_x_SD_.stride, std::min(nr, columns - j),
                         add || k0 > 0);
    }
  }

  template <class F>
  void for_each_gradient_block(const Chunk& c, Index begin, Index end, const Panels& right, const F& f) const {
    for (Index row = begin; row < end; row += kGradientRows)
      for (Index k0 = 0; k0 < c.rows; k0 += kKBlock)
        for (Index j = 0; j < right.count(g_.nr); ++j)
          f(row, std::min(kGradientRows, end - row), k0, std::min(kKBlock, c.rows - k0), j, right.columns_of(j, g_.nr));
  }

  void gradient_block(const Panels& left, Index row, Index m, Index k0, Index k, const Panels& right, Index j,
                      Index columns, Matrix to) const {
    const Index nr = g_.nr;
    multiply_block(g_, LeftLayout::kPanels, m, k, left.at(k0 / nr) + row * nr, left.stride, right.at(j) + k0 * nr,
                   to.row(row) + j * nr, to.stride, columns, true);
  }

  const GemmKernels& g_ = gemm_kernels();
  const ActivationKernels& activations_ = activation_kernels();
  Activation activation_;
  bool gated_;
  ConstMatrix x_TD_;
  const GroupedRows& rows_;
  std::span<const FfnWeights> experts_;
  ConstMatrix d_y_TD_;
  Matrix d_x_SD_;
  std::span<float> d_weight_S_;
  std::span<const FfnGradients> gradients_;
};

// All chunks of one expert, in order, on one thread.
void run_expert(const Backward& backward, std::span<const Chunk> chunks) {
  for (Chunk c : chunks) {
    ScratchCutter size;
    backward.lay_out(c, size);
    const Scratch scratch(size.used());
    ScratchCutter cutter(scratch.data());
    backward.lay_out(c, cutter);
    backward.gather(c, 0, c.d_y.count(backward.panel_columns()));
    backward.hidden(c, 0, backward.hidden_width(c));
    backward.slot_weights(c);
    backward.input(c, 0, backward.width());
    if (backward.frozen()) continue;
    backward.gate_up_gradient(c, 0, backward.hidden_width(c));
    backward.down_gradient(c, 0, backward.width());
  }
}

// Chunks of different experts, each shared by all threads.
void run_wave(const Backward& backward, std::vector<Chunk>& chunks) {
  ScratchCutter size;
  for (Chunk& c : chunks) backward.lay_out(c, size);
  const Scratch scratch(size.used());
  ScratchCutter cutter(scratch.data());
  for (Chunk& c : chunks) backward.lay_out(c, cutter);

  using Method = void (Backward::*)(const Chunk&, Index, Index) const;
  struct Block {
    Method method;
    const Chunk* chunk;
    Index begin, end;
  };
  std::vector<Block> blocks;
  const auto cut = [&](Method method, const Chunk& c, Index count, Index block) {
    for (Index i = 0; i < count; i += block) blocks.push_back({method, &c, i, std::min(i + block, count)});
  };
  const auto run = [&] {
    for_each_task(static_cast<Index>(blocks.size()), [&](Index i) {
      const Block& b = blocks[static_cast<std::size_t>(i)];
      (backward.*b.method)(*b.chunk, b.begin, b.end);
    });
    blocks.clear();
  };
  const Index nr = backward.panel_columns();
  for (const Chunk& c : chunks) cut(&Backward::gather, c, c.d_y.count(nr), 4);
  run();
  for (const Chunk& c : chunks) cut(&Backward::hidden, c, backward.hidden_width(c), hidden_block(nr));
  run();
  for (const Chunk& c : chunks) backward.slot_weights(c);
  for (const Chunk& c : chunks) cut(&Backward::input, c, backward.width(), kPanelsABlock * nr);
  if (!backward.frozen()) {
    for (const Chunk& c : chunks) cut(&Backward::gate_up_gradient, c, backward.hidden_width(c), kGradientRows);
    for (const Chunk& c : chunks) cut(&Backward::down_gradient, c, backward.width(), kGradientRows);
  }
  run();
}

// Waves hold as many chunks as the working memory allows, never two of one expert: their gradients are sums in order.
void run_waves(const Backward& backward, std::vector<Chunk> chunks) {
  std::stable_sort(chunks.begin(), chunks.end(), [](const Chunk& a, const Chunk& b) { return a.expert < b.expert; });
  while (!chunks.empty()) {
    std::vector<Chunk> wave, rest;
    ScratchCutter size;
    for (Chunk& c : chunks) {
      const bool taken = !wave.empty() && wave.back().expert == c.expert;
      const bool skipped = !rest.empty() && rest.back().expert == c.expert;
      if (taken || skipped || (!wave.empty() && size.used() > kWaveFloats)) {
        rest.push_back(c);
        continue;
      }
      backward.lay_out(c, size);
      wave.push_back(c);
    }
    run_wave(backward, wave);
    chunks = std::move(rest);
  }
}

void check_gradients(std::span<const FfnWeights> experts, std::span<const FfnGradients> gradients,
                     const GroupedRows& rows) {
  require(gradients.empty() || gradients.size() == experts.size(), "grouped ffn: {} gradients for {} experts",
          gradients.size(), experts.size());
  const auto same = [](const WeightView& a, const Matrix& b) { return a.rows == b.rows && a.cols == b.cols; };
  for (std::size_t e = 0; e < gradients.size(); ++e)
    require(expert_rows(rows, e) == 0 ||
                (same(experts[e].up_FD, gradients[e].up_FD) && same(experts[e].down_DF, gradients[e].down_DF) &&
                 (experts[e].gate_FD.empty() || same(experts[e].gate_FD, gradients[e].gate_FD)) &&
                 experts[e].gate_bias_F.size() == gradients[e].gate_bias_F.size() &&
                 experts[e].up_bias_F.size() == gradients[e].up_bias_F.size() &&
                 experts[e].down_bias_D.size() == gradients[e].down_bias_D.size()),
            "grouped ffn: the gradients of expert {} have other shapes than its weights", e);
}

}  // namespace

void grouped_ffn_backward(Activation activation, ConstMatrix x_TD, const GroupedRows& rows,
                          std::span<const FfnWeights> experts, const GroupedFfnSaved& saved, ConstMatrix d_y_TD,
                          Matrix d_x_SD, std::span<float> d_weight_S, std::span<const FfnGradients> gradients) {
  check_grouped_ffn(activation, x_TD, rows, experts);
  check_gradients(experts, gradients, rows);
  for (std::size_t e = 0; e < experts.size(); ++e) {
    const FfnWeights& w = experts[e];
    require(expert_rows(rows, e) == 0 || (w.gate_FD.is_matrix() && w.up_FD.is_matrix() && w.down_DF.is_matrix()),
            "grouped ffn: gradients of expert {}, whose weights are {}, expected float32 matrices", e,
            dtype_info(w.up_FD.dtype).name);
  }
  const Index slots = rows.offset_E1.back(), nr = gemm_kernels().nr;
  require(d_y_TD.rows == x_TD.rows && d_y_TD.cols == x_TD.cols && d_x_SD.rows == slots && d_x_SD.cols == x_TD.cols &&
              static_cast<Index>(d_weight_S.size()) == slots,
          "grouped ffn: d_y [{}, {}], d_x [{}, {}] and {} weights for {} slots of [{}, {}]", d_y_TD.rows, d_y_TD.cols,
          d_x_SD.rows, d_x_SD.cols, d_weight_S.size(), slots, x_TD.rows, x_TD.cols);
  const std::vector<Index> offsets = saved_offsets(activation, rows, experts, nr);
  require(slots == 0 || (saved.pre_activation.defined() && saved.pre_activation.numel() >= offsets.back()),
          "grouped ffn: backward without what forward saved");
  if (slots == 0) return;

  const Backward backward(activation, x_TD, rows, experts, d_y_TD, d_x_SD, d_weight_S, gradients);
  const auto cost = [&](std::size_t e) { return expert_rows(rows, e) * experts[e].up_FD.rows; };
  Index total = 0;
  for (std::size_t e = 0; e < experts.size(); ++e) total += cost(e);

  // An expert that costs a good part of a thread's share is worked on by all threads, the others by one each.
  const Index threads = current_threads();
  std::vector<Chunk> shared;
  std::vector<std::vector<Chunk>> single;
  float* memory = const_cast<float*>(saved.pre_activation.f32().data());  // only read
  for (std::size_t e = 0; e < experts.size(); ++e) {
    const Index count = expert_rows(rows, e);
    if (count == 0) continue;
    std::vector<Chunk> chunks;
    SavedPanels panels{memory + offsets[e], experts[e].up_FD.rows, is_gated(activation), nr};
    for (Index i = 0; i < count; i += kRowsAChunk, panels.data += kRowsAChunk / nr * panels.panel_floats()) {
      Chunk& c = chunks.emplace_back();
      c.expert = e;
      c.slot = rows.offset_E1[e] + i;
      c.rows = std::min(kRowsAChunk, count - i);
      c.saved = panels;
    }
    if (threads > 1 && cost(e) * threads * 8 > total)
      shared.insert(shared.end(), chunks.begin(), chunks.end());
    else
      single.push_back(std::move(chunks));
  }
  run_waves(backward, std::move(shared));
  std::stable_sort(single.begin(), single.end(),
                   [&](const auto& a, const auto& b) { return cost(a.front().expert) > cost(b.front().expert); });
  for_each_task(static_cast<Index>(single.size()),
                [&](Index i) { run_expert(backward, single[static_cast<std::size_t>(i)]); });
}

}  // namespace switchyard::kernels
