#include "switchyard/train/recipe.hpp"

#include <fmt/format.h>

#include <sstream>

#include "support.hpp"
#include "switchyard/base/atomic_file.hpp"

namespace switchyard::train {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

// The least that a recipe needs. Three lines, so that what is added stands in line 4.
const std::string kLeast = "# least\ndata.paths = [\"text.txt\"]\nexperts.hidden = 8\n";

Recipe parse(const std::string& toml, const std::vector<std::string>& overrides = {}) {
  return parse_recipe(toml, "r.toml", overrides);
}

std::string refusal(const std::string& toml, const std::vector<std::string>& overrides = {},
                    ErrorKind kind = ErrorKind::kBadInput) {
  return error_of(kind, [&] { parse(toml, overrides); });
}

std::string refused_set(const std::string& override) { return refusal(kLeast, {override}, ErrorKind::kUsage); }

// Every key, none at its default, as to_toml() writes it.
constexpr const char* kEveryKey = R"([data]
paths = ['a b', 'c"d.txt']
tokenizer = 'char'
vocab = 300
validation = 0.25

[model]
width = 24
layers = 3
heads = 6
kv_heads = 3
head_dim = 8
ffn = 'dense'
hidden = 48
activation = 'gelu'
tied_embeddings = false
qkv_bias = true
qk_norm = true
rope_theta = 5000.5
norm_eps = 1e-06
dropout = 0.125

[experts]
count = 5
hidden = 7
shared_hidden = 9
shared_gated = true
bias = true

[router]
preset = 'moonlight'
top_k = 3
logits = 'cosine'
cosine_width = 8
logits_bias = true
residual = true
temperature = 0.5
precision = 'float64'
score = 'sigmoid'
levels = [2, 3]
level_top_k = [1, 2]
select = 'top-k'
selection_bias = true
groups = 1
groups_kept = 1
group_score = 'top-2-sum'
threshold = 0.375
second = 'all'
hash_seed = 9
slots = 2
normalise = 'none'
norm_p = 2.0
scale = 2.5
zero_experts = 1
copy_experts = 2
constant_experts = 3
jitter = 0.125
jitter_on = 'layer'
noise = 'gaussian'
noise_std = 0.25
noise_on = 'selection'
uniform_warmup = 5
expert_dropout = 0.0625
dense_gradient = false

[capacity]
factor = 1.5
evaluation_factor = 2.0
minimum = 4
formula = 'tutel'
scope = 'sequence'
drop = 'position'
overflow = 'scale'
overflow_scale = 0.25
fallback_expert = 1
renormalise = true

[balance]
load_balance = 0.02
load_balance_scope = 'sequence'
load_balance_counts = 'first'
importance_cv = 0.125
load_cv = 0.0
usage_variance = 0.0625
device = 0.05
communication = 0.025
devices = 1
z_loss = 0.003
entropy = 0.01
bias_update = 'quantile'
bias_update_rate = 0.001
bias_centre = true
bias_freeze_after = 60

[init]
std = 0.03
truncate = 3.0
scale_residual = false
router_std = 0.01
embedding_std = 0.3333333333333333

[optimizer]
learning_rate = 0.002
beta1 = 0.8
beta2 = 0.99
epsilon = 1e-07
weight_decay = 0.0
clip_norm = 0.5
router_lr_factor = 0.1
schedule = 'wsd'
warmup_steps = 11
decay_fraction = 0.3
min_lr_ratio = 0.05

[train]
steps = 77
batch = 5
sequence = 33
accumulate = 2
seed = 9223372036854775807
evaluate_every = 3
evaluate_batches = 4
sample_every = 6
checkpoint_every = 8
keep_checkpoints = 3
freeze = ['*.router', 'embedding']
revive_after = 12
revive_noise = 0.2
recompute = true

[monitor]
max_violation = 2.5
patience = 9
oscillation = 0.75

[[layer]]
at = [1, 2]
ffn = 'moe'
hidden = -1
experts = 6
expert_hidden = 10
shared_hidden = 11
top_k = 2

[[layer]]
at = [0]
ffn = ''
hidden = 32
experts = -1
expert_hidden = -1
shared_hidden = -1
top_k = -1

)";

