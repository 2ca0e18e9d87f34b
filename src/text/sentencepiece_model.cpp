#include "sentencepiece_model.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <unordered_set>

#include "charsmap.hpp"
#include "switchyard/base/error.hpp"
#include "switchyard/text/utf8.hpp"

namespace switchyard::text {
namespace {

// The part of the protocol buffer wire format that a model file uses (protobuf.dev, "Encoding").
class WireReader {
 public:
  WireReader(std::string_view bytes, const std::string& name, std::string_view message)
      : bytes_(bytes), name_(name), message_(message) {}

  // Moves to the next field; false at the end.
  bool next() {
    if (bytes_.empty()) return false;
    const std::uint64_t tag = raw_varint();
    field_ = tag >> 3;
    wire_ = static_cast<int>(tag & 7);
    if (field_ == 0 || field_ > 536870911) malformed("a field number out of range");
    return true;
  }
  std::uint64_t field() const { return field_; }

  std::uint64_t varint() {
    expect(0, "an integer");
    return raw_varint();
  }
  std::int32_t int32() { return static_cast<std::int32_t>(static_cast<std::uint32_t>(varint())); }
  bool boolean() { return varint() != 0; }
  float float32() {
    expect(5, "a float");
    std::uint32_t bits = 0;
    std::memcpy(&bits, take(4).data(), 4);
    return std::bit_cast<float>(bits);
  }
  std::string_view bytes() {
    expect(2, "bytes");
    return take(raw_varint());
  }
  std::string text() {
    const std::string_view value = bytes();
    if (find_invalid_utf8(value)) malformed("a string that is not valid UTF-8");
    return std::string(value);
  }
  void skip() {
    if (wire_ == 0) {
      raw_varint();
    } else if (wire_ == 1) {
      take(8);
    } else if (wire_ == 2) {
      take(raw_varint());
    } else if (wire_ == 5) {
      take(4);
    } else {
      malformed("an unknown wire type");
    }
  }

  [[noreturn]] void malformed(std::string_view what) const {
    fail(ErrorKind::kBadInput, "{}: is not a SentencePiece model: {} has {} in field {}", name_, message_, what,
         field_);
  }

 private:
  void expect(int wire, std::string_view what) const {
    if (wire_ != wire) malformed(fmt::format("wire type {} instead of {}", wire_, what));
  }
  std::string_view take(std::uint64_t count) {
    if (count > bytes_.size()) malformed("fewer bytes than it announces (truncated?)");
    const std::string_view result = bytes_.substr(0, count);
    bytes_.remove_prefix(count);
    return result;
  }
  std::uint64_t raw_varint() {
    std::uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<std::uint8_t>(take(1)[0]);
      value |= std::uint64_t{byte & 0x7FU} << shift;
      if (byte < 0x80) return value;
    }
    malformed("an integer of more than ten bytes");
  }

  std::string_view bytes_;
  const std::string& name_;
  std::string_view message_;
  std::uint64_t field_ = 0;
  int wire_ = 0;
};

SentencePiece read_piece(WireReader reader, const std::string& name, std::size_t id) {
  SentencePiece piece;
  while (reader.next()) {
    switch (reader.field()) {
      case 1:
        piece.text = reader.text();
        break;
      case 2:
        piece.score = reader.float32();
        break;
      case 3: {
        const std::int32_t type = reader.int32();
        if (type < 1 || type > 6) reader.malformed(fmt::format("piece type {}, expected 1 to 6,", type));
        piece.type = static_cast<SentencePiece::Type>(type);
        break;
      }
      default:
        reader.skip();
    }
  }
  if (piece.text.empty()) fail(ErrorKind::kBadInput, "{}: piece {} is empty", name, id);
  if (piece.text.find('\0') != std::string::npos) {
    fail(ErrorKind::kBadInput, "{}: piece {} holds a zero byte", name, id);
  }
  if (!std::isfinite(piece.score)) {
    fail(ErrorKind::kBadInput, "{}: piece {} ('{}') has score {}, expected a finite number", name, id, piece.text,
         piece.score);
  }
  return piece;
}

void read_trainer(WireReader reader, SentencePieceModel& model) {
  while (reader.next()) {
    switch (reader.field()) {
      case 3: {
        const std::int32_t algorithm = reader.int32();
        if (algorithm < 1 || algorithm > 4) reader.malformed(fmt::format("model type {}, expected 1 to 4,", algorithm));
        model.algorithm = static_cast<SentencePieceModel::Algorithm>(algorithm);
        break;
      }
      case 24:
        model.whitespace_as_suffix = reader.boolean();
        break;
      case 35:
        model.byte_fallback = reader.boolean();
        break;
      case 44:
        model.unk_surface = reader.text();
        break;
      case 45:
        model.unk_piece = reader.text();
        break;
      case 46:
        model.bos_piece = reader.text();
        break;
      case 47:
        model.eos_piece = reader.text();
        break;
      default:
        reader.skip();
    }
  }
}

void read_normalizer(WireReader reader, SentencePieceModel& model) {
  while (reader.next()) {
    switch (reader.field()) {
      case 2:
        model.normalization_table = reader.bytes();
        break;
      case 3:
        model.add_dummy_prefix = reader.boolean();
        break;
      case 4:
        model.remove_extra_whitespaces = reader.boolean();
        break;
      case 5:
        model.escape_whitespaces = reader.boolean();
        break;
      default:
        reader.skip();
    }
  }
}

void read_denormalizer(WireReader reader, SentencePieceModel& model) {
  while (reader.next()) {
    if (reader.field() == 2) {
      model.denormalization_table = reader.bytes();
    } else {
      reader.skip();
    }
  }
}

void check_pieces(const SentencePieceModel& model, const std::string& name) {
  if (model.pieces.empty()) fail(ErrorKind::kBadInput, "{}: holds no pieces", name);
  if (model.pieces.size() > std::numeric_limits<std::int32_t>::max() / 2) {
    fail(ErrorKind::kBadInput, "{}: holds {} pieces, too many", name, model.pieces.size());
  }
  std::unordered_set<std::string_view> seen;
  std::array<bool, 256> has_byte{};
  std::size_t unknowns = 0, learnt = 0;
  for (std::size_t id = 0; id < model.pieces.size(); ++id) {
    const SentencePiece& piece = model.pieces[id];
    if (!seen.insert(piece.text).second) {
      fail(ErrorKind::kBadInput, "{}: piece {} ('{}') is there twice", name, id, piece.text);
    }
    using Type = SentencePiece::Type;
    if (piece.type == Type::kUnknown) ++unknowns;
    if (piece.type == Type::kNormal || piece.type == Type::kUserDefined || piece.type == Type::kUnused) ++learnt;
    if (piece.type != Type::kByte) continue;
    const int byte = byte_of_piece(piece.text);
    if (byte < 0) {
      fail(ErrorKind::kBadInput, "{}: byte piece {} is '{}', expected '<0x00>' to '<0xFF>'", name, id, piece.text);
    }
    has_byte[static_cast<std::size_t>(byte)] = true;
  }
  if (unknowns != 1) fail(ErrorKind::kBadInput, "{}: has {} unknown pieces, expected one", name, unknowns);
  const auto bytes = std::count(has_byte.begin(), has_byte.end(), true);
  if (bytes != (model.byte_fallback ? 256 : 0)) {
    fail(ErrorKind::kBadInput, "{}: has {} byte pieces, expected {} as byte_fallback is {}", name, bytes,
         model.byte_fallback ? 256 : 0, model.byte_fallback);
  }
  // The library's unigram search needs something to search in.
  if (learnt == 0 && !model.byte_fallback) fail(ErrorKind::kBadInput, "{}: has no piece for any text", name);
}

}  // namespace

