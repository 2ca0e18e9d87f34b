// The names and layouts in which each family's files hold their tensors: loaded they are the numbers that were written,
// in float32, mapped and copied, and a folder that was saved loads as the same model.

#include <gmock/gmock.h>

#include "support/error_of.hpp"
#include "weight_folder.hpp"

namespace switchyard::model {
namespace {

// Odd sizes; heads of 6.
constexpr Index kVocab = 37, kExperts = 3, kHeads = 5, kKvHeads = 1, kHeadDim = 6, kWidth = 30;
constexpr Index kQueries = kHeads * kHeadDim, kKeys = kKvHeads * kHeadDim;

std::string config_of(const std::string& type, const std::string& more, Index width = kWidth) {
  return fmt::format(R"({{"model_type": "{}", "vocab_size": {}, "hidden_size": {}, "num_hidden_layers": 1,
    "num_attention_heads": {}, "num_key_value_heads": {}, "max_position_embeddings": 32, "rms_norm_eps": 1e-5,
    "tie_word_embeddings": false, {}}})",
                     type, kVocab, width, kHeads, kKvHeads, more);
}

// A folder under construction and what it stands for. Native names are those of layer 0.
struct Model {
  explicit Model(const std::string& config, Index w = kWidth, Index f = 11) : folder(config), width(w), hidden(f) {}

  void matrix(const std::string& native, const std::string& name, Index rows, Index cols) {
    expected[native] = {folder.matrix(name, DType::kBF16, rows, cols)};
  }
  void vector(const std::string& native, const std::string& name, Index length) {
    matrix(native, name, 1, length);
    folder.at(name).reshape({length});
  }
  void layer_matrix(const std::string& native, const std::string& name, Index rows, Index cols) {
    matrix("layers.0." + native, name, rows, cols);
  }
  void layer_vector(const std::string& native, const std::string& name, Index length) {
    vector("layers.0." + native, name, length);
  }
  // Stacked matrices [E, rows, cols] of a tensor.
  std::vector<Values> stack(const std::string& name, Index rows, Index cols) {
    folder.put(name, random_tensor(DType::kBF16, {kExperts, rows, cols}, folder.next_seed()));
    std::vector<Values> result;
    for (Index e = 0; e < kExperts; ++e) result.push_back(Folder::values_of(folder.at(name), e, rows, cols));
    return result;
  }
  void expert(const std::string& native, Values values) {
    expected["layers.0.moe.experts." + native].push_back(std::move(values));
  }
  void experts_one_by_one(const std::string& prefix, const char* gate, const char* up, const char* down) {
    for (Index e = 0; e < kExperts; ++e) {
      const std::string name = fmt::format("{}.{}.", prefix, e);
      expert("gate", folder.matrix(name + gate + ".weight", DType::kBF16, hidden, width));
      expert("up", folder.matrix(name + up + ".weight", DType::kBF16, hidden, width));
      expert("down", folder.matrix(name + down + ".weight", DType::kBF16, width, hidden));
    }
  }
  // As Llama calls them.
  void llama_outside() {
    matrix("embedding", "model.embed_tokens.weight", kVocab, width);
    vector("final_norm", "model.norm.weight", width);
    matrix("output", "lm_head.weight", kVocab, width);
    layer_vector("attention_norm", kLayer + "input_layernorm.weight", width);
    layer_vector("ffn_norm", kLayer + "post_attention_layernorm.weight", width);
  }
  void llama_attention(const std::string& block = "self_attn.") {
    layer_matrix("attention.q", kLayer + block + "q_proj.weight", kQueries, width);
    layer_matrix("attention.k", kLayer + block + "k_proj.weight", kKeys, width);
    layer_matrix("attention.v", kLayer + block + "v_proj.weight", kKeys, width);
    layer_matrix("attention.o", kLayer + block + "o_proj.weight", width, kQueries);
  }
  void attention_biases() {
    layer_vector("attention.q_bias", kLayer + "self_attn.q_proj.bias", kQueries);
    layer_vector("attention.k_bias", kLayer + "self_attn.k_proj.bias", kKeys);
    layer_vector("attention.v_bias", kLayer + "self_attn.v_proj.bias", kKeys);
    layer_vector("attention.o_bias", kLayer + "self_attn.o_proj.bias", width);
  }
  void router(const std::string& name) { layer_matrix("moe.router", name, kExperts, width); }

