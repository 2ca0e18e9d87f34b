// Weights that stay as their file holds them: every layout and type decodes to the numbers that were written, the
// same numbers become float32, and files that contradict themselves are refused.

#include <gmock/gmock.h>

#include <cmath>

#include "model_folders.hpp"
#include "oracle/compare.hpp"
#include "support/error_of.hpp"
#include "switchyard/tensor/half.hpp"

namespace switchyard::model {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr Index kVocab = 37, kHidden = 11, kExperts = 3, kHeads = 5, kKvHeads = 1, kHeadDim = 6;

// A matrix of one native parameter, [rows, cols], in double.
struct Values {
  Index rows = 0, cols = 0;
  std::vector<double> of;
  double operator()(Index r, Index c) const { return of[static_cast<std::size_t>(r * cols + c)]; }
};

// What a file's element decodes to is computed here one by one, from the definition of the type.
double decoded(DType dtype, const std::byte* data, Index i) {
  const auto byte = [&](Index at) { return static_cast<unsigned>(std::to_integer<unsigned char>(data[at])); };
  switch (dtype) {
    case DType::kF32: {
      float value;
      std::memcpy(&value, data + i * 4, 4);
      return value;
    }
    case DType::kBF16: {
      const std::uint32_t bits = (byte(2 * i) | byte(2 * i + 1) << 8U) << 16U;
      return std::bit_cast<float>(bits);
    }
    case DType::kF8E4M3: {
      const unsigned b = byte(i), exponent = b >> 3U & 15U, mantissa = b & 7U;
      const double size =
          exponent == 0 ? std::ldexp(mantissa, -9) : std::ldexp(1.0 + mantissa / 8.0, static_cast<int>(exponent) - 7);
      return (b & 128U) != 0 ? -size : size;
    }
    default:
      ADD_FAILURE() << "no type of these tests";
      return 0.0;
  }
}

// Random elements: bytes of any value but NaN.
Tensor random_tensor(DType dtype, const Shape& shape, std::uint32_t seed) {
  Tensor tensor = Tensor::uninitialized(dtype, shape);
  const std::vector<float> values = oracle::random_values(shape.numel(), seed, 0.5F);
  const std::span<std::byte> bytes = tensor.mutable_bytes();
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (dtype == DType::kF32) std::memcpy(bytes.data() + i * 4, &values[i], 4);
    if (dtype == DType::kBF16) {
      const BFloat16 value = to_bfloat16(values[i]);
      std::memcpy(bytes.data() + i * 2, &value, 2);
    }
    if (dtype == DType::kF8E4M3 || dtype == DType::kU8) {
      const RandomStream stream(seed, RandomPurpose::kTest, 5);
      auto b = static_cast<unsigned char>(stream.below(i, 256));
      if (dtype == DType::kF8E4M3 && (b & 127U) == 127U) b = 64;
      bytes[i] = std::byte{b};
    }
  }
  return tensor;
}

// The parameters of the model as numbers, by native name; stacks have one an expert.
using Expected = std::map<std::string, std::vector<Values>>;

std::string mixtral_config(Index width) {
  return fmt::format(R"({{"model_type": "mixtral", "vocab_size": {}, "hidden_size": {}, "intermediate_size": {},
    "num_hidden_layers": 1, "num_attention_heads": {}, "num_key_value_heads": {}, "head_dim": {},
    "max_position_embeddings": 32, "rms_norm_eps": 1e-5, "num_local_experts": {}, "num_experts_per_tok": 2,
    "tie_word_embeddings": false}})",
                     kVocab, width, kHidden, kHeads, kKvHeads, kHeadDim, kExperts);
}

class Folder {
 public:
  explicit Folder(const std::string& config) { write_text(folder_.path() / "config.json", config); }
  const std::filesystem::path& path() const { return folder_.path(); }
  void put(const std::string& name, Tensor tensor) { tensors_.insert_or_assign(name, std::move(tensor)); }
  Tensor& at(const std::string& name) { return tensors_.at(name); }
  void erase(const std::string& name) { tensors_.erase(name); }
  // Shards of so many bytes; 0: one file.
  void write(std::size_t shard_bytes = 0) const {
    formats::write_safetensors_sharded(path(), named(tensors_), {},
                                       shard_bytes == 0 ? std::size_t{1} << 30 : shard_bytes);
  }

