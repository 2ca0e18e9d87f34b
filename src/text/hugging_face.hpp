#pragma once
// The files from which `transformers` makes a fast tokenizer: tokenizer.json and tokenizer_config.json.

#include <filesystem>
#include <vector>

namespace switchyard::text {

struct SentencePieceModel;

void write_hugging_face_byte_tokenizer(const std::filesystem::path& folder);
void write_hugging_face_char_tokenizer(const std::filesystem::path& folder, const std::vector<char32_t>& characters);
// For a model whose encoding loses nothing (SentencePieceModel::lossless()).
void write_hugging_face_sentencepiece(const std::filesystem::path& folder, const SentencePieceModel& model);

}  // namespace switchyard::text
