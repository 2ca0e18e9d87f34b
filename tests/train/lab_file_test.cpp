// Lab files: what they come to, and what is refused where.

#include "support.hpp"
#include "switchyard/train/lab.hpp"

namespace switchyard::train {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

// Two runs; what is added stands in line 29 and on.
const std::string kLab = R"([lab]
title = "Two runs"
seeds = 2
set = ["train.batch=4"]

[quick]
seeds = 1
set = ["train.steps=5"]

[base.data]
paths = ["text.txt"]
tokenizer = "char"

[base.experts]
hidden = 8
[[base.layer]]
at = [0]
experts = 4

[[run]]
name = "one"
about = "top-1"
set = ["router.top_k=1"]

[[run]]
name = "dense"
set = ["model.ffn=dense", "model.hidden=16"]
)";

class LabFiles : public ::testing::Test {
 protected:
  Lab load(const std::string& text, LabRequest request = {}) {
    request.files = {put(folder_ / "my.toml", text)};
    return load_lab(request);
  }
  std::string refusal(const std::string& text, ErrorKind kind = ErrorKind::kBadInput, LabRequest request = {}) {
    return error_of(kind, [&] { load(text, request); });
  }
  static std::string replaced(std::string text, const std::string& from, const std::string& to) {
    const std::size_t at = text.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    return text.replace(at, from.size(), to);
  }
  static std::string claim(const std::string& keys) { return kLab + "\n[[claim]]\n" + keys; }

  TemporaryFolder folder_;
};

TEST_F(LabFiles, RunsAreTheBaseWithChanges) {
  const Lab read = load(kLab);
  EXPECT_EQ(read.title, "Two runs");
  EXPECT_EQ(read.seeds, 2);
  EXPECT_FALSE(read.quick);
  EXPECT_TRUE(read.keep_models);
  ASSERT_EQ(read.runs.size(), 2U);
  EXPECT_EQ(read.runs[0].name, "one");
  EXPECT_EQ(read.runs[0].about, "top-1");
  EXPECT_EQ(read.runs[0].recipe.router.top_k, 1);
  EXPECT_EQ(read.runs[0].recipe.train.batch, 4);
  EXPECT_EQ(read.runs[0].recipe.train.steps, TrainConfig().steps);
  ASSERT_EQ(read.runs[0].recipe.layer.size(), 1U);
  EXPECT_EQ(read.runs[0].recipe.layer[0].experts, 4);
  EXPECT_EQ(read.runs[1].recipe.model.ffn, "dense");
  EXPECT_EQ(read.runs[1].recipe.router.top_k, RouterRecipe().top_k);
}

TEST_F(LabFiles, QuickAndTheUserChangeAllRuns) {
  LabRequest request;
  request.quick = true;
  request.set = {"train.batch=6"};
  const Lab quick = load(kLab, request);
  EXPECT_TRUE(quick.quick);
  EXPECT_EQ(quick.seeds, 1);
  for (const LabRun& run : quick.runs) {
    EXPECT_EQ(run.recipe.train.steps, 5);
    EXPECT_EQ(run.recipe.train.batch, 6);
  }
  request.seeds = 7;
  EXPECT_EQ(load(kLab, request).seeds, 7);
}

TEST_F(LabFiles, TheBaseMayBeAFileBesideTheLab) {
  put(folder_ / "base.toml", "data.paths = [\"text.txt\"]\nexperts.hidden = 8\n");
  const Lab read = load("[lab]\nbase = \"base.toml\"\n[[run]]\nname = \"a\"\n");
  EXPECT_EQ(read.title, "my");
  EXPECT_EQ(read.seeds, 3);
  EXPECT_EQ(read.runs[0].recipe.experts.hidden, 8);
  put(folder_ / "base.toml", "data.paths = [\"text.txt\"]\nexperts.hiden = 8\n");
  EXPECT_THAT(refusal("[lab]\nbase = \"base.toml\"\n[[run]]\nname = \"a\"\n"),
              AllOf(HasSubstr("base.toml:2: "), HasSubstr("experts.hiden")));
}

TEST_F(LabFiles, ClaimsNameMetricAndRuns) {
  const Lab read =
      load(claim("text = \"MoE wins\"\nsource = \"us\"\npublished = \"1 < 2\"\nmetric = \"bits_per_byte\"\n"
                 "runs = [\"one\", \"dense\"]\nrelation = \"not-higher\"\nwithin = 0.5\n"));
  ASSERT_EQ(read.claims.size(), 1U);
  const LabClaim& c = read.claims[0];
  EXPECT_EQ(c.text, "MoE wins");
  EXPECT_EQ(c.source, "us");
  EXPECT_EQ(c.published, "1 < 2");
  EXPECT_EQ(c.metric, "bits_per_byte");
  EXPECT_THAT(c.runs, ElementsAre("one", "dense"));
  EXPECT_EQ(c.relation, Relation::kNotHigher);
  EXPECT_EQ(c.within, 0.5);
}

