#pragma once
// Names of character properties in regular expressions, as Oniguruma and Rust's regex crate know them.

#include <string>
#include <string_view>

namespace switchyard::text {

// What \w stands for within a class of PCRE2.
inline constexpr std::string_view kWordItems = R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc})";

// The items of a PCRE2 class that have the property: a general category, a name of one, or a property of yes and no.
// `key` has small letters and digits alone: names are compared without case, spaces, '_' and '-'. Empty where the name
// is none of these; it may be that of a script.
std::string property_items(std::string_view key);

}  // namespace switchyard::text
