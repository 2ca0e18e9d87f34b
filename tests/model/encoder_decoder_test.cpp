// Switch Transformer against transformers (tools/golden/make_switch.py), and what a folder may not be.

#include "switchyard/model/encoder_decoder.hpp"

#include <gmock/gmock.h>

#include <map>

#include "model_folders.hpp"
#include "oracle/compare.hpp"
#include "support/error_of.hpp"
#include "switchyard/formats/npy.hpp"
#include "switchyard/model/config_file.hpp"
#include "switchyard/model/examine.hpp"

namespace switchyard::model {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

// max |difference| / max |logit| that the documentation promises.
constexpr double kAgreement = 2e-5;

fs::path switch_folder(const std::string& name) { return golden("switch_transformers/" + name); }

std::vector<std::int32_t> read_ids(const fs::path& path) {
  const Tensor tensor = formats::read_npy(path);
  const auto values = tensor.values<std::int64_t>();
  return {values.begin(), values.end()};
}

// The expert of each token, a row a layer; -1 where it was dropped.
class Choices : public moe::RoutingObserver {
 public:
  void on_routing(const moe::RoutingEvent& event) override {
    for (std::size_t t = 0; t < static_cast<std::size_t>(event.assignments.tokens); ++t) {
      const auto a = static_cast<std::size_t>(event.assignments.offset_T1[t]);
      of_layer_[event.layer].push_back(event.assignments.dropped_A[a] != 0 ? -1 : event.assignments.expert_A[a]);
    }
  }
  std::vector<std::int32_t> flat() const {
    std::vector<std::int32_t> all;
    for (const auto& [layer, experts] : of_layer_) all.insert(all.end(), experts.begin(), experts.end());
    return all;
  }