TEST_F(LabFiles, RecipesAreRunsByTheirNames) {
  LabRequest request;
  request.files = {put(folder_ / "a.toml", "data.paths = [\"t\"]\nexperts.hidden = 8\n"),
                   put(folder_ / "b.toml", "data.paths = [\"t\"]\nexperts.hidden = 9\n")};
  request.set = {"train.steps=3"};
  const Lab read = load_lab(request);
  ASSERT_EQ(read.runs.size(), 2U);
  EXPECT_EQ(read.runs[0].name, "a");
  EXPECT_EQ(read.runs[1].name, "b");
  EXPECT_EQ(read.runs[1].recipe.experts.hidden, 9);
  EXPECT_EQ(read.runs[1].recipe.train.steps, 3);
  EXPECT_TRUE(read.claims.empty());

  request.quick = true;
  EXPECT_THAT(error_of(ErrorKind::kUsage, [&] { load_lab(request); }), HasSubstr("a.toml is a recipe"));
  request.quick = false;
  request.files.push_back(put(folder_ / "deep/a.toml", "data.paths = [\"t\"]\nexperts.hidden = 8\n"));
  EXPECT_THAT(error_of(ErrorKind::kUsage, [&] { load_lab(request); }), HasSubstr("a second run \"a\""));
  request.files.back() = put(folder_ / "my.toml", kLab);
  EXPECT_THAT(error_of(ErrorKind::kUsage, [&] { load_lab(request); }), HasSubstr("stands alone"));
  request.files = {put(folder_ / "two words.toml", "data.paths = [\"t\"]\nexperts.hidden = 8\n")};
  EXPECT_THAT(error_of(ErrorKind::kUsage, [&] { load_lab(request); }), HasSubstr("letters, digits"));
  request.files = {folder_ / "absent.toml"};
  error_of(ErrorKind::kNotFound, [&] { load_lab(request); });
  request.files.clear();
  error_of(ErrorKind::kUsage, [&] { load_lab(request); });
}

TEST_F(LabFiles, WrongKeysAreNamedWithTheirLine) {
  EXPECT_THAT(refusal(replaced(kLab, "title =", "titl =")),
              AllOf(StartsWith((folder_ / "my.toml").string() + ":2: "), HasSubstr("did you mean \"title\"?")));
  EXPECT_THAT(refusal(replaced(kLab, "[quick]", "[quik]")), AllOf(HasSubstr("my.toml:6: "), HasSubstr("\"quick\"")));
  EXPECT_THAT(refusal(replaced(kLab, "hidden = 8", "hiden = 8")),
              AllOf(HasSubstr("my.toml:15: "), HasSubstr("did you mean \"hidden\"?")));
  EXPECT_THAT(refusal(replaced(kLab, "tokenizer = \"char\"", "tokenizer = \"chars\"")), HasSubstr("my.toml:12: "));
  EXPECT_THAT(refusal(replaced(kLab, "at = [0]", "at = [0]\nwidht = 3")), HasSubstr("my.toml:18: "));
  EXPECT_THAT(refusal(replaced(kLab, "about = \"top-1\"", "abuot = \"top-1\"")), HasSubstr("my.toml:22: "));
  EXPECT_THAT(refusal(replaced(kLab, "seeds = 2", "seeds = \"2\"")), HasSubstr("my.toml:3: lab.seeds = '2', expected"));
  EXPECT_THAT(refusal(replaced(kLab, "seeds = 2", "seeds = 0")), HasSubstr("lab.seeds = 0, expected 1 to"));
  EXPECT_THAT(refusal(replaced(kLab, "seeds = 1\n", "seeds = -1\n")), HasSubstr("quick.seeds = -1"));
  EXPECT_THAT(refusal("[lab\n"), AllOf(HasSubstr("my.toml:1: "), HasSubstr("not valid TOML")));
  EXPECT_THAT(refusal("lab = 3\n"), HasSubstr("my.toml:1: lab = 3, expected a table [lab]"));
  EXPECT_THAT(refusal("[lab]\n[run]\nname = \"x\"\n"), HasSubstr("my.toml:2: run = a table, expected tables [[run]]"));
}

TEST_F(LabFiles, AChangeThatDoesNotFitBlamesItsRun) {
  EXPECT_THAT(refusal(replaced(kLab, "router.top_k=1", "router.top_k=99")),
              AllOf(HasSubstr("my.toml:20: run \"one\": "), HasSubstr("router.top_k")));
  EXPECT_THAT(refusal(replaced(kLab, "router.top_k=1", "router.topk=1")),
              AllOf(HasSubstr("my.toml:20: run \"one\": "), HasSubstr("did you mean \"top_k\"?")));
  EXPECT_THAT(refusal(replaced(kLab, "train.batch=4", "train.bach=4")),
              HasSubstr("my.toml:1: lab.set: --set train.bach"));
  LabRequest request;
  request.set = {"train.steps=none"};
  EXPECT_THAT(refusal(kLab, ErrorKind::kUsage, request), StartsWith("--set train.steps"));
}

