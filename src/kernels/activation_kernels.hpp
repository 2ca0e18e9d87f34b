#pragma once
// The activations on one thread, for use inside tasks. Contracts as in activation.hpp.

#include "switchyard/base/index.hpp"
#include "switchyard/kernels/activation.hpp"

namespace switchyard::kernels {

struct ActivationKernels {
  void (*forward)(Activation activation, const float* gate, const float* up, float* h, Index n);
  void (*backward)(Activation activation, const float* gate, const float* up, const float* d_h, float* d_gate,
                   float* d_up, Index n);
};

const ActivationKernels& activation_kernels();

}  // namespace switchyard::kernels