  // Loads in every way; saved as this type, the folder has the same tensors (in float32) and loads as the same.
  void check(const std::string& type, bool same_names = true) const {
    folder.write();
    expect_loads(folder, expected);
    for (const bool stored : {false, true}) {
      Folder saved("{}");
      const LoadedModel model = load_model(folder.path(), {.stored = stored});
      EXPECT_EQ(save_model(saved.path(), model.transformer, nullptr), type);
      expect_loads(saved, expected);
      if (!same_names) continue;
      const Tensors before = read_tensors(folder.path()), after = read_tensors(saved.path());
      ASSERT_EQ(before.size(), after.size());
      for (const auto& [name, tensor] : before) {
        ASSERT_EQ(after.count(name), 1U) << name;
        EXPECT_EQ(after.at(name).shape(), tensor.shape()) << name;
        EXPECT_TRUE(oracle::same_bits(after.at(name).f32(), std::as_const(tensor).to_f32().f32())) << name;
      }
    }
  }

  const std::string kLayer = "model.layers.0.";
  Folder folder;
  Expected expected;
  Index width, hidden;
};

Values transposed(const Values& m) {
  Values result{m.cols, m.rows, {}};
  for (Index r = 0; r < m.cols; ++r)
    for (Index c = 0; c < m.rows; ++c) result.of.push_back(m(c, r));
  return result;
}

TEST(FamilyLayoutsTest, Olmoe) {
  Model model(config_of("olmoe", R"("intermediate_size": 11, "num_experts": 3, "num_experts_per_tok": 2)"));
  model.llama_outside();
  model.llama_attention();
  model.layer_vector("attention.q_norm", model.kLayer + "self_attn.q_norm.weight", kQueries);
  model.layer_vector("attention.k_norm", model.kLayer + "self_attn.k_norm.weight", kKeys);
  model.router(model.kLayer + "mlp.gate.weight");
  model.experts_one_by_one(model.kLayer + "mlp.experts", "gate_proj", "up_proj", "down_proj");
  model.check("olmoe");
}

TEST(FamilyLayoutsTest, GraniteMoe) {
  Model model(config_of("granitemoe", R"("intermediate_size": 11, "num_local_experts": 3, "num_experts_per_tok": 2,
    "embedding_multiplier": 12.0, "attention_multiplier": 0.015625, "residual_multiplier": 0.22,
    "logits_scaling": 6.0)"));
  model.llama_outside();
  model.llama_attention();
  const std::string block = model.kLayer + "block_sparse_moe.";
  model.router(block + "router.layer.weight");
  for (const Values& both : model.stack(block + "input_linear.weight", 2 * model.hidden, kWidth)) {
    model.expert("gate", rows_of(both, 0, 1, model.hidden));
    model.expert("up", rows_of(both, model.hidden, 1, model.hidden));
  }
  for (Values& down : model.stack(block + "output_linear.weight", kWidth, model.hidden))
    model.expert("down", std::move(down));
  model.check("granitemoe");
}

TEST(FamilyLayoutsTest, Dbrx) {
  Model model(fmt::format(R"({{"model_type": "dbrx", "vocab_size": {}, "d_model": {}, "n_layers": 1, "n_heads": {},
    "max_seq_len": 32, "attn_config": {{"kv_n_heads": {}, "clip_qkv": 8, "rope_theta": 500000}},
    "ffn_config": {{"ffn_hidden_size": 11, "moe_num_experts": 3, "moe_top_k": 2}}}})",
                          kVocab, kWidth, kHeads, kKvHeads));
  const std::string block = "transformer.blocks.0.";
  model.matrix("embedding", "transformer.wte.weight", kVocab, kWidth);
  model.vector("final_norm", "transformer.norm_f.weight", kWidth);
  model.matrix("output", "lm_head.weight", kVocab, kWidth);
  model.layer_vector("attention_norm", block + "norm_attn_norm.norm_1.weight", kWidth);
  model.layer_vector("ffn_norm", block + "norm_attn_norm.norm_2.weight", kWidth);
  const Values qkv =
      model.folder.matrix(block + "norm_attn_norm.attn.Wqkv.weight", DType::kBF16, kQueries + 2 * kKeys, kWidth);
  model.expected["layers.0.attention.q"] = {rows_of(qkv, 0, 1, kQueries)};
  model.expected["layers.0.attention.k"] = {rows_of(qkv, kQueries, 1, kKeys)};
  model.expected["layers.0.attention.v"] = {rows_of(qkv, kQueries + kKeys, 1, kKeys)};
  model.layer_matrix("attention.o", block + "norm_attn_norm.attn.out_proj.weight", kWidth, kQueries);
  model.router(block + "ffn.router.layer.weight");
  const auto flat = [&](const char* name) {
    return model.folder.matrix(block + "ffn.experts.mlp." + name, DType::kBF16, kExperts * model.hidden, kWidth);
  };
  const Values gate = flat("w1"), up = flat("v1"), down = flat("w2");
  for (Index e = 0; e < kExperts; ++e) {
    model.expert("gate", rows_of(gate, e * model.hidden, 1, model.hidden));
    model.expert("up", rows_of(up, e * model.hidden, 1, model.hidden));
    model.expert("down", transposed(rows_of(down, e * model.hidden, 1, model.hidden)));
  }
  model.check("dbrx");
}