  // A tensor, and what it decodes to.
  Values matrix(const std::string& name, DType dtype, Index rows, Index cols) {
    put(name, random_tensor(dtype, {rows, cols}, ++seed_));
    return values_of(at(name), 0, rows, cols);
  }
  // FP8 with factors of blocks, of this type.
  Values fp8(const std::string& name, Index rows, Index cols, Index block_rows, Index block_cols,
             DType factor_type = DType::kF32) {
    Values values = matrix(name, DType::kF8E4M3, rows, cols);
    const Index grid_rows = (rows + block_rows - 1) / block_rows, grid_cols = (cols + block_cols - 1) / block_cols;
    put(name + "_scale_inv", random_tensor(factor_type, {grid_rows, grid_cols}, ++seed_));
    const std::byte* factors = at(name + "_scale_inv").bytes().data();
    for (Index r = 0; r < rows; ++r)
      for (Index c = 0; c < cols; ++c)
        values.of[static_cast<std::size_t>(r * cols + c)] *=
            decoded(factor_type, factors, r / block_rows * grid_cols + c / block_cols);
    return values;
  }
  // The m-th matrix of a tensor.
  static Values values_of(const Tensor& tensor, Index m, Index rows, Index cols) {
    Values values{rows, cols, {}};
    for (Index i = 0; i < rows * cols; ++i)
      values.of.push_back(decoded(tensor.dtype(), tensor.bytes().data(), m * rows * cols + i));
    return values;
  }
  std::uint32_t next_seed() { return ++seed_; }

 private:
  TemporaryFolder folder_;
  Tensors tensors_;
  std::uint32_t seed_ = 0;
};

// Everything of a Mixtral of one layer but the experts, as BF16.
Expected put_all_but_experts(Folder& folder, Index width, DType dtype = DType::kBF16) {
  Expected expected;
  const std::string layer = "model.layers.0.";
  const auto put = [&](const std::string& native, const std::string& name, Index rows, Index cols) {
    expected[native] = {folder.matrix(name, dtype, rows, cols)};
  };
  put("embedding", "model.embed_tokens.weight", kVocab, width);
  put("layers.0.attention.q", layer + "self_attn.q_proj.weight", kHeads * kHeadDim, width);
  put("layers.0.attention.k", layer + "self_attn.k_proj.weight", kKvHeads * kHeadDim, width);
  put("layers.0.attention.v", layer + "self_attn.v_proj.weight", kKvHeads * kHeadDim, width);
  put("layers.0.attention.o", layer + "self_attn.o_proj.weight", width, kHeads * kHeadDim);
  put("output", "lm_head.weight", kVocab, width);
  for (const auto& [native, name] : {std::pair("layers.0.attention_norm", layer + "input_layernorm.weight"),
                                     std::pair("layers.0.ffn_norm", layer + "post_attention_layernorm.weight"),
                                     std::pair("final_norm", std::string("model.norm.weight"))}) {
    put(native, name, 1, width);
    folder.at(name).reshape({width});
  }
  return expected;
}

void put_router(Folder& folder, Expected& expected, const std::string& name, Index width) {
  expected["layers.0.moe.router"] = {folder.matrix(name, DType::kBF16, kExperts, width)};
}

const std::string kBlock = "model.layers.0.block_sparse_moe.";
const std::string kMlp = "model.layers.0.mlp.";

// One tensor an expert and matrix, of these types in turn.
void put_experts_one_by_one(Folder& folder, Expected& expected, Index width, const std::vector<DType>& types) {
  put_router(folder, expected, kBlock + "gate.weight", width);
  std::size_t turn = 0;
  for (Index e = 0; e < kExperts; ++e) {
    const std::string expert = fmt::format("{}experts.{}.", kBlock, e);
    const auto put = [&](const char* native, const char* name, Index rows, Index cols) {
      expected[fmt::format("layers.0.moe.experts.{}", native)].push_back(
          folder.matrix(expert + name, types[turn++ % types.size()], rows, cols));
    };
    put("gate", "w1.weight", kHidden, width);
    put("up", "w3.weight", kHidden, width);
    put("down", "w2.weight", width, kHidden);
  }
}

