#pragma once
// Regular expressions as tokenizer files write them, in the syntax of PCRE2.

#include <string>
#include <string_view>

namespace switchyard::text {

enum class RegexDialect {
  kOniguruma,  // tokenizer.json: Oniguruma's Ruby syntax, in which ^ and $ are about lines
  kRust,       // tiktoken: the syntax of the Rust crates regex and fancy-regex
};

// The result is for PCRE2_UTF, PCRE2_UCP and PCRE2_MULTILINE. Groups do not capture. `where` names file and key.
// Throws kUnsupported, with the pattern, for what has no equal or is not known to have one, and for what is malformed.
std::string translate_regex(std::string_view pattern, RegexDialect dialect, const std::string& where);

}  // namespace switchyard::text
