#include "strict_json.hpp"

#include <utility>
#include <vector>

#include "quoted.hpp"
#include "switchyard/base/error.hpp"

namespace switchyard::formats {
namespace {

using nlohmann::json;

class DocumentBuilder final : public nlohmann::json_sax<json> {
 public:
  DocumentBuilder(std::string_view origin, int max_depth) : origin_(origin), max_depth_(max_depth) {}
  json take() { return std::move(root_); }

  bool null() override { return add(nullptr) != nullptr; }
  bool boolean(bool value) override { return add(value) != nullptr; }
  bool number_integer(number_integer_t value) override { return add(value) != nullptr; }
  bool number_unsigned(number_unsigned_t value) override { return add(value) != nullptr; }
  bool number_float(number_float_t value, const string_t&) override { return add(value) != nullptr; }
  bool string(string_t& value) override { return add(std::move(value)) != nullptr; }
  bool binary(binary_t&) override { return false; }
  bool start_object(std::size_t) override { return open(json::object()); }
  bool start_array(std::size_t) override { return open(json::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }
  bool key(string_t& name) override {
    const auto [position, inserted] = open_.back()->emplace(name, nullptr);
    if (!inserted) fail(ErrorKind::kBadInput, "{}: key {} appears twice", origin_, in_quotes(name));
    slot_ = &*position;
    return true;
  }
  bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception& error) override {
    fail_not_json(origin_, error);
  }

 private:
  json* add(json value) {
    if (open_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    if (open_.back()->is_array()) {
      open_.back()->push_back(std::move(value));
      return &open_.back()->back();
    }
    *slot_ = std::move(value);
    return slot_;
  }
  bool open(json container) {
    if (std::cmp_greater_equal(open_.size(), max_depth_)) {
      fail(ErrorKind::kBadInput, "{}: JSON nested deeper than {} levels", origin_, max_depth_);
    }
    open_.push_back(add(std::move(container)));
    return true;
  }
  bool close() {
    open_.pop_back();
    return true;
  }

  std::string_view origin_;
  int max_depth_;
  json root_;
  // Pointers stay good: a container grows only while it is the last one open.
  std::vector<json*> open_;
  json* slot_ = nullptr;
};

}  // namespace

void parse_json_events(std::string_view text, std::string_view origin, nlohmann::json_sax<json>& handler) {
  // The lexer takes a NUL for the end of the text and would not look at what follows.
  if (const std::size_t nul = text.find('\0'); nul != std::string_view::npos) {
    fail(ErrorKind::kBadInput, "{}: not valid JSON: a NUL byte at offset {}", origin, nul);
  }
  json::sax_parse(text.begin(), text.end(), &handler);
}

json parse_strict_json(std::string_view text, std::string_view origin, int max_depth) {
  DocumentBuilder builder(origin, max_depth);
  parse_json_events(text, origin, builder);
  return builder.take();
}

std::string describe(const json& value) {
  if (value.is_object()) return "an object";
  if (value.is_array()) return "an array";
  if (value.is_string()) return in_quotes(value.get_ref<const std::string&>());
  return value.dump();
}

void fail_not_json(std::string_view origin, const nlohmann::detail::exception& error) {
  std::string_view message = error.what();  // "[json.exception.parse_error.101] parse error at line 1, column 2: ..."
  if (const std::size_t bracket = message.find("] "); bracket != std::string_view::npos) {
    message.remove_prefix(bracket + 2);
  }
  fail(ErrorKind::kBadInput, "{}: not valid JSON: {}", origin, printable(message, 300));
}

}  // namespace switchyard::formats