// Rows [begin, begin + step, ...] of a matrix.
Values rows_of(const Values& all, Index begin, Index step, Index count) {
  Values part{count, all.cols, {}};
  for (Index r = 0; r < count; ++r)
    for (Index c = 0; c < all.cols; ++c) part.of.push_back(all(begin + r * step, c));
  return part;
}

double element(const WeightView& w, Index r, Index c) {
  const WeightView one = w.slice_rows(r, 1);
  const Index at = c * one.col_stride;
  double value = 0.0;
  if (one.dtype == DType::kF4) {
    constexpr double kValues[] = {0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0};
    const unsigned bits = std::to_integer<unsigned>(one.data[at / 2]) >> (at % 2 * 4) & 15U;
    value = (bits & 8U) != 0 ? -kValues[bits & 7U] : kValues[bits & 7U];
  } else {
    value = decoded(one.dtype, one.data, at);
  }
  const WeightScales& s = one.scales;
  if (s.data == nullptr) return value;
  const Index factor = s.first_row / s.row_block * s.stride + (s.first_column + c) / s.column_block * s.column_stride;
  return s.dtype == DType::kF8E8M0 ? value * std::ldexp(1.0, std::to_integer<int>(s.data[factor]) - 127)
                                   : value * decoded(s.dtype, s.data, factor);
}

bool is_small(const autograd::Parameter& parameter) {
  using autograd::ParameterRole;
  return parameter.shape().rank() < 2 || parameter.role == ParameterRole::kRouter ||
         parameter.role == ParameterRole::kBias;
}

// The model in float32, stored and mapped, and stored and copied, is what was written.
void expect_loads(const Folder& folder, const Expected& expected) {
  struct Way {
    LoadOptions options;
    const char* name;
  };
  for (const auto& [options, way] :
       {Way{{}, "float32"}, Way{{.stored = true}, "mapped"}, Way{{.stored = true, .mapped = false}, "copied"}}) {
    SCOPED_TRACE(way);
    LoadedModel model = load_model(folder.path(), options);
    for (autograd::Parameter* parameter : model.transformer.parameters()) {
      SCOPED_TRACE(parameter->name);
      const auto found = expected.find(parameter->name);
      ASSERT_NE(found, expected.end());
      EXPECT_EQ(parameter->is_stored(), options.stored && !is_small(*parameter));
      if (!parameter->is_stored()) {
        std::vector<double> all;
        for (const Values& values : found->second) all.insert(all.end(), values.of.begin(), values.of.end());
        const std::span<const float> actual = std::as_const(parameter->value).f32();
        ASSERT_EQ(actual.size(), all.size());
        for (std::size_t i = 0; i < all.size(); ++i) ASSERT_EQ(actual[i], static_cast<float>(all[i])) << i;
        continue;
      }
      for (std::size_t e = 0; e < found->second.size(); ++e) {
        const Values& values = found->second[e];
        const WeightView w = found->second.size() == 1 ? parameter->weight() : parameter->weight(static_cast<Index>(e));
        ASSERT_EQ(w.rows, values.rows);
        ASSERT_EQ(w.cols, values.cols);
        for (Index r = 0; r < w.rows; ++r)
          for (Index c = 0; c < w.cols; ++c) ASSERT_EQ(element(w, r, c), values(r, c)) << r << ", " << c;
      }
    }
  }
}

TEST(StoredWeightsTest, OneTensorAnExpertAndMatrixMixedTypes) {
  Folder folder(mixtral_config(13));
  Expected expected = put_all_but_experts(folder, 13);
  put_experts_one_by_one(folder, expected, 13, {DType::kBF16, DType::kF8E4M3, DType::kF32, DType::kBF16});
  folder.write();
  expect_loads(folder, expected);
}

