// Every formula by hand on a model that is small enough to count on paper.

#include "switchyard/plan/cost.hpp"

#include <gmock/gmock.h>

#include "support/error_of.hpp"
#include "switchyard/model/transformer.hpp"
#include "switchyard/plan/plan.hpp"

namespace switchyard::plan {
namespace {

using model::ParameterPart;
using model::ParameterShape;

// Per layer: attention 8x8 + 2 x 4x8 + 8x8 = 192, norms 16, router 4x8 = 32, experts 4 x 3 x 8x16 = 1536. Two layers,
// a final norm of 8, two tables of 10x8.
constexpr const char* kSmall = R"({"model_type": "mixtral", "vocab_size": 10, "hidden_size": 8,
  "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
  "num_local_experts": 4, "num_experts_per_tok": 2, "max_position_embeddings": 2000, "rms_norm_eps": 1e-05)";

model::ConfigFile small(const std::string& more = "") { return model::parse_config(kSmall + more + "}", "small"); }

TEST(Counts, ByHand) {
  const model::ParameterCounts counts = model::count_parameters(small().config);
  EXPECT_EQ(counts.total, 3720);
  EXPECT_EQ(counts.active, 3720 - 1536);
  EXPECT_EQ(counts.active_without_lookup, 3720 - 1536 - 80);
  EXPECT_EQ(counts.active_in_layers, 3720 - 1536 - 160);
  EXPECT_EQ(counts.active_experts, 1536);
  EXPECT_THAT(counts.parts, testing::ElementsAre(80, 384, 64, 3072, 0, 0, 40, 80));
  const model::ParameterCounts tied = model::count_parameters(small(R"(, "tie_word_embeddings": true)").config);
  EXPECT_EQ(tied.total, 3720 - 80);
  EXPECT_EQ(tied.active_without_lookup, tied.active) << "the table is the output";
  EXPECT_EQ(tied.active_in_layers, tied.active - 80);
}

ParameterShape shape(ParameterPart part, const Shape& dims) { return {"p", dims, part, 0}; }
Index stored(const char* format, ParameterPart part, const Shape& dims) {
  return stored_bytes(find_weight_format(format), shape(part, dims));
}

TEST(Formats, BytesOfATensor) {
  EXPECT_EQ(stored("float32", ParameterPart::kNorms, {7}), 28);
  EXPECT_EQ(stored("bf16", ParameterPart::kRoutedExperts, {2, 3, 5}), 60);
  // A float32 scale for 128 x 128 elements, whole or not.
  EXPECT_EQ(stored("fp8", ParameterPart::kAttention, {129, 256}), 129 * 256 + 2 * 2 * 4);
  EXPECT_EQ(stored("fp8", ParameterPart::kRoutedExperts, {3, 10, 10}), 300 + 3 * 4);
  EXPECT_EQ(stored("fp8", ParameterPart::kEmbedding, {10, 10}), 200);
  EXPECT_EQ(stored("fp8", ParameterPart::kRouter, {10, 10}), 200);
  EXPECT_EQ(stored("fp8", ParameterPart::kNorms, {10}), 20);
  // Whole blocks of 256, else of 32, else float16. Routers and vectors stay float32.
  EXPECT_EQ(stored("q8_0", ParameterPart::kAttention, {3, 64}), 3 * 2 * 34);
  EXPECT_EQ(stored("q4_k", ParameterPart::kAttention, {3, 512}), 3 * 2 * 144);
  EXPECT_EQ(stored("q4_k", ParameterPart::kRoutedExperts, {2, 3, 96}), 6 * 3 * 22);
  EXPECT_EQ(stored("q4_k", ParameterPart::kDense, {3, 40}), 240);
  EXPECT_EQ(stored("q4_k", ParameterPart::kOutput, {3, 256}), 3 * 144);
  EXPECT_EQ(stored("q4_k", ParameterPart::kRouter, {4, 256}), 4096);
  EXPECT_EQ(stored("q6_k", ParameterPart::kRoutedExperts, {2, 64}), 512) << "biases of experts are vectors";
  EXPECT_EQ(stored("q6_k", ParameterPart::kAttention, {1, 256}), 210);
  EXPECT_EQ(stored("q5_k", ParameterPart::kAttention, {1, 256}), 176);
  EXPECT_EQ(stored("q3_k", ParameterPart::kAttention, {1, 256}), 110);
  EXPECT_EQ(stored("q2_k", ParameterPart::kAttention, {1, 256}), 84);
  EXPECT_EQ(stored("mxfp4", ParameterPart::kRoutedExperts, {2, 3, 64}), 6 * 2 * 17);
  EXPECT_EQ(stored("mxfp4", ParameterPart::kRoutedExperts, {2, 3, 40}), 480);
  EXPECT_EQ(stored("mxfp4", ParameterPart::kAttention, {2, 32}), 128);
  EXPECT_THAT(error_of(ErrorKind::kUsage, [] { find_weight_format("q9"); }), testing::HasSubstr("mxfp4"));
  EXPECT_THAT(error_of(ErrorKind::kBadInput,
                       [] {
                         stored("float32", ParameterPart::kAttention, {Index{1} << 31, Index{1} << 31});
                       }),
              testing::HasSubstr("overflows"));
}

TEST(Formats, WhatAConfigSaysOfItsCheckpoint) {
  EXPECT_EQ(stored_format({"bfloat16", ""})->name, "bf16");
  EXPECT_EQ(stored_format({"float16", ""})->name, "bf16");
  EXPECT_EQ(stored_format({"float32", ""})->name, "float32");
  EXPECT_EQ(stored_format({"bfloat16", "fp8"})->name, "fp8");
  EXPECT_EQ(stored_format({"", "mxfp4"})->name, "mxfp4");
  EXPECT_EQ(stored_format({"", ""}), nullptr);
  EXPECT_EQ(stored_format({"float32", "awq"}), nullptr);
}

TEST(Costs, ExpectedExperts) {
  EXPECT_NEAR(expected_experts(8, 2, 1.0), 2.0, 1e-12);
  EXPECT_NEAR(expected_experts(4, 2, 2.0), 3.0, 1e-12);
  EXPECT_NEAR(expected_experts(4, 2, 3.0), 3.5, 1e-12);
  EXPECT_EQ(expected_experts(5, 5, 7.0), 5.0);
  EXPECT_NEAR(expected_experts(128, 8, 1e6), 128.0, 1e-9);
}

TEST(Costs, DecodeByHand) {
  const CostModel cost = cost_model(small().config, find_weight_format("float32"));
  EXPECT_EQ(cost.parameters(), 3720.0);
  EXPECT_EQ(cost.bytes(), 4.0 * 3720.0);
  // Attention, norms and routers: 488. Two of four experts in each layer: 1536. The output: 80.
  const PassCost first = decode_cost(cost, 1, 0);
  EXPECT_NEAR(first.weight_bytes, 4.0 * (488 + 1536 + 80), 1e-9);
  EXPECT_EQ(first.cache_bytes, 4.0 * 2 * (4 + 4));
  // Scores and values: 2 heads x 4 elements x 2 x 2 operations a position and layer.
  EXPECT_EQ(first.flops, 2.0 * (488 + 1536 + 80) + 2 * 32.0);
  const PassCost later = decode_cost(cost, 1, 3);
  EXPECT_EQ(later.cache_bytes, 4 * first.cache_bytes);
  EXPECT_EQ(later.flops, first.flops + 3 * 2 * 32.0);
  // Two texts need three of four experts.
  const PassCost two = decode_cost(cost, 2, 3);
  EXPECT_NEAR(two.weight_bytes, 4.0 * (488 + 3072 * 0.75 + 80), 1e-9);
  EXPECT_EQ(two.flops, 2 * later.flops);
  EXPECT_EQ(two.cache_bytes, 2 * later.cache_bytes);
}

TEST(Costs, DenseModelsOfEqualSize) {
  const CostModel cost = cost_model(small().config, find_weight_format("bf16"));
  const CostModel total = cost.dense_of_total_size(), active = cost.dense_of_active_size();
  EXPECT_EQ(total.parameters(), 3720.0);
  EXPECT_EQ(active.parameters(), 3720.0 - 1536.0);
  EXPECT_EQ(total.bytes(), 2.0 * 3720.0);
  EXPECT_EQ(active.bytes(), 2.0 * (3720.0 - 1536.0));
  EXPECT_EQ(decode_cost(total, 1, 0).weight_bytes, 2.0 * (3720.0 - 80.0));
  // One text: a mixture reads and computes what the dense model of its active size does.
  EXPECT_NEAR(decode_cost(cost, 1, 9).weight_bytes, decode_cost(active, 1, 9).weight_bytes, 1e-9);
  EXPECT_EQ(decode_cost(cost, 1, 9).flops, decode_cost(active, 1, 9).flops);
  // Several: the mixture reads more, the dense one does not.
  EXPECT_GT(decode_cost(cost, 5, 9).weight_bytes, decode_cost(active, 5, 9).weight_bytes);
}

// The same sums, a token and a chunk at a time.
PassCost prefill_slowly(const CostModel& cost, Index tokens) {
  PassCost pass;
  pass.weight_bytes = cost.output_bytes;
  pass.flops = 2.0 * cost.output_parameters;
  for (Index begin = 0; begin < tokens; begin += model::kPrefillChunk) {
    const Index end = std::min(tokens, begin + model::kPrefillChunk);
    pass.weight_bytes += cost.layer_bytes;
    for (const ExpertsCost& e : cost.experts)
      pass.weight_bytes += e.bytes / static_cast<double>(e.experts) *
                           expected_experts(e.experts, e.top_k, static_cast<double>(end - begin));
    for (const AttentionCost& layer : cost.attention) {
      const Index seen_before = layer.window == 0 ? begin : std::min(begin, layer.window - 1);
      pass.cache_bytes += 4.0 * static_cast<double>(layer.cache_width * (end - begin + seen_before));
    }
  }
  for (Index t = 0; t < tokens; ++t) {
    pass.flops += 2.0 * cost.layer_parameters;
    for (const ExpertsCost& e : cost.experts)
      pass.flops += 2.0 * e.parameters * static_cast<double>(e.top_k) / static_cast<double>(e.experts);
    for (const AttentionCost& layer : cost.attention)
      pass.flops +=
          layer.prefill_flops * static_cast<double>(layer.window == 0 ? t + 1 : std::min(t + 1, layer.window));
  }
  return pass;
}

TEST(Costs, PrefillIsTheSumOfItsTokensAndChunks) {
  CostModel cost = cost_model(small().config, find_weight_format("float32"));
  for (const Index window : {0, 1, 2, 100, 511, 512, 513, 1024, 1025, 5000}) {
    cost.attention[1].window = window;
    for (const Index tokens : {1, 2, 3, 511, 512, 513, 1024, 1500, 1999}) {
      const PassCost fast = prefill_cost(cost, tokens), slow = prefill_slowly(cost, tokens);
      EXPECT_NEAR(fast.weight_bytes, slow.weight_bytes, 1e-9 * slow.weight_bytes) << tokens;
      EXPECT_NEAR(fast.flops, slow.flops, 1e-12 * slow.flops) << window << " " << tokens;
      EXPECT_EQ(fast.cache_bytes, slow.cache_bytes) << window << " " << tokens;
    }
  }
}

TEST(Costs, WindowsBoundWhatDecodingReads) {
  CostModel cost = cost_model(small().config, find_weight_format("float32"));
  const PassCost all = decode_cost(cost, 1, 99);
  cost.attention[0].window = 10;
  const PassCost bounded = decode_cost(cost, 1, 99);
  EXPECT_EQ(all.cache_bytes, 4.0 * 8 * (100 + 100));
  EXPECT_EQ(bounded.cache_bytes, 4.0 * 8 * (10 + 100));
}

TEST(Costs, LatentAttention) {
  // 2 heads of 6 + 2 elements, values of 4, a latent of 5.
  const model::ConfigFile file = model::parse_config(R"({"model_type": "deepseek_v2", "vocab_size": 10,
    "hidden_size": 8, "intermediate_size": 16, "moe_intermediate_size": 4, "num_hidden_layers": 2,
    "num_attention_heads": 2, "num_key_value_heads": 2, "q_lora_rank": 3, "kv_lora_rank": 5, "qk_nope_head_dim": 6,
    "qk_rope_head_dim": 2, "v_head_dim": 4, "n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2,
    "first_k_dense_replace": 1, "max_position_embeddings": 64, "rms_norm_eps": 1e-06})",
                                                     "latent");
  const model::ParameterCounts counts = model::count_parameters(file.config);
  // q: 8x3 and 3x16; kv: 8x7 and 5x20; o: 8x8.
  EXPECT_EQ(counts.parts[static_cast<std::size_t>(ParameterPart::kAttention)], 2 * (24 + 48 + 56 + 100 + 64));
  // Two a layer of width 8, of the ranks 3 and 5, and the last.
  EXPECT_EQ(counts.parts[static_cast<std::size_t>(ParameterPart::kNorms)], 2 * (16 + 3 + 5) + 8);
  EXPECT_EQ(counts.parts[static_cast<std::size_t>(ParameterPart::kDense)], 3 * 8 * 16);
  EXPECT_EQ(counts.parts[static_cast<std::size_t>(ParameterPart::kSharedExperts)], 3 * 8 * 4);
  const CostModel cost = cost_model(file.config, find_weight_format("bf16"));
  EXPECT_EQ(cost.experts.size(), 1U);
  EXPECT_EQ(cost.attention[0].cache_width, 7);
  EXPECT_EQ(cost.attention[0].prefill_flops, 2.0 * 2 * (8 + 4));
  EXPECT_EQ(cost.attention[0].decode_flops, 2.0 * 2 * (7 + 5));
}

