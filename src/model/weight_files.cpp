#include "weight_files.hpp"

#include <algorithm>
#include <cstring>

#include "switchyard/base/error.hpp"
#include "switchyard/base/parallel.hpp"
#include "switchyard/kernels/decode.hpp"

namespace switchyard::model {
namespace {

constexpr Index kMxfp4Block = 32;  // elements of a row that share a factor
constexpr Index kMxfp4Bytes = kMxfp4Block / 2;
constexpr Index kConvertGrain = 1 << 16;  // elements a task
constexpr DType kReadable[] = {DType::kF32, DType::kF64, DType::kF16, DType::kBF16, DType::kF8E4M3, DType::kF8E5M2};
constexpr DType kFactorTypes[] = {DType::kF32, DType::kF64, DType::kF16, DType::kBF16, DType::kF8E8M0};

template <std::size_t N>
bool is_one_of(DType dtype, const DType (&types)[N]) {
  return std::find(std::begin(types), std::end(types), dtype) != std::end(types);
}

bool is_fp8(DType dtype) { return dtype == DType::kF8E4M3 || dtype == DType::kF8E5M2; }

std::string factors_name(const std::string& name) { return name + "_scale_inv"; }
std::string blocks_name(const std::string& name) { return name + "_blocks"; }
std::string scales_name(const std::string& name) { return name + "_scales"; }

Index blocks_in(Index length, Index block) { return (length + block - 1) / block; }

// MXFP4 files have [.., out, in] also where the same tensor in a float type is [.., in, out].
TensorPlace mxfp4_place(TensorPlace place) {
  if (place.transposed) {
    std::swap(place.file_rows, place.file_cols);
    std::swap(place.first_row, place.first_col);
    place.transposed = false;
  }
  return place;
}

// The shape of _scales and, with 16 bytes a block, of _blocks.
Shape mxfp4_shape(const TensorPlace& place, bool blocks) {
  std::vector<Index> dims(place.shape.dims().begin(), place.shape.dims().end() - 2);
  dims.push_back(place.file_rows);
  dims.push_back(place.file_cols / kMxfp4Block);
  if (blocks) dims.push_back(kMxfp4Bytes);
  return Shape(dims);
}

// Whether each part of a place begins and ends with a block: along rows of the file, or along one vector.
bool has_whole_blocks(const TensorPlace& place, DType dtype) {
  const Index block = dtype_info(dtype).block_elements;
  const Index length = place.transposed ? place.rows : place.cols;
  const bool contiguous = place.step == 1 || (!place.vector && !place.transposed);
  return contiguous && place.file_cols % block == 0 && place.first_col % block == 0 && length % block == 0;
}

// Without axes of one index in front, which a GGUF tensor has or has not: converters write a vector as the matrix of
// one row that it was in the published file, and llama.cpp's quantiser then without.
Shape inner(const Shape& shape) {
  std::span<const Index> dims = shape.dims();
  while (!dims.empty() && dims.front() == 1) dims = dims.subspan(1);
  return Shape(dims);
}

}  // namespace

void decode(const WeightView& weight, std::span<float> to) {
  const Index rows = std::max(Index{1}, kConvertGrain / std::max(weight.cols, Index{1}));
  parallel_for(weight.rows, rows, [&](Index begin, Index end) {
    kernels::decode(weight, begin, 0, Matrix(to.data() + begin * weight.cols, end - begin, weight.cols));
  });
}

bool can_copy_rows(const WeightView& view) {
  const DTypeInfo& type = dtype_info(view.dtype);
  return view.scales.data == nullptr && (type.block_elements == 1 || (view.col_stride == 1 && type.is_quantised));
}

void copy_rows(const WeightView& view, std::byte* to) {
  const auto element = static_cast<std::size_t>(dtype_info(view.dtype).block_bytes);
  const auto row_bytes = static_cast<std::size_t>(dtype_bytes(view.dtype, view.cols));
  for (Index r = 0; r < view.rows; ++r) {
    const std::byte* from = view.data + dtype_bytes(view.dtype, r * view.row_stride);
    std::byte* row = to + static_cast<std::size_t>(r) * row_bytes;
    if (view.col_stride == 1) {
      std::memcpy(row, from, row_bytes);
      continue;
    }
    for (Index c = 0; c < view.cols; ++c)
      std::memcpy(row + static_cast<std::size_t>(c) * element,
                  from + static_cast<std::size_t>(c * view.col_stride) * element, element);
  }
}

WeightFiles::WeightFiles(const formats::TensorFiles& files, ScaleBlock block, bool mapped)
    : files_(&files), block_(block), mapped_(mapped), held_(std::make_shared<Held>()) {}

bool WeightFiles::contains(const std::string& name) const {
  return files_->contains(name) || files_->contains(blocks_name(name));
}

bool WeightFiles::has_factors(const TensorPlace& place) const {
  return !place.vector && is_fp8(files_->info(place.name).dtype) && files_->contains(factors_name(place.name));
}

void WeightFiles::refuse(ErrorKind kind, const std::string& name, const std::string& what) const {
  fail(kind, "{}: tensor {}: {}", files_->path_of(name).string(), name, what);
}

void WeightFiles::check(const TensorPlace& place, std::set<std::string, std::less<>>& used) const {
  const auto check_shape = [&](const std::string& name, const Shape& expected) {
    const Shape& found = files_->info(name).shape;
    if (found != expected && !(files_->gguf() != nullptr && inner(found) == inner(expected)))
      refuse(ErrorKind::kBadInput, name,
             fmt::format("found shape {}, expected {} by {}", found.to_string(), expected.to_string(), asked_by()));
  };
  if (files_->contains(place.name)) {
    check_shape(place.name, place.shape);
    const DType dtype = files_->info(place.name).dtype;
    if (dtype_info(dtype).is_quantised) {
      if (!has_whole_blocks(place, dtype))
        refuse(ErrorKind::kUnsupported, place.name,
               fmt::format("found type {}, whose blocks of {} do not fit into the parts that are needed",
                           dtype_info(dtype).name, dtype_info(dtype).block_elements));
    } else if (!is_one_of(dtype, kReadable)) {
      refuse(dtype_info(dtype).is_float ? ErrorKind::kUnsupported : ErrorKind::kBadInput, place.name,
             fmt::format("found type {}, expected F32, F64, F16, BF16, F8_E4M3 or F8_E5M2", dtype_info(dtype).name));
    }
    if (has_factors(place)) {
      check_factors(place);
      used.insert(factors_name(place.name));
    }
    used.insert(place.name);
    return;
  }
  const std::string blocks = blocks_name(place.name), scales = scales_name(place.name);
  if (!files_->contains(blocks) || place.vector) {
    fail(ErrorKind::kBadInput, "{}: tensor {} is missing; {} asks for it", files_->path().string(), place.name,
         asked_by());
  }
  if (!files_->contains(scales)) {
    fail(ErrorKind::kBadInput, "{}: tensor {} is missing; {} needs it", files_->path().string(), scales, blocks);
  }
  const TensorPlace packed = mxfp4_place(place);
  if (packed.file_cols % kMxfp4Block != 0) {
    refuse(ErrorKind::kBadInput, blocks,
           fmt::format("blocks of {} elements, but config.json has rows of {}", kMxfp4Block, packed.file_cols));
  }
  check_shape(blocks, mxfp4_shape(packed, true));
  check_shape(scales, mxfp4_shape(packed, false));
  for (const std::string& name : {blocks, scales}) {
    const DType dtype = files_->info(name).dtype;
    if (dtype != DType::kU8)
      refuse(ErrorKind::kBadInput, name, fmt::format("found type {}, expected U8", dtype_info(dtype).name));
    used.insert(name);
  }
}

void WeightFiles::check_factors(const TensorPlace& place) const {
  const std::string name = factors_name(place.name);
  const formats::TensorEntry& info = files_->info(name);
  if (!is_one_of(info.dtype, kFactorTypes)) {
    refuse(dtype_info(info.dtype).is_float ? ErrorKind::kUnsupported : ErrorKind::kBadInput, name,
           fmt::format("found type {}, expected F32, F64, F16, BF16 or F8_E8M0", dtype_info(info.dtype).name));
  }
  if (info.shape.numel() == 1) return;  // one factor for the whole tensor
  std::vector<Index> dims(place.shape.dims().begin(), place.shape.dims().end());
  dims[dims.size() - 2] = blocks_in(place.file_rows, block_.rows);
  dims.back() = blocks_in(place.file_cols, block_.cols);
  const Shape expected(dims);
  if (info.shape != expected) {
    refuse(ErrorKind::kBadInput, name,
           fmt::format("found shape {}, expected {}: a factor for each {} x {} of {}", info.shape.to_string(),
                       expected.to_string(), block_.rows, block_.cols, place.shape.to_string()));
  }
  const Index along_stack = place.transposed ? block_.cols : block_.rows;
  if (place.step != 1 && along_stack != 1) {
    refuse(
        ErrorKind::kUnsupported, name,
        fmt::format("factors of {} x {} for a tensor whose rows alternate between matrices", block_.rows, block_.cols));
  }
}

Tensor WeightFiles::load_factors(const TensorPlace& place) const {
  if (!has_factors(place)) return {};
  Tensor grid = files_->view(factors_name(place.name)).to_f32();
  if (grid.numel() != 1)
    grid.reshape({place.matrices, blocks_in(place.file_rows, block_.rows), blocks_in(place.file_cols, block_.cols)});
  return grid;
}

WeightView WeightFiles::view(const TensorPlace& place, const Tensor& data, const Tensor& factors) const {
  if (is_mxfp4(place)) {
    const TensorPlace packed = mxfp4_place(place);
    WeightView result = packed.view(data.bytes().data(), DType::kF4);
    const Index row_factors = packed.file_cols / kMxfp4Block;
    result.scales.data = factors.bytes().data() + (packed.matrix * packed.file_rows + packed.first_row) * row_factors;
    result.scales.dtype = DType::kF8E8M0;
    result.scales.stride = packed.step * row_factors;
    result.scales.column_block = kMxfp4Block;
    result.scales.first_column = packed.first_col;
    return result;
  }
  WeightView result = place.view(data.bytes().data(), data.dtype());
  if (!factors.defined()) return result;
  WeightScales& scales = result.scales;
  scales.data = factors.bytes().data();
  if (factors.numel() == 1) {
    scales.stride = 1;
    scales.row_block = std::max(place.rows, Index{1});
    scales.column_block = std::max(place.cols, Index{1});
    return result;
  }
  const Index rows = factors.shape()[1], cols = factors.shape()[2];
  scales.first_row = place.first_row;
  scales.first_column = place.first_col;
  scales.row_block = block_.rows;
  scales.column_block = block_.cols;
  scales.stride = cols;
  if (place.transposed) {
    std::swap(scales.first_row, scales.first_column);
    std::swap(scales.row_block, scales.column_block);
    std::swap(scales.stride, scales.column_stride);
  }
  Index first = place.matrix * rows * cols;
  if (place.step != 1) {  // a row of ours is a row of the grid: check_factors() has seen to that
    first += scales.first_row * scales.stride;
    scales.stride *= place.step;
    scales.first_row = 0;
  }
  scales.data += dtype_bytes(DType::kF32, first);
  return result;
}

const Tensor& WeightFiles::held(const std::string& name) {
  const auto found = held_->tensors.find(name);
  if (found != held_->tensors.end()) return found->second;
  Tensor tensor = files_->view(name);
  if (!mapped_) {
    tensor = tensor.clone();
    files_->release(name);
  }
  return held_->tensors.emplace(name, std::move(tensor)).first->second;
}

const Tensor& WeightFiles::factors_of(const TensorPlace& place) {
  const auto found = held_->factors.find(place.name);
  if (found != held_->factors.end()) return found->second;
  return held_->factors.emplace(place.name, load_factors(place)).first->second;
}

// Of a place that is read once and not kept.
WeightView WeightFiles::passing_view(const TensorPlace& place) const {
  if (is_mxfp4(place)) return view(place, files_->view(blocks_name(place.name)), files_->view(scales_name(place.name)));
  require(!has_factors(place), "{}: factors of a tensor that is read in parts", place.name);
  return view(place, files_->view(place.name), Tensor());
}

WeightView WeightFiles::keep(const MatrixPlaces& places) {
  const TensorPlace& first = places.front();
  if (places.size() == 1) {
    if (is_mxfp4(first)) return view(first, held(blocks_name(first.name)), held(scales_name(first.name)));
    return view(first, held(first.name), factors_of(first));
  }
  const auto found = held_->assembled.find(first.name);
  const Tensor& whole = found != held_->assembled.end()
                            ? found->second
                            : held_->assembled.emplace(first.name, assembled(places)).first->second;
  return whole_view(whole);
}

WeightView WeightFiles::whole_view(const Tensor& matrix) {
  WeightView result;
  result.data = matrix.bytes().data();
  result.dtype = matrix.dtype();
  result.rows = matrix.shape()[0];
  result.cols = result.row_stride = matrix.shape()[1];
  return result;
}

WeightFiles::Taken WeightFiles::take(const MatrixPlaces& places) {
  if (places.size() == 1) return {keep(places), Tensor()};
  Tensor whole = assembled(places);
  const WeightView view = whole_view(whole);
  return {view, std::move(whole)};
}

DType WeightFiles::type_of(const MatrixPlaces& places) const {
  if (places.size() == 1) return is_mxfp4(places.front()) ? DType::kF4 : files_->info(places.front().name).dtype;
  const WeightView first = passing_view(places.front());
  const bool same = std::all_of(places.begin(), places.end(), [&](const TensorPlace& place) {
    const WeightView view = passing_view(place);
    return view.dtype == first.dtype && can_copy_rows(view);
  });
  return same ? first.dtype : DType::kF32;
}

Tensor WeightFiles::assembled(const MatrixPlaces& places) const {
  std::vector<WeightView> views;
  Index rows = 0, elements = 0;
  for (const TensorPlace& place : places) {
    views.push_back(passing_view(place));
    rows += place.vector ? 0 : place.rows;
    elements += place.vector ? place.cols : 0;
  }
  const bool vector = places.front().vector;
  const Index cols = vector ? elements : places.front().cols;
  if (vector) rows = 1;
  const DType dtype = views.front().dtype;
  const bool same = std::all_of(views.begin(), views.end(),
                                [&](const WeightView& v) { return v.dtype == dtype && can_copy_rows(v); });
  Tensor whole = Tensor::uninitialized(same ? dtype : DType::kF32, Shape({rows, cols}));
  for (std::size_t i = 0; i < places.size(); ++i) {
    const Index begin = vector ? places[i].begin : places[i].begin * cols;
    std::byte* to = whole.mutable_bytes().data() + dtype_bytes(whole.dtype(), begin);
    if (same) {
      copy_rows(views[i], to);
    } else {
      decode_part(places[i], whole.f32());
    }
  }
  release(places);
  return whole;
}

void WeightFiles::convert(const MatrixPlaces& places, std::span<float> to) {
  const TensorPlace& first = places.front();
  if (places.size() == 1 && !is_mxfp4(first))
    return decode(view(first, files_->view(first.name), factors_of(first)), to);
  for (const TensorPlace& place : places) decode_part(place, to);
}

// The rows of a place to where they stand in the matrix.
void WeightFiles::decode_part(const TensorPlace& place, std::span<float> to) const {
  const Index begin = place.vector ? place.begin : place.begin * place.cols;
  to = to.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(place.rows * place.cols));
  if (!place.transposed || is_mxfp4(place) || !dtype_info(files_->info(place.name).dtype).is_quantised)
    return decode(passing_view(place), to);
  // Blocks lie along the rows of the file.
  TensorPlace as_stored = place;
  as_stored.transposed = false;
  std::swap(as_stored.rows, as_stored.cols);
  std::vector<float> stored(to.size());
  decode(passing_view(as_stored), stored);
  for (Index r = 0; r < place.rows; ++r)
    for (Index c = 0; c < place.cols; ++c)
      to[static_cast<std::size_t>(r * place.cols + c)] = stored[static_cast<std::size_t>(c * place.rows + r)];
}

void WeightFiles::release(const MatrixPlaces& places) const {
  std::string_view last;
  for (const TensorPlace& place : places) {
    if (place.name == last) continue;
    last = place.name;
    if (!is_mxfp4(place)) {
      files_->release(place.name);
    } else {
      files_->release(blocks_name(place.name));
      files_->release(scales_name(place.name));
    }
  }
}

}  // namespace switchyard::model