TEST(StoredWeightsTest, Fp8WithFactorsOfBlocksInAnotherShard) {
  // 300 and 13 are no multiples of a block; the last row and column of blocks are narrower.
  for (const DType factors : {DType::kF32, DType::kBF16}) {
    Folder folder(mixtral_config(300));
    Expected expected = put_all_but_experts(folder, 300);
    put_experts_one_by_one(folder, expected, 300, {DType::kBF16});
    for (Index e = 0; e < kExperts; ++e) {
      const std::string name = fmt::format("{}experts.{}.", kBlock, e);
      const auto at = static_cast<std::size_t>(e);
      expected["layers.0.moe.experts.gate"][at] = folder.fp8(name + "w1.weight", kHidden, 300, 128, 128, factors);
      expected["layers.0.moe.experts.down"][at] = folder.fp8(name + "w2.weight", 300, kHidden, 128, 128, factors);
    }
    folder.write(4000);
    ASSERT_TRUE(std::filesystem::exists(folder.path() / "model.safetensors.index.json"));
    expect_loads(folder, expected);
  }
}

TEST(StoredWeightsTest, Fp8WithOneFactorForAllAndWithout) {
  Folder folder(mixtral_config(13));
  Expected expected = put_all_but_experts(folder, 13);
  put_experts_one_by_one(folder, expected, 13, {DType::kF8E4M3});
  const std::string name = kBlock + "experts.1.w1.weight";
  expected["layers.0.moe.experts.gate"][1] = folder.fp8(name, kHidden, 13, 128, 128);
  folder.at(name + "_scale_inv").reshape({});
  folder.write();
  expect_loads(folder, expected);
}

TEST(StoredWeightsTest, GateAndUpInOneTensor) {
  Folder folder(mixtral_config(13));
  Expected expected = put_all_but_experts(folder, 13);
  put_router(folder, expected, kMlp + "gate.weight", 13);
  folder.put(kMlp + "experts.gate_up_proj", random_tensor(DType::kBF16, {kExperts, 2 * kHidden, 13}, 91));
  folder.put(kMlp + "experts.down_proj", random_tensor(DType::kF32, {kExperts, 13, kHidden}, 92));
  for (Index e = 0; e < kExperts; ++e) {
    const Values both = Folder::values_of(folder.at(kMlp + "experts.gate_up_proj"), e, 2 * kHidden, 13);
    expected["layers.0.moe.experts.gate"].push_back(rows_of(both, 0, 1, kHidden));
    expected["layers.0.moe.experts.up"].push_back(rows_of(both, kHidden, 1, kHidden));
    expected["layers.0.moe.experts.down"].push_back(
        Folder::values_of(folder.at(kMlp + "experts.down_proj"), e, 13, kHidden));
  }
  folder.write();
  expect_loads(folder, expected);
}

TEST(StoredWeightsTest, Fp8OfGateAndUpInOneTensorKeepsItsFactors) {
  // Blocks of 4 x 5: the first row of up lies within a block that begins in gate.
  std::string config = mixtral_config(13);
  config.insert(config.size() - 1, R"(, "quantization_config": {"quant_method": "fp8", "weight_block_size": [4, 5]})");
  Folder folder(config);
  Expected expected = put_all_but_experts(folder, 13);
  put_router(folder, expected, kMlp + "gate.weight", 13);
  const Index grid_rows = (2 * kHidden + 3) / 4;
  folder.put(kMlp + "experts.gate_up_proj", random_tensor(DType::kF8E4M3, {kExperts, 2 * kHidden, 13}, 91));
  folder.put(kMlp + "experts.gate_up_proj_scale_inv", random_tensor(DType::kF32, {kExperts, grid_rows, 3}, 93));
  folder.put(kMlp + "experts.down_proj", random_tensor(DType::kBF16, {kExperts, 13, kHidden}, 92));
  for (Index e = 0; e < kExperts; ++e) {
    Values both = Folder::values_of(folder.at(kMlp + "experts.gate_up_proj"), e, 2 * kHidden, 13);
    const Values grid = Folder::values_of(folder.at(kMlp + "experts.gate_up_proj_scale_inv"), e, grid_rows, 3);
    for (Index r = 0; r < both.rows; ++r)
      for (Index c = 0; c < both.cols; ++c) both.of[static_cast<std::size_t>(r * 13 + c)] *= grid(r / 4, c / 5);
    expected["layers.0.moe.experts.gate"].push_back(rows_of(both, 0, 1, kHidden));
    expected["layers.0.moe.experts.up"].push_back(rows_of(both, kHidden, 1, kHidden));
    expected["layers.0.moe.experts.down"].push_back(
        Folder::values_of(folder.at(kMlp + "experts.down_proj"), e, 13, kHidden));
  }
  folder.write();
  expect_loads(folder, expected);
}

