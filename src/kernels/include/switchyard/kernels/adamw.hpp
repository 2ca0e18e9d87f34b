#pragma once
// The element-wise update of AdamW.  Loshchilov and Hutter 2019, arXiv 1711.05101.

#include <span>

namespace switchyard::kernels {

// One step's numbers for one parameter group.
struct AdamWStep {
  float gradient_scale = 1.0F;  // every gradient is multiplied by it first
  float beta1 = 0.9F, beta2 = 0.95F;
  float epsilon = 1e-8F;
  float step_size = 0.0F;          // learning rate / (1 - beta1^t)
  float second_correction = 1.0F;  // 1 / (1 - beta2^t)
  float keep = 1.0F;               // 1 - learning rate * weight decay
};

// For every element, with g = gradient * gradient_scale:
//   m = beta1 m + (1 - beta1) g,  v = beta2 v + (1 - beta2) g^2
//   value = keep value - step_size m / (sqrt(second_correction v) + epsilon)
// and the gradient is set to 0 for the next step. One pass over memory, parallel inside the caller's arena; the same
// bits at any thread count. All spans are of one length (kInternal otherwise) and do not overlap.
void adamw_update(const AdamWStep& step, std::span<float> value, std::span<float> gradient, std::span<float> first,
                  std::span<float> second);

}  // namespace switchyard::kernels
