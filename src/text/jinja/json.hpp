#pragma once
// JSON in and out.

#include <string_view>

#include "value.hpp"

namespace switchyard::text::jinja {

// A JSON document as a value. `generated` values of a list of messages are those of the assistant. Throws Failure where
// the text is not JSON or nested too deep; the message begins with `what`.
Value from_json(std::string_view text, std::string_view what, Origin origin);

}  // namespace switchyard::text::jinja
