#include "load_parameters.hpp"

namespace switchyard::model {
namespace {

using autograd::Parameter;
using autograd::ParameterRole;

// What stays as the file holds it. The rest is small, or read where only float32 will do.
bool stays_stored(const ParameterRow& row) {
  switch (row.role) {
    case ParameterRole::kEmbedding:
    case ParameterRole::kOutput:
    case ParameterRole::kMatrix:
    case ParameterRole::kExpert:
      return row.shape.rank() >= 2;
    case ParameterRole::kRouter:
    case ParameterRole::kNorm:
    case ParameterRole::kBias:
    case ParameterRole::kBuffer:
      return false;
  }
  return false;
}

void fill(Parameter& parameter, const ParameterRow& row, std::span<const TensorPlace> places, WeightFiles& weights) {
  parameter.value = Tensor::uninitialized(DType::kF32, row.shape);
  std::span<float> to = parameter.value.f32();
  for (const TensorPlace& place : places) {
    const auto count = static_cast<std::size_t>(place.rows * place.cols);
    weights.convert(place, to.first(count));
    to = to.subspan(count);
  }
}

}  // namespace

std::unique_ptr<text::Tokenizer> load_folder_tokenizer(const std::filesystem::path& folder, Index vocab) {
  std::unique_ptr<text::Tokenizer> tokenizer;
  try {
    tokenizer = text::load_tokenizer(folder);
  } catch (const Error& error) {
    // The weights are of use without one: to see what is routed, to compare logits.
    if (error.kind() != ErrorKind::kNotFound && error.kind() != ErrorKind::kUnsupported) throw;
  }
  if (tokenizer && tokenizer->vocab_size() > vocab) {
    fail(ErrorKind::kBadInput, "{}: the tokenizer has {} ids, but vocab_size in {} is {}", folder.string(),
         tokenizer->vocab_size(), kConfigFile, vocab);
  }
  return tokenizer;
}

void load_parameters(const std::vector<PlannedParameter>& plan, const std::vector<ParameterRow>& rows,
                     std::span<Parameter* const> parameters, WeightFiles& weights, bool stored) {
  for (const auto& [row, places] : plan) {
    Parameter& parameter = *parameters[row];
    if (stored && stays_stored(rows[row])) {
      for (const TensorPlace& place : places) parameter.stored.views.push_back(weights.keep(place));
      parameter.stored.keep_alive = weights.keep_alive();
    } else {
      fill(parameter, rows[row], places, weights);
      for (const TensorPlace& place : places) weights.release(place);
    }
  }
}

}  // namespace switchyard::model