TEST(Recipe, EveryKeyIsReadAndWrittenBack) {
  const Recipe recipe = parse(kEveryKey);
  EXPECT_EQ(to_toml(recipe), kEveryKey);
  // A few of each type, in case reading and writing err alike.
  EXPECT_THAT(recipe.data.paths, ElementsAre("a b", "c\"d.txt"));
  EXPECT_EQ(recipe.model.head_dim, 8);
  EXPECT_TRUE(recipe.model.qk_norm);
  EXPECT_EQ(recipe.init.embedding_std, 1.0 / 3.0);
  EXPECT_EQ(recipe.router.score, "sigmoid");
  EXPECT_EQ(recipe.train.seed, 9223372036854775807U);
  EXPECT_THAT(recipe.layer.at(0).at, ElementsAre(1, 2));
  EXPECT_EQ(recipe.layer.at(1).hidden, 32);
}

TEST(Recipe, DefaultsRoundTrip) {
  Recipe defaults;
  defaults.data.paths = {"text.txt"};
  defaults.experts.hidden = 8;
  EXPECT_EQ(to_toml(parse(to_toml(defaults))), to_toml(defaults));
  EXPECT_EQ(to_toml(parse(kLeast)), to_toml(defaults));
}

TEST(Recipe, EveryKeyIsInTheDocumentation) {
  const std::string page = read_file(std::string(SWITCHYARD_SOURCE_DIR) + "/docs/recipes.md");
  std::istringstream lines{std::string(kEveryKey)};
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("[")) {
      EXPECT_THAT(page, HasSubstr(line)) << line;
    } else if (const auto end = line.find(" = "); end != std::string::npos) {
      EXPECT_THAT(page, HasSubstr(fmt::format("`{}`", line.substr(0, end)))) << line;
    }
  }
}

TEST(Recipe, ShippedRecipesAreValid) {
  Index count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(std::string(SWITCHYARD_SOURCE_DIR) + "/recipes")) {
    if (entry.path().extension() != ".toml") continue;
    if (entry.path().filename() == "claims.toml") continue;  // a lab file: lab_file_test.cpp
    const Recipe recipe = load_recipe(entry.path());
    EXPECT_EQ(to_toml(parse(to_toml(recipe))), to_toml(recipe)) << entry.path();
    ++count;
  }
  EXPECT_GE(count, 3);
}

TEST(Recipe, UnknownKeysNameLineAndSuggestion) {
  EXPECT_THAT(refusal(kLeast + "train.stepz = 5\n"),
              AllOf(StartsWith("r.toml:4: unknown key \"train.stepz\""), HasSubstr("did you mean \"steps\"?")));
  EXPECT_THAT(refusal(kLeast + "\noptimizer.lr = 5\n"),
              AllOf(StartsWith("r.toml:5: unknown key \"optimizer.lr\""), Not(HasSubstr("did you mean")),
                    HasSubstr("learning_rate")));
  EXPECT_THAT(refusal(kLeast + "[optimiser]\nbeta1 = 0.9\n"),
              AllOf(StartsWith("r.toml:4: unknown table \"optimiser\""), HasSubstr("did you mean \"optimizer\"?")));
  EXPECT_THAT(refusal(kLeast + "[[layer]]\nat = [0]\nheads = 2\n"),
              StartsWith("r.toml:6: unknown key \"layer.heads\""));
  EXPECT_THAT(refusal("steps = 5\n" + kLeast), StartsWith("r.toml:1: unknown table \"steps\""));
}

TEST(Recipe, BrokenTomlNamesTheLine) {
  EXPECT_THAT(refusal(kLeast + "train.steps = \n"), StartsWith("r.toml:4: not valid TOML"));
  EXPECT_THAT(refusal(kLeast + "[train]\nsteps = 1\nsteps = 2\n"), StartsWith("r.toml:6: not valid TOML"));
  EXPECT_THAT(refusal(kLeast + "# \xff\n"), StartsWith("r.toml:4: not valid TOML"));
}

