#include <numeric>

#include "activation_kernels.hpp"
#include "grouped_ffn_layout.hpp"
#include "scratch.hpp"
#include "switchyard/base/error.hpp"
#include "weight_tiles.hpp"

namespace switchyard::kernels {

std::vector<Index> saved_offsets(Activation activation, const GroupedRows& rows, std::span<const FfnWeights> experts,
                                 Index nr) {
  std::vector<Index> offsets(experts.size() + 1, 0);
  for (std::size_t e = 0; e < experts.size(); ++e) {
    const SavedPanels panels{nullptr, experts[e].up_FD.rows, is_gated(activation), nr};
    offsets[e + 1] = offsets[e] + ceil_div(expert_rows(rows, e), nr) * panels.panel_floats();
  }
  return offsets;
}

void check_grouped_ffn(Activation activation, ConstMatrix x_TD, const GroupedRows& rows,
                       std::span<const FfnWeights> experts) {
  const Index d = x_TD.cols;
  require(rows.offset_E1.size() == experts.size() + 1 && rows.offset_E1[0] == 0,
          "grouped ffn: {} offsets for {} experts", rows.offset_E1.size(), experts.size());
  for (std::size_t e = 0; e < experts.size(); ++e) {
    const FfnWeights& w = experts[e];
    require(expert_rows(rows, e) >= 0, "grouped ffn: the offsets of expert {} descend", e);
    if (expert_rows(rows, e) == 0) continue;
    for (const WeightView* part : {&w.gate_FD, &w.up_FD, &w.down_DF}) part->check();
    const Index f = w.up_FD.rows;
    const bool gate_fits = is_gated(activation) ? w.gate_FD.rows == f && w.gate_FD.cols == d : w.gate_FD.empty();
    require(gate_fits && f > 0 && d > 0 && w.up_FD.cols == d && w.down_DF.rows == d && w.down_DF.cols == f,
            "grouped ffn: expert {} has gate [{}, {}], up [{}, {}], down [{}, {}] for rows of {}", e, w.gate_FD.rows,
            w.gate_FD.cols, f, w.up_FD.cols, w.down_DF.rows, w.down_DF.cols, d);
    const auto bias_fits = [](std::span<const float> bias, Index size) {
      return bias.empty() || static_cast<Index>(bias.size()) == size;
    };
    require(bias_fits(w.gate_bias_F, w.gate_FD.rows) && bias_fits(w.up_bias_F, f) && bias_fits(w.down_bias_D, d),
            "grouped ffn: expert {} has biases of {}, {} and {} values for gate [{}, {}], up [{}, {}], down [{}, {}]",
            e, w.gate_bias_F.size(), w.up_bias_F.size(), w.down_bias_D.size(), w.gate_FD.rows, w.gate_FD.cols, f,
            w.up_FD.cols, w.down_DF.rows, w.down_DF.cols);
  }
  const auto slots = static_cast<std::size_t>(rows.offset_E1.back());
  require(rows.token_of_slot_S.size() == slots && rows.weight_of_slot_S.size() == slots,
          "grouped ffn: {} tokens and {} weights for {} slots", rows.token_of_slot_S.size(),
          rows.weight_of_slot_S.size(), slots);
  for (const std::int32_t token : rows.token_of_slot_S)
    require(token >= 0 && token < x_TD.rows, "grouped ffn: token {} of {}", token, x_TD.rows);
}

namespace {

constexpr Index kRowsAUnit = 256;        // rows of an expert that share one pass over its weights
constexpr Index kHiddenBlock = 48;       // rows of gate and of up that stay in the L2 cache together
constexpr Index kOutputBlock = 96;       // rows of down
constexpr Index kPanelsToLookAhead = 3;  // with fewer, the weights stream from memory anyway

// Some rows of one expert.
struct Unit {
  const FfnWeights* expert = nullptr;
  Index slot = 0;  // of the first row
  Index rows = 0;
  SavedPanels saved;                 // data is null where nothing is kept
  Panels x, h;                       // [D, nr] and [F, nr]
  const FfnWeights* next = nullptr;  // what this thread will probably turn to, or null
};

class Forward {
 public:
  Forward(Activation activation, ConstMatrix x_TD, const GroupedRows& rows, Matrix y_SD)
      : activation_(activation), gated_(is_gated(activation)), x_TD_(x_TD), rows_(rows), y_SD_(y_SD) {}

