#pragma once
// Float32 matrix products, parallel inside the caller's arena.
//
// Promise: every element of c is one chain of fused multiply-adds over k in ascending order, cut into blocks of a
// fixed length, whatever M, N, the strides or the number of threads. So a token's result does not depend on the batch
// that it is in, and the same inputs give the same bits with one thread or sixteen (on one instruction set; of a NaN,
// only that it is one). Shapes are checked (kInternal). Inputs must not overlap c. Zero-sized dimensions are legal; k =
// 0 gives zeros.

#include "switchyard/tensor/weight.hpp"

namespace switchyard::kernels {

enum class Store { kOverwrite, kAdd };  // c = product, or c += product

// c[M, N] = a[M, K] * b[N, K]^T: a linear layer with PyTorch's weight layout [out, in]. b is read as it is stored; the
// bits are those of the product with its float32 expansion (decode.hpp), of which only tiles ever exist.
void matmul_nt(ConstMatrix a_MK, const WeightView& b_NK, Matrix c_MN, Store store = Store::kOverwrite);
// c[M, N] = a[M, K] * b[K, N]: the gradient of a linear layer with respect to its input.
void matmul_nn(ConstMatrix a_MK, ConstMatrix b_KN, Matrix c_MN, Store store = Store::kOverwrite);
// c[M, N] = a[K, M]^T * b[K, N]: the gradient of a linear layer with respect to its weight.
void matmul_tn(ConstMatrix a_KM, ConstMatrix b_KN, Matrix c_MN, Store store = Store::kOverwrite);

// The instruction set that Highway chose at run time, for example "AVX2". Benchmarks print it, tests assert it.
const char* instruction_set();

}  // namespace switchyard::kernels