TEST_F(LabFiles, WhatCannotBeALabIsRefused) {
  EXPECT_THAT(refusal("[lab]\n[base.data]\npaths = [\"t\"]\n"), HasSubstr("no [[run]]"));
  EXPECT_THAT(refusal("[lab]\n[[run]]\nname = \"x\"\n"), HasSubstr("my.toml:1: expected lab.base"));
  EXPECT_THAT(refusal(replaced(kLab, "seeds = 2", "base = \"x.toml\"")), HasSubstr("both lab.base and tables"));
  EXPECT_THAT(refusal(replaced(kLab, "name = \"dense\"", "name = \"one\"")), HasSubstr("my.toml:25: a second run"));
  for (const char* name : {"", ".x", "a/b", "a b"}) {
    EXPECT_THAT(refusal(replaced(kLab, "name = \"one\"", fmt::format("name = \"{}\"", name))),
                HasSubstr("letters, digits"));
  }
  LabRequest quick;
  quick.quick = true;
  EXPECT_THAT(refusal(replaced(kLab, "[quick]\nseeds = 1\nset = [\"train.steps=5\"]\n", ""), ErrorKind::kUsage, quick),
              HasSubstr("no table [quick]"));
}

TEST_F(LabFiles, RunsThatCannotBeComparedAreRefused) {
  for (const char* change : {"train.steps=7", "train.batch=5", "train.sequence=64", "data.vocab=99",
                             "data.validation=0.2", "data.tokenizer=byte", "data.paths=['other.txt']"}) {
    const std::string text = replaced(kLab, "router.top_k=1", change);
    EXPECT_THAT(refusal(text), HasSubstr("would not be comparable")) << change;
  }
  // The same budget in other steps is comparable.
  EXPECT_EQ(load(replaced(kLab, "router.top_k=1", "train.steps=500\", \"train.batch=8")).runs.size(), 2U);
}

TEST_F(LabFiles, ClaimsThatSayNothingAreRefused) {
  const std::string good = "text = \"t\"\nmetric = \"entropy\"\nruns = [\"one\", \"one\"]\nrelation = \"lower\"\n";
  const auto with = [&](const std::string& from, const std::string& to) {
    return refusal(claim(replaced(good, from, to)));
  };
  EXPECT_THAT(with("text = \"t\"", ""), HasSubstr("my.toml:29: claim.text is missing"));
  EXPECT_THAT(with("entropy", "entrophy"), AllOf(HasSubstr("claim.metric = \"entrophy\""), HasSubstr("dead_experts")));
  EXPECT_THAT(with("lower", "less"), HasSubstr("claim.relation = \"less\", expected \"lower\""));
  EXPECT_THAT(with("relation = \"lower\"", "relation = \"equal\""), HasSubstr("claim.within = 0, expected above 0"));
  EXPECT_THAT(with("relation", "within = nan\nrelation"), HasSubstr("compared with itself"));
  EXPECT_THAT(with("relation", "within = 0.1\nrelation"), HasSubstr("claim.within = 0.1, expected none"));
  EXPECT_THAT(with("[\"one\", \"one\"]", "[\"one\"]"), HasSubstr("expected two or more"));
  EXPECT_THAT(with("[\"one\", \"one\"]", "[\"one\", \"onne\"]"), HasSubstr("no run \"onne\", did you mean \"one\"?"));
  EXPECT_THAT(refusal(claim(good)), HasSubstr("compared with itself"));
  EXPECT_THAT(with("[\"one\", \"one\"]", "[\"one\", \"dense\"]"),
              HasSubstr("run \"dense\" is dense and has no router"));
}

TEST_F(LabFiles, TheShippedClaimsAreValid) {
  LabRequest request;
  request.files = {fs::path(SWITCHYARD_SOURCE_DIR) / "recipes/claims.toml"};
  const Lab full = load_lab(request);
  EXPECT_EQ(full.seeds, 3);
  EXPECT_GE(full.claims.size(), 20U);
  // Each run is there for a claim.
  for (const LabRun& run : full.runs) {
    EXPECT_TRUE(std::any_of(full.claims.begin(), full.claims.end(), [&](const LabClaim& claim) {
      return std::find(claim.runs.begin(), claim.runs.end(), run.name) != claim.runs.end();
    })) << run.name;
    EXPECT_FALSE(run.about.empty()) << run.name;
  }
  request.quick = true;
  EXPECT_LT(load_lab(request).runs[0].recipe.train.steps, full.runs[0].recipe.train.steps);
}

TEST_F(LabFiles, EveryMetricHasANameOfItsOwn) {
  for (const LabMetric& metric : lab_metrics()) EXPECT_EQ(find_lab_metric(metric.name), &metric);
  EXPECT_EQ(find_lab_metric("loss"), nullptr);
}

}  // namespace
}  // namespace switchyard::train
