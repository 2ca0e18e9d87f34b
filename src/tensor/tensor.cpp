#include "switchyard/tensor/tensor.hpp"

#include <fmt/ranges.h>

#include <atomic>
#include <cstring>

#include "block_cache.hpp"
#include "switchyard/tensor/quantised.hpp"

namespace switchyard {
namespace {

constexpr std::size_t kAlignment = 64;
std::atomic<Index> g_current{0}, g_peak{0};

// Memory comes from the block cache. Fresh zeroed memory is calloc's, so that a large gradient costs nothing until it
// is touched.
std::shared_ptr<const void> allocate(std::size_t bytes, bool zero) {
  const std::size_t capacity = block_capacity((bytes + kAlignment - 1) / kAlignment * kAlignment + kAlignment);
  void* raw = take_block(capacity, zero);
  if (raw == nullptr) fail(ErrorKind::kResource, "out of memory: cannot allocate {} bytes for a tensor", bytes);
  const auto counted = static_cast<Index>(bytes);
  const Index now = g_current.fetch_add(counted) + counted;
  Index peak = g_peak.load();
  while (peak < now && !g_peak.compare_exchange_weak(peak, now)) {
  }
  return {raw, [counted, capacity](const void* p) {
            g_current.fetch_sub(counted);
            give_block(const_cast<void*>(p), capacity);
          }};
}

std::byte* align(const void* raw) {
  const auto address = reinterpret_cast<std::uintptr_t>(raw);
  return reinterpret_cast<std::byte*>((address + kAlignment - 1) / kAlignment * kAlignment);
}

}  // namespace

Shape::Shape(std::span<const Index> dims) : rank_(static_cast<int>(dims.size())) {
  if (dims.size() > kMaxRank)
    fail(ErrorKind::kBadInput, "a tensor of rank {}, expected at most {}", dims.size(), kMaxRank);
  Index product = 1;
  bool overflow = false;
  for (std::size_t i = 0; i < dims.size(); ++i) {
    if (dims[i] < 0) fail(ErrorKind::kBadInput, "shape {}: a negative dimension", dims);
    dims_[i] = dims[i];
    // A zero makes the product zero, yet the other dimensions must still be sane.
    overflow = overflow || __builtin_mul_overflow(product, dims[i] == 0 ? 1 : dims[i], &product);
  }
  if (overflow) fail(ErrorKind::kBadInput, "shape {}: the number of elements overflows", dims);
}

Index Shape::numel() const {
  Index product = 1;
  for (const Index dim : dims()) product *= dim;
  return product;
}

std::string Shape::to_string() const { return fmt::format("[{}]", fmt::join(dims(), ", ")); }

Tensor Tensor::zeros(DType dtype, const Shape& shape) {
  Tensor t;
  t.dtype_ = dtype;
  t.shape_ = shape;
  t.size_ = static_cast<std::size_t>(dtype_bytes(dtype, shape.numel()));
  t.memory_ = allocate(t.size_, true);
  t.data_ = align(t.memory_.get());
  t.writable_ = true;
  return t;
}

Tensor Tensor::uninitialized(DType dtype, const Shape& shape) {
  Tensor t;
  t.dtype_ = dtype;
  t.shape_ = shape;
  t.size_ = static_cast<std::size_t>(dtype_bytes(dtype, shape.numel()));
  t.memory_ = allocate(t.size_, false);
  t.data_ = align(t.memory_.get());
  t.writable_ = true;
  return t;
}

Tensor Tensor::borrowed(DType dtype, const Shape& shape, std::span<const std::byte> bytes,
                        std::shared_ptr<const void> keep_alive) {
  require(keep_alive != nullptr, "a borrowed tensor needs something to keep alive");
  require(static_cast<Index>(bytes.size()) == dtype_bytes(dtype, shape.numel()),
          "a borrowed tensor of {} bytes for {} of {}", bytes.size(), shape.to_string(), dtype_info(dtype).name);
  Tensor t;
  t.dtype_ = dtype;
  t.shape_ = shape;
  t.size_ = bytes.size();
  t.memory_ = std::move(keep_alive);
  t.data_ = const_cast<std::byte*>(bytes.data());
  t.writable_ = false;
  return t;
}

Tensor Tensor::clone() const {
  Tensor copy = uninitialized(dtype_, shape_);
  if (size_ > 0) std::memcpy(copy.data_, data_, size_);
  return copy;
}

Tensor Tensor::to_f32() const {
  Tensor result = uninitialized(DType::kF32, shape_);
  const std::span<float> out = result.f32();
  const auto convert = [&](const auto& read) {
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = read(i);
  };
  // Elements may be unaligned in a mapped file, so each is copied out.
  const auto load = [this]<class T>(std::size_t i, T) {
    T value;
    std::memcpy(&value, data_ + i * sizeof(T), sizeof(T));
    return value;
  };
  switch (dtype_) {
    case DType::kF32:
      convert([&](std::size_t i) { return load(i, 0.0F); });
      break;
    case DType::kF64:
      convert([&](std::size_t i) { return static_cast<float>(load(i, 0.0)); });
      break;
    case DType::kF16:
      convert([&](std::size_t i) { return to_float(load(i, Float16{})); });
      break;
    case DType::kBF16:
      convert([&](std::size_t i) { return to_float(load(i, BFloat16{})); });
      break;
    case DType::kF8E4M3:
      convert([&](std::size_t i) { return f8_e4m3_to_float(load(i, std::uint8_t{})); });
      break;
    case DType::kF8E5M2:
      convert([&](std::size_t i) { return f8_e5m2_to_float(load(i, std::uint8_t{})); });
      break;
    case DType::kF8E8M0:
      convert([&](std::size_t i) { return f8_e8m0_to_float(load(i, std::uint8_t{})); });
      break;
    case DType::kF4:
      convert([&](std::size_t i) {
        return f4_e2m1_to_float(static_cast<std::uint8_t>(load(i / 2, std::uint8_t{}) >> (i % 2 * 4)));
      });
      break;
    default:
      if (dtype_info(dtype_).is_quantised) {
        dequantise(dtype_, bytes(), out);
        break;
      }
      fail(ErrorKind::kUnsupported, "cannot read a tensor of type {} as float32", dtype_info(dtype_).name);
  }
  return result;
}

void Tensor::reshape(const Shape& shape) {
  require(shape.numel() == numel(), "cannot reshape {} to {}", shape_.to_string(), shape.to_string());
  shape_ = shape;
}

std::span<std::byte> Tensor::mutable_bytes() {
  check_writable();
  return {data_, size_};
}

void Tensor::check_type(DType wanted) const {
  require(defined(), "an undefined tensor was read");
  require(dtype_ == wanted, "a tensor of {} was read as {}", dtype_info(dtype_).name, dtype_info(wanted).name);
  require(reinterpret_cast<std::uintptr_t>(data_) % static_cast<std::uintptr_t>(dtype_alignment(dtype_)) == 0,
          "an unaligned tensor of {} was read in place", dtype_info(dtype_).name);
}

void Tensor::check_writable() const { require(writable_, "a borrowed tensor was written to"); }

ConstMatrix Tensor::matrix() const {
  const Index cols = shape_.rank() == 0 ? 1 : shape_[shape_.rank() - 1];
  return {f32().data(), cols == 0 ? 0 : numel() / cols, cols};
}

Matrix Tensor::matrix() {
  const Index cols = shape_.rank() == 0 ? 1 : shape_[shape_.rank() - 1];
  return {f32().data(), cols == 0 ? 0 : numel() / cols, cols};
}

ConstMatrix Tensor::matrix(Index i) const {
  require(shape_.rank() == 3 && i >= 0 && i < shape_[0], "no matrix {} in {}", i, shape_.to_string());
  return {f32().data() + i * shape_[1] * shape_[2], shape_[1], shape_[2]};
}

Matrix Tensor::matrix(Index i) {
  require(shape_.rank() == 3 && i >= 0 && i < shape_[0], "no matrix {} in {}", i, shape_.to_string());
  return {f32().data() + i * shape_[1] * shape_[2], shape_[1], shape_[2]};
}

TensorMemory tensor_memory() { return {g_current.load(), g_peak.load()}; }

void reset_tensor_memory_peak() { g_peak.store(g_current.load()); }

}  // namespace switchyard
