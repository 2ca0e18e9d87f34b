#pragma once
// The parameters of an encoder-decoder with their roles.

#include <vector>

#include "parameter_table.hpp"
#include "switchyard/model/encoder_decoder.hpp"

namespace switchyard::model {

// In the order of the forward pass. The config must be valid.
std::vector<ParameterRow> parameter_table(const EncoderDecoderConfig& config);

// The first MoE block of the encoder or else of the decoder; null where there is none.
const moe::MoeConfig* first_moe(const EncoderDecoderConfig& config);

}  // namespace switchyard::model
