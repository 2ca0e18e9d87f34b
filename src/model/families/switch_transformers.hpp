#pragma once
// Switch Transformer, an encoder-decoder: its config keys and tensor names.

#include "family.hpp"
#include "switchyard/model/encoder_decoder.hpp"

namespace switchyard::model {

// The embedding of both stacks, of the encoder, and of the decoder.
inline constexpr std::string_view kSharedTable = "shared.weight";
inline constexpr std::string_view kEncoderTable = "encoder.embed_tokens.weight";
inline constexpr std::string_view kDecoderTable = "decoder.embed_tokens.weight";

// Throws as Family::read_config does.
EncoderDecoderConfig read_switch_config(const formats::JsonConfig& json);

}  // namespace switchyard::model