// Blocks and scales of MXFP4 for `matrices` matrices [rows, cols], and what they decode to.
std::vector<Values> put_mxfp4(Folder& folder, const std::string& name, Index matrices, Index rows, Index cols) {
  constexpr double kValues[] = {0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0};
  folder.put(name + "_blocks", random_tensor(DType::kU8, {matrices, rows, cols / 32, 16}, folder.next_seed()));
  folder.put(name + "_scales", random_tensor(DType::kU8, {matrices, rows, cols / 32}, folder.next_seed()));
  const std::span<const std::byte> blocks = folder.at(name + "_blocks").bytes();
  // Within the range in which float32 holds the products exactly.
  for (std::byte& scale : folder.at(name + "_scales").mutable_bytes())
    scale = static_cast<std::byte>(100 + std::to_integer<int>(scale) % 50);
  const std::span<const std::byte> scales = folder.at(name + "_scales").bytes();
  std::vector<Values> result;
  std::size_t at = 0;
  for (Index m = 0; m < matrices; ++m) {
    Values& values = result.emplace_back(Values{rows, cols, {}});
    for (Index i = 0; i < rows * cols; ++i, ++at) {
      const unsigned byte = std::to_integer<unsigned>(blocks[at / 2]);
      const unsigned bits = at % 2 == 0 ? byte & 15U : byte >> 4U;
      const double size = kValues[bits & 7U] * std::ldexp(1.0, std::to_integer<int>(scales[at / 32]) - 127);
      values.of.push_back((bits & 8U) != 0 ? -size : size);
    }
  }
  return result;
}

TEST(StoredWeightsTest, Mxfp4) {
  Folder folder(mixtral_config(96));
  Expected expected = put_all_but_experts(folder, 96);
  put_router(folder, expected, kMlp + "gate.weight", 96);
  for (const Values& both : put_mxfp4(folder, kMlp + "experts.gate_up_proj", kExperts, 2 * kHidden, 96)) {
    expected["layers.0.moe.experts.gate"].push_back(rows_of(both, 0, 1, kHidden));
    expected["layers.0.moe.experts.up"].push_back(rows_of(both, kHidden, 1, kHidden));
  }
  folder.put(kMlp + "experts.down_proj", random_tensor(DType::kBF16, {kExperts, 96, kHidden}, 92));
  for (Index e = 0; e < kExperts; ++e)
    expected["layers.0.moe.experts.down"].push_back(
        Folder::values_of(folder.at(kMlp + "experts.down_proj"), e, 96, kHidden));
  folder.write();
  expect_loads(folder, expected);
}

TEST(StoredWeightsTest, AStoredModelIsSavedAsFloat32) {
  Folder folder(mixtral_config(13));
  Expected expected = put_all_but_experts(folder, 13);
  put_experts_one_by_one(folder, expected, 13, {DType::kBF16, DType::kF8E4M3});
  folder.write();
  Folder saved("{}");
  EXPECT_EQ(save_model(saved.path(), load_model(folder.path(), {.stored = true}).transformer, nullptr), "mixtral");
  expect_loads(saved, expected);
  const auto files = formats::TensorFiles::open(saved.path());
  for (const std::string& name : files.names()) EXPECT_EQ(files.info(name).dtype, DType::kF32) << name;
}

TEST(StoredWeightsTest, OutlivesTheFilesNames) {
  LoadedModel model = [] {
    Folder folder(mixtral_config(13));
    Expected expected = put_all_but_experts(folder, 13);
    put_experts_one_by_one(folder, expected, 13, {DType::kBF16});
    folder.write();
    return load_model(folder.path(), {.stored = true});
  }();
  EXPECT_TRUE(std::isfinite(element(model.transformer.find("output")->weight(), kVocab - 1, 12)));
}

