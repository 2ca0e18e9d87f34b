// The config.json of a model, read by the family that it names: what is accepted can be laid out, and our own dialect
// can say it.

#include "families/family.hpp"
#include "parameter_table.hpp"

#include "fuzz.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace switchyard::fuzz;
  namespace model = switchyard::model;
  return run([&] {
    const auto json = switchyard::formats::JsonConfig::parse(text_of(data, size), "input");
    const model::ModelConfig config = model::family_of(json).read_config(json);
    config.validate("input");
    if (config.layers.size() > 64) return;  // a hundred thousand rows of the same kind prove nothing more
    model::parameter_table(config);
    check(model::describes(model::kSwitchyard, config), "our own dialect describes every valid model");
  });
}
