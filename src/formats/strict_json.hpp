#pragma once
// JSON as RFC 8259 has it and nothing more, from untrusted text: bounded depth, no duplicate keys, no bytes after a
// NUL.

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace switchyard::formats {

// Feeds `text` to `handler`, a nlohmann SAX handler that reports by throwing Error. `origin` names the file.
void parse_json_events(std::string_view text, std::string_view origin, nlohmann::json_sax<nlohmann::json>& handler);

// The whole document. Throws kBadInput naming `origin` and line, column or key.
nlohmann::json parse_strict_json(std::string_view text, std::string_view origin, int max_depth = 32);

// For error messages: the value shortened, or its type where it is an object or array.
std::string describe(const nlohmann::json& value);

// What a SAX handler's parse_error() throws.
[[noreturn]] void fail_not_json(std::string_view origin, const nlohmann::detail::exception& error);

}  // namespace switchyard::formats
