#pragma once
// The renderings that are asked for by name.

#include <string>
#include <string_view>
#include <vector>

namespace switchyard::text {

std::string_view builtin_template(std::string_view name);  // its source; empty where there is none
std::vector<std::string> builtin_template_names();

}  // namespace switchyard::text
