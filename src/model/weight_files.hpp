#pragma once
// The tensors of a checkpoint as views of weights, whatever type they have: float types, FP8 with factors of blocks
// (DeepSeek-V3: tensor X.weight with X.weight_scale_inv), MXFP4 (gpt-oss: X_blocks and X_scales). Nothing is copied but
// factors. docs/formats/checkpoint.md has the layouts.

#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>

#include "families/tensor_names.hpp"
#include "switchyard/formats/tensor_files.hpp"

namespace switchyard::model {

// quantization_config.weight_block_size: the elements of a weight that share a factor.
struct ScaleBlock {
  Index rows = 128, cols = 128;
};

// All elements as float32, row after row.
void decode(const WeightView& weight, std::span<float> to);

// Whether rows can be copied as they stand, and the copy: row after row without a gap. Of a type in blocks only where
// the rows are whole in the file.
bool can_copy_rows(const WeightView& view);
void copy_rows(const WeightView& view, std::byte* to);

// Not synchronised.
class WeightFiles {
 public:
  // `files` must outlive the object, but not the views. Not mapped: what is kept is copied to memory of our own.
  WeightFiles(const formats::TensorFiles& files, ScaleBlock block, bool mapped);

  // Whether a tensor of that name is there, in any type.
  bool contains(const std::string& name) const;
  // Throws naming file, tensor, found and expected where the tensor is missing or its shape or type will not do:
  // kBadInput or kUnsupported. Takes no memory. Adds the names of the tensors that the place needs to `used`.
  void check(const TensorPlace& place, std::set<std::string, std::less<>>& used) const;

  // A matrix whose places check() has passed. The view stays valid as long as keep_alive(). A matrix of several places
  // is put together in memory, in the type of the file where all places have the same and its blocks stay whole, else
  // in float32.
  WeightView keep(const MatrixPlaces& places);
  std::shared_ptr<const void> keep_alive() const { return held_; }
  // The same, but what has to be put together belongs to the caller.
  struct Taken {
    WeightView view;
    Tensor memory;  // may be undefined
  };
  Taken take(const MatrixPlaces& places);
  DType type_of(const MatrixPlaces& places) const;  // of that view; F4 for MXFP4 of a folder
  // Converted to float32, row after row.
  void convert(const MatrixPlaces& places, std::span<float> to);
  // Nothing that is not kept will be read soon.
  void release(const MatrixPlaces& places) const;

 private:
  struct Held {
    std::map<std::string, Tensor> tensors;    // by name in the file
    std::map<std::string, Tensor> assembled;  // of several places, by the name of the first
    std::map<std::string, Tensor> factors;    // of FP8, float32: [matrices, rows, cols], or one number
  };
  WeightView view(const TensorPlace& place, const Tensor& data, const Tensor& factors) const;
  WeightView passing_view(const TensorPlace& place) const;
  std::string_view asked_by() const { return files_->gguf() != nullptr ? "its metadata" : "config.json"; }
  static WeightView whole_view(const Tensor& matrix);
  bool is_mxfp4(const TensorPlace& place) const { return !files_->contains(place.name); }
  bool has_factors(const TensorPlace& place) const;
  void check_factors(const TensorPlace& place) const;
  Tensor load_factors(const TensorPlace& place) const;
  const Tensor& held(const std::string& name);
  Tensor assembled(const MatrixPlaces& places) const;
  void decode_part(const TensorPlace& place, std::span<float> to) const;
  const Tensor& factors_of(const TensorPlace& place);
  [[noreturn]] void refuse(ErrorKind kind, const std::string& name, const std::string& what) const;

  const formats::TensorFiles* files_;
  ScaleBlock block_;
  bool mapped_;
  std::shared_ptr<Held> held_;
};

}  // namespace switchyard::model