std::string gpt_oss_config(Index width, Index hidden) {
  return config_of("gpt_oss",
                   fmt::format(R"("head_dim": {}, "intermediate_size": {}, "num_local_experts": 3,
    "num_experts_per_tok": 2, "attention_bias": true, "sliding_window": 8, "rope_scaling": {{"rope_type": "default"}})",
                               kHeadDim, hidden),
                   width);
}

// Everything but the experts' matrices.
void put_gpt_oss(Model& model) {
  model.llama_outside();
  model.llama_attention();
  model.attention_biases();
  model.layer_vector("attention.sinks", model.kLayer + "self_attn.sinks", kHeads);
  const std::string block = model.kLayer + "mlp.";
  model.router(block + "router.weight");
  model.layer_vector("moe.router_bias", block + "router.bias", kExperts);
  const Values biases =
      model.folder.matrix(block + "experts.gate_up_proj_bias", DType::kBF16, kExperts, 2 * model.hidden);
  const Values down = model.folder.matrix(block + "experts.down_proj_bias", DType::kBF16, kExperts, model.width);
  for (Index e = 0; e < kExperts; ++e) {
    const Values both = transposed(rows_of(biases, e, 1, 1));
    model.expert("gate_bias", rows_of(both, 0, 2, model.hidden));
    model.expert("up_bias", rows_of(both, 1, 2, model.hidden));
    model.expert("down_bias", rows_of(down, e, 1, 1));
  }
}

TEST(FamilyLayoutsTest, GptOss) {
  Model model(gpt_oss_config(kWidth, 11));
  put_gpt_oss(model);
  const std::string experts = model.kLayer + "mlp.experts.";
  for (const Values& both : model.stack(experts + "gate_up_proj", kWidth, 2 * model.hidden)) {
    model.expert("gate", rows_of(transposed(both), 0, 2, model.hidden));
    model.expert("up", rows_of(transposed(both), 1, 2, model.hidden));
  }
  for (const Values& down : model.stack(experts + "down_proj", model.hidden, kWidth))
    model.expert("down", transposed(down));
  model.check("gpt_oss");
}

TEST(FamilyLayoutsTest, GptOssInMxfp4) {
  Model model(gpt_oss_config(64, 96), 64, 96);
  put_gpt_oss(model);
  const std::string experts = model.kLayer + "mlp.experts.";
  for (const Values& both : put_mxfp4(model.folder, experts + "gate_up_proj", kExperts, 2 * model.hidden, 64)) {
    model.expert("gate", rows_of(both, 0, 2, model.hidden));
    model.expert("up", rows_of(both, 1, 2, model.hidden));
  }
  for (Values& down : put_mxfp4(model.folder, experts + "down_proj", kExperts, 64, model.hidden))
    model.expert("down", std::move(down));
  model.check("gpt_oss", false);
}