  void lay_out(Unit& unit, ScratchCutter& cutter) const {
    const Index panels = ceil_div(unit.rows, g_.nr), hidden = unit.expert->up_FD.rows;
    unit.x = {cutter.take(panels * x_TD_.cols * g_.nr), x_TD_.cols * g_.nr, unit.rows};
    unit.h = {cutter.take(panels * hidden * g_.nr), hidden * g_.nr, unit.rows};
  }

  // Inference on a few rows, as in decoding: they are not turned into panels, x is read in place and h is row-major.
  bool few(const Unit& unit) const {
    return unit.rows <= kMaxFew && unit.saved.data == nullptr && std::min(unit.expert->up_FD.rows, width()) >= g_.nr;
  }

  void gather(const Unit& unit) const {
    if (few(unit)) return;
    const std::int32_t* token = rows_.token_of_slot_S.data() + unit.slot;
    pack_rows_transposed(
        g_, [&](Index i) { return x_TD_.row(token[i]); }, 0, unit.x.count(g_.nr), x_TD_.cols, unit.x);
  }

  // Rows [begin, end) of h.
  void hidden(const Unit& unit, Index begin, Index end) const {
    if (few(unit)) {
      hidden_of_few(unit, begin, end);
      return;
    }
    const FfnWeights& w = *unit.expert;
    if (!in_place(w)) {
      hidden_of_stored(unit, begin, end);
      return;
    }
    const Scratch gate_scratch(kHiddenBlock * g_.nr);
    for (Index f = begin; f < end; f += kHiddenBlock) {
      const Index m = std::min(kHiddenBlock, end - f);
      Ahead gate_ahead, up_ahead;
      if (f + m < end) {
        if (gated_) gate_ahead = look_ahead(unit, w.gate_FD.matrix(), f + m, kHiddenBlock, m);
        up_ahead = look_ahead(unit, w.up_FD.matrix(), f + m, kHiddenBlock, m);
      } else {
        up_ahead = look_ahead(unit, w.down_DF.matrix(), 0, kOutputBlock, m);
      }
      for (Index p = 0; p < unit.x.count(g_.nr); ++p) {
        float* h = unit.h.at(p) + f * g_.nr;
        float* gate = unit.saved.data == nullptr ? gate_scratch.data() : unit.saved.gate(p) + f * g_.nr;
        float* up = unit.saved.data == nullptr ? h : unit.saved.up(p) + f * g_.nr;
        if (gated_) multiply(unit, w.gate_FD.matrix(), f, m, p, unit.x, gate, gate_ahead);
        multiply(unit, w.up_FD.matrix(), f, m, p, unit.x, up, up_ahead);
        activate(w, f, m, gate, up, h);
      }
    }
  }

  // Columns [begin, end) of y.
  void output(const Unit& unit, Index begin, Index end) const {
    if (few(unit)) {
      output_of_few(unit, begin, end);
      return;
    }
    if (!in_place(*unit.expert)) {
      output_of_stored(unit, begin, end);
      return;
    }
    const Scratch scratch(kOutputBlock * g_.nr);
    const ConstMatrix down = unit.expert->down_DF.matrix();
    const Index panels = unit.h.count(g_.nr);
    // Nobody else asks for the first rows of the next weights before they are wanted.
    Ahead next_gate, next_up;
    if (unit.next != nullptr && in_place(*unit.next) && panels >= kPanelsToLookAhead) {
      const Index steps = panels * ceil_div(end - begin, kOutputBlock);
      next_gate = Ahead(unit.next->gate_FD.matrix(), 0, kHiddenBlock, steps);
      next_up = Ahead(unit.next->up_FD.matrix(), 0, kHiddenBlock, steps);
    }
    for (Index d = begin; d < end; d += kOutputBlock) {
      const Index m = std::min(kOutputBlock, end - d);
      Ahead ahead;
      if (d + m < end) ahead = look_ahead(unit, down, d + m, kOutputBlock, m);
      for (Index p = 0; p < panels; ++p) {
        next_gate.step();
        next_up.step();
        fetch_output(unit, d, m, p);
        multiply(unit, down, d, m, p, unit.h, scratch.data(), ahead);
        write_output(unit, d, m, p, scratch.data());
      }
    }
  }