Machine machine_of(Index memory) {
  Machine machine;
  machine.memory_total = machine.memory_available = memory;
  machine.bandwidth = 1e9;
  machine.arithmetic = 2e9;
  return machine;
}

const FormatPlan& in(const ModelPlan& plan, std::string_view name) {
  for (const FormatPlan& format : plan.formats)
    if (format.format->name == name) return format;
  throw std::runtime_error("no such format");
}

TEST(Plans, SpeedsFollowFromCostsAndTheMachine) {
  PlanOptions options;
  options.context = 100;
  options.prompt = 600;
  options.batches = {1, 3};
  const ModelPlan plan = plan_model(small(R"(, "torch_dtype": "float32")"), machine_of(1'000'000'000), options);
  const FormatPlan& format = in(plan, "float32");
  EXPECT_TRUE(format.stored);
  EXPECT_FALSE(in(plan, "bf16").stored);
  EXPECT_EQ(format.bytes, 4 * 3720);
  const PassCost decode = format.sparse.decode, prefill = format.sparse.prefill;
  EXPECT_DOUBLE_EQ(format.sparse.decode_tokens_per_second,
                   1.0 / std::max((decode.weight_bytes + decode.cache_bytes) / 1e9, decode.flops / 2e9));
  EXPECT_DOUBLE_EQ(format.sparse.prefill_tokens_per_second,
                   600.0 / std::max((prefill.weight_bytes + prefill.cache_bytes) / 1e9, prefill.flops / 2e9));
  EXPECT_TRUE(decode.waits_for_memory(plan.machine)) << "half an operation a byte";
  EXPECT_FALSE(prefill.waits_for_memory(plan.machine));
  EXPECT_DOUBLE_EQ(decode.intensity(), decode.flops / (decode.weight_bytes + decode.cache_bytes));
  ASSERT_EQ(format.batches.size(), 2U);
  EXPECT_DOUBLE_EQ(format.batches[0].tokens_per_second, format.sparse.decode_tokens_per_second);
  EXPECT_NEAR(format.batches[1].experts, 3.5, 1e-12);
  // Largest first.
  for (std::size_t i = 1; i < plan.formats.size(); ++i) EXPECT_GE(plan.formats[i - 1].bytes, plan.formats[i].bytes);
}

TEST(Plans, TheLongestContextJustFits) {
  const model::ModelConfig config = small().config;
  // 16 numbers a token in float32: 64 bytes.
  EXPECT_EQ(memory_needed(config, 1000, 10), 1050 + 200'000'000 + 640);
  const Index weights = 4 * 3720, fixed = memory_needed(config, weights, 0);
  for (const Index context : {1, 2, 999, 1999, 2000}) {
    for (const Index spare : {0, 63}) {
      const ModelPlan plan = plan_model(small(), machine_of(fixed + 64 * context + spare));
      EXPECT_EQ(in(plan, "float32").longest_context, context) << spare;
    }
  }
  EXPECT_EQ(in(plan_model(small(), machine_of(fixed + 63)), "float32").longest_context, 0);
  EXPECT_EQ(in(plan_model(small(), machine_of(Index{1} << 40)), "float32").longest_context, 2000)
      << "what it was made for";
}

TEST(Plans, CachesAndDefaults) {
  const ModelPlan plan = plan_model(small(), machine_of(1 << 30));
  ASSERT_EQ(plan.caches.size(), 2U);
  EXPECT_EQ(plan.caches[0].context, 1024);
  EXPECT_EQ(plan.caches[0].allocated, 64 * 1024);
  EXPECT_EQ(plan.caches[0].least, 32 * 1024);
  EXPECT_EQ(plan.caches[1].context, 2000);
  EXPECT_EQ(plan.options.context, 2000) << "4096 is more than the model was made for";
}

TEST(Plans, DraftLayersAreToldButNotCounted) {
  model::ConfigFile file = small();
  file.prediction_layers = 2;
  const ModelPlan plan = plan_model(file, machine_of(1 << 30));
  EXPECT_EQ(plan.counts.total, 3720);
  // A layer (192 + 16 + 32 + 1536), a matrix of 8 x 16 and three norms, twice.
  EXPECT_EQ(plan.draft_parameters, 2 * (1776 + 128 + 24));
}

TEST(Plans, SizesThatOverflowAreRefused) {
  EXPECT_THAT(error_of(ErrorKind::kBadInput,
                       [] {
                         plan_model(model::parse_config(
                                        R"({"model_type": "mixtral", "vocab_size": 2147483647,
                "hidden_size": 2147483640, "intermediate_size": 2147483647, "num_hidden_layers": 2,
                "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 4, "num_local_experts": 60000,
                "num_experts_per_tok": 2, "max_position_embeddings": 2000, "rms_norm_eps": 1e-05})",
                                        "huge"),
                                    machine_of(1 << 30));
                       }),
              testing::HasSubstr("overflows"));
}

TEST(Plans, TrainingCost) {
  const model::ParameterCounts counts = model::count_parameters(small().config);
  EXPECT_EQ(training_flops(counts, 1000.0), 6.0 * 2104 * 1000);
  const GpuAssumptions gpu{100.0, 0.25};
  EXPECT_DOUBLE_EQ(gpu_hours(100e12 * 0.25 * 3600 * 7, gpu), 7.0);
  EXPECT_DOUBLE_EQ(implied_utilisation(100e12 * 0.25 * 3600 * 7, 7.0, gpu), 0.25);
}

}  // namespace
}  // namespace switchyard::plan
