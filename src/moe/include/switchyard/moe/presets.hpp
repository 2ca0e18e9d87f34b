#pragma once
// The routing of published models and libraries, by name: every choice of config.hpp that makes their arithmetic. What
// a preset does not say is off. Where a library's number is defined otherwise than ours (a load-balance loss that is
// not divided by K, say), the preset holds ours, so that the result is the library's.

#include <span>
#include <string_view>

#include "switchyard/moe/config.hpp"

namespace switchyard::moe {

struct Preset {
  std::string_view name;
  std::string_view about;            // one line
  std::string_view source;           // paper or code whose arithmetic it is
  Index experts;                     // of the published model, or 0 where there is no single one
  void (*apply)(MoeConfig& config);  // onto defaults
};

std::span<const Preset> presets();
const Preset& find_preset(std::string_view name);  // kBadInput listing the names

// Sets router (but for the number of experts), capacity and balance; experts and shared expert are left as they are.
void apply_preset(const Preset& preset, MoeConfig& config);

}  // namespace switchyard::moe
