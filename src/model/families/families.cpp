#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "family.hpp"
#include "native_schema.hpp"
#include "switchyard/base/error.hpp"

namespace switchyard::model {
namespace {

constexpr std::array kFamilies = {&kMixtral,    &kQwen2Moe,   &kQwen3Moe, &kGlm4Moe,    &kDeepseek,
                                  &kDeepseekV2, &kDeepseekV3, &kKimiK2,   &kOlmoe,      &kDbrx,
                                  &kGrok,       &kGptOss,     &kPhimoe,   &kGraniteMoe, &kMinimaxM2,
                                  &kErnieMoe,   &kLlama,      &kQwen2,    &kQwen3,      &kSwitchTransformers,
                                  &kSwitchyard};

}  // namespace

std::span<const Family* const> families() { return kFamilies; }

const Family& family_of(const formats::JsonConfig& json) {
  const std::string model_type = json.get_string("model_type");
  const auto found = std::find_if(kFamilies.begin(), kFamilies.end(),
                                  [&](const Family* family) { return family->model_type == model_type; });
  if (found != kFamilies.end()) return **found;
  std::string known;
  for (const Family* family : kFamilies) known += fmt::format("{}{}", known.empty() ? "" : ", ", family->model_type);
  fail(ErrorKind::kUnsupported, "{}: found {}, supported are {}", json.where("model_type"), model_type, known);
}

nlohmann::ordered_json published_config(const Family& family, const ModelConfig& config) {
  nlohmann::ordered_json json;
  json["architectures"] = {family.architecture};
  json["model_type"] = family.model_type;
  json.update(family.write_config(config));
  return json;
}

bool describes(const Family& family, const ModelConfig& config) {
  try {
    const auto json = formats::JsonConfig::parse(family.write_config(config).dump(), std::string(family.model_type));
    return architecture_json(family.read_config(json)) == architecture_json(config);
  } catch (const Error&) {
    return false;  // the dialect's own limits, such as at least one shared expert
  }
}

}  // namespace switchyard::model
