#pragma once
// Feed-forward networks of experts in double, one row at a time.

#include <span>
#include <vector>

#include "switchyard/kernels/activation.hpp"

namespace switchyard::oracle {

// h of activation.hpp for one element; gate is not looked at where the kind has none.
double activate(kernels::Activation activation, double gate, double up);

// One expert in double, row-major.
struct Ffn {
  Index d = 0, f = 0;
  std::vector<double> gate, up, down;                       // [F, D], [F, D], [D, F]; gate is empty where not gated
  std::vector<double> gate_bias{}, up_bias{}, down_bias{};  // [F], [F], [D], or empty
};

// down act(gate x, up x) for one row, each product with its bias.
std::vector<double> ffn(kernels::Activation activation, const Ffn& expert, std::span<const double> x);

}  // namespace switchyard::oracle
