#include "switchyard/formats/json_config.hpp"

#include "support.hpp"

namespace switchyard::formats {
namespace {

using testing::ElementsAre;

JsonConfig sample() {
  return JsonConfig::parse(R"({
    "model_type": "mixtral", "hidden_size": 4096, "rms_norm_eps": 1e-05, "tie": false, "tied": true,
    "sliding_window": null, "negative": -7, "big": 9223372036854775807, "too_big": 9223372036854775808,
    "theta": 1000000, "architectures": ["A", "B"], "eos_token_id": [1, 2], "bos_token_id": 3, "empty": [],
    "factors": [1, 2.5], "mixed": [1, "x"],
    "rope_scaling": {"type": "yarn", "factor": 40.0, "inner": {"k": "v"}}
  })",
                           "dir/config.json");
}

TEST(JsonConfig, ReadsEveryType) {
  const JsonConfig config = sample();
  EXPECT_EQ(config.origin(), "dir/config.json");
  EXPECT_EQ(config.get_string("model_type"), "mixtral");
  EXPECT_EQ(config.get_int("hidden_size"), 4096);
  EXPECT_EQ(config.get_int("negative"), -7);
  EXPECT_EQ(config.get_int("big"), 9223372036854775807);
  EXPECT_EQ(config.get_float("rms_norm_eps"), 1e-5);
  EXPECT_EQ(config.get_float("theta"), 1e6);
  EXPECT_FALSE(config.get_bool("tie"));
  EXPECT_TRUE(config.get_bool("tied"));
  EXPECT_THAT(config.get_strings("architectures"), ElementsAre("A", "B"));
  EXPECT_THAT(config.get_strings("model_type"), ElementsAre("mixtral"));
  EXPECT_THAT(config.get_ints("eos_token_id"), ElementsAre(1, 2));
  EXPECT_THAT(config.get_ints("bos_token_id"), ElementsAre(3));
  EXPECT_THAT(config.get_ints("empty"), ElementsAre());
  EXPECT_THAT(config.get_floats("factors"), ElementsAre(1.0, 2.5));
}

TEST(JsonConfig, NestedObjectsOutliveTheOuterOne) {
  const JsonConfig inner = sample().object("rope_scaling").object("inner");
  EXPECT_EQ(inner.get_string("k"), "v");
  EXPECT_EQ(inner.where("k"), "dir/config.json: rope_scaling.inner.k");
  EXPECT_THAT(sample().object("rope_scaling").keys(), ElementsAre("factor", "inner", "type"));
}

TEST(JsonConfig, NullCountsAsAbsent) {
  const JsonConfig config = sample();
  EXPECT_FALSE(config.has("sliding_window"));
  EXPECT_FALSE(config.has("nothing"));
  EXPECT_TRUE(config.has("tie"));
  EXPECT_EQ(config.get_int_or("sliding_window", 5), 5);
  EXPECT_EQ(config.get_int_or("nothing", 6), 6);
  EXPECT_EQ(config.get_int_or("hidden_size", 6), 4096);
  EXPECT_EQ(config.get_float_or("sliding_window", 0.5), 0.5);
  EXPECT_EQ(config.get_float_or("theta", 0.5), 1e6);
  EXPECT_TRUE(config.get_bool_or("sliding_window", true));
  EXPECT_FALSE(config.get_bool_or("tie", true));
  EXPECT_EQ(config.get_string_or("sliding_window", "d"), "d");
  EXPECT_EQ(config.get_string_or("model_type", "d"), "mixtral");
  EXPECT_FALSE(config.is_object("sliding_window"));
  EXPECT_FALSE(config.is_object("tie"));
  EXPECT_TRUE(config.is_object("rope_scaling"));
  EXPECT_TRUE(config.is_string("model_type"));
  EXPECT_FALSE(config.is_string("tie"));
  EXPECT_THAT(config.keys(), testing::Not(testing::Contains("sliding_window")));
}

TEST(JsonConfig, ErrorsNameFileKeyFoundAndExpected) {
  const JsonConfig config = sample();
  const auto refuse = [](std::vector<std::string> parts, const std::function<void()>& action) {
    parts.insert(parts.begin(), "dir/config.json: ");
    expect_error(ErrorKind::kBadInput, parts, action);
  };
  refuse({"nothing: missing", "expected an integer"}, [&] { config.get_int("nothing"); });
  refuse({"sliding_window: missing", "expected a number"}, [&] { config.get_float("sliding_window"); });
  refuse({"nothing: missing", "expected an object"}, [&] { config.object("nothing"); });
  refuse({"nothing: missing", "expected an array of integers"}, [&] { config.get_ints("nothing"); });
  refuse({"model_type: found \"mixtral\"", "expected an integer"}, [&] { config.get_int("model_type"); });
  refuse({"rms_norm_eps: found 1e-05", "expected an integer"}, [&] { config.get_int("rms_norm_eps"); });
  refuse({"tie: found false", "expected an integer"}, [&] { config.get_int("tie"); });
  refuse({"too_big: found 9223372036854775808", "at most 2^63 - 1"}, [&] { config.get_int("too_big"); });
  refuse({"model_type: found \"mixtral\"", "expected an integer"}, [&] { config.get_int_or("model_type", 1); });
  refuse({"tie: found false", "expected a number"}, [&] { config.get_float("tie"); });
  refuse({"hidden_size: found 4096", "expected true or false"}, [&] { config.get_bool("hidden_size"); });
  refuse({"hidden_size: found 4096", "expected a string"}, [&] { config.get_string("hidden_size"); });
  refuse({"rope_scaling: found an object", "expected a string"}, [&] { config.get_string("rope_scaling"); });
  refuse({"eos_token_id: found an array", "expected an integer"}, [&] { config.get_int("eos_token_id"); });
  refuse({"mixed: found \"x\"", "expected an integer"}, [&] { config.get_ints("mixed"); });
  refuse({"mixed: found 1", "expected a string"}, [&] { config.get_strings("mixed"); });
  refuse({"model_type: found \"mixtral\"", "expected an object"}, [&] { config.object("model_type"); });
  refuse({"rope_scaling.type: found \"yarn\"", "expected a number"},
         [&] { config.object("rope_scaling").get_float("type"); });
}