TEST(FamilyLayoutsTest, Phimoe) {
  struct Names {
    const char *router, *experts;
    bool written;
  };
  for (const auto& [router, experts, written] :
       {Names{"block_sparse_moe.gate.weight", "block_sparse_moe.experts", true},
        Names{"mlp.router.weight", "mlp.experts", false}}) {
    Model model(config_of("phimoe", R"("intermediate_size": 11, "num_local_experts": 3, "num_experts_per_tok": 2,
      "attention_bias": true, "lm_head_bias": true)"));
    model.llama_outside();
    model.llama_attention();
    model.attention_biases();
    model.layer_vector("attention_norm_bias", model.kLayer + "input_layernorm.bias", kWidth);
    model.layer_vector("ffn_norm_bias", model.kLayer + "post_attention_layernorm.bias", kWidth);
    model.vector("final_norm_bias", "model.norm.bias", kWidth);
    model.vector("output_bias", "lm_head.bias", kVocab);
    model.router(model.kLayer + router);
    model.experts_one_by_one(model.kLayer + experts, "w1", "w3", "w2");
    model.check("phimoe", written);
  }
}

// Latent attention and everything else of a MoE layer but the router's bias. rank 0: queries of one matrix.
void put_deepseek(Model& model, Index query_rank) {
  constexpr Index kRank = 7, kRope = 4, kNope = 5, kValue = 3;
  model.llama_outside();
  const std::string attention = model.kLayer + "self_attn.", block = model.kLayer + "mlp.";
  if (query_rank == 0) {
    model.layer_matrix("attention.q", attention + "q_proj.weight", kHeads * (kNope + kRope), kWidth);
  } else {
    model.layer_matrix("attention.q_a", attention + "q_a_proj.weight", query_rank, kWidth);
    model.layer_vector("attention.q_a_norm", attention + "q_a_layernorm.weight", query_rank);
    model.layer_matrix("attention.q_b", attention + "q_b_proj.weight", kHeads * (kNope + kRope), query_rank);
  }
  model.layer_matrix("attention.kv_a", attention + "kv_a_proj_with_mqa.weight", kRank + kRope, kWidth);
  model.layer_vector("attention.kv_a_norm", attention + "kv_a_layernorm.weight", kRank);
  model.layer_matrix("attention.kv_b", attention + "kv_b_proj.weight", kHeads * (kNope + kValue), kRank);
  model.layer_matrix("attention.o", attention + "o_proj.weight", kWidth, kHeads * kValue);
  model.router(block + "gate.weight");
  model.experts_one_by_one(block + "experts", "gate_proj", "up_proj", "down_proj");
  const Index shared = 2 * model.hidden;
  model.layer_matrix("moe.shared.gate", block + "shared_experts.gate_proj.weight", shared, kWidth);
  model.layer_matrix("moe.shared.up", block + "shared_experts.up_proj.weight", shared, kWidth);
  model.layer_matrix("moe.shared.down", block + "shared_experts.down_proj.weight", kWidth, shared);
}

const std::string kDeepseekKeys = R"("kv_lora_rank": 7, "qk_rope_head_dim": 4, "qk_nope_head_dim": 5, "v_head_dim": 3,
  "n_routed_experts": 3, "num_experts_per_tok": 2, "n_shared_experts": 2, "moe_intermediate_size": 11,
  "intermediate_size": 22, "first_k_dense_replace": 0, )";

TEST(FamilyLayoutsTest, DeepseekV2) {
  for (const Index query_rank : {0, 9}) {
    Model model(config_of("deepseek_v2", kDeepseekKeys + fmt::format(R"("q_lora_rank": {}, "norm_topk_prob": false)",
                                                                     query_rank == 0 ? "null" : "9")));
    put_deepseek(model, query_rank);
    model.check("deepseek_v2");
  }
}

