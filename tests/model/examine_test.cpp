// What `switchyard doctor` finds in sound folders and in spoilt ones.

#include "switchyard/model/examine.hpp"

#include <gmock/gmock.h>

#include <limits>

#include "model_folders.hpp"

namespace switchyard::model {
namespace {

using testing::HasSubstr;

class ExamineTest : public testing::Test {
 protected:
  const std::filesystem::path& folder() const { return folder_.path(); }
  void copy(const std::string& name) {
    std::filesystem::copy(golden(name), folder(), std::filesystem::copy_options::recursive);
  }
  std::vector<std::string> problems() const {
    std::vector<std::string> texts;
    for (const Finding& finding : examine(folder()).findings)
      if (finding.level == Level::kProblem) texts.push_back(finding.check + ": " + finding.text);
    return texts;
  }

 private:
  TemporaryFolder folder_;
};

TEST_F(ExamineTest, ASoundModelHasNoProblems) {
  copy("mixtral/base");
  const Examination found = examine(folder());
  EXPECT_EQ(found.problems(), 0U);
  EXPECT_EQ(found.model_type, "mixtral");
  EXPECT_EQ(found.routing.size(), 4U);
}

TEST_F(ExamineTest, EveryProblemIsNamedNotJustTheFirst) {
  copy("mixtral/base");
  change_tensors(folder(), [](Tensors& tensors) {
    tensors.erase("model.norm.weight");
    tensors["model.layers.0.self_attn.q_proj.weight"] = Tensor::zeros(DType::kF32, {3, 5});
    tensors["model.layers.1.self_attn.k_proj.weight"] =
        Tensor::zeros(DType::kI32, tensors.at("model.layers.1.self_attn.k_proj.weight").shape());
    tensors["stray"] = Tensor::zeros(DType::kF32, {1});
  });
  EXPECT_THAT(problems(),
              testing::UnorderedElementsAre(testing::AllOf(HasSubstr("model.norm.weight"), HasSubstr("missing")),
                                            testing::AllOf(HasSubstr("layers.0.self_attn.q_proj"), HasSubstr("[3, 5]")),
                                            testing::AllOf(HasSubstr("layers.1.self_attn.k_proj"), HasSubstr("I32")),
                                            testing::AllOf(HasSubstr("stray"), HasSubstr("unknown"))));
}

TEST_F(ExamineTest, NumbersThatAreNoneAreCounted) {
  copy("mixtral/base");
  change_tensors(folder(), [](Tensors& tensors) {
    const std::span<float> values = tensors.at("lm_head.weight").f32();
    values[7] = std::numeric_limits<float>::quiet_NaN();
    values[9] = -std::numeric_limits<float>::infinity();
  });
  EXPECT_THAT(problems(), testing::ElementsAre(testing::AllOf(HasSubstr("values: "), HasSubstr("lm_head.weight"),
                                                              HasSubstr(": 2 of"), HasSubstr("element 7"))));
  EXPECT_EQ(examine(folder(), {.values = false, .progress = {}}).problems(), 0U);
}

TEST_F(ExamineTest, AConfigThatCannotBeReadEndsTheExamination) {
  copy("mixtral/base");
  replace_in(folder() / "config.json", "\"mixtral\"", "\"mixtrale\"");
  EXPECT_THAT(problems(), testing::ElementsAre(testing::AllOf(HasSubstr("mixtrale"), HasSubstr("supported are"))));
}

TEST_F(ExamineTest, ATokenizerThatDoesNotFitIsAProblem) {
  copy("mixtral/base");  // 61 ids
  text::make_byte_tokenizer()->save(folder());
  EXPECT_THAT(problems(), testing::ElementsAre(testing::AllOf(HasSubstr("tokenizer: "), HasSubstr("256 ids"))));
}

TEST_F(ExamineTest, AnEmptyFolderIsNotFound) {
  try {
    examine(folder());
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kNotFound);
  }
}

const RouterReason& reason_for(const Examination& found, const std::string& aspect) {
  for (const RouterReason& reason : found.routing)
    if (reason.step.aspect == aspect) return reason;
  ADD_FAILURE() << "no step " << aspect;
  return found.routing.front();
}

TEST_F(ExamineTest, TheKeysThatDecideRoutingAreNamed) {
  copy("qwen3_moe/base");
  const Examination qwen = examine(folder());
  EXPECT_THAT(reason_for(qwen, "weights").keys, testing::Contains("norm_topk_prob = true"));
  EXPECT_THAT(reason_for(qwen, "weights").step.text, HasSubstr("divided by their sum"));
  EXPECT_THAT(reason_for(qwen, "selection").keys, testing::ElementsAre("num_experts_per_tok = 4"));
  EXPECT_TRUE(reason_for(qwen, "scale").keys.empty());
}

TEST_F(ExamineTest, TwoSpellingsOfOneKeyAreOneReasonEach) {
  copy("gpt_oss/base");
  EXPECT_THAT(reason_for(examine(folder()), "selection").keys,
              testing::UnorderedElementsAre(HasSubstr("num_experts_per_tok = "), HasSubstr("experts_per_token = ")));
}

TEST_F(ExamineTest, AKeyThatTheArchitectureDoesNotReadIsNoReason) {
  copy("mixtral/base");
  replace_in(folder() / "config.json", "{", "{\"norm_topk_prob\": false, ");
  const Examination mixtral = examine(folder());
  for (const std::string& key : reason_for(mixtral, "weights").keys) EXPECT_THAT(key, testing::Not(HasSubstr("norm")));
}

}  // namespace
}  // namespace switchyard::model
