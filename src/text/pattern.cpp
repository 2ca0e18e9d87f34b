#include "pattern.hpp"

namespace switchyard::text {

Pattern::Pattern(const JsonNode& node) {
  if (!node.is_object() || node.size() != 1 || !(node.has("String") || node.has("Regex"))) {
    node.wrong_type("an object with 'String' or 'Regex'");
  }
  if (node.has("String")) {
    literal_ = node.get("String").text();
    if (literal_.empty()) node.wrong_type("a string that is not empty");
  } else {
    const JsonNode regex = node.get("Regex");
    regex_.emplace(regex.text(), RegexDialect::kOniguruma, regex.where());
  }
}

std::string Pattern::replace(std::string_view text, std::string_view content, RegexScratch& scratch) const {
  std::string result;
  result.reserve(text.size());
  std::size_t done = 0;
  for_each(text, scratch, [&](const RegexMatch& match) {
    result.append(text.substr(done, match.begin - done));
    result += content;
    done = match.end;
  });
  result.append(text.substr(done));
  return result;
}

}  // namespace switchyard::text
