#pragma once
// The folder of an encoder-decoder: what loading it and examining it share.

#include "encoder_decoder_rows.hpp"
#include "load_plan.hpp"

namespace switchyard::model {

struct EncoderDecoderFolder {
  EncoderDecoderConfig config;
  // The family with what a plan of loading looks at of its config; the layers are not there.
  FolderConfig plan;
};

bool is_encoder_decoder(const formats::JsonConfig& json);
EncoderDecoderFolder read_encoder_decoder(const formats::JsonConfig& json);
// Tells separate_embeddings from the tables that the files hold, and compares those that must be copies of each other.
void settle_embeddings(EncoderDecoderFolder& folder, const formats::TensorFiles& files);

}  // namespace switchyard::model