TEST(JsonConfig, Synonyms) {
  const JsonConfig config = JsonConfig::parse(R"({"num_experts": 8, "n_routed_experts": 8, "top_k": 2, "k": 4,
                                                  "gone": null, "sub": {}})",
                                              "c.json");
  EXPECT_EQ(config.first_of({"num_local_experts", "n_routed_experts", "num_experts"}), "n_routed_experts");
  EXPECT_EQ(config.first_of({"gone", "top_k"}), "top_k");
  EXPECT_EQ(config.find_first_of({"gone", "nothing"}), std::nullopt);
  expect_error(ErrorKind::kBadInput, {"c.json: ", "none of the keys gone, nothing"}, [&] {
    config.first_of({"gone", "nothing"});
  });
  expect_error(ErrorKind::kBadInput, {"c.json: in sub: none of the keys"},
               [&] { config.object("sub").first_of({"nothing"}); });
  expect_error(ErrorKind::kBadInput, {"c.json: top_k is 2", "k, another name of the same setting, is 4"}, [&] {
    config.first_of({"top_k", "k"});
  });
}

TEST(JsonConfig, RefusesWhatIsNotStrictJson) {
  const auto refuse = [](std::string_view text, std::vector<std::string> parts) {
    parts.insert(parts.begin(), "c.json: ");
    expect_error(
        ErrorKind::kBadInput, parts, [&] { JsonConfig::parse(text, "c.json"); },
        testing::Message() << "\n  text " << text.substr(0, 100));
  };
  refuse("", {"not valid JSON"});
  refuse("7", {"found 7", "expected an object"});
  refuse("[{}]", {"found an array", "expected an object"});
  refuse("{\"a\": 1,\n \"b\": }", {"not valid JSON", "line 2"});
  refuse(R"({"a": 1, "a": 1})", {"key \"a\" appears twice"});
  refuse(R"({"o": {"a": 1, "\u0061": 2}})", {"key \"a\" appears twice"});
  refuse(R"({"a": NaN})", {"not valid JSON"});
  refuse(R"({"a": Infinity})", {"not valid JSON"});
  refuse(R"({"a": 1e400})", {"not valid JSON"});
  refuse(R"({"a": 1} // comment)", {"not valid JSON"});
  refuse(R"({"a": 1,})", {"not valid JSON"});
  refuse("{\"a\": \"\xff\"}", {"not valid JSON", "UTF-8"});
  refuse(std::string_view("{}\0", 3), {"NUL byte"});
  for (const char* opening : {"[", "{\"a\":"}) {
    std::string bomb = "{\"a\":";
    for (int i = 0; i < 200000; ++i) bomb += opening;
    refuse(bomb, {"nested deeper than 32 levels"});
  }
}

TEST(JsonConfig, ThirtyTwoLevelsAreEnough) {
  std::string text = "{\"a\":" + std::string(31, '[') + std::string(31, ']') + "}";
  EXPECT_TRUE(JsonConfig::parse(text, "c.json").has("a"));
}

TEST(JsonConfig, LoadsAFile) {
  const TemporaryFolder folder;
  write_file_atomically(folder / "config.json", R"({"a": 1})");
  EXPECT_EQ(JsonConfig::load(folder / "config.json").get_int("a"), 1);
  expect_error(ErrorKind::kBadInput, {(folder / "config.json: b").string()},
               [&] { JsonConfig::load(folder / "config.json").get_int("b"); });
  expect_error(ErrorKind::kNotFound, {"none.json"}, [&] { JsonConfig::load(folder / "none.json"); });
}

// Asks everything about everything.
void read_all(const JsonConfig& config) {
  for (const std::string& key : config.keys()) {
    const auto attempt = [&](auto&& read) {
      try {
        read();
      } catch (const Error& error) {
        ASSERT_EQ(static_cast<int>(error.kind()), static_cast<int>(ErrorKind::kBadInput)) << error.what();
        ASSERT_THAT(error.what(), testing::StartsWith("c.json: "));
      }
    };
    attempt([&] { config.get_int(key); });
    attempt([&] { config.get_float(key); });
    attempt([&] { config.get_bool(key); });
    attempt([&] { config.get_string(key); });
    attempt([&] { config.get_ints(key); });
    attempt([&] { config.get_floats(key); });
    attempt([&] { config.get_strings(key); });
    attempt([&] { config.first_of({"a", key}); });
    if (config.is_object(key)) read_all(config.object(key));
  }
}

TEST(JsonConfig, Mutants) {
  const std::string good = R"({"a": 12, "b": -3.5e2, "c": [1, 2, 3], "d": {"e": "text", "f": null, "g": {}},
                               "h": true, "i": ["x", "\u00e4"]})";
  expect_sound_under_mutation(
      5000, "c.json", [&](std::uint32_t number) { return mutant(good, number, kJsonTokens); },
      [](const std::string& text) { read_all(JsonConfig::parse(text, "c.json")); });
}

}  // namespace
}  // namespace switchyard::formats