int byte_of_piece(std::string_view text) {
  if (text.size() != 6 || text.substr(0, 3) != "<0x" || text[5] != '>') return -1;
  const auto digit = [](char c) {
    if (c >= '0' && c <= '9') return c - '0';
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
  };
  const int high = digit(text[3]), low = digit(text[4]);
  return high < 0 || low < 0 ? -1 : high * 16 + low;
}

std::string unescape_spaces(std::string_view text) {
  std::string result;
  while (true) {
    const std::size_t found = text.find(kEscapedSpace);
    result.append(text.substr(0, found));
    if (found == std::string_view::npos) return result;
    result.push_back(' ');
    text.remove_prefix(found + kEscapedSpace.size());
  }
}

bool SentencePieceModel::lossless() const {
  if (algorithm != Algorithm::kBpe || !byte_fallback || whitespace_as_suffix || add_dummy_prefix ||
      remove_extra_whitespaces || !escape_whitespaces || !normalization_table.empty() ||
      !denormalization_table.empty()) {
    return false;
  }
  bool has_space = false, holds_space = false;
  for (const SentencePiece& piece : pieces) {
    // A piece that is never produced changes how its neighbours merge; a plain space never reaches a piece.
    if (piece.type == SentencePiece::Type::kUnused || piece.text.find(' ') != std::string::npos) return false;
    has_space = has_space || piece.text == kEscapedSpace;
    holds_space = holds_space || piece.text.find(kEscapedSpace) != std::string::npos;
  }
  return has_space || !holds_space;
}

SentencePieceModel parse_sentencepiece_model(std::string_view bytes, const std::string& name) {
  SentencePieceModel model;
  WireReader reader(bytes, name, "the model");
  while (reader.next()) {
    switch (reader.field()) {
      case 1:
        model.pieces.push_back(read_piece(WireReader(reader.bytes(), name, "a piece"), name, model.pieces.size()));
        break;
      case 2:
        read_trainer(WireReader(reader.bytes(), name, "the trainer's settings"), model);
        break;
      case 3:
        read_normalizer(WireReader(reader.bytes(), name, "the normaliser's settings"), model);
        break;
      case 5:
        read_denormalizer(WireReader(reader.bytes(), name, "the denormaliser's settings"), model);
        break;
      default:
        reader.skip();
    }
  }
  check_pieces(model, name);
  for (const std::string* table : {&model.normalization_table, &model.denormalization_table}) {
    if (!table->empty()) CharsMap(*table, name);
  }

  // As the library does: a named token counts only where the piece is there and is a control piece.
  const auto find = [&](const std::string& text, SentencePiece::Type type) {
    for (std::size_t id = 0; id < model.pieces.size(); ++id) {
      if (model.pieces[id].text == text) return model.pieces[id].type == type ? static_cast<std::int32_t>(id) : -1;
    }
    return -1;
  };
  model.bos_id = find(model.bos_piece, SentencePiece::Type::kControl);
  model.eos_id = find(model.eos_piece, SentencePiece::Type::kControl);
  model.unk_id = find(model.unk_piece, SentencePiece::Type::kUnknown);
  return model;
}

}  // namespace switchyard::text