TEST(Recipe, WrongTypesNameLineKeyAndWhatWasFound) {
  const auto check = [](const std::string& line, const std::string& message) {
    EXPECT_THAT(refusal(kLeast + line + "\n"), StartsWith("r.toml:4: " + message)) << line;
  };
  check("train.steps = 1.5", "train.steps = 1.5, expected a whole number");
  check("train.steps = \"5\"", "train.steps = '5', expected a whole number");
  check("train.seed = -1", "train.seed = -1, expected a whole number, 0 or more");
  check("train.recompute = 1", "train.recompute = 1, expected true or false");
  check("optimizer.beta1 = true", "optimizer.beta1 = true, expected a number");
  check("data.tokenizer = 1", "data.tokenizer = 1, expected a string in quotes");
  check("model.ffn = [\"moe\"]", "model.ffn = an array, expected a string in quotes");
  check("balance.z_loss = {a = 1}", "balance.z_loss = a table, expected a number");
  check("train = 5", "train = 5, expected a table [train]");
  check("layer = 5", "layer = 5, expected tables [[layer]]");
  check("layer = [1, 2]", "layer = an array, expected tables [[layer]]");
  check("[layer]\nat = [0]", "layer = a table, expected tables [[layer]]");
  EXPECT_THAT(refusal(kLeast + "[[layer]]\nat = 0\n"), StartsWith("r.toml:5: layer.at = 0, expected an array"));
  EXPECT_THAT(refusal("data.paths = \"text.txt\"\n"),
              StartsWith("r.toml:1: data.paths = 'text.txt', expected an array"));
  EXPECT_THAT(refusal("data.paths = [\"a\", 5]\n"), StartsWith("r.toml:1: data.paths = 5, expected a string"));
  EXPECT_EQ(parse(kLeast + "optimizer.clip_norm = 2\n").optimizer.clip_norm, 2.0);  // a whole number is a number too
}

