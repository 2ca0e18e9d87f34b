#pragma once
// What the two directions of the grouped feed-forward network share.
//
// Activations are panels (see gemm.hpp) throughout: the rows of an expert, up to kernels.nr at a time, stand side by
// side as columns, so that the weights [out, in] are the left operand of every product and are read in place.

#include <vector>

#include "gemm.hpp"
#include "switchyard/kernels/grouped_ffn.hpp"

namespace switchyard::kernels {

// Where the inputs of the activation of one expert lie in GroupedFfnSaved: per panel gate [F, nr] (where gated), then
// up [F, nr].
struct SavedPanels {
  float* data = nullptr;
  Index hidden = 0;  // F
  bool gated = false;
  Index nr = 0;

  Index panel_floats() const { return hidden * nr * (gated ? 2 : 1); }
  float* gate(Index panel) const { return data + panel * panel_floats(); }
  float* up(Index panel) const { return gate(panel) + (gated ? hidden * nr : 0); }
};

// Floats from the beginning of the saved memory to each expert's part; the last entry is the total.
std::vector<Index> saved_offsets(Activation activation, const GroupedRows& rows, std::span<const FfnWeights> experts,
                                 Index nr);

// Throws kInternal where shapes do not fit each other or a row number is out of range.
void check_grouped_ffn(Activation activation, ConstMatrix x_TD, const GroupedRows& rows,
                       std::span<const FfnWeights> experts);

inline Index expert_rows(const GroupedRows& rows, std::size_t e) { return rows.offset_E1[e + 1] - rows.offset_E1[e]; }

// Copies `columns` weights and fills up with zeros to the width of a panel.
inline void copy_weights(const float* from, Index columns, float (&to)[kMaxPanelColumns]) {
  std::fill(std::copy_n(from, columns, to), to + kMaxPanelColumns, 0.0F);
}

// Adds bias[i] to row i of m rows of nr columns. No bias is null.
inline void add_to_rows(const float* bias, Index m, Index nr, float* c) {
  if (bias == nullptr) return;
  for (Index i = 0; i < m; ++i)
    for (Index j = 0; j < nr; ++j) c[i * nr + j] += bias[i];
}

// The address of element i of a bias, null where there is none.
template <class T>
T* bias_at(std::span<T> bias, Index i) {
  return bias.empty() ? nullptr : bias.data() + i;
}

}  // namespace switchyard::kernels
