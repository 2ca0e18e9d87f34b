#pragma once
// Working memory of kernels that is kept between calls: touching fresh pages costs more than the packing they are for.

#include "switchyard/base/index.hpp"

namespace switchyard::kernels {

// `floats` floats with arbitrary contents, 64-byte aligned, for as long as the object lives. Objects must be local
// variables: each thread hands its buffers out like a stack and keeps them (at the largest size asked for at that
// depth) until it ends. A task that starts while another one of the same thread waits simply gets the next buffer.
// Only the creating thread may destroy it; other threads may use the memory meanwhile.
class Scratch {
 public:
  explicit Scratch(Index floats);
  ~Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  float* data() const { return data_; }

 private:
  float* data_;
};

// Cuts one Scratch into parts, each 64-byte aligned. First a pass with data == nullptr to learn the size.
class ScratchCutter {
 public:
  explicit ScratchCutter(float* data = nullptr) : data_(data) {}
  float* take(Index floats) {
    float* part = data_ == nullptr ? nullptr : data_ + used_;
    used_ += round_up(floats, 16);
    return part;
  }
  Index used() const { return used_; }

 private:
  float* data_;
  Index used_ = 0;
};

}  // namespace switchyard::kernels
