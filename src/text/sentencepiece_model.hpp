#pragma once
// What a SentencePiece model file says, read and checked by us: the library trusts its input in places (it follows
// offsets of the normalisation table without looking at its size), and does not give out the settings.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace switchyard::text {

inline constexpr std::string_view kEscapedSpace = "\xE2\x96\x81";  // U+2581

// Field and value numbers are those of sentencepiece_model.proto.
struct SentencePiece {
  enum class Type { kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kUnused = 5, kByte = 6 };
  std::string text;
  float score = 0.0F;
  Type type = Type::kNormal;
};

struct SentencePieceModel {
  enum class Algorithm { kUnigram = 1, kBpe = 2, kWord = 3, kChar = 4 };
  std::vector<SentencePiece> pieces;

  // Trainer settings that encoding depends on.
  Algorithm algorithm = Algorithm::kUnigram;
  bool whitespace_as_suffix = false;
  bool byte_fallback = false;
  std::string unk_piece = "<unk>", bos_piece = "<s>", eos_piece = "</s>";
  std::string unk_surface = " \xE2\x81\x87 ";
  // The ids of those pieces; -1 where the model has no such piece.
  std::int32_t unk_id = -1, bos_id = -1, eos_id = -1;

  // Normaliser settings.
  std::string normalization_table, denormalization_table;  // empty: identity
  bool add_dummy_prefix = true, remove_extra_whitespaces = true, escape_whitespaces = true;

  // Whether byte-pair encoding with these settings can be exact: every text has a spelling and nothing is normalised.
  bool lossless() const;
};

// Throws kBadInput, naming `name` and the field, where the file is malformed or would lead the library astray.
SentencePieceModel parse_sentencepiece_model(std::string_view bytes, const std::string& name);

// The byte of a kByte piece such as "<0x0A>", -1 where the text is not of that form.
int byte_of_piece(std::string_view text);

// U+2581 to a space.
std::string unescape_spaces(std::string_view text);

}  // namespace switchyard::text