TEST(StoredWeightsTest, StoredWeightsTakeNoMemoryAndCannotBeTrained) {
  Folder folder(mixtral_config(96));
  Expected expected = put_all_but_experts(folder, 96);
  put_experts_one_by_one(folder, expected, 96, {DType::kBF16});
  folder.write();
  reset_tensor_memory_peak();
  const Index before = tensor_memory().peak_bytes;
  LoadedModel model = load_model(folder.path(), {.stored = true});
  // Three norms and the router.
  EXPECT_LE(tensor_memory().peak_bytes - before, 8 * static_cast<Index>(sizeof(float)) * 96);
  autograd::Parameter& q = *model.transformer.find("layers.0.attention.q");
  EXPECT_THAT(error_of(ErrorKind::kInternal, [&] { q.ensure_grad(); }), HasSubstr("layers.0.attention.q"));
  EXPECT_THAT(error_of(ErrorKind::kInternal, [&] { model.transformer.find("layers.0.moe.experts.up")->weight(); }),
              HasSubstr("layers.0.moe.experts.up"));
}

// ---- refusals

class RefusedTest : public testing::Test {
 protected:
  RefusedTest() : folder_(mixtral_config(96)) {
    expected_ = put_all_but_experts(folder_, 96);
    put_experts_one_by_one(folder_, expected_, 96, {DType::kF8E4M3});
  }
  void refused(ErrorKind kind, const testing::Matcher<std::string>& message) {
    folder_.write();
    for (const bool stored : {false, true})
      EXPECT_THAT(error_of(kind, [&] { load_model(folder_.path(), {.stored = stored}); }),
                  AllOf(HasSubstr("model.safetensors"), message));
  }
  // Fused experts in MXFP4.
  void use_mxfp4() {
    for (Index e = 0; e < kExperts; ++e)
      for (const char* name : {"w1", "w2", "w3"}) folder_.erase(fmt::format("{}experts.{}.{}.weight", kBlock, e, name));
    put_mxfp4(folder_, kMlp + "experts.gate_up_proj", kExperts, 2 * kHidden, 96);
    folder_.put(kMlp + "experts.down_proj", random_tensor(DType::kBF16, {kExperts, 96, kHidden}, 92));
  }
  Folder folder_;
  Expected expected_;
  const std::string expert_ = kBlock + "experts.2.w3.weight";
};

TEST_F(RefusedTest, FactorsOfAnotherShape) {
  folder_.put(expert_ + "_scale_inv", Tensor::zeros(DType::kF32, {2, 1}));
  refused(ErrorKind::kBadInput, AllOf(HasSubstr(expert_ + "_scale_inv"), HasSubstr("[2, 1]"), HasSubstr("[1, 1]")));
}

TEST_F(RefusedTest, FactorsThatAreNoFloats) {
  folder_.put(expert_ + "_scale_inv", Tensor::zeros(DType::kI32, {1, 1}));
  refused(ErrorKind::kBadInput, AllOf(HasSubstr(expert_ + "_scale_inv"), HasSubstr("I32")));
}

TEST_F(RefusedTest, FactorsOfATensorThatNeedsNone) {
  folder_.put(expert_, random_tensor(DType::kBF16, {kHidden, 96}, 3));
  folder_.put(expert_ + "_scale_inv", Tensor::zeros(DType::kF32, {1, 1}));
  refused(ErrorKind::kBadInput, AllOf(HasSubstr(expert_ + "_scale_inv"), HasSubstr("unknown")));
}

TEST_F(RefusedTest, TypesThatAreNoWeights) {
  folder_.put(expert_, Tensor::zeros(DType::kI8, {kHidden, 96}));
  refused(ErrorKind::kBadInput, AllOf(HasSubstr(expert_), HasSubstr("I8"), HasSubstr("BF16")));
  folder_.put(expert_, Tensor::zeros(DType::kF8E8M0, {kHidden, 96}));
  refused(ErrorKind::kUnsupported, AllOf(HasSubstr(expert_), HasSubstr("F8_E8M0"), HasSubstr("BF16")));
}

TEST_F(RefusedTest, Mxfp4WithoutScales) {
  use_mxfp4();
  folder_.erase(kMlp + "experts.gate_up_proj_scales");
  refused(ErrorKind::kBadInput, AllOf(HasSubstr("gate_up_proj_scales"), HasSubstr("missing")));
}

