#include "load_parameters.hpp"

namespace switchyard::model {
namespace {

using autograd::Parameter;

void fill(Parameter& parameter, const ParameterRow& row, std::span<const MatrixPlaces> matrices, WeightFiles& weights) {
  parameter.value = Tensor::uninitialized(DType::kF32, row.shape);
  std::span<float> to = parameter.value.f32();
  const std::size_t count = to.size() / matrices.size();
  for (const MatrixPlaces& places : matrices) {
    weights.convert(places, to.first(count));
    to = to.subspan(count);
  }
}

}  // namespace

std::unique_ptr<text::Tokenizer> tokenizer_if_any(const std::function<std::unique_ptr<text::Tokenizer>()>& load,
                                                  const std::filesystem::path& path, Index vocab) {
  std::unique_ptr<text::Tokenizer> tokenizer;
  try {
    tokenizer = load();
  } catch (const Error& error) {
    // The weights are of use without one: to see what is routed, to compare logits.
    if (error.kind() != ErrorKind::kNotFound && error.kind() != ErrorKind::kUnsupported) throw;
  }
  if (tokenizer && tokenizer->vocab_size() > vocab) {
    fail(ErrorKind::kBadInput, "{}: the tokenizer has {} ids, but vocab_size in {} is {}", path.string(),
         tokenizer->vocab_size(), kConfigFile, vocab);
  }
  return tokenizer;
}

void load_parameters(const std::vector<PlannedParameter>& plan, const std::vector<ParameterRow>& rows,
                     std::span<Parameter* const> parameters, WeightFiles& weights, bool stored) {
  for (const auto& [row, matrices] : plan) {
    Parameter& parameter = *parameters[row];
    if (stored && is_chosen(rows[row])) {
      for (const MatrixPlaces& places : matrices) parameter.stored.views.push_back(weights.keep(places));
      parameter.stored.keep_alive = weights.keep_alive();
    } else {
      fill(parameter, rows[row], matrices, weights);
      for (const MatrixPlaces& places : matrices) weights.release(places);
    }
  }
}

}  // namespace switchyard::model
