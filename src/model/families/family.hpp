#pragma once
// What is different about a published architecture: the keys of its config.json and the names and layouts of its
// tensors. Each family is a table in a file of its own; nothing else asks which family a model is of.

#include <nlohmann/json_fwd.hpp>

#include <span>
#include <string>
#include <string_view>

#include "switchyard/formats/json_config.hpp"
#include "switchyard/model/config.hpp"

namespace switchyard::model {

// How a file holds a native tensor. In names, {i} is the layer and {e} the expert.
enum class Layout {
  kSame,       // one tensor of the same shape
  kRow,        // [D] as [1, D]
  kPerExpert,  // [E, ...] as E tensors of [...], a name each
  kFirstRows,  // [E, F, D] as rows 0 to F-1 of each expert of one [E, 2F, D]
  kLastRows,   // [E, F, D] as rows F to 2F-1 of each expert of one [E, 2F, D]
};

struct TensorRule {
  std::string_view native;
  std::string_view published;
  Layout layout = Layout::kSame;
};

struct Family {
  std::string_view model_type;    // of config.json
  std::string_view architecture;  // the class that transformers makes of it
  // Throws naming the file and the key: kBadInput where one is missing or wrong, kUnsupported where a value asks for
  // something that a ModelConfig does not have.
  ModelConfig (*read_config)(const formats::JsonConfig& json);
  // The keys of the architecture. Values that the dialect has no key for are left out and a config of another shape is
  // written as well as may be: describes() finds out by reading it back.
  nlohmann::ordered_json (*write_config)(const ModelConfig& config);
  // Several rules for one native tensor are alternatives: a file may hold any one, the first is written. Empty: every
  // tensor has its native name.
  std::span<const TensorRule> tensors;
};

extern const Family kMixtral, kQwen2Moe, kQwen3Moe, kGlm4Moe, kDeepseek, kLlama, kSwitchyard;

// In the order in which saving tries them. The last one, our own, describes every model.
std::span<const Family* const> families();

// The family of a config.json. Throws kUnsupported listing the known ones.
const Family& family_of(const formats::JsonConfig& json);

// Whether the dialect expresses the architecture exactly: what it writes reads back as the same model. Fields that
// only training looks at do not count.
bool describes(const Family& family, const ModelConfig& config);

}  // namespace switchyard::model