TEST_F(RefusedTest, Mxfp4OfAnotherShapeOrType) {
  use_mxfp4();
  const std::string blocks = kMlp + "experts.gate_up_proj_blocks", scales = kMlp + "experts.gate_up_proj_scales";
  folder_.put(scales, Tensor::zeros(DType::kU8, {kExperts, 2 * kHidden, 2}));
  refused(ErrorKind::kBadInput, AllOf(HasSubstr(scales), HasSubstr("[3, 22, 2]"), HasSubstr("[3, 22, 3]")));
  folder_.put(scales, Tensor::zeros(DType::kI8, {kExperts, 2 * kHidden, 3}));
  refused(ErrorKind::kBadInput, AllOf(HasSubstr(scales), HasSubstr("I8"), HasSubstr("U8")));
  folder_.put(blocks, Tensor::zeros(DType::kU8, {kExperts, 2 * kHidden, 3, 8}));
  refused(ErrorKind::kBadInput, AllOf(HasSubstr(blocks), HasSubstr("[3, 22, 3, 8]"), HasSubstr("[3, 22, 3, 16]")));
}

TEST(StoredWeightsTest, Mxfp4OfRowsThatAreNoWholeBlocksIsRefused) {
  Folder folder(mixtral_config(80));
  Expected expected = put_all_but_experts(folder, 80);
  put_router(folder, expected, kMlp + "gate.weight", 80);
  put_mxfp4(folder, kMlp + "experts.gate_up_proj", kExperts, 2 * kHidden, 96);
  folder.put(kMlp + "experts.down_proj", random_tensor(DType::kBF16, {kExperts, 80, kHidden}, 92));
  folder.write();
  EXPECT_THAT(error_of(ErrorKind::kBadInput, [&] { load_model(folder.path()); }),
              AllOf(HasSubstr("gate_up_proj_blocks"), HasSubstr("32"), HasSubstr("80")));
}

TEST_F(RefusedTest, BlockSizesThatAreNone) {
  for (const char* size : {"[128]", "[0, 128]", "[128, -1]", "[128, 128, 128]", "\"128\""}) {
    std::string config = mixtral_config(96);
    config.insert(config.size() - 1,
                  fmt::format(R"(, "quantization_config": {{"quant_method": "fp8", "weight_block_size": {}}})", size));
    write_text(folder_.path() / "config.json", config);
    folder_.write();
    EXPECT_THAT(error_of(ErrorKind::kBadInput, [&] { load_model(folder_.path()); }),
                AllOf(HasSubstr("config.json"), HasSubstr("weight_block_size")));
  }
}

// ---- tensors that are passed over

TEST_F(RefusedTest, LayersOfMultiTokenPredictionAreNoPartOfTheModel) {
  folder_.put("model.layers.1.eh_proj.weight", random_tensor(DType::kBF16, {96, 192}, 4));
  folder_.put("model.layers.1.input_layernorm.weight", random_tensor(DType::kBF16, {96}, 5));
  folder_.write();
  EXPECT_NO_THROW(load_model(folder_.path()));
  folder_.put("model.layers.2.input_layernorm.weight", random_tensor(DType::kBF16, {96}, 5));
  refused(ErrorKind::kBadInput, AllOf(HasSubstr("model.layers.2.input_layernorm.weight"), HasSubstr("unknown")));
  // Where the config says how many there are, no name has to.
  std::string config = mixtral_config(96);
  config.insert(config.size() - 1, R"(, "num_nextn_predict_layers": 2)");
  write_text(folder_.path() / "config.json", config);
  EXPECT_NO_THROW(load_model(folder_.path()));
}

TEST_F(RefusedTest, ATiedOutputMustBeTheEmbedding) {
  replace_in(folder_.path() / "config.json", "\"tie_word_embeddings\": false", "\"tie_word_embeddings\": true");
  refused(ErrorKind::kBadInput, AllOf(HasSubstr("lm_head.weight"), HasSubstr("model.embed_tokens.weight")));
  folder_.put("lm_head.weight", folder_.at("model.embed_tokens.weight").clone());
  folder_.write();
  expected_.erase("output");
  expect_loads(folder_, expected_);
}

}  // namespace
}  // namespace switchyard::model
