// Rotary embedding in GGUF keys and in config.json. How llama.cpp takes the keys: llama_context's constructor and
// ggml's rope_yarn (ggml-org/llama.cpp).

#include <algorithm>
#include <cmath>
#include <numbers>

#include "architecture.hpp"
#include "families/common.hpp"
#include "switchyard/base/error.hpp"

namespace switchyard::model {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kDivisors = "rope_freqs.weight";
constexpr const char* kShort = "rope_factors_short.weight";
constexpr const char* kLong = "rope_factors_long.weight";
// Llama 3.1 to 3.3 and 4: the file has divisors where config.json had these.
constexpr double kLlama3Low = 1.0, kLlama3High = 4.0, kLlama3Positions = 8192.0;

std::vector<double> small_numbers(const GgufReading& reading, const char* name) {
  std::vector<double> numbers = reading.file().load_small(name);
  for (double& number : numbers) number = shortest(static_cast<float>(number));
  return numbers;
}

bool close(double a, double b) { return std::abs(a - b) <= 1e-5 * std::abs(b); }

// Rotation by divided frequencies. Llama 3's scaling is told by its numbers.
Json divided(const std::vector<double>& divisors, double theta, double positions) {
  kernels::RopeScaling llama3;
  llama3.kind = "llama3";
  llama3.factor = *std::max_element(divisors.begin(), divisors.end());
  llama3.low_frequency_factor = kLlama3Low;
  llama3.high_frequency_factor = kLlama3High;
  llama3.original_positions = kLlama3Positions;
  const std::vector<double> expected = llama3_divisors(static_cast<Index>(divisors.size()) * 2, theta, llama3);
  if (std::equal(divisors.begin(), divisors.end(), expected.begin(), expected.end(), close)) {
    return {{"rope_type", "llama3"},
            {"factor", llama3.factor},
            {"low_freq_factor", kLlama3Low},
            {"high_freq_factor", kLlama3High},
            {"original_max_position_embeddings", kLlama3Positions}};
  }
  return {{"rope_type", "longrope"},
          {"short_factor", divisors},
          {"long_factor", divisors},
          {"attention_factor", 1.0},
          {"original_max_position_embeddings", positions}};
}

Json read_yarn(const GgufReading& reading, double factor, double positions) {
  Json scaling = {{"rope_type", "yarn"}, {"factor", factor}, {"original_max_position_embeddings", positions}};
  if (const auto beta = reading.find_number("rope.scaling.yarn_beta_fast")) scaling["beta_fast"] = *beta;
  if (const auto beta = reading.find_number("rope.scaling.yarn_beta_slow")) scaling["beta_slow"] = *beta;
  if (const auto extrapolation = reading.find_number("rope.scaling.yarn_ext_factor");
      extrapolation && *extrapolation != 1.0 && *extrapolation != -1.0)
    fail(ErrorKind::kUnsupported, "{}: key {}: found {}, only 1 is supported", reading.metadata().file(),
         reading.key("rope.scaling.yarn_ext_factor"), *extrapolation);
  // The first multiplies YaRN's own factor; the second, which converters write, stands for the whole.
  if (const auto times = reading.find_number("rope.scaling.attn_factor")) {
    scaling["attention_factor"] = yarn_mscale(factor, 1.0) * *times;
  } else if (const auto whole = reading.find_number("rope.scaling.yarn_attn_factor")) {
    scaling["attention_factor"] = *whole;
  }
  return scaling;
}

}  // namespace

std::vector<double> llama3_divisors(Index rotary_dim, double theta, const kernels::RopeScaling& scaling) {
  std::vector<double> divisors;
  const double low = scaling.original_positions / scaling.low_frequency_factor;
  const double high = scaling.original_positions / scaling.high_frequency_factor;
  for (Index i = 0; i < rotary_dim / 2; ++i) {
    const double frequency = std::pow(theta, -2.0 * static_cast<double>(i) / static_cast<double>(rotary_dim));
    const double length = 2.0 * std::numbers::pi / frequency;
    if (length < high) {
      divisors.push_back(1.0);
    } else if (length > low) {
      divisors.push_back(scaling.factor);
    } else {
      const double t = (scaling.original_positions / length - scaling.low_frequency_factor) /
                       (scaling.high_frequency_factor - scaling.low_frequency_factor);
      divisors.push_back(1.0 / ((1.0 - t) / scaling.factor + t));
    }
  }
  return divisors;
}

