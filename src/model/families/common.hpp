#pragma once
// What the dialects of the llama-like families share. Spellings of transformers 4 and 5 are both read; those of 4 are
// written, which both read.

#include <nlohmann/json_fwd.hpp>

#include <string>
#include <string_view>
#include <vector>

#include "switchyard/formats/json_config.hpp"
#include "switchyard/kernels/rope.hpp"
#include "switchyard/model/config.hpp"

namespace switchyard::model {

// A size: 1 to 2^31 - 1, so that the product of two never overflows.
Index read_size(const formats::JsonConfig& json, std::string_view key);
// A count of layers, experts and the like that may be 0.
Index read_count_or(const formats::JsonConfig& json, std::string_view key, Index otherwise);

// kUnsupported "file: key: found VALUE, only EXPECTED is supported" where the key is there with another value.
void expect_int(const formats::JsonConfig& json, std::string_view key, Index expected);
void expect_float(const formats::JsonConfig& json, std::string_view key, double expected);
void expect_bool(const formats::JsonConfig& json, std::string_view key, bool expected);
void expect_string(const formats::JsonConfig& json, std::string_view key, std::string_view expected);

// Which layers have a sliding window where config.json does not say so by layer_types.
enum class Windowed {
  kNone,
  kEverywhere,    // all; layer_types is not read (Mixtral)
  kEven,          // layers 0, 2, ... (gpt-oss)
  kEvenBelowMax,  // of these, those below max_window_layers (Qwen2-MoE)
  kFromMax,       // those from max_window_layers on (Qwen2, Qwen3)
};

// Defaults of a family's configuration class in transformers, for keys that a file may leave out.
struct DecoderDefaults {
  double rope_theta = 10000.0;
  double partial_rotary_factor = 1.0;
  bool kv_heads_optional = false;  // absent: as many as heads
  Windowed windowed = Windowed::kNone;
  std::string_view window_switch = "";  // the key that turns sliding_window on; empty: it is always on
};

// Rotary embedding of a head of `head_dim` elements: theta, how many elements, and how frequencies are stretched. Both
// dialects: rope_theta with rope_scaling, and rope_parameters.
struct Rope {
  double theta = 0.0;
  Index rotary_dim = 0;  // 0 = all
  kernels::RopeScaling scaling;
  double mscale_all_dim = 0.0;  // DeepSeek's: part of the scale of the scores
};
Rope read_rope(const formats::JsonConfig& json, const DecoderDefaults& defaults, Index head_dim, Index max_positions);
void set_rope(const Rope& rope, AttentionConfig& attention);
// What read_rope() reads, from the first layer; without mscale_all_dim.
void add_rope(const ModelConfig& config, nlohmann::ordered_json& json);
// 1 + 0.1 k ln(s), or 1 where s <= 1. Peng et al. 2023, arXiv 2309.00071.
double yarn_mscale(double factor, double k);

// quantization_config, where there is one, must be FP8 blocks or MXFP4, which the tensors themselves tell.
void check_quantisation(const formats::JsonConfig& json);
// The number of layers.
std::size_t read_layers(const formats::JsonConfig& json, std::string_view key = "num_hidden_layers");
// Sets the windows of all layers.
void read_windows(const formats::JsonConfig& json, const DecoderDefaults& defaults, ModelConfig& config);

// The sizes and switches of the whole model, without layers.
ModelConfig read_sizes(const formats::JsonConfig& json);
// Everything but biases, q/k norms and feed-forward networks. One row a layer, all with the same attention but for its
// window.
ModelConfig read_decoder(const formats::JsonConfig& json, const DecoderDefaults& defaults);
// The same keys, from the first layer.
nlohmann::ordered_json decoder_json(const ModelConfig& config);

// float32 as the double whose shortest decimal is that of the float: 1e-5F is written 1e-05.
double shortest(float value);

// sliding_window and, where there is one, layer_types.
void add_windows(const ModelConfig& config, nlohmann::ordered_json& json);

// The attention of the first row.
AttentionConfig first_attention(const ModelConfig& config);
// The first row of a kind; null where there is none.
const DenseFfnConfig* first_dense(const ModelConfig& config);
const moe::MoeConfig* first_moe(const ModelConfig& config);
// The MoE block of the first row that has one; where there is none one of no width.
moe::MoeConfig experts_of(const ModelConfig& config);
// A MoE block of the sizes that the keys of add_experts() give, with the number of experts under any of its spellings.
moe::MoeConfig read_experts(const formats::JsonConfig& json);
// intermediate_size, which is an expert's, the number of experts under `count_key`, and num_experts_per_tok.
void add_experts(const ModelConfig& config, const char* count_key, nlohmann::ordered_json& json);
std::vector<Index> dense_layers(const ModelConfig& config);
// The number of dense layers before the first MoE layer.
Index leading_dense_layers(const ModelConfig& config);
// The width of dense layers. Where there are none the key must still be there: the experts' active width, which is
// what the published models have.
Index dense_hidden(const ModelConfig& config);

}  // namespace switchyard::model