TEST(Recipe, ValuesOutOfRangeNameLineAndKey) {
  const std::vector<std::pair<std::string, std::vector<std::string>>> bad = {
      {"data.tokenizer", {"'bpe'", "''"}},
      {"data.vocab", {"1", "-5", "1000001"}},
      {"data.validation", {"0.0", "1.0", "-0.1", "nan", "inf"}},
      {"model.width", {"0", "-16", "4294967296"}},
      {"model.layers", {"0", "10001"}},
      {"model.heads", {"0", "-1"}},
      {"model.kv_heads", {"-1"}},
      {"model.head_dim", {"-2"}},
      {"model.ffn", {"'mlp'"}},
      {"model.hidden", {"-1"}},
      {"model.activation", {"'silu'"}},
      {"model.dropout", {"-0.1", "1.0", "nan"}},
      {"model.norm_eps", {"0.0", "1.0", "nan"}},
      {"model.rope_theta", {"0.5", "inf", "nan"}},
      {"experts.count", {"0", "-1", "65537"}},
      {"experts.shared_hidden", {"-1"}},
      {"experts.shared_gated", {"true"}},
      {"router.top_k", {"0", "-1", "9"}},
      {"router.score", {"'soft'"}},
      {"router.select", {"'top'"}},
      {"router.normalise", {"'l2'"}},
      {"router.scale", {"0.0", "nan", "inf"}},
      {"capacity.factor", {"-1.0", "nan", "inf", "1e300"}},
      {"capacity.minimum", {"-1"}},
      {"capacity.drop", {"'dice'"}},
      {"balance.load_balance", {"-0.1", "nan"}},
      {"balance.z_loss", {"-0.1", "inf"}},
      {"balance.bias_update_rate", {"-0.1", "0.1"}},  // the latter wants router.selection_bias
      {"init.std", {"-0.1", "11.0", "nan"}},
      {"init.truncate", {"0.1", "-1.0", "nan"}},
      {"init.router_std", {"-1.0"}},
      {"init.embedding_std", {"-1.0"}},
      {"optimizer.learning_rate", {"-1.0", "101.0", "nan"}},
      {"optimizer.beta1", {"-0.1", "1.0", "nan"}},
      {"optimizer.beta2", {"-0.1", "1.0", "nan"}},
      {"optimizer.epsilon", {"0.0", "nan"}},
      {"optimizer.weight_decay", {"-0.1", "nan"}},
      {"optimizer.clip_norm", {"-1.0", "nan"}},
      {"optimizer.router_lr_factor", {"-1.0", "nan"}},
      {"optimizer.schedule", {"'linear'"}},
      {"optimizer.warmup_steps", {"-1"}},
      {"optimizer.decay_fraction", {"-0.1", "1.1", "nan"}},
      {"optimizer.min_lr_ratio", {"-0.1", "1.1", "nan"}},
      {"train.steps", {"0", "-1", "100000001"}},
      {"train.batch", {"0", "1000001"}},
      {"train.sequence", {"0", "10000001"}},
      {"train.accumulate", {"0"}},
      {"train.evaluate_every", {"-1"}},
      {"train.evaluate_batches", {"0"}},
      {"train.sample_every", {"-1"}},
      {"train.checkpoint_every", {"-1"}},
      {"train.keep_checkpoints", {"0"}},
      {"monitor.max_violation", {"0.0", "nan"}},
      {"monitor.patience", {"0"}},
  };
  for (const auto& [key, values] : bad) {
    for (const std::string& value : values) {
      const std::string in_file = refusal(fmt::format("{}{} = {}\n", kLeast, key, value));
      EXPECT_THAT(in_file,
                  AllOf(StartsWith("r.toml:4: "), HasSubstr(key.substr(key.find('.') + 1)), HasSubstr("expected")))
          << key << " = " << value;
      const std::string on_command_line = refused_set(key + "=" + value);
      EXPECT_THAT(on_command_line, StartsWith(fmt::format("--set {}: ", key))) << key << " = " << value;
    }
  }
  EXPECT_THAT(refusal("experts.hidden = 8\ndata.paths = []\n"), StartsWith("r.toml:2: data.paths = []"));
  EXPECT_THAT(refusal("experts.hidden = 8\n"), StartsWith("r.toml: data.paths = []"));
  EXPECT_THAT(refusal("data.paths = [\"a\"]\n"), HasSubstr("experts.hidden = 0, expected 1 or more"));
  EXPECT_THAT(refusal(kLeast + "model.ffn = \"dense\"\n"), HasSubstr("model.hidden = 0, expected 1 or more"));
  EXPECT_THAT(refusal(kLeast + "train.batch = 1000000\ntrain.sequence = 10000\n"), HasSubstr("2^31"));
}

TEST(Recipe, TopKAboveExpertsNamesBoth) {
  EXPECT_THAT(refusal(kLeast + "router.top_k = 9\n"),
              HasSubstr("router.top_k = 9, expected 1 to 8, the experts of layer 0"));
  EXPECT_THAT(refusal(kLeast + "[[layer]]\nat = [2]\nexperts = 1\n"),
              HasSubstr("router.top_k = 2, expected 1 to 1, the experts of layer 2"));
}

TEST(Recipe, WidthMustDivideByHeads) {
  EXPECT_THAT(refusal(kLeast + "model.heads = 3\n"),
              AllOf(HasSubstr("model.width = 256"), HasSubstr("a multiple of model.heads (3)")));
  EXPECT_EQ(resolve_model(parse(kLeast + "model.heads = 3\nmodel.head_dim = 10\n"), 99).layers[0].attention.head_dim,
            10);
  // What the configuration of a layer refuses is blamed on the recipe's key.
  EXPECT_THAT(refusal(kLeast + "model.kv_heads = 3\n"), AllOf(StartsWith("r.toml:4: "), HasSubstr("kv_heads: 3")));
  EXPECT_THAT(refused_set("model.head_dim=7"), AllOf(StartsWith("--set model.head_dim: "), HasSubstr("head_dim: 7")));
}