 private:
  std::map<Index, std::vector<std::int32_t>> of_layer_;
};

std::vector<std::int32_t> read_experts(const fs::path& path) {
  const Tensor tensor = formats::read_npy(path);
  const auto values = tensor.values<std::int32_t>();
  return {values.begin(), values.end()};
}

class SwitchGolden : public testing::TestWithParam<const char*> {
 protected:
  fs::path folder() const { return switch_folder(GetParam()); }
};

TEST_P(SwitchGolden, EncoderDecoderAndRouting) {
  for (const bool stored : {false, true}) {
    LoadedEncoderDecoder loaded = load_encoder_decoder(folder(), {.stored = stored});
    const EncoderDecoder& model = loaded.model;
    Choices of_encoder, of_decoder;
    const Tensor encoded = model.encode(read_ids(folder() / "source_ids.npy"), &of_encoder);
    EXPECT_TRUE(
        oracle::close(encoded.f32(), oracle::to_double(formats::read_npy(folder() / "encoded.npy").f32()), kAgreement));
    EXPECT_EQ(of_encoder.flat(), read_experts(folder() / "encoder_experts.npy"));

    DecoderState state(model.config(), model.remember(encoded.matrix()));
    DecoderState* const states[] = {&state};
    const Tensor hidden = model.decode(read_ids(folder() / "decoder_ids.npy"), states, &of_decoder);
    const Tensor logits = model.logits(hidden.matrix());
    EXPECT_TRUE(
        oracle::close(logits.f32(), oracle::to_double(formats::read_npy(folder() / "logits.npy").f32()), kAgreement));
    // Capacity holds in the encoder alone; the reference counts it here too where it is given many tokens at once.
    EXPECT_EQ(of_decoder.flat(), read_experts(folder() / "decoder_experts.npy"));
  }
}

TEST_P(SwitchGolden, TokenByTokenAndBesideOthersTheSameBits) {
  const EncoderDecoder model = std::move(load_encoder_decoder(folder(), {.stored = true}).model);
  const auto source = model.remember(model.encode(read_ids(folder() / "source_ids.npy")).matrix());
  const std::vector<std::int32_t> ids = read_ids(folder() / "decoder_ids.npy");
  DecoderState at_once(model.config(), source);
  DecoderState* const whole[] = {&at_once};
  const Tensor expected = model.logits(model.decode(ids, whole).matrix());

  DecoderState first(model.config(), source);
  DecoderState* const alone[] = {&first};
  std::vector<float> found;
  const auto half = ids.size() / 2;
  for (std::size_t i = 0; i < half; ++i) {
    const Tensor logits = model.logits(model.decode(std::span(ids).subspan(i, 1), alone).matrix());
    found.insert(found.end(), logits.f32().begin(), logits.f32().end());
  }
  DecoderState second = first.copy(), third = first.copy();
  DecoderState* const three[] = {&second, &first, &third};
  for (std::size_t i = half; i < ids.size(); ++i) {
    const std::vector<std::int32_t> next = {5, ids[i], ids[0]};
    const Tensor logits = model.logits(model.decode(next, three).matrix());
    const auto row = logits.matrix().row_span(1);
    found.insert(found.end(), row.begin(), row.end());
  }
  EXPECT_EQ(first.length(), static_cast<Index>(ids.size()));
  EXPECT_TRUE(oracle::same_bits(found, expected.f32()));
}

TEST_P(SwitchGolden, BucketsOfRelativePositions) {
  const kernels::RelativeBuckets buckets = load_encoder_decoder_config(folder()).buckets;
  const Tensor table = formats::read_npy(folder() / "buckets.npy");
  const auto values = table.values<std::int32_t>();
  const Index positions = table.shape()[1];
  for (const bool both_ways : {true, false})
    for (Index i = 0; i < positions; ++i)
      ASSERT_EQ(relative_bucket(buckets, both_ways, i - positions / 2),
                values[static_cast<std::size_t>((both_ways ? 0 : positions) + i)])
          << both_ways << " " << i - positions / 2;
}

TEST_P(SwitchGolden, DoctorFindsItSound) {
  const Examination found = examine(folder(), {});
  EXPECT_EQ(found.problems(), 0U);
  EXPECT_EQ(found.model_type, "switch_transformers");
  EXPECT_FALSE(found.routing.empty());
}

INSTANTIATE_TEST_SUITE_P(Cases, SwitchGolden, testing::Values("base", "untied", "untied-shared", "capacity"),
                         [](const auto& test) {
                           std::string name = test.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

std::string load_error(ErrorKind kind, const fs::path& folder) {
  return error_of(kind, [&] { load_encoder_decoder(folder); });
}

TEST(SwitchFolder, WrongConfigs) {
  struct Case {
    std::string from, to;
    ErrorKind kind;
    std::string message;
  };
  const std::vector<Case> cases = {
      {"\"d_model\": 16", "\"d_model\": 0", ErrorKind::kBadInput, "d_model: found 0"},
      {"\"d_model\": 16", "\"d_model\": 17", ErrorKind::kBadInput, "expected [96, 17] by config.json"},
      {"\"num_heads\": 3", "\"num_heads\": 2147483647", ErrorKind::kBadInput, "elements together"},
      {"\"num_experts\": 4", "\"num_experts\": 5", ErrorKind::kBadInput, "shape [4, 16], expected [5, 16]"},
      {"\"num_experts\": 4", "\"num_experts\": -1", ErrorKind::kBadInput, "num_experts: found -1"},
      {"\"num_layers\": 4", "\"num_layers\": 5", ErrorKind::kBadInput, "encoder.block.4"},
      {"\"num_layers\": 4", "\"num_layers\": 1", ErrorKind::kBadInput, "num_sparse_encoder_layers"},
      {"\"encoder_sparse_step\": 2", "\"encoder_sparse_step\": 3", ErrorKind::kBadInput, "mlp.wi.weight"},
      {"\"router_dtype\": \"float32\"", "\"router_dtype\": \"bfloat16\"", ErrorKind::kUnsupported, "router_dtype"},
      {"\"dense_act_fn\": \"relu\"", "\"dense_act_fn\": \"gated-gelu\"", ErrorKind::kUnsupported, "dense_act_fn"},
      {"\"relative_attention_num_buckets\": 32", "\"relative_attention_num_buckets\": 3", ErrorKind::kBadInput,
       "relative_attention_num_buckets"},
      {"\"relative_attention_max_distance\": 128", "\"relative_attention_max_distance\": 16", ErrorKind::kBadInput,
       "relative_attention_max_distance"},
      {"\"expert_capacity\": 64", "\"expert_capacity\": 0", ErrorKind::kBadInput, "expert_capacity: found 0"},
      {"\"decoder_start_token_id\": 0", "\"decoder_start_token_id\": 96", ErrorKind::kBadInput,
       "decoder_start_token_id"},
      {"\"tie_word_embeddings\": true", "\"tie_word_embeddings\": false", ErrorKind::kBadInput, "lm_head.weight"},
      {"\"tie_word_embeddings\": true", "\"tie_word_embeddings\": 1", ErrorKind::kBadInput, "tie_word_embeddings"},
      {"\"vocab_size\": 96", "\"vocab_size\": 9223372036854775807", ErrorKind::kBadInput, "vocab_size"},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.to);
    TemporaryFolder folder(switch_folder("base"));
    replace_in(folder / "config.json", c.from, c.to);
    EXPECT_THAT(load_error(c.kind, folder.path()), HasSubstr(c.message));
  }
}

TEST(SwitchFolder, WrongTensors) {
  TemporaryFolder folder(switch_folder("base"));
  change_tensors(folder.path(), [](Tensors& t) { t.erase("decoder.block.0.layer.1.EncDecAttention.k.weight"); });
  EXPECT_THAT(load_error(ErrorKind::kBadInput, folder.path()), HasSubstr("EncDecAttention.k.weight"));
  EXPECT_EQ(examine(folder.path(), {}).problems(), 1U);

  TemporaryFolder more(switch_folder("base"));
  change_tensors(more.path(), [](Tensors& t) {
    t.emplace("encoder.block.0.layer.1.mlp.router.classifier.weight", Tensor::zeros(DType::kF32, {4, 16}));
  });
  EXPECT_THAT(load_error(ErrorKind::kBadInput, more.path()), HasSubstr("is unknown"));
}

// Copies of a tied table are passed over, others are not.
TEST(SwitchFolder, TiedTablesMustAgree) {
  for (const char* name : {"encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight"}) {
    TemporaryFolder folder(switch_folder("capacity"));
    change_tensors(folder.path(), [&](Tensors& t) { t.at(name).f32()[7] += 1.0F; });
    EXPECT_THAT(load_error(ErrorKind::kBadInput, folder.path()), HasSubstr("is not the same"));
  }
  // Any one of the names is enough.
  TemporaryFolder folder(switch_folder("capacity"));
  change_tensors(folder.path(), [](Tensors& t) {
    t.erase("encoder.embed_tokens.weight");
    t.erase("shared.weight");
    t.erase("lm_head.weight");
  });
  const std::vector<std::int32_t> ids = {3, 4, 5, 1};
  const Tensor expected = load_encoder_decoder(switch_folder("capacity")).model.encode(ids);
  EXPECT_TRUE(oracle::same_bits(load_encoder_decoder(folder.path()).model.encode(ids).f32(), expected.f32()));
}

TEST(SwitchFolder, PickleAloneIsRefused) {
  TemporaryFolder folder(switch_folder("base"));
  fs::rename(folder / "model.safetensors", folder / "pytorch_model.bin");
  const std::string message = load_error(ErrorKind::kUnsupported, folder.path());
  EXPECT_THAT(message, HasSubstr("pytorch_model.bin"));
  EXPECT_THAT(message, HasSubstr("convert"));
}

TEST(SwitchFolder, IsNoDecoderOnlyModel) {
  EXPECT_TRUE(is_encoder_decoder(switch_folder("base")));
  EXPECT_TRUE(is_encoder_decoder(switch_folder("base") / "config.json"));
  EXPECT_FALSE(is_encoder_decoder(golden("mixtral/base")));
  EXPECT_FALSE(is_encoder_decoder(switch_folder("nothing")));
  EXPECT_FALSE(is_encoder_decoder(switch_folder("base") / "model.safetensors"));
  EXPECT_THAT(error_of(ErrorKind::kUnsupported, [] { load_model(switch_folder("base")); }),
              HasSubstr("is an encoder-decoder"));
  EXPECT_THAT(error_of(ErrorKind::kUnsupported, [] { load_model_config(switch_folder("base")); }),
              HasSubstr("is an encoder-decoder"));
}

TEST(SwitchModel, IdsOutOfRange) {
  const LoadedEncoderDecoder loaded = load_encoder_decoder(switch_folder("base"));
  const std::vector<std::int32_t> wrong = {5, 96};
  EXPECT_THAT(error_of(ErrorKind::kBadInput, [&] { loaded.model.encode(wrong); }),
              HasSubstr("token 1 has id 96, expected 0 to 95"));
}

std::string published_config(Index d_model, Index d_ff, Index heads, Index layers, Index sparse, Index experts,
                             bool tied) {
  return fmt::format(
      R"({{"model_type": "switch_transformers", "vocab_size": 32128, "d_model": {}, "d_kv": 64, "d_ff": {},
      "num_heads": {}, "num_layers": {}, "num_decoder_layers": {}, "num_sparse_encoder_layers": {},
      "num_sparse_decoder_layers": {}, "num_experts": {}, "tie_word_embeddings": {}}})",
      d_model, d_ff, heads, layers, layers, sparse, sparse, experts, tied);
}

