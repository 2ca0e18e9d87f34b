#pragma once
// Weights as files hold them: their numbers by the definition, and random ones of every kind.

#include <cstddef>
#include <cstdint>
#include <vector>

#include "switchyard/tensor/weight.hpp"

namespace switchyard::oracle {

// Element (r, c) by the definition of WeightView, one at a time.
float element(const WeightView& w, Index r, Index c);
// All of them, row-major.
std::vector<float> expand(const WeightView& w);

// How a random weight is stored.
struct WeightKind {
  DType dtype = DType::kF32;
  Index row_gap = 0;                      // elements between the rows of memory
  Index apart = 1;                        // elements from one element of a row of memory to the next
  bool column_major = false;              // rows of memory are columns of the view
  Index row_block = 0, column_block = 0;  // no scales where 0
  DType scale_dtype = DType::kF32;
  Index first_row = 0, first_column = 0;  // in the grid
};

// Every bit pattern occurs, of types of up to 8 bits also the NaN where `special`; larger ones are finite and of
// moderate size but where `special`; likewise the numbers of quantised types, whose integers take every value. The
// memory begins one byte after an aligned address and ends with the last element, so that a tool which watches memory
// sees every access outside.
class StoredWeight {
 public:
  StoredWeight(const WeightKind& kind, Index rows, Index cols, std::uint32_t seed, bool special = false);
  StoredWeight(StoredWeight&&) = default;
  StoredWeight& operator=(StoredWeight&&) = default;
  StoredWeight(const StoredWeight&) = delete;  // the view is of this object's memory
  StoredWeight& operator=(const StoredWeight&) = delete;
  const WeightView& view() const { return view_; }

 private:
  std::vector<std::byte> memory_, scales_;
  WeightView view_;
};

}  // namespace switchyard::oracle
