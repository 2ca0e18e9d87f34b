#pragma once
// Typed reading of a JSON object such as a Hugging Face config.json. What is missing or of the wrong type ends in an
// error that names the file, the key, what was found and what was expected.

#include <filesystem>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "switchyard/base/index.hpp"

namespace switchyard::formats {

// One object of the document; nested ones share it. Immutable, cheap to copy, thread-safe. All functions that read a
// key throw kBadInput. A key whose value is null counts as absent, as it does for transformers.
class JsonConfig {
 public:
  // Strict JSON: duplicate keys, NaN, Infinity, numbers beyond double, comments and nesting beyond 32 levels are
  // refused, and so is a document that is not an object. `origin` stands for the file in messages.
  static JsonConfig load(const std::filesystem::path& path);
  static JsonConfig parse(std::string_view text, std::string origin);

  const std::string& origin() const;
  // "config.json: rope_scaling.factor", for the caller's own messages about a value.
  std::string where(std::string_view key) const;

  bool has(std::string_view key) const;
  bool is_null(std::string_view key) const;    // there, with the value null
  bool is_object(std::string_view key) const;  // false where absent
  bool is_string(std::string_view key) const;
  std::vector<std::string> keys() const;  // in alphabetical order, null ones left out

  Index get_int(std::string_view key) const;     // a JSON number without fraction or exponent
  double get_float(std::string_view key) const;  // any JSON number
  bool get_bool(std::string_view key) const;
  std::string get_string(std::string_view key) const;
  // Arrays. A lone value counts as an array of one (eos_token_id is written both ways).
  std::vector<Index> get_ints(std::string_view key) const;
  std::vector<double> get_floats(std::string_view key) const;
  std::vector<std::string> get_strings(std::string_view key) const;
  JsonConfig object(std::string_view key) const;

  // The default where the key is absent; a value of the wrong type is still an error.
  Index get_int_or(std::string_view key, Index otherwise) const;
  double get_float_or(std::string_view key, double otherwise) const;
  bool get_bool_or(std::string_view key, bool otherwise) const;
  std::string get_string_or(std::string_view key, std::string otherwise) const;

  // The first of several spellings of one setting that is present: get_int(first_of({"num_experts", ...})). Throws
  // where none is, or where two are and disagree.
  std::string first_of(std::initializer_list<std::string_view> keys) const;
  std::optional<std::string> find_first_of(std::initializer_list<std::string_view> keys) const;

 private:
  struct Object;
  explicit JsonConfig(std::shared_ptr<const Object> object) : object_(std::move(object)) {}
  std::shared_ptr<const Object> object_;
};

}  // namespace switchyard::formats