void read_gguf_rope(GgufReading& reading, Index head_dim, std::string_view parent) {
  const auto path = [&](std::string_view name) { return std::string(parent) + std::string(name); };
  const double theta = reading.find_number("rope.freq_base").value_or(10000.0);
  reading.set(path("rope_theta"), theta);
  if (head_dim != 0) {
    const Index turned = reading.find_size("rope.dimension_count").value_or(head_dim);
    reading.set(path("partial_rotary_factor"), static_cast<double>(turned) / static_cast<double>(head_dim));
  }
  const auto context = static_cast<double>(reading.size("context_length"));
  const auto original = reading.find_size("rope.scaling.original_context_length");
  const double positions = original ? static_cast<double>(*original) : context;
  auto factor = reading.find_number("rope.scaling.factor");
  if (!factor) factor = reading.find_number("rope.scale_linear");
  std::string kind = reading.find_text("rope.scaling.type");
  if (kind.empty()) kind = "linear";
  const bool longrope = kind == "longrope" || (kind == "linear" && reading.file().has(kShort));
  if (reading.file().has(kDivisors) && !longrope) {
    const std::vector<double> divisors = small_numbers(reading, kDivisors);
    if (std::any_of(divisors.begin(), divisors.end(), [](double d) { return d != 1.0; }))
      reading.set(path("rope_scaling"), divided(divisors, theta, context));
    return;
  }
  if (kind == "none" || (kind == "linear" && !longrope && factor.value_or(1.0) == 1.0)) return;
  if (longrope) {
    if (!reading.file().has(kShort) || !reading.file().has(kLong))
      fail(ErrorKind::kBadInput, "{}: tensor {} is missing; key {} asks for it", reading.metadata().file(),
           reading.file().has(kShort) ? kLong : kShort, reading.key("rope.scaling.type"));
    reading.set(path("rope_scaling"),
                {{"rope_type", "longrope"},
                 {"short_factor", small_numbers(reading, kShort)},
                 {"long_factor", small_numbers(reading, kLong)},
                 {"attention_factor", reading.find_number("rope.scaling.attn_factor").value_or(1.0)},
                 {"original_max_position_embeddings", positions}});
    return;
  }
  if (kind != "linear" && kind != "yarn")
    fail(ErrorKind::kUnsupported, "{}: key {}: found {}, supported are none, linear, yarn and longrope",
         reading.metadata().file(), reading.key("rope.scaling.type"), kind);
  if (!factor) reading.metadata().refuse(reading.key("rope.scaling.factor"), "a number: the scaling is " + kind);
  if (kind == "linear") {
    reading.set(path("rope_scaling"), {{"rope_type", "linear"}, {"factor", *factor}});
  } else {
    reading.set(path("rope_scaling"), read_yarn(reading, *factor, positions));
  }
}

void write_gguf_rope(GgufWriting& writing, Index head_dim, std::string_view parent) {
  const auto at = [&](std::string_view name) { return writing.at(std::string(parent) + std::string(name)); };
  const double theta = at("rope_theta").get<double>();
  writing.number("rope.freq_base", theta);
  const Json partial = at("partial_rotary_factor");
  Index turned = head_dim;
  if (head_dim != 0) {
    if (!partial.is_null()) turned = std::llround(partial.get<double>() * static_cast<double>(head_dim));
    writing.size("rope.dimension_count", turned);
  }
  const Json scaling = at("rope_scaling");
  if (!scaling.is_object()) return;
  const auto kind = scaling.at("rope_type").get<std::string>();
  const auto positions = [&] {
    const auto value = scaling.at("original_max_position_embeddings").get<double>();
    if (value != std::floor(value))
      fail(ErrorKind::kUnsupported, "original_max_position_embeddings: found {}, GGUF has only whole numbers", value);
    return static_cast<Index>(value);
  };
  const auto refuse = [&] {
    fail(ErrorKind::kUnsupported, "rope_scaling: {} has no form in GGUF architecture {}", kind, writing.architecture());
  };
  if (kind == "linear") {
    writing.text("rope.scaling.type", kind);
    writing.number("rope.scaling.factor", scaling.at("factor").get<double>());
  } else if (kind == "yarn") {
    const auto factor = scaling.at("factor").get<double>();
    writing.text("rope.scaling.type", kind);
    writing.number("rope.scaling.factor", factor);
    writing.size("rope.scaling.original_context_length", positions());
    writing.number("rope.scaling.yarn_beta_fast", scaling.at("beta_fast").get<double>());
    writing.number("rope.scaling.yarn_beta_slow", scaling.at("beta_slow").get<double>());
    const double times = scaling.at("attention_factor").get<double>() / yarn_mscale(factor, 1.0);
    if (!scaling.contains("mscale_all_dim") && std::abs(times - 1.0) > 1e-9)
      writing.number("rope.scaling.attn_factor", times);
  } else if (kind == "llama3") {
    if (writing.architecture() != "llama") refuse();
    kernels::RopeScaling llama3;
    llama3.factor = scaling.at("factor").get<double>();
    llama3.low_frequency_factor = scaling.at("low_freq_factor").get<double>();
    llama3.high_frequency_factor = scaling.at("high_freq_factor").get<double>();
    llama3.original_positions = scaling.at("original_max_position_embeddings").get<double>();
    const std::vector<double> divisors = llama3_divisors(turned, theta, llama3);
    writing.tensors[kDivisors].assign(divisors.begin(), divisors.end());
  } else if (kind == "longrope") {
    if (writing.architecture() != "llama" && writing.architecture() != "phimoe") refuse();
    const auto magnitude = scaling.at("short_mscale").get<double>(), longer = scaling.at("long_mscale").get<double>();
    if (magnitude != longer)
      fail(ErrorKind::kUnsupported, "rope_scaling: short_mscale is {}, long_mscale {}: GGUF has one number for both",
           magnitude, longer);
    const auto numbers = [&](const char* name) {
      const auto values = scaling.at(name).get<std::vector<double>>();
      return std::vector<float>(values.begin(), values.end());
    };
    writing.text("rope.scaling.type", kind);
    writing.number("rope.scaling.attn_factor", magnitude);
    writing.size("rope.scaling.original_context_length", positions());
    writing.tensors[kShort] = numbers("short_factor");
    writing.tensors[kLong] = numbers("long_factor");
  }
}

}  // namespace switchyard::model
