// What the scripts beside this file cannot see themselves. usage:
//   json FILE [POINTER [VALUE]]   FILE is one JSON document; what POINTER names exists and is VALUE (as JSON)
//   array FILE POINTER SIZE       what POINTER names is an array of SIZE elements
//   npy FILE ROWS COLUMNS         FILE is a float32 NPY array of that shape and every element is finite
//   losses FILE FILE              two metrics.jsonl have the same steps and losses, bit for bit
//   whole FILE STEPS              metrics.jsonl has every step from 1 to STEPS once, in order
// Exits with 1 and a message where it is not so.

#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "switchyard/base/atomic_file.hpp"
#include "switchyard/base/error.hpp"
#include "switchyard/formats/npy.hpp"

namespace {

using nlohmann::json;
using switchyard::ErrorKind;
using switchyard::fail;

json read_json(const std::string& file) {
  const std::string text = switchyard::read_file(file);
  json document = json::parse(text, nullptr, false);
  if (document.is_discarded()) fail(ErrorKind::kBadInput, "{}: not JSON: {}", file, text.substr(0, 200));
  return document;
}

json find(const std::string& file, const std::string& pointer) {
  const json document = read_json(file);
  const json::json_pointer path(pointer);
  if (!document.contains(path)) fail(ErrorKind::kBadInput, "{}: no {} in {}", file, pointer, document.dump());
  return document.at(path);
}

void check_json(const std::vector<std::string>& words) {
  if (words.size() == 1) {
    read_json(words[0]);
    return;
  }
  const json value = find(words.at(0), words.at(1));
  if (words.size() > 2 && value != json::parse(words[2])) {
    fail(ErrorKind::kBadInput, "{}: {} is {}, expected {}", words[0], words[1], value.dump(), words[2]);
  }
}

void check_array(const std::vector<std::string>& words) {
  const json value = find(words.at(0), words.at(1));
  if (!value.is_array() || std::to_string(value.size()) != words.at(2)) {
    fail(ErrorKind::kBadInput, "{}: {} is {}, expected an array of {}", words[0], words[1], value.dump(), words[2]);
  }
}

void check_npy(const std::vector<std::string>& words) {
  const switchyard::Tensor tensor = switchyard::formats::read_npy(words.at(0));
  const std::string expected = fmt::format("[{}, {}]", words.at(1), words.at(2));
  if (tensor.dtype() != switchyard::DType::kF32 || tensor.shape().to_string() != expected) {
    fail(ErrorKind::kBadInput, "{}: {}, expected float32 {}", words[0], tensor.shape().to_string(), expected);
  }
  for (const float value : tensor.f32()) {
    if (!std::isfinite(value)) fail(ErrorKind::kBadInput, "{}: holds {}", words[0], value);
  }
}

// "kind step loss" of every line of a metrics.jsonl that is not a warning.
std::vector<std::string> losses_of(const std::string& file) {
  std::vector<std::string> result;
  std::istringstream lines(switchyard::read_file(file));
  for (std::string line; std::getline(lines, line);) {
    const json values = json::parse(line);
    if (values.at("kind") == "warning") continue;
    result.push_back(values.at("kind").get<std::string>() + " " + values.at("step").dump() + " " +
                     values.at("loss").dump());
  }
  return result;
}

void check_losses(const std::vector<std::string>& words) {
  const auto a = losses_of(words.at(0)), b = losses_of(words.at(1));
  for (std::size_t i = 0; i < std::max(a.size(), b.size()); ++i) {
    const std::string in_a = i < a.size() ? a[i] : "the end", in_b = i < b.size() ? b[i] : "the end";
    if (in_a != in_b) fail(ErrorKind::kBadInput, "{} has '{}' where {} has '{}'", words[0], in_a, words[1], in_b);
  }
}

void check_whole(const std::vector<std::string>& words) {
  std::int64_t step = 0;
  std::istringstream lines(switchyard::read_file(words.at(0)));
  for (std::string line; std::getline(lines, line);) {
    const json values = json::parse(line);
    if (values.at("kind") != "step") continue;
    if (values.at("step") != ++step) fail(ErrorKind::kBadInput, "{}: expected step {}: {}", words[0], step, line);
  }
  if (std::to_string(step) != words.at(1)) {
    fail(ErrorKind::kBadInput, "{}: ends at step {}, expected {}", words[0], step, words[1]);
  }
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const std::string what = argc > 1 ? argv[1] : "";
    const std::vector<std::string> words(argv + std::min(argc, 2), argv + argc);
    if (what == "json") {
      check_json(words);
    } else if (what == "array") {
      check_array(words);
    } else if (what == "npy") {
      check_npy(words);
    } else if (what == "losses") {
      check_losses(words);
    } else if (what == "whole") {
      check_whole(words);
    } else {
      fail(ErrorKind::kUsage, "unknown check '{}'", what);
    }
    return 0;
  } catch (const std::exception& error) {
    fmt::print(stderr, "check: {}\n", error.what());
    return 1;
  }
}