// In billions, as published or as counted from the published shapes.
TEST(SwitchModel, ParametersOfPublishedModels) {
  struct Published {
    Index d_model, d_ff, heads, layers, sparse, experts;
    bool tied;
    double total, active;
  };
  for (const Published& p :
       {Published{768, 3072, 12, 12, 6, 8, true, 0.619, 0.223}, Published{768, 3072, 12, 12, 6, 8, false, 0.644, 0.248},
        Published{768, 3072, 12, 12, 6, 16, true, 1.072, 0.223},
        Published{768, 3072, 12, 12, 6, 64, true, 3.791, 0.223},
        Published{768, 3072, 12, 12, 6, 128, true, 7.415, 0.224},
        Published{768, 3072, 12, 12, 6, 256, true, 14.664, 0.225},
        Published{1024, 4096, 16, 24, 12, 128, true, 26.309, 0.741},
        Published{2080, 6144, 32, 15, 15, 2048, true, 1571.3, 1.73}}) {
    TemporaryFolder folder;
    write_text(folder / "config.json",
               published_config(p.d_model, p.d_ff, p.heads, p.layers, p.sparse, p.experts, p.tied));
    const ParameterCounts counts = count_parameters(load_encoder_decoder_config(folder.path()));
    // The figures have three digits behind the point, those of switch-c one and two.
    const double digits = p.total > 1000.0 ? 0.051 : 0.00051;
    EXPECT_NEAR(static_cast<double>(counts.total) / 1e9, p.total, digits) << p.experts;
    EXPECT_NEAR(static_cast<double>(counts.active) / 1e9, p.active, p.total > 1000.0 ? 0.0051 : 0.00051) << p.experts;
  }
}

}  // namespace
}  // namespace switchyard::model
