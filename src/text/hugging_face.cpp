#include "hugging_face.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <tuple>
#include <unordered_map>

#include "byte_alphabet.hpp"
#include "sentencepiece_model.hpp"
#include "switchyard/base/atomic_file.hpp"
#include "switchyard/text/utf8.hpp"

namespace switchyard::text {
namespace {

using Json = nlohmann::json;
namespace fs = std::filesystem;

// Source: the serialised form of a tokenizer in the Hugging Face tokenizers library.
Json tokenizer_json(Json vocab, Json merges, bool byte_fallback, Json pre_tokenizer, Json decoder, Json added_tokens) {
  return {{"version", "1.0"},
          {"truncation", nullptr},
          {"padding", nullptr},
          {"added_tokens", std::move(added_tokens)},
          {"normalizer", nullptr},
          {"pre_tokenizer", std::move(pre_tokenizer)},
          {"post_processor", nullptr},
          {"decoder", std::move(decoder)},
          {"model",
           {{"type", "BPE"},
            {"dropout", nullptr},
            {"unk_token", nullptr},
            {"continuing_subword_prefix", nullptr},
            {"end_of_word_suffix", nullptr},
            {"fuse_unk", false},
            {"byte_fallback", byte_fallback},
            {"ignore_merges", false},
            {"vocab", std::move(vocab)},
            {"merges", std::move(merges)}}}};
}

Json config_json() {
  // The class is named so that no model type brings its own, which would rebuild the pipeline in its own way.
  return {{"tokenizer_class", "PreTrainedTokenizerFast"},
          {"clean_up_tokenization_spaces", false},
          // A text that spells a control token must not become that token.
          {"split_special_tokens", true},
          {"add_bos_token", false},
          {"add_eos_token", false}};
}

void write_both(const fs::path& folder, const Json& tokenizer, const Json& config) {
  write_file_atomically(folder / "tokenizer.json", tokenizer.dump(1) + "\n");
  write_file_atomically(folder / "tokenizer_config.json", config.dump(2) + "\n");
}

}  // namespace

void write_hugging_face_byte_tokenizer(const fs::path& folder) {
  Json vocab = Json::object();
  for (int byte = 0; byte < 256; ++byte) vocab[byte_character(static_cast<unsigned char>(byte))] = byte;
  const Json byte_level = {
      {"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", false}, {"use_regex", false}};
  write_both(folder, tokenizer_json(std::move(vocab), Json::array(), false, byte_level, byte_level, Json::array()),
             config_json());
}

void write_hugging_face_char_tokenizer(const fs::path& folder, const std::vector<char32_t>& characters) {
  // Byte-pair encoding without merges: the library's smallest unit is the code point.
  Json vocab = Json::object();
  for (std::size_t id = 0; id < characters.size(); ++id) {
    std::string text;
    append_utf8(text, characters[id]);
    vocab[text] = id;
  }
  write_both(folder, tokenizer_json(std::move(vocab), Json::array(), false, nullptr, {{"type", "Fuse"}}, Json::array()),
             config_json());
}

void write_hugging_face_sentencepiece(const fs::path& folder, const SentencePieceModel& model) {
  // Pieces are spelt with plain spaces, not with U+2581, and nothing is replaced on the way in or out: so a U+2581 in
  // the text is an unknown character, spelt in bytes, as in our own encode().
  using Type = SentencePiece::Type;
  Json vocab = Json::object();
  Json added_tokens = Json::array();
  std::unordered_map<std::string, std::size_t> normal;
  for (std::size_t id = 0; id < model.pieces.size(); ++id) {
    const SentencePiece& piece = model.pieces[id];
    const bool plain = piece.type == Type::kNormal || piece.type == Type::kUserDefined;
    const std::string text = plain ? unescape_spaces(piece.text) : piece.text;
    vocab[text] = id;
    if (piece.type == Type::kNormal) normal.emplace(text, id);
    if (piece.type == Type::kNormal || piece.type == Type::kByte) continue;
    added_tokens.push_back({{"id", id},
                            {"content", text},
                            {"single_word", false},
                            {"lstrip", false},
                            {"rstrip", false},
                            {"normalized", false},
                            {"special", !plain}});
  }

  // SentencePiece joins the adjacent pair whose union has the best score. A list of pairs says the same: every way to
  // cut a piece in two, better pieces first.
  struct Merge {
    float score;
    std::size_t id, left_id, right_id;
    std::string left, right;
  };
  std::vector<Merge> merges;
  for (const auto& [text, id] : normal) {
    for (std::size_t cut = read_utf8(text).length; cut < text.size();
         cut += read_utf8(std::string_view(text).substr(cut)).length) {
      const auto left = normal.find(text.substr(0, cut));
      if (left == normal.end()) continue;
      const auto right = normal.find(text.substr(cut));
      if (right == normal.end()) continue;
      merges.push_back({model.pieces[id].score, id, left->second, right->second, left->first, right->first});
    }
  }
  std::sort(merges.begin(), merges.end(), [](const Merge& a, const Merge& b) {
    return std::tie(b.score, a.id, a.left_id, a.right_id) < std::tie(a.score, b.id, b.left_id, b.right_id);
  });
  Json merge_list = Json::array();
  for (const Merge& merge : merges) merge_list.push_back(Json::array({merge.left, merge.right}));

  const Json decoder = {{"type", "Sequence"}, {"decoders", {{{"type", "ByteFallback"}}, {{"type", "Fuse"}}}}};
  Json config = config_json();
  const auto name_token = [&](const char* key, int id) {
    if (id >= 0) config[key] = model.pieces[static_cast<std::size_t>(id)].text;
  };
  name_token("bos_token", model.bos_id);
  name_token("eos_token", model.eos_id);
  name_token("unk_token", model.unk_id);
  write_both(folder,
             tokenizer_json(std::move(vocab), std::move(merge_list), true, nullptr, decoder, std::move(added_tokens)),
             config);
}

}  // namespace switchyard::text