  Index width() const { return y_SD_.cols; }

 private:
  static bool in_place(const FfnWeights& w) {
    return w.gate_FD.is_matrix() && w.up_FD.is_matrix() && w.down_DF.is_matrix();
  }

  // Rows [f, f + m) of a panel of h, from the products of gate (where gated) and up. up may be h.
  void activate(const FfnWeights& w, Index f, Index m, float* gate, float* up, float* h) const {
    if (gated_) add_to_rows(bias_at(w.gate_bias_F, f), m, g_.nr, gate);
    add_to_rows(bias_at(w.up_bias_F, f), m, g_.nr, up);
    activations_.forward(activation_, gated_ ? gate : nullptr, up, h, m * g_.nr);
  }

  // Columns [d, d + m) of the rows of panel p, from the product of down.
  void write_output(const Unit& unit, Index d, Index m, Index p, float* product) const {
    const Index columns = unit.h.columns_of(p, g_.nr), slot = unit.slot + p * g_.nr;
    float weights[kMaxPanelColumns];
    float* y[kMaxPanelColumns];
    add_to_rows(bias_at(unit.expert->down_bias_D, d), m, g_.nr, product);
    copy_weights(rows_.weight_of_slot_S.data() + slot, columns, weights);
    for (Index i = 0; i < columns; ++i) y[i] = y_SD_.row(slot + i) + d;
    g_.unpack_transposed(product, columns, m, weights, y);
  }

  // y is in main memory: asks for what write_output will write, while there is arithmetic to do.
  void fetch_output(const Unit& unit, Index d, Index m, Index p) const {
    constexpr Index kLine = 16;  // floats
    for (Index i = 0; i < unit.h.columns_of(p, g_.nr); ++i) {
      const float* y = y_SD_.row(unit.slot + p * g_.nr + i) + d;
      for (Index j = 0; j < m; j += kLine) __builtin_prefetch(y + j, 1);
    }
  }

  // Weights that are not read in place are decoded once a block of k and multiplied with all panels there and then.
  void hidden_of_stored(const Unit& unit, Index begin, Index end) const {
    const FfnWeights& w = *unit.expert;
    const Index panels = unit.x.count(g_.nr), block = kHiddenBlock * g_.nr;
    const Scratch room(weight_tile_floats(kHiddenBlock));
    const Scratch gate_scratch(gated_ && unit.saved.data == nullptr ? panels * block : 0);
    for (Index f = begin; f < end; f += kHiddenBlock) {
      const Index m = std::min(kHiddenBlock, end - f), at = f * g_.nr;
      const auto h = [&](Index p) { return unit.h.at(p) + at; };
      const auto gate = [&](Index p) {
        return unit.saved.data == nullptr ? gate_scratch.data() + p * block : unit.saved.gate(p) + at;
      };
      const auto up = [&](Index p) { return unit.saved.data == nullptr ? h(p) : unit.saved.up(p) + at; };
      if (gated_) weights_times_panels(g_, w.gate_FD, f, m, unit.x, gate, false, room.data());
      weights_times_panels(g_, w.up_FD, f, m, unit.x, up, false, room.data());
      for (Index p = 0; p < panels; ++p) activate(w, f, m, gate(p), up(p), h(p));
    }
  }

  void output_of_stored(const Unit& unit, Index begin, Index end) const {
    const Index panels = unit.h.count(g_.nr), block = kOutputBlock * g_.nr;
    const Scratch room(weight_tile_floats(kOutputBlock)), products(panels * block);
    const auto product = [&](Index p) { return products.data() + p * block; };
    for (Index d = begin; d < end; d += kOutputBlock) {
      const Index m = std::min(kOutputBlock, end - d);
      weights_times_panels(g_, unit.expert->down_DF, d, m, unit.h, product, false, room.data());
      for (Index p = 0; p < panels; ++p) write_output(unit, d, m, p, product(p));
    }
  }

