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

// How a file holds a native tensor of shape [R, C], or of experts [E, R, C]. In names, {i} is the layer and {e} the
// expert.
enum class Layout {
  kSame,        // one tensor of the same shape
  kRow,         // [D] as [1, D]
  kPerExpert,   // E tensors [R, C], a name each
  kFlat,        // one tensor [E R, C]: the rows of one expert after those of another
  kPairedRows,  // one tensor [R, C] or [R] in which the rows of each head's first half and of its second take turns:
                // RoPE turns neighbours there, and a row and the one half a head further here
  kKeysValues,  // rows that are each head's keys [K, C] and values [V, C]: the keys of all heads as [H, C, K] under
                // `published`, their values as [H, V, C] under `second`
};

// Rules of a table that stand next to each other and have the same published name are parts of one tensor, in which
// their rows (of each expert) follow each other in the order of the table: gate and up as one [E, 2F, D]. Rules for one
// native tensor that have different published names are alternatives: a file may hold any one, the first is written.
struct TensorRule {
  std::string_view native;
  std::string_view published;
  Layout layout = Layout::kSame;
  bool transposed = false;       // the file has [C, R], for flat experts [E C, R]: x W instead of x W^T
  bool interleaved = false;      // the parts' rows take turns: row 0 of each, row 1 of each ...
  std::string_view second = {};  // kKeysValues only
  bool written = true;           // false: a form that files may have, but that is never written
};

// How a kind of file names the tensors of a model.
struct TensorScheme {
  std::span<const TensorRule> rules;                // empty: every tensor has its native name
  std::span<const std::string_view> ignored;        // tensors that a file may hold besides; * stands for any characters
  std::string_view layer_prefix = "model.layers.";  // what the number of a layer follows
  std::string_view prediction_marker = "eh_proj.weight";  // in every layer for multi-token prediction, and nowhere else
};

// Frequencies that follow from the config, which transformers 4 once stored.
inline constexpr std::string_view kRotaryFrequencies[] = {"*rotary_emb.inv_freq"};

struct Family {
  std::string_view model_type;    // of config.json
  std::string_view architecture;  // the class that transformers makes of it
  // Throws naming the file and the key: kBadInput where one is missing or wrong, kUnsupported where a value asks for
  // something that a ModelConfig does not have.
  ModelConfig (*read_config)(const formats::JsonConfig& json);
  // The keys of the architecture. Values that the dialect has no key for are left out and a config of another shape is
  // written as well as may be: describes() finds out by reading it back.
  nlohmann::ordered_json (*write_config)(const ModelConfig& config);
  // Empty: every tensor has its native name.
  std::span<const TensorRule> tensors;
  // Tensors that a file may hold besides; * stands for any characters.
  std::span<const std::string_view> ignored = kRotaryFrequencies;

  TensorScheme scheme() const { return {tensors, ignored}; }
};

extern const Family kMixtral, kQwen2Moe, kQwen3Moe, kGlm4Moe, kDeepseek, kDeepseekV2, kDeepseekV3, kKimiK2, kOlmoe,
    kDbrx, kGrok, kGptOss, kPhimoe, kGraniteMoe, kMinimaxM2, kErnieMoe, kLlama, kQwen2, kQwen3, kSwitchyard,
    kSwitchTransformers;

// In the order in which saving tries them. The last one, our own, describes every model.
std::span<const Family* const> families();

// The family of a config.json. Throws kUnsupported listing the known ones.
const Family& family_of(const formats::JsonConfig& json);

// The config.json of a model of the family, without what says how it is stored.
nlohmann::ordered_json published_config(const Family& family, const ModelConfig& config);

// Whether the dialect expresses the architecture exactly: what it writes reads back as the same model. Fields that
// only training looks at do not count.
bool describes(const Family& family, const ModelConfig& config);

}  // namespace switchyard::model
