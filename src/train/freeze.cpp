#include "switchyard/train/freeze.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "switchyard/base/error.hpp"

namespace switchyard::train {

bool matches(std::string_view pattern, std::string_view name) {
  // Where the last star stands and what it has swallowed: on a mismatch it takes one character more.
  std::size_t p = 0, n = 0, star = std::string_view::npos, swallowed = 0;
  while (n < name.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      swallowed = n;
    } else if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == name[n])) {
      ++p;
      ++n;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      n = ++swallowed;
    } else {
      return false;
    }
  }
  return pattern.find_first_not_of('*', p) == std::string_view::npos;
}

std::vector<const autograd::Parameter*> freeze(const std::vector<std::string>& patterns,
                                               model::Transformer& transformer) {
  std::vector<const autograd::Parameter*> frozen;
  for (const std::string& pattern : patterns) {
    bool any = false;
    for (autograd::Parameter* parameter : transformer.parameters()) {
      if (!matches(pattern, parameter->name)) continue;
      any = true;
      parameter->trainable = false;
      if (std::find(frozen.begin(), frozen.end(), parameter) == frozen.end()) frozen.push_back(parameter);
    }
    if (any) continue;
    std::string names;
    for (const autograd::Parameter* parameter : transformer.parameters())
      names += (names.empty() ? "" : ", ") + parameter->name;
    fail(ErrorKind::kBadInput, "train.freeze: \"{}\" fits no parameter; their names are {}", pattern, names);
  }
  const auto parameters = transformer.parameters();
  if (std::none_of(parameters.begin(), parameters.end(), [](const auto* p) { return p->wants_grad(); }))
    fail(ErrorKind::kBadInput, "train.freeze: nothing is left to train, expected patterns that leave some parameter");
  return frozen;
}

}  // namespace switchyard::train