TEST(Recipe, WhatAPresetSetsIsBlamedOnThePreset) {
  const std::string with_preset = kLeast + "router.preset = \"deepseek-v2\"\nexperts.count = 4\n";
  EXPECT_THAT(refusal(with_preset), AllOf(StartsWith("r.toml:4: "), HasSubstr("router.top_k = 6"),
                                          HasSubstr("router.top_k is what the preset \"deepseek-v2\" makes it")));
  EXPECT_THAT(refusal(with_preset + "router.top_k = 2\n"),
              AllOf(HasSubstr("router.groups: 8"), HasSubstr("router.groups is what the preset")));
  EXPECT_THAT(refusal(with_preset + "router.top_k = 9\n"),
              AllOf(StartsWith("r.toml:6: "), HasSubstr("router.top_k = 9"), Not(HasSubstr("makes it"))));
}

TEST(Recipe, LayerTablesThatSayNothingUsefulAreRefused) {
  EXPECT_THAT(refusal(kLeast + "[[layer]]\nffn = \"dense\"\n"), HasSubstr("layer[0].at = []"));
  EXPECT_THAT(refusal(kLeast + "[[layer]]\nat = [4]\n"),
              AllOf(HasSubstr("layer[0].at = 4, expected 0 to 3"), HasSubstr(":5:")));
  EXPECT_THAT(refusal(kLeast + "[[layer]]\nat = [-1]\n"), HasSubstr("layer[0].at = -1, expected 0 to 3"));
  EXPECT_THAT(refusal(kLeast + "[[layer]]\nat = [0]\nffn = \"none\"\n"), HasSubstr("layer[0].ffn = none"));
  for (const char* key : {"hidden", "experts", "expert_hidden", "shared_hidden", "top_k"}) {
    EXPECT_THAT(refusal(fmt::format("{}[[layer]]\nat = [0]\n{} = -2\n", kLeast, key)),
                HasSubstr(fmt::format("layer[0].{} = -2", key)));
  }
  EXPECT_THAT(refusal(kLeast + "[[layer]]\nat = [0]\nexperts = 0\n"), HasSubstr("expected"));
}

TEST(Recipe, OverridesTakeEveryType) {
  const Recipe recipe = parse(kLeast + "train.steps = 3\n",
                              {"train.steps=50", "train.seed=7", "optimizer.beta1=0.5", "optimizer.clip_norm=2",
                               "train.recompute=true", "data.tokenizer=byte", "model.activation=\"relu\"",
                               "data.paths=[\"a\", 'b c']", "experts.hidden = 9", "router.top_k=1", "router.top_k=3"});
  EXPECT_EQ(recipe.train.steps, 50);
  EXPECT_EQ(recipe.train.seed, 7U);
  EXPECT_EQ(recipe.optimizer.beta1, 0.5);
  EXPECT_EQ(recipe.optimizer.clip_norm, 2.0);
  EXPECT_TRUE(recipe.train.recompute);
  EXPECT_EQ(recipe.data.tokenizer, "byte");
  EXPECT_EQ(recipe.model.activation, "relu");
  EXPECT_THAT(recipe.data.paths, ElementsAre("a", "b c"));
  EXPECT_EQ(recipe.experts.hidden, 9);
  EXPECT_EQ(recipe.router.top_k, 3);  // the last one counts
}

TEST(Recipe, WrongOverridesAreWrongUsage) {
  for (const char* text : {"", "train", "train.steps", "steps=5", "=5", ".steps=5", "train.=5", "train=5.5"}) {
    EXPECT_THAT(refused_set(text), AllOf(StartsWith("--set "), HasSubstr("expected table.key=value"))) << text;
  }
  EXPECT_THAT(refused_set("train.steps="), StartsWith("--set train.steps: train.steps = "));
  EXPECT_THAT(refused_set("train.steps=many"), HasSubstr("train.steps = 'many', expected a whole number"));
  EXPECT_THAT(refused_set("data.paths=text.txt"), HasSubstr("expected an array"));
  EXPECT_THAT(refused_set("data.paths=[oops"), HasSubstr("expected an array"));
  EXPECT_THAT(refused_set("train.stepz=5"),
              AllOf(StartsWith("--set train.stepz: unknown key"), HasSubstr("did you mean \"steps\"?")));
  EXPECT_THAT(refused_set("trains.steps=5"), AllOf(HasSubstr("unknown table"), HasSubstr("did you mean \"train\"?")));
  EXPECT_THAT(refused_set("layer.top_k=1"), HasSubstr("layer"));
  EXPECT_THAT(refusal(kLeast + "[[layer]]\nat = [0]\n", {"layer.top_k=1"}, ErrorKind::kUsage), HasSubstr("layer"));
  // What the file itself has wrong stays the file's fault.
  EXPECT_THAT(refusal(kLeast + "trains.steps = 5\n", {"trains.batch=5"}), StartsWith("r.toml:4: unknown table"));
}