  void hidden_of_few(const Unit& unit, Index begin, Index end) const {
    const FfnWeights& w = *unit.expert;
    const Index hidden = w.up_FD.rows;
    const Scratch gate_scratch(gated_ ? unit.rows * hidden : 0);
    const float* x[kMaxFew];
    float *gate[kMaxFew], *h[kMaxFew];
    for (Index i = 0; i < unit.rows; ++i) {
      x[i] = x_TD_.row(rows_.token_of_slot_S[static_cast<std::size_t>(unit.slot + i)]);
      gate[i] = gate_scratch.data() + i * hidden;
      h[i] = unit.h.data + i * hidden;
    }
    if (gated_) weights_times_few(g_, w.gate_FD, begin, end, x, unit.rows, gate, false);
    weights_times_few(g_, w.up_FD, begin, end, x, unit.rows, h, false);
    add_to_few(w.gate_bias_F, begin, end, unit.rows, gate);
    add_to_few(w.up_bias_F, begin, end, unit.rows, h);
    for (Index i = 0; i < unit.rows; ++i)
      activations_.forward(activation_, gated_ ? gate[i] + begin : nullptr, h[i] + begin, h[i] + begin, end - begin);
  }

  void output_of_few(const Unit& unit, Index begin, Index end) const {
    const Index hidden = unit.expert->up_FD.rows;
    const float* h[kMaxFew];
    float* y[kMaxFew];
    for (Index i = 0; i < unit.rows; ++i) {
      h[i] = unit.h.data + i * hidden;
      y[i] = y_SD_.row(unit.slot + i);
    }
    weights_times_few(g_, unit.expert->down_DF, begin, end, h, unit.rows, y, false);
    add_to_few(unit.expert->down_bias_D, begin, end, unit.rows, y);
    for (Index i = 0; i < unit.rows; ++i) {
      const float weight = rows_.weight_of_slot_S[static_cast<std::size_t>(unit.slot + i)];
      for (Index d = begin; d < end; ++d) y[i][d] *= weight;
    }
  }

  static void add_to_few(std::span<const float> bias, Index begin, Index end, Index count, float* const* rows) {
    if (bias.empty()) return;
    for (Index i = 0; i < count; ++i)
      for (Index j = begin; j < end; ++j) rows[i][j] += bias[static_cast<std::size_t>(j)];
  }

  // Rows [row, row + m) of w times a panel.
  void multiply(const Unit& unit, ConstMatrix w, Index row, Index m, Index p, const Panels& panels, float* c,
                Ahead& ahead) const {
    const Index columns = unit.x.columns_of(p, g_.nr);
    if (p > 0) {
      rows_times_panel(g_, w.row(row), w.stride, m, w.cols, panels.at(p), columns, c, false, &ahead);
      return;
    }
    // The first panel brings the weights from memory: read them along their rows.
    for_each_tile(m, tile_rows(columns <= g_.lanes, LeftLayout::kRows), [&](Index i, Index rows) {
      rows_times_panel(g_, w.row(row + i), w.stride, rows, w.cols, panels.at(p), columns, c + i * g_.nr, false, &ahead);
    });
  }

  // Rows [row, row + rows) of w, for the time that m rows of its like take.
  Ahead look_ahead(const Unit& unit, ConstMatrix w, Index row, Index rows, Index m) const {
    const Index panels = unit.x.count(g_.nr);
    if (panels < kPanelsToLookAhead) return {};
    return {w, row, rows, panels * ceil_div(m, 6) * ceil_div(w.cols, kKBlock)};
  }

