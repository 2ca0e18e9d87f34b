// The architectures of GGUF and the families that they stand for.

#include <array>
#include <cmath>

#include "architecture.hpp"
#include "names.hpp"
#include "switchyard/base/error.hpp"

namespace switchyard::model {
namespace {

using Type = GgufKey::Type;
using Json = nlohmann::ordered_json;

template <std::size_t... N>
constexpr auto join_keys(const std::array<GgufKey, N>&... tables) {
  std::array<GgufKey, (N + ...)> all{};
  std::size_t used = 0;
  const auto append = [&](const auto& table) {
    for (const GgufKey& key : table) all[used++] = key;
  };
  (append(tables), ...);
  return all;
}

constexpr std::array kSizes = {
    GgufKey{"context_length", "max_position_embeddings"},
    GgufKey{"embedding_length", "hidden_size"},
    GgufKey{"block_count", "num_hidden_layers"},
    GgufKey{"attention.head_count", "num_attention_heads"},
    GgufKey{"attention.layer_norm_rms_epsilon", "rms_norm_eps", Type::kNumber},
};
constexpr std::array kGrouped = {GgufKey{"attention.head_count_kv", "num_key_value_heads", Type::kSize, false}};
constexpr std::array kWidth = {GgufKey{"feed_forward_length", "intermediate_size"}};
constexpr std::array kTopK = {GgufKey{"expert_used_count", "num_experts_per_tok"}};
constexpr std::array kLocalExperts = {GgufKey{"expert_count", "num_local_experts"}};
constexpr std::array kExperts = {GgufKey{"expert_count", "num_experts"}};

constexpr auto kDense = join_keys(kSizes, kGrouped, kWidth);
constexpr auto kMixtralKeys = join_keys(kDense, kTopK, kLocalExperts);

// Experts that are narrower than dense layers. Without the key they share out the width among the chosen.
constexpr std::array kExpertWidth = {
    GgufKey{"expert_feed_forward_length", "moe_intermediate_size", Type::kSize, false}};
constexpr auto kQwen3MoeKeys = join_keys(kDense, kTopK, kExperts, kExpertWidth);
constexpr std::array kSharedWidth = {
    GgufKey{"expert_shared_feed_forward_length", "shared_expert_intermediate_size", Type::kSize, false}};
constexpr auto kQwen2MoeKeys = join_keys(kQwen3MoeKeys, kSharedWidth);

constexpr std::array kDeepseekExperts = {
    GgufKey{"expert_count", "n_routed_experts"},
    GgufKey{"expert_feed_forward_length", "moe_intermediate_size"},
    GgufKey{"expert_shared_count", "n_shared_experts"},
    GgufKey{"leading_dense_block_count", "first_k_dense_replace", Type::kSize, false},
};
constexpr auto kDeepseekKeys = join_keys(kDense, kTopK, kDeepseekExperts);

constexpr std::array kScaledExperts = {
    GgufKey{"expert_weights_scale", "routed_scaling_factor", Type::kNumber, false},
};
constexpr std::array kLatent = {
    GgufKey{"attention.q_lora_rank", "q_lora_rank", Type::kSize, false},
    GgufKey{"attention.kv_lora_rank", "kv_lora_rank"},
    GgufKey{"rope.dimension_count", "qk_rope_head_dim"},
};
constexpr auto kDeepseek2Keys = join_keys(kSizes, kWidth, kTopK, kDeepseekExperts, kScaledExperts, kLatent);
constexpr auto kGlm4Keys = join_keys(kDense, kTopK, kDeepseekExperts, kScaledExperts);

constexpr std::array kGraniteScales = {
    GgufKey{"attention.scale", "attention_multiplier", Type::kNumber, false},
    GgufKey{"embedding_scale", "embedding_multiplier", Type::kNumber, false},
    GgufKey{"residual_scale", "residual_multiplier", Type::kNumber, false},
    GgufKey{"logit_scale", "logits_scaling", Type::kNumber, false},
};
constexpr auto kGraniteKeys = join_keys(kMixtralKeys, kGraniteScales);

// Files made before these were written have none of them: the family's own values hold.
constexpr std::array kGrokScales = {
    GgufKey{"attention.output_scale", "attn_output_multiplier", Type::kNumber, false},
    GgufKey{"embedding_scale", "embedding_multiplier_scale", Type::kNumber, false},
    GgufKey{"logit_scale", "output_multiplier_scale", Type::kNumber, false},
    GgufKey{"attn_logit_softcapping", "max_attn_value", Type::kNumber, false},
};
// Which layers have experts; converters always write both.
constexpr std::array kErnieExperts = {
    GgufKey{"expert_count", "moe_num_experts"},
    GgufKey{"expert_used_count", "moe_k"},
    GgufKey{"expert_feed_forward_length", "moe_intermediate_size"},
    GgufKey{"expert_shared_count", "moe_num_shared_experts", Type::kSize, false},
    GgufKey{"leading_dense_block_count", "moe_layer_start_index"},
    GgufKey{"interleave_moe_layer_step", "moe_layer_interval"},
};
constexpr auto kErnieKeys = join_keys(kDense, kErnieExperts);

constexpr auto kOlmoeKeys = join_keys(kDense, kTopK, kExperts);
constexpr auto kGrokKeys = join_keys(kOlmoeKeys, kGrokScales);

constexpr std::array kDbrxKeys = {
    GgufKey{"context_length", "max_seq_len"},
    GgufKey{"embedding_length", "d_model"},
    GgufKey{"block_count", "n_layers"},
    GgufKey{"attention.head_count", "n_heads"},
    GgufKey{"attention.head_count_kv", "attn_config.kv_n_heads"},
    GgufKey{"feed_forward_length", "ffn_config.ffn_hidden_size"},
    GgufKey{"expert_count", "ffn_config.moe_num_experts"},
    GgufKey{"expert_used_count", "ffn_config.moe_top_k"},
};

constexpr auto kLlamaTensors = join(kGgufGlobalNames, kGgufPairedAttention, kGgufFfnNorm, kGgufDense);
constexpr auto kMixtralTensors =
    join(kGgufGlobalNames, kGgufPairedAttention, kGgufFfnNorm, kGgufExperts, kGgufSingleExperts);
constexpr auto kQwenTensors =
    join(kGgufGlobalNames, kGgufPlainAttention, kGgufFusedToo, kGgufHeadNorms, kGgufFfnNorm, kGgufDense);
constexpr auto kQwenMoeTensors = join(kGgufGlobalNames, kGgufPlainAttention, kGgufFusedToo, kGgufHeadNorms,
                                      kGgufFfnNorm, kGgufExperts, kGgufShared, kGgufSharedGate);
constexpr auto kDeepseekTensors =
    join(kGgufGlobalNames, kGgufPairedAttention, kGgufFfnNorm, kGgufDense, kGgufExperts, kGgufShared);
constexpr auto kDeepseek2Tensors = join(kGgufGlobalNames, kGgufLatentAttention, kGgufFfnNorm, kGgufDense, kGgufExperts,
                                        kGgufShared, kGgufSelectionBias);
constexpr auto kGlm4Tensors = join(kGgufGlobalNames, kGgufPlainAttention, kGgufHeadNorms, kGgufPostAttentionNorm,
                                   kGgufDense, kGgufExperts, kGgufShared, kGgufSelectionBias, kGgufPrediction);
constexpr auto kGptOssTensors =
    join(kGgufGlobalNames, kGgufPlainAttention, kGgufPostAttentionNorm, kGgufExperts, kGgufGptOss);
constexpr auto kPhimoeTensors =
    join(kGgufGlobalNames, kGgufPlainAttention, kGgufFusedToo, kGgufFfnNorm, kGgufNormBiases, kGgufExperts);
constexpr auto kGraniteTensors = join(kGgufGlobalNames, kGgufPairedAttention, kGgufFfnNorm, kGgufExperts);
constexpr auto kGrokTensors =
    join(kGgufGlobalNames, kGgufPlainAttention, kGgufFfnNorm, kGgufExperts, kGgufSingleExperts, kGgufGrok);
constexpr auto kMinimaxTensors = join(kGgufGlobalNames, kGgufPlainAttention, kGgufFusedToo, kGgufHeadNorms,
                                      kGgufFfnNorm, kGgufExperts, kGgufSelectionBias);
// RoPE of neighbours in the published weights too: rows stay where they are.
constexpr auto kErnieTensors = join(kGgufGlobalNames, kGgufPlainAttention, kGgufFusedToo, kGgufFfnNorm, kGgufDense,
                                    kGgufExperts, kGgufShared, kGgufSelectionBias);
constexpr auto kDbrxTensors = join(kGgufGlobalNames, kGgufFusedAttention, kGgufExperts, kGgufDbrx);

bool always(const GgufReading&) { return true; }
bool has_experts(const GgufReading& reading) { return reading.find_size("expert_count").value_or(0) > 0; }

enum Gating : Index { kUnset = 0, kSoftmax = 1, kSigmoid = 2 };
bool sigmoid_gated(const GgufReading& reading) {
  return reading.find_size("expert_gating_func").value_or(kUnset) == kSigmoid;
}
bool is_kimi(const GgufReading& reading) {
  constexpr Index kKimiVocabulary = 163840;
  const Shape* embedding = reading.file().find_tensor("token_embd.weight");
  return sigmoid_gated(reading) && embedding != nullptr && embedding->rank() == 2 && (*embedding)[0] == kKimiVocabulary;
}
void expect_gating(const GgufReading& reading, Index wanted) {
  const Index found = reading.find_size("expert_gating_func").value_or(kUnset);
  if (found != kUnset && found != wanted)
    fail(ErrorKind::kUnsupported, "{}: key {}: found {}, only {} is supported", reading.metadata().file(),
         reading.key("expert_gating_func"), found, wanted);
}

Index head_dim_of(const GgufReading& reading) {
  const Index heads = reading.size("attention.head_count"), width = reading.size("embedding_length");
  const auto key = reading.find_size("attention.key_length"), value = reading.find_size("attention.value_length");
  const Index head = key ? *key : heads > 0 ? width / heads : 0;
  if (value.value_or(head) != head)
    fail(ErrorKind::kUnsupported, "{}: key {}: found {}, but keys have {} elements; only the same is supported",
         reading.metadata().file(), reading.key("attention.value_length"), *value, head);
  return head;
}

void read_attention(GgufReading& reading) {
  const Index head = head_dim_of(reading);
  if (reading.find_size("attention.key_length")) reading.set("head_dim", head);
  if (!reading.config.contains("num_key_value_heads"))
    reading.set("num_key_value_heads", reading.config.at("num_attention_heads"));
  read_gguf_rope(reading, head);
}

Index written_head_dim(const GgufWriting& writing) {
  if (const Json head = writing.at("head_dim"); !head.is_null()) return head.get<Index>();
  return writing.at("hidden_size").get<Index>() / writing.at("num_attention_heads").get<Index>();
}

void write_attention(GgufWriting& writing) {
  const Index head = written_head_dim(writing);
  writing.size("attention.key_length", head);
  writing.size("attention.value_length", head);
  write_gguf_rope(writing, head);
}

void read_biases(GgufReading& reading) {
  reading.set("attention_bias", reading.file().has("blk.0.attn_q.bias") || reading.file().has("blk.0.attn_qkv.bias"));
}

void read_llama(GgufReading& reading) {
  read_attention(reading);
  read_biases(reading);
  reading.set("mlp_bias", false);
}

void read_expert_width(GgufReading& reading) {
  if (!reading.config.contains("moe_intermediate_size")) {
    const Index chosen = reading.size("expert_used_count");
    if (chosen < 1) reading.metadata().refuse(reading.key("expert_used_count"), "1 or more");
    reading.set("moe_intermediate_size", reading.size("feed_forward_length") / chosen);
  }
  reading.set("mlp_only_layers", Json::array());
}

void read_qwen2_moe(GgufReading& reading) {
  read_attention(reading);
  read_expert_width(reading);
  if (!reading.config.contains("shared_expert_intermediate_size"))
    reading.set("shared_expert_intermediate_size", reading.size("feed_forward_length"));
  reading.set("qkv_bias", reading.file().has("blk.0.attn_q.bias") || reading.file().has("blk.0.attn_qkv.bias"));
  reading.set("norm_topk_prob", reading.find_flag("expert_weights_norm").value_or(false));
}

void read_qwen3_moe(GgufReading& reading) {
  read_attention(reading);
  read_expert_width(reading);
  reading.set("norm_topk_prob", reading.find_flag("expert_weights_norm").value_or(true));
}

void expect_one(const GgufReading& reading, std::string_view name) {
  const double found = reading.find_number(name).value_or(1.0);
  if (found != 1.0)
    fail(ErrorKind::kUnsupported, "{}: key {}: found {}, only 1 is supported", reading.metadata().file(),
         reading.key(name), found);
}

void read_deepseek(GgufReading& reading) {
  read_attention(reading);
  read_biases(reading);
  reading.config.erase("head_dim");
  expect_gating(reading, kSoftmax);
  expect_one(reading, "expert_weights_scale");
  reading.set("norm_topk_prob", reading.find_flag("expert_weights_norm").value_or(false));
}

void write_deepseek(GgufWriting& writing) {
  write_attention(writing);
  writing.number("expert_weights_scale", 1.0);
}

// Of a head: the keys that are not rotated, and the values. Files made for the absorbed form say so in keys of their
// own, as there the keys of attention are the latents.
void read_deepseek2(GgufReading& reading) {
  const Index rotated = reading.size("rope.dimension_count");
  const bool absorbed = reading.find_size("attention.key_length_mla").has_value();
  const Index key = reading.size(absorbed ? "attention.key_length_mla" : "attention.key_length");
  const Index value = reading.size(absorbed ? "attention.value_length_mla" : "attention.value_length");
  reading.set("qk_nope_head_dim", key - rotated);
  reading.set("v_head_dim", value);
  reading.set("num_key_value_heads", reading.config.at("num_attention_heads"));
  read_gguf_rope(reading, 0);
  // A tenth of mscale_all_dim, to which mscale is equal.
  if (const auto log = reading.find_number("rope.scaling.yarn_log_multiplier");
      log && *log != 0.0 && reading.config.contains("rope_scaling")) {
    const double mscale = static_cast<double>(static_cast<float>(*log * 10.0));
    reading.set("rope_scaling.mscale", std::stod(fmt::format("{:.6g}", mscale)));
    reading.set("rope_scaling.mscale_all_dim", std::stod(fmt::format("{:.6g}", mscale)));
  }
  const bool sigmoid = sigmoid_gated(reading);
  expect_gating(reading, sigmoid ? kSigmoid : kSoftmax);
  reading.set("scoring_func", sigmoid ? "sigmoid" : "softmax");
  reading.set("norm_topk_prob", reading.find_flag("expert_weights_norm").value_or(false));
  if (!reading.config.contains("routed_scaling_factor")) reading.set("routed_scaling_factor", 1.0);

  // Files made before there were keys for groups: the published models have these.
  const Index layers = reading.size("block_count"), experts = reading.size("expert_count");
  Index groups = 1, kept = 1;
  if (const auto count = reading.find_size("expert_group_count")) {
    groups = std::max(*count, Index{1});
    kept = std::max(reading.find_size("expert_group_used_count").value_or(1), Index{1});
  } else if (sigmoid && layers == 61 && experts == 256) {
    groups = 8;
    kept = 4;
  } else if (!sigmoid && layers == 60 && experts == 160) {
    groups = 8;
    kept = 3;
  }
  reading.set("n_group", groups);
  reading.set("topk_group", kept);
  reading.set("topk_method", sigmoid ? "noaux_tc" : groups > 1 ? "group_limited_greedy" : "greedy");
}

void write_deepseek2(GgufWriting& writing) {
  const Index rotated = writing.at("qk_rope_head_dim").get<Index>(), rank = writing.at("kv_lora_rank").get<Index>();
  const Index value = writing.at("v_head_dim").get<Index>();
  writing.size("attention.head_count_kv", 1);
  writing.size("attention.key_length", rank + rotated);
  writing.size("attention.value_length", rank);
  writing.size("attention.key_length_mla", writing.at("qk_nope_head_dim").get<Index>() + rotated);
  writing.size("attention.value_length_mla", value);
  write_gguf_rope(writing, 0);
  if (const Json mscale = writing.at("rope_scaling.mscale_all_dim"); !mscale.is_null())
    writing.number("rope.scaling.yarn_log_multiplier", 0.1 * mscale.get<double>());
  writing.size("expert_gating_func", writing.at("scoring_func") == "sigmoid" ? kSigmoid : kSoftmax);
  writing.flag("expert_weights_norm", writing.at("norm_topk_prob").get<bool>());
  writing.size("expert_group_count", writing.at("n_group").get<Index>());
  writing.size("expert_group_used_count", writing.at("topk_group").get<Index>());
}

void read_glm4(GgufReading& reading) {
  read_attention(reading);
  read_biases(reading);
  expect_gating(reading, kSigmoid);
  reading.set("use_qk_norm", reading.file().has("blk.0.attn_q_norm.weight"));
  reading.set("norm_topk_prob", reading.find_flag("expert_weights_norm").value_or(true));
  // Counted with the model's own layers.
  const Index layers = reading.size("block_count"), more = reading.find_size("nextn_predict_layers").value_or(0);
  if (more < 0 || more >= layers)
    reading.metadata().refuse(reading.key("nextn_predict_layers"), "fewer than block_count");
  reading.set("num_hidden_layers", layers - more);
  reading.set("num_nextn_predict_layers", more);
}

void write_glm4(GgufWriting& writing) {
  write_attention(writing);
  writing.size("expert_gating_func", kSigmoid);
  writing.flag("expert_weights_norm", writing.at("norm_topk_prob").get<bool>());
  const Index more = writing.at("num_nextn_predict_layers").get<Index>();
  writing.size("nextn_predict_layers", more);
  writing.size("block_count", writing.at("num_hidden_layers").get<Index>() + more);
}

void read_gpt_oss(GgufReading& reading) {
  read_attention(reading);
  reading.set("attention_bias", true);
  // The published models' YaRN is not rounded to whole pairs, which GGUF has no key for.
  if (reading.config.contains("rope_scaling") && reading.config["rope_scaling"]["rope_type"] == "yarn")
    reading.set("rope_scaling.truncate", false);
  else if (!reading.config.contains("rope_scaling"))
    reading.set("rope_scaling", {{"rope_type", "default"}});
  if (const auto width = reading.find_size("expert_feed_forward_length")) reading.set("intermediate_size", *width);
  reading.set("sliding_window", reading.size("attention.sliding_window"));
}

void write_gpt_oss(GgufWriting& writing) {
  write_attention(writing);
  writing.size("expert_feed_forward_length", writing.at("intermediate_size").get<Index>());
  const Json window = writing.at("sliding_window");
  writing.size("attention.sliding_window", window.is_null() ? 0 : window.get<Index>());
}

void read_phimoe(GgufReading& reading) {
  read_attention(reading);
  read_biases(reading);
  reading.set("lm_head_bias", reading.file().has("output.bias"));
}

void write_phimoe(GgufWriting& writing) {
  write_attention(writing);
  // llama.cpp reads the one and its LayerNorm the other.
  writing.number("attention.layer_norm_epsilon", writing.at("rms_norm_eps").get<double>());
  writing.size("attention.sliding_window", 0);
}

void read_granite(GgufReading& reading) {
  read_attention(reading);
  read_biases(reading);
  reading.config.erase("head_dim");
  // Absent or 0: as everywhere else.
  const Index head = head_dim_of(reading);
  if (reading.find_number("attention.scale").value_or(0.0) == 0.0)
    reading.set("attention_multiplier", 1.0 / std::sqrt(static_cast<double>(head)));
}

void read_olmoe(GgufReading& reading) {
  read_attention(reading);
  reading.config.erase("head_dim");
  reading.set("norm_topk_prob", reading.find_flag("expert_weights_norm").value_or(false));
}

void read_grok(GgufReading& reading) {
  read_attention(reading);
  reading.set("hidden_act", "gelu_pytorch_tanh");
  if (reading.file().has("blk.0.ffn_up.weight") && !reading.file().has("blk.0.ffn_up.0.weight"))
    fail(ErrorKind::kUnsupported,
         "{}: tensor blk.0.ffn_up.weight: a dense network beside the experts (Grok-2) is not supported",
         reading.metadata().file());
}

void read_dbrx(GgufReading& reading) {
  read_gguf_rope(reading, head_dim_of(reading), "attn_config.");
  const double clip = reading.find_number("attention.clamp_kqv").value_or(0.0);
  if (clip != 0.0) reading.set("attn_config.clip_qkv", clip);
  reading.set("ffn_config.ffn_act_fn.name", "silu");
}

void write_dbrx(GgufWriting& writing) {
  const Index head = writing.at("d_model").get<Index>() / writing.at("n_heads").get<Index>();
  write_gguf_rope(writing, head, "attn_config.");
  const Json clip = writing.at("attn_config.clip_qkv");
  writing.number("attention.clamp_kqv", clip.is_null() ? 0.0 : clip.get<double>());
  writing.number("attention.layer_norm_epsilon", 1e-5);
}

// Both divide the weights by their sum, and llama.cpp does whatever the keys say.
void expect_divided_weights(const GgufReading& reading) {
  expect_one(reading, "expert_weights_scale");
  if (!reading.find_flag("expert_weights_norm").value_or(true))
    fail(ErrorKind::kUnsupported, "{}: key {}: found false, only true is supported", reading.metadata().file(),
         reading.key("expert_weights_norm"));
}

void read_minimax(GgufReading& reading) {
  read_attention(reading);
  reading.config.erase("partial_rotary_factor");
  reading.set("rotary_dim", reading.find_size("rope.dimension_count").value_or(head_dim_of(reading)));
  if (const auto width = reading.find_size("expert_feed_forward_length")) reading.set("intermediate_size", *width);
  expect_gating(reading, kSigmoid);
  expect_divided_weights(reading);
}

void write_minimax(GgufWriting& writing) {
  write_attention(writing);
  writing.size("rope.dimension_count", writing.at("rotary_dim").get<Index>());
  writing.size("expert_feed_forward_length", writing.at("intermediate_size").get<Index>());
  writing.size("expert_gating_func", kSigmoid);
}

void read_ernie(GgufReading& reading) {
  read_attention(reading);
  expect_gating(reading, kSoftmax);
  expect_divided_weights(reading);
  // The width of all shared experts together decides, as in llama.cpp; without it their number.
  Index shared = reading.find_size("expert_shared_count").value_or(0);
  if (const auto all = reading.find_size("expert_shared_feed_forward_length")) {
    const Index one = reading.size("expert_feed_forward_length");
    if (one < 1) reading.metadata().refuse(reading.key("expert_feed_forward_length"), "1 or more");
    if (*all < 0 || *all % one != 0)
      reading.metadata().refuse(reading.key("expert_shared_feed_forward_length"),
                                fmt::format("a multiple of expert_feed_forward_length ({})", one));
    shared = *all / one;
  }
  reading.set("moe_num_shared_experts", shared);
}

void write_ernie(GgufWriting& writing) {
  write_attention(writing);
  const Index shared = writing.at("moe_num_shared_experts").get<Index>();
  if (shared > 0)
    writing.size("expert_shared_feed_forward_length", shared * writing.at("moe_intermediate_size").get<Index>());
}

constexpr std::string_view kIgnored[] = {"rope_freqs.weight", "rope_factors_short.weight", "rope_factors_long.weight",
                                         // the second form of a matrix that is there in its first one
                                         "*.attn_k_b.weight", "*.attn_v_b.weight"};

const std::array kArchitectures = {
    GgufArchitecture{"llama", &kMixtral, has_experts, kMixtralKeys, kMixtralTensors, read_attention, write_attention},
    GgufArchitecture{"llama", &kLlama, always, kDense, kLlamaTensors, read_llama, write_attention},
    GgufArchitecture{"qwen2", &kQwen2, always, kDense, kQwenTensors, read_attention, write_attention},
    GgufArchitecture{"qwen3", &kQwen3, always, kDense, kQwenTensors, read_attention, write_attention},
    GgufArchitecture{"qwen2moe", &kQwen2Moe, always, kQwen2MoeKeys, kQwenMoeTensors, read_qwen2_moe, write_attention},
    GgufArchitecture{"qwen3moe", &kQwen3Moe, always, kQwen3MoeKeys, kQwenMoeTensors, read_qwen3_moe, write_attention},
    GgufArchitecture{"deepseek", &kDeepseek, always, kDeepseekKeys, kDeepseekTensors, read_deepseek, write_deepseek},
    GgufArchitecture{"deepseek2", &kKimiK2, is_kimi, kDeepseek2Keys, kDeepseek2Tensors, read_deepseek2,
                     write_deepseek2},
    GgufArchitecture{"deepseek2", &kDeepseekV3, sigmoid_gated, kDeepseek2Keys, kDeepseek2Tensors, read_deepseek2,
                     write_deepseek2},
    GgufArchitecture{"deepseek2", &kDeepseekV2, always, kDeepseek2Keys, kDeepseek2Tensors, read_deepseek2,
                     write_deepseek2},
    GgufArchitecture{"olmoe", &kOlmoe, always, kOlmoeKeys, kQwenMoeTensors, read_olmoe, write_attention},
    GgufArchitecture{"dbrx", &kDbrx, always, kDbrxKeys, kDbrxTensors, read_dbrx, write_dbrx},
    GgufArchitecture{"grok", &kGrok, always, kGrokKeys, kGrokTensors, read_grok, write_attention},
    GgufArchitecture{"gpt-oss", &kGptOss, always, kMixtralKeys, kGptOssTensors, read_gpt_oss, write_gpt_oss},
    GgufArchitecture{"phimoe", &kPhimoe, always, kMixtralKeys, kPhimoeTensors, read_phimoe, write_phimoe},
    GgufArchitecture{"granitemoe", &kGraniteMoe, always, kGraniteKeys, kGraniteTensors, read_granite, write_attention},
    GgufArchitecture{"glm4moe", &kGlm4Moe, always, kGlm4Keys, kGlm4Tensors, read_glm4, write_glm4},
    GgufArchitecture{"minimax-m2", &kMinimaxM2, always, kMixtralKeys, kMinimaxTensors, read_minimax, write_minimax},
    GgufArchitecture{"ernie4_5-moe", &kErnieMoe, always, kErnieKeys, kErnieTensors, read_ernie, write_ernie},
};

}  // namespace

std::span<const GgufArchitecture> gguf_architectures() { return kArchitectures; }

TensorScheme scheme_of(const GgufArchitecture& architecture) {
  return {architecture.tensors, kIgnored, "blk.", "nextn.eh_proj.weight"};
}

}  // namespace switchyard::model
