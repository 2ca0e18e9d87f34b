// A Hugging Face config.json, of which every key is read as every type.

#include "switchyard/formats/json_config.hpp"

#include "fuzz.hpp"

namespace {

using switchyard::formats::JsonConfig;

void read_all(const JsonConfig& config) {
  for (const std::string& key : config.keys()) {
    switchyard::fuzz::check(config.has(key), "a listed key is there");
    const auto attempt = [](auto&& read) { switchyard::fuzz::run(read); };
    attempt([&] { (void)config.get_int(key); });
    attempt([&] { (void)config.get_float(key); });
    attempt([&] { (void)config.get_bool(key); });
    attempt([&] { (void)config.get_string(key); });
    attempt([&] { (void)config.get_ints(key); });
    attempt([&] { (void)config.get_floats(key); });
    attempt([&] { (void)config.get_strings(key); });
    attempt([&] { (void)config.first_of({"num_experts", key}); });
    if (config.is_object(key)) read_all(config.object(key));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace switchyard::fuzz;
  return run([&] { read_all(JsonConfig::parse(text_of(data, size), "input")); });
}
