#pragma once
// The tokenizer of T5 and its kin from its SentencePiece model.

#include <memory>
#include <string>

#include "companions.hpp"
#include "switchyard/text/tokenizer.hpp"

namespace switchyard::text {

// `model` is the content of a spiece.model. Behind its pieces come the sentinels that stand for left-out stretches of a
// text: those of added_tokens_decoder, else extra_ids of them, else 100, <extra_id_0> with the highest id. They and the
// model's control pieces are found where a text spells them. The end token is put behind a text. Throws kBadInput, with
// `name`, where the model is malformed or a sentinel has an id of a piece. Raffel et al. 2020, arXiv 1910.10683.
std::unique_ptr<Tokenizer> make_sentinel_tokenizer(std::string model, const std::string& name,
                                                   const FolderSettings& settings, NamedFiles companions);

}  // namespace switchyard::text