TEST(Recipe, LoadNamesAMissingFile) {
  EXPECT_THAT(error_of(ErrorKind::kNotFound, [] { load_recipe("/nowhere/r.toml"); }), HasSubstr("/nowhere/r.toml"));
}

TEST(Recipe, ResolvesLayersAndTheirChanges) {
  const Recipe recipe = parse(R"(
data.paths = ["a"]
model = {width = 48, layers = 4, heads = 4, hidden = 100, kv_heads = 2, rope_theta = 500, tied_embeddings = false}
experts = {count = 8, hidden = 16, shared_hidden = 24, shared_gated = true}
router = {top_k = 2, score = "sigmoid", scale = 1.5, selection_bias = true}
capacity = {factor = 1.25, minimum = 3, drop = "position"}
balance = {load_balance = 0.5, z_loss = 0.25, bias_update_rate = 0.125}
train = {sequence = 40}
[[layer]]
at = [0]
ffn = "dense"
[[layer]]
at = [1, 2]
experts = 32
expert_hidden = 4
top_k = 6
shared_hidden = 12
[[layer]]
at = [2]
top_k = 3
)");
  const model::ModelConfig config = resolve_model(recipe, 77);
  EXPECT_EQ(config.vocab, 77);
  EXPECT_EQ(config.width, 48);
  EXPECT_EQ(config.max_positions, 40);
  EXPECT_FALSE(config.tied_embeddings);
  ASSERT_EQ(config.layers.size(), 4U);
  for (const model::LayerConfig& layer : config.layers) {
    EXPECT_EQ(layer.attention.heads, 4);
    EXPECT_EQ(layer.attention.kv_heads, 2);
    EXPECT_EQ(layer.attention.head_dim, 12);
    EXPECT_EQ(layer.attention.rope_theta, 500.0);
  }
  ASSERT_TRUE(config.layers[0].dense);
  EXPECT_FALSE(config.layers[0].moe);
  EXPECT_EQ(config.layers[0].dense->hidden, 100);
  const auto shape = [&](std::size_t i) {
    const moe::MoeConfig& m = *config.layers[i].moe;
    return std::vector<Index>{m.router.experts, m.expert.hidden, m.router.top_k, m.shared.hidden};
  };
  EXPECT_THAT(shape(1), ElementsAre(32, 4, 6, 12));
  EXPECT_THAT(shape(2), ElementsAre(32, 4, 3, 12));  // tables apply in order
  EXPECT_THAT(shape(3), ElementsAre(8, 16, 2, 24));
  const moe::MoeConfig& m = *config.layers[3].moe;
  EXPECT_EQ(m.router.score, "sigmoid");
  EXPECT_EQ(m.router.scale, 1.5F);
  EXPECT_TRUE(m.router.selection_bias);
  EXPECT_TRUE(m.shared.gated);
  EXPECT_EQ(m.capacity.factor, 1.25F);
  EXPECT_EQ(m.capacity.minimum, 3);
  EXPECT_EQ(m.capacity.drop, "position");
  EXPECT_EQ(m.balance.load_balance, 0.5F);
  EXPECT_EQ(m.balance.z_loss, 0.25F);
  EXPECT_EQ(m.balance.bias_update_rate, 0.125F);
}

}  // namespace
}  // namespace switchyard::train