TEST(FamilyLayoutsTest, DeepseekV3AndKimi) {
  for (const char* type : {"deepseek_v3", "kimi_k2"}) {
    Model model(
        config_of(type, kDeepseekKeys + R"("q_lora_rank": 9, "scoring_func": "sigmoid", "topk_method": "noaux_tc",
      "routed_scaling_factor": 2.5, "num_nextn_predict_layers": 1)"));
    put_deepseek(model, 9);
    model.layer_vector("moe.selection_bias", model.kLayer + "mlp.gate.e_score_correction_bias", kExperts);
    model.check("deepseek_v3");
    // The layer that predicts a token more is passed over.
    model.folder.matrix("model.layers.1.eh_proj.weight", DType::kBF16, kWidth, 2 * kWidth);
    model.folder.matrix("model.layers.1.embed_tokens.weight", DType::kBF16, kVocab, kWidth);
    model.check("deepseek_v3", false);
  }
}

TEST(FamilyLayoutsTest, DeepseekV3InFp8) {
  Model model(config_of("deepseek_v3", kDeepseekKeys + R"("q_lora_rank": 9, "scoring_func": "sigmoid",
    "topk_method": "noaux_tc", "quantization_config": {"quant_method": "fp8", "weight_block_size": [4, 8]})"));
  put_deepseek(model, 9);
  model.layer_vector("moe.selection_bias", model.kLayer + "mlp.gate.e_score_correction_bias", kExperts);
  const auto fp8 = [&](const char* native, const std::string& name, Index rows, Index cols) {
    model.expected[fmt::format("layers.0.{}", native)] = {
        model.folder.fp8(model.kLayer + name + ".weight", rows, cols, 4, 8)};
  };
  fp8("attention.kv_a", "self_attn.kv_a_proj_with_mqa", 11, kWidth);
  fp8("attention.kv_b", "self_attn.kv_b_proj", 40, 7);
  fp8("moe.shared.down", "mlp.shared_experts.down_proj", kWidth, 22);
  model.check("deepseek_v3", false);
}

TEST(FamilyLayoutsTest, Grok) {
  const std::string config =
      config_of("grok-1", R"("head_dim": 6, "intermediate_size": 11, "num_experts": 3, "num_experts_per_tok": 2)");
  const auto norms = [](Model& model, const std::string& prefix, const char* const(&names)[4], const char* suffix) {
    const char* const native[] = {"attention_norm", "attention_post_norm", "ffn_norm", "ffn_post_norm"};
    for (std::size_t i = 0; i < 4; ++i) model.layer_vector(native[i], prefix + names[i] + suffix, kWidth);
  };
  constexpr const char* kNorms[] = {"pre_attn_norm", "post_attn_norm", "pre_moe_norm", "post_moe_norm"};
  const auto outside = [](Model& model, const char* embedding, const char* norm) {
    model.matrix("embedding", embedding, kVocab, kWidth);
    model.vector("final_norm", norm, kWidth);
    model.matrix("output", "lm_head.weight", kVocab, kWidth);
  };

  Model port(config);
  outside(port, "model.embed_tokens.weight", "model.norm.scale");
  norms(port, port.kLayer, kNorms, ".scale");
  port.llama_attention("attn.");
  port.router(port.kLayer + "moe_block.gate.weight");
  port.experts_one_by_one(port.kLayer + "moe_block.experts", "linear", "linear_v", "linear_1");
  port.check("grok-1");

  Model block(config);
  outside(block, "model.embed_tokens.weight", "model.norm.weight");
  norms(block, block.kLayer, kNorms, ".weight");
  block.llama_attention();
  block.router(block.kLayer + "block_sparse_moe.gate.weight");
  block.experts_one_by_one(block.kLayer + "block_sparse_moe.experts", "w1", "w3", "w2");
  block.check("grok-1", false);

  Model jax(config);
  const std::string layer = "transformer.decoder_layer.0.";
  outside(jax, "transformer.in_out_embed.weight", "transformer.rms_norm.weight");
  norms(jax, layer, {"rms_norm", "rms_norm_1", "rms_norm_2", "rms_norm_3"}, ".weight");
  jax.layer_matrix("attention.q", layer + "multi_head_attention.query.weight", kQueries, kWidth);
  jax.layer_matrix("attention.k", layer + "multi_head_attention.key.weight", kKeys, kWidth);
  jax.layer_matrix("attention.v", layer + "multi_head_attention.value.weight", kKeys, kWidth);
  jax.layer_matrix("attention.o", layer + "multi_head_attention.linear.weight", kWidth, kQueries);
  jax.router(layer + "router.weight");
  jax.experts_one_by_one(layer + "moe", "linear", "linear_v", "linear_1");
  jax.check("grok-1", false);
}

// Fused, transposed and interleaved tensors of a wrong shape name found and expected.
TEST(FamilyLayoutsTest, WrongShapesOfSharedTensorsAreNamed) {
  Model model(gpt_oss_config(kWidth, 11));
  put_gpt_oss(model);
  const std::string experts = model.kLayer + "mlp.experts.";
  model.stack(experts + "gate_up_proj", 22, kWidth);  // [out, in]
  model.stack(experts + "down_proj", 11, kWidth);
  model.folder.write();
  EXPECT_THAT(error_of(ErrorKind::kBadInput, [&] { load_model(model.folder.path(), {.stored = true}); }),
              testing::AllOf(testing::HasSubstr("gate_up_proj"), testing::HasSubstr("[3, 22, 30]"),
                             testing::HasSubstr("[3, 30, 22]")));
}

}  // namespace
}  // namespace switchyard::model