  const GemmKernels& g_ = gemm_kernels();
  const ActivationKernels& activations_ = activation_kernels();
  Activation activation_;
  bool gated_;
  ConstMatrix x_TD_;
  const GroupedRows& rows_;
  Matrix y_SD_;
};

// Each unit from beginning to end on one thread.
void run_units(const Forward& forward, std::vector<Unit>& units) {
  const Index count = std::ssize(units), threads = current_threads();
  for_each_task(count, [&](Index i) {
    Unit unit = units[static_cast<std::size_t>(i)];
    if (i + threads < count) unit.next = units[static_cast<std::size_t>(i + threads)].expert;
    ScratchCutter size;
    forward.lay_out(unit, size);
    const Scratch scratch(size.used());
    ScratchCutter cutter(scratch.data());
    forward.lay_out(unit, cutter);
    forward.gather(unit);
    forward.hidden(unit, 0, unit.expert->up_FD.rows);
    forward.output(unit, 0, forward.width());
  });
}

// Too few units for the threads, as when a few tokens are decoded: all threads share each unit's weights.
void run_blocks(const Forward& forward, std::vector<Unit>& units) {
  ScratchCutter size;
  for (Unit& unit : units) forward.lay_out(unit, size);
  const Scratch scratch(size.used());
  ScratchCutter cutter(scratch.data());
  for (Unit& unit : units) forward.lay_out(unit, cutter);
  for_each_task(static_cast<Index>(units.size()), [&](Index i) { forward.gather(units[static_cast<std::size_t>(i)]); });

  struct Block {
    const Unit* unit;
    Index begin, end;
  };
  std::vector<Block> blocks;
  const auto cut = [&](const Unit& unit, Index count, Index block) {
    for (Index i = 0; i < count; i += block) blocks.push_back({&unit, i, std::min(i + block, count)});
  };
  for (const Unit& unit : units) cut(unit, unit.expert->up_FD.rows, kHiddenBlock);
  for_each_task(static_cast<Index>(blocks.size()), [&](Index i) {
    const Block& b = blocks[static_cast<std::size_t>(i)];
    forward.hidden(*b.unit, b.begin, b.end);
  });
  blocks.clear();
  for (const Unit& unit : units) cut(unit, forward.width(), kOutputBlock);
  for_each_task(static_cast<Index>(blocks.size()), [&](Index i) {
    const Block& b = blocks[static_cast<std::size_t>(i)];
    forward.output(*b.unit, b.begin, b.end);
  });
}

}  // namespace

void grouped_ffn_forward(Activation activation, ConstMatrix x_TD, const GroupedRows& rows,
                         std::span<const FfnWeights> experts, Matrix y_SD, GroupedFfnSaved* saved) {
  check_grouped_ffn(activation, x_TD, rows, experts);
  require(y_SD.rows == rows.offset_E1.back() && y_SD.cols == x_TD.cols, "grouped ffn: y [{}, {}] for {} slots of {}",
          y_SD.rows, y_SD.cols, rows.offset_E1.back(), x_TD.cols);
  const Index nr = gemm_kernels().nr;
  const std::vector<Index> offsets = saved_offsets(activation, rows, experts, nr);
  if (saved != nullptr) {
    // Memory of an earlier call is used again: fresh pages cost a tenth of the time of this op.
    Tensor& kept = saved->pre_activation;
    if (!kept.defined() || !kept.writable() || kept.dtype() != DType::kF32 || kept.numel() < offsets.back())
      kept = Tensor::uninitialized(DType::kF32, {offsets.back()});
  }

  std::vector<Unit> units;
  for (std::size_t e = 0; e < experts.size(); ++e) {
    const Index count = expert_rows(rows, e);
    SavedPanels panels{nullptr, experts[e].up_FD.rows, is_gated(activation), nr};
    if (saved != nullptr) panels.data = saved->pre_activation.f32().data() + offsets[e];
    for (Index i = 0; i < count; i += kRowsAUnit) {
      units.push_back({&experts[e], rows.offset_E1[e] + i, std::min(kRowsAUnit, count - i), panels, {}, {}, nullptr});
      if (saved != nullptr) panels.data += kRowsAUnit / nr * panels.panel_floats();
    }
  }
  // The costly ones first, so that threads end together.
  std::stable_sort(units.begin(), units.end(), [](const Unit& a, const Unit& b) {
    return a.rows * a.expert->up_FD.rows > b.rows * b.expert->up_FD.rows;
  });

  const Forward forward(activation, x_TD, rows, y_SD);
  const Index threads = current_threads();
  if (threads == 1 || static_cast<Index>(units.size()) >= 3 * threads)
    run_units(forward, units);
  else
    run_blocks(forward, units);
}

}  // namespace switchyard::kernels
