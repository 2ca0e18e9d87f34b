#pragma once
// What pre-tokenizers split at and normalisers replace: a string or a regular expression.

#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "json_node.hpp"
#include "new_characters.hpp"
#include "regex.hpp"

namespace switchyard::text {

class Pattern {
 public:
  // {"String": "..."} or {"Regex": "..."}
  explicit Pattern(const JsonNode& node);
  explicit Pattern(Regex regex) : regex_(std::move(regex)) {}

  template <class Found>
  void for_each(std::string_view text, RegexScratch& scratch, Found&& found) const {
    if (regex_) {
      regex_->for_each(KnownCharacters(text).view(), scratch, found);
    } else if (!literal_.empty()) {
      for (std::size_t at = text.find(literal_); at != std::string_view::npos;
           at = text.find(literal_, at + literal_.size())) {
        found(RegexMatch{at, at + literal_.size()});
      }
    }
  }

  // Every match becomes `content`.
  std::string replace(std::string_view text, std::string_view content, RegexScratch& scratch) const;

 private:
  std::string literal_;
  std::optional<Regex> regex_;
};

}  // namespace switchyard::text
