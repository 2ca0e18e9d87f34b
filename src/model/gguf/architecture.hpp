#pragma once
// What a value of general.architecture means: a family of config.json, the keys that say the same in both, and the
// names of the tensors. A table per architecture; a new one is a new table. docs/formats/gguf-models.md has them all.
// Source: gguf-py/gguf/constants.py, conversion/*.py and src/llama-model.cpp of ggml-org/llama.cpp.

#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "families/family.hpp"
#include "switchyard/formats/gguf.hpp"
#include "switchyard/formats/tensor_files.hpp"
#include "switchyard/kernels/rope.hpp"

namespace switchyard::model {

// A GGUF file as far as its metadata is read: opened, or about to be written.
struct GgufContents {
  const formats::GgufMetadata* metadata = nullptr;
  std::function<const Shape*(const std::string& name)> find_tensor;        // null where there is none
  std::function<std::vector<double>(const std::string& name)> load_small;  // the numbers of a tensor that is there

  bool has(const std::string& name) const { return find_tensor(name) != nullptr; }
};
// `files` must outlive the result.
GgufContents contents_of(const formats::TensorFiles& files);

// Metadata on its way to a config.json.
class GgufReading {
 public:
  GgufReading(const GgufContents& contents, std::string_view architecture)
      : contents_(&contents), architecture_(architecture) {}

  const GgufContents& file() const { return *contents_; }
  const formats::GgufMetadata& metadata() const { return *contents_->metadata; }
  // "llama.embedding_length"
  std::string key(std::string_view name) const { return fmt::format("{}.{}", architecture_, name); }
  // Keys of the architecture. Where the value of a size is an array with a value a layer, all must be the same:
  // kUnsupported.
  std::optional<Index> find_size(std::string_view name) const;
  Index size(std::string_view name) const;
  std::optional<double> find_number(std::string_view name) const;
  std::optional<bool> find_flag(std::string_view name) const;
  std::string find_text(std::string_view name) const;  // empty where there is none
  std::string_view architecture() const { return architecture_; }

  // Sets a key of config.json; a dot leads into an object.
  void set(std::string_view path, nlohmann::ordered_json value);
  nlohmann::ordered_json config = nlohmann::ordered_json::object();

 private:
  const GgufContents* contents_;
  std::string architecture_;
};

// A config.json, as a family writes it, on its way to metadata.
class GgufWriting {
 public:
  GgufWriting(const nlohmann::ordered_json& config, std::string_view architecture, formats::GgufMetadata& metadata)
      : config_(&config), architecture_(architecture), metadata_(&metadata) {}

  // The value at a path; null where there is none.
  nlohmann::ordered_json at(std::string_view path) const;
  void size(std::string_view name, Index value);
  void number(std::string_view name, double value);
  void flag(std::string_view name, bool value);
  void text(std::string_view name, std::string value);
  std::string_view architecture() const { return architecture_; }

  std::map<std::string, std::vector<float>> tensors;  // small ones that stand for keys of config.json

 private:
  std::string key(std::string_view name) const { return fmt::format("{}.{}", architecture_, name); }
  const nlohmann::ordered_json* config_;
  std::string architecture_;
  formats::GgufMetadata* metadata_;
};

// A key that says the same in both files.
struct GgufKey {
  enum class Type { kSize, kNumber, kFlag };
  std::string_view name;    // without the architecture: "embedding_length"
  std::string_view config;  // of config.json: "hidden_size", "attn_config.clip_qkv"
  Type type = Type::kSize;
  bool required = true;  // to read. It is written where config.json has it.
};

struct GgufArchitecture {
  std::string_view name;
  const Family* family;
  // Whether a file of this architecture is of this family, where several families share one.
  bool (*matches)(const GgufReading& reading);
  std::span<const GgufKey> keys;
  std::span<const TensorRule> tensors;
  // What is not one key for one. `read` runs after the keys, `write` too.
  void (*read)(GgufReading& reading);
  void (*write)(GgufWriting& writing);
};

// In the order in which they are tried for a file.
std::span<const GgufArchitecture> gguf_architectures();
TensorScheme scheme_of(const GgufArchitecture& architecture);

// Rotary embedding: keys of the architecture from and to rope_theta and rope_scaling, which stand below `parent` of
// config.json ("attn_config.", or empty). `head_dim`: elements of a head that RoPE could turn, 0 where config.json has
// no say in how many it does.
void read_gguf_rope(GgufReading& reading, Index head_dim, std::string_view parent = "");
void write_gguf_rope(GgufWriting& writing, Index head_dim, std::string_view parent = "");
// What Llama 3's scaling divides the frequencies by, one a pair; a GGUF file has these numbers in its place.
std::vector<double> llama3_divisors(Index rotary_dim, double theta, const kernels::RopeScaling& scaling);

}  // namespace switchyard::model
