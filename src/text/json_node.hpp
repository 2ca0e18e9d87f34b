#pragma once
// A value of a tokenizer file with the way to it, for messages.

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "switchyard/base/error.hpp"

namespace switchyard::text {

class JsonNode {
 public:
  // `file` must outlive it.
  JsonNode(const nlohmann::json& value, const std::string& file, std::string path = {})
      : value_(&value), file_(&file), path_(std::move(path)) {}

  bool is_null() const { return value_->is_null(); }
  bool is_string() const { return value_->is_string(); }
  bool is_array() const { return value_->is_array(); }
  bool is_object() const { return value_->is_object(); }
  const nlohmann::json& value() const { return *value_; }
  std::size_t size() const { return value_->size(); }

  // "FILE: key 'PATH'"
  std::string where() const { return fmt::format("{}: key '{}'", *file_, path_); }
  const std::string& file() const { return *file_; }

  // A member of an object, null where it is not there.
  JsonNode get(const char* key) const {
    static const nlohmann::json kNull;
    if (!value_->is_object()) wrong_type("an object");
    const auto found = value_->find(key);
    return JsonNode(found == value_->end() ? kNull : *found, *file_, path_.empty() ? key : path_ + "." + key);
  }
  bool has(const char* key) const { return value_->is_object() && value_->contains(key); }
  JsonNode at(std::size_t i) const { return JsonNode((*value_)[i], *file_, fmt::format("{}[{}]", path_, i)); }

  const std::string& text() const {
    if (!value_->is_string()) wrong_type("a string");
    return value_->get_ref<const std::string&>();
  }
  std::string text_or(const std::string& otherwise) const { return is_null() ? otherwise : text(); }
  bool boolean() const {
    if (!value_->is_boolean()) wrong_type("true or false");
    return value_->get<bool>();
  }
  bool boolean_or(bool otherwise) const { return is_null() ? otherwise : boolean(); }
  // A whole number from 0 to `most`.
  std::int64_t count(std::int64_t most) const {
    if (!value_->is_number_unsigned() || value_->get<std::uint64_t>() > static_cast<std::uint64_t>(most)) {
      wrong_type(fmt::format("a whole number from 0 to {}", most));
    }
    return value_->get<std::int64_t>();
  }
  const JsonNode& array() const {
    if (!value_->is_array()) wrong_type("a list");
    return *this;
  }

  [[noreturn]] void wrong_type(std::string_view expected) const {
    std::string found =
        value_->is_null() ? "nothing" : value_->dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
    if (found.size() > 60) found = std::string(value_->type_name());
    fail(ErrorKind::kBadInput, "{}: found {}, expected {}", where(), found, expected);
  }
  [[noreturn]] void unsupported(std::string_view known) const {
    fail(ErrorKind::kUnsupported, "{}: '{}' is not supported; expected one of {}", where(),
         value_->is_string() ? value_->get_ref<const std::string&>() : std::string(value_->type_name()), known);
  }

 private:
  const nlohmann::json* value_;
  const std::string* file_;
  std::string path_;
};

}  // namespace switchyard::text
