#include "sentencepiece_tokenizer.hpp"

#include <sentencepiece_processor.h>
#include <sentencepiece_trainer.h>

#include <array>
#include <bitset>
#include <exception>
#include <mutex>
#include <unordered_map>

#include "added_tokens.hpp"
#include "hugging_face.hpp"
#include "sentencepiece_model.hpp"
#include "sentencepiece_normalizer.hpp"
#include "switchyard/base/atomic_file.hpp"
#include "switchyard/base/error.hpp"
#include "switchyard/text/utf8.hpp"
#include "vocabulary.hpp"

namespace switchyard::text {
namespace {

class SentencePieceTokenizer final : public Tokenizer {
 public:
  SentencePieceTokenizer(std::string serialized, const std::string& name, const FolderSettings& settings,
                         NamedFiles companions)
      : serialized_(std::move(serialized)),
        companions_(std::move(companions)),
        model_(parse_sentencepiece_model(serialized_, name)),
        lossless_(model_.lossless()),
        joins_(std::make_unique<Joins>()) {
    silence_sentencepiece();
    load(processor_, serialized_, name);
    if (!lossless_ && model_.algorithm == SentencePieceModel::Algorithm::kBpe) {
      parts_ = std::make_unique<Parts>(model_);
      load(parts_->processor, serialized_ + no_normalization(model_.escape_whitespaces), name);
    }
    require(processor_.GetPieceSize() == static_cast<int>(model_.pieces.size()), "two readings of {} disagree", name);
    byte_ids_.fill(-1);
    for (std::size_t id = 0; id < model_.pieces.size(); ++id) {
      const SentencePiece& piece = model_.pieces[id];
      using Type = SentencePiece::Type;
      std::string bytes;
      if (piece.type == Type::kByte) {
        const int byte = byte_of_piece(piece.text);
        byte_ids_[static_cast<std::size_t>(byte)] = static_cast<std::int32_t>(id);
        bytes.push_back(static_cast<char>(static_cast<unsigned char>(byte)));
      } else if (piece.type == Type::kUnknown) {
        bytes = model_.unk_surface;
      } else if (piece.type != Type::kControl) {
        bytes = model_.escape_whitespaces ? unescape_spaces(piece.text) : piece.text;
        for (std::size_t i = 1; i < bytes.size(); ++i) joins_->set(join(bytes[i - 1], bytes[i]));
        if (bytes == " ") space_in_bytes_ = false;
      }
      token_bytes_.push_back(std::move(bytes));
    }
    for (std::size_t id = 0; id < model_.pieces.size(); ++id) {
      if (model_.pieces[id].type != SentencePiece::Type::kControl) continue;
      controls_.push_back({.id = static_cast<std::int32_t>(id), .content = model_.pieces[id].text, .special = true});
    }
    std::vector<AddedTokenMatcher::Entry> entries;
    for (const AddedToken& token : controls_) entries.push_back({token.content, &token});
    control_matcher_ = AddedTokenMatcher(entries);
    const auto find = [&](std::string_view token) {
      for (std::size_t id = 0; id < model_.pieces.size(); ++id) {
        if (model_.pieces[id].text == token) return static_cast<std::int32_t>(id);
      }
      return -1;
    };
    special_ = resolve_special_tokens(settings, static_cast<std::int64_t>(token_bytes_.size()), find, std::nullopt);
    // The model's own word goes before that of the files beside it.
    if (model_.bos_id >= 0) special_.begin = model_.bos_id;
    if (model_.eos_id >= 0) special_.end = model_.eos_id;
    if (special_.ends.empty() && special_.end) special_.ends.push_back(*special_.end);
  }

  std::vector<std::int32_t> encode(std::string_view text) const override {
    std::vector<std::int32_t> ids;
    if (!lossless_) {
      std::string valid;
      if (find_invalid_utf8(text)) {
        valid = replace_invalid_utf8(text);
        text = valid;
      }
      if (parts_) {
        encode_in_parts(text, ids);
      } else {
        encode_unit(processor_, text, ids);
      }
      return ids;
    }
    if (const auto invalid = find_invalid_utf8(text)) {
      fail(ErrorKind::kBadInput, "the text is not valid UTF-8: invalid byte sequence at byte {}", *invalid);
    }
    ids.reserve(text.size() / 3);
    Cache cache;
    while (true) {
      const std::size_t escaped = text.find(kEscapedSpace);
      encode_segment(text.substr(0, escaped), ids, cache);
      if (escaped == std::string_view::npos) return ids;
      // The library writes a space as U+2581 and so cannot tell a real one from a space: spell it in bytes.
      for (const char c : kEscapedSpace) ids.push_back(byte_ids_[static_cast<unsigned char>(c)]);
      text.remove_prefix(escaped + kEscapedSpace.size());
    }
  }

  // Control tokens are never found by the library. A text behind one starts anew.
  std::vector<std::int32_t> encode_mixed(std::string_view text, std::span<const ForeignText> foreign) const override {
    std::vector<std::int32_t> ids;
    control_matcher_.split(text, true, foreign, [&](std::string_view part, const AddedToken* token) {
      if (token != nullptr) {
        ids.push_back(token->id);
        return;
      }
      const std::vector<std::int32_t> more = encode(part);
      ids.insert(ids.end(), more.begin(), more.end());
    });
    return ids;
  }

  std::string decode(std::span<const std::int32_t> ids) const override {
    if (lossless_) return Tokenizer::decode(ids);
    for (const std::int32_t id : ids) check_id(id);
    std::string text;
    const auto status = processor_.Decode(std::vector<int>(ids.begin(), ids.end()), &text);
    if (!status.ok()) fail(ErrorKind::kInternal, "SentencePiece cannot decode: {}", status.message());
    return text;
  }

  std::string token_bytes(std::int32_t id) const override {
    check_id(id);
    return token_bytes_[static_cast<std::size_t>(id)];
  }
  Index vocab_size() const override { return static_cast<Index>(token_bytes_.size()); }
  std::string kind() const override { return "sentencepiece"; }
  std::string token_text(std::int32_t id) const override {
    check_id(id);
    const SentencePiece& piece = model_.pieces[static_cast<std::size_t>(id)];
    return piece.type == SentencePiece::Type::kControl ? piece.text : token_bytes_[static_cast<std::size_t>(id)];
  }
  std::optional<std::int32_t> bos_id() const override { return special_.begin; }
  std::optional<std::int32_t> eos_id() const override { return special_.end; }
  std::vector<std::int32_t> end_ids() const override { return special_.ends; }
  bool add_bos() const override { return special_.add_begin; }

  void save(const std::filesystem::path& folder) const override {
    write_file_atomically(folder / "tokenizer.model", serialized_);
    for (const auto& [name, content] : companions_) write_file_atomically(folder / name, content);
    if (companions_.empty() && lossless_) write_hugging_face_sentencepiece(folder, model_);
  }

 private:
  struct Cache {
    struct Entry {
      std::size_t begin, count;
    };
    std::unordered_map<std::string_view, Entry> entries;  // keys point into the text
    std::vector<std::int32_t> ids;
  };
  static constexpr std::size_t kLongestCached = 64, kMostCached = std::size_t{1} << 20;

  using Joins = std::bitset<65536>;
  static std::size_t join(char left, char right) {
    return static_cast<std::size_t>(static_cast<unsigned char>(left)) * 256 + static_cast<unsigned char>(right);
  }

  // For a model that normalises: the text is normalised here, and the library gets it word by word.
  struct Parts {
    explicit Parts(const SentencePieceModel& model) : normalizer(model), joins(model) {}
    SentencePieceNormalizer normalizer;
    CharacterJoins joins;
    sentencepiece::SentencePieceProcessor processor;  // the same pieces without normalisation
  };

  static void load(sentencepiece::SentencePieceProcessor& processor, const std::string& model,
                   const std::string& name) {
    try {
      const auto status = processor.LoadFromSerializedProto(model);
      if (!status.ok()) fail(ErrorKind::kBadInput, "{}: is not a SentencePiece model: {}", name, status.message());
    } catch (const Error&) {
      throw;
    } catch (const std::exception& error) {
      fail(ErrorKind::kBadInput, "{}: is not a SentencePiece model: {}", name, error.what());
    }
  }

  // The normaliser's settings (field 3) once more: where a field is there twice, the later one counts. In it an empty
  // table (2), and false for dummy prefix (3) and removal of spaces (4); escaping (5) stays.
  static std::string no_normalization(bool escape) {
    return std::string("\x1A\x08\x12\x00\x18\x00\x20\x00\x28", 9) + (escape ? '\x01' : '\x00');
  }

  void encode_in_parts(std::string_view text, std::vector<std::int32_t>& ids) const {
    const std::string normalized = parts_->normalizer.normalize(text);
    const std::string_view all = normalized;
    ids.reserve(all.size() / 4);
    PieceCache cache;
    std::vector<std::int32_t> unit_ids;
    const auto add = [&](std::string_view unit) {
      unit_ids.clear();
      const std::uint64_t hash = hash_bytes(unit);
      if (unit.size() > PieceCache::kLongest || !cache.append(unit, hash, unit_ids)) {
        encode_unit(parts_->processor, unit, unit_ids);
        cache.put(unit, hash, unit_ids.data(), unit_ids.data() + unit_ids.size());
      }
      // Without bytes to spell them, unknown characters in a row are one token.
      const bool again = !unit_ids.empty() && !ids.empty() && !model_.byte_fallback &&
                         model_.pieces[static_cast<std::size_t>(ids.back())].type == SentencePiece::Type::kUnknown &&
                         unit_ids[0] == ids.back();
      ids.insert(ids.end(), unit_ids.begin() + (again ? 1 : 0), unit_ids.end());
    };
    std::size_t begin = 0;
    char32_t previous = 0;
    for (std::size_t at = 0; at < all.size();) {
      const auto lead = static_cast<unsigned char>(all[at]);
      const Utf8Step step = lead < 0x80 ? Utf8Step{Utf8Status::kValid, 1, char32_t{lead}} : read_utf8(all.substr(at));
      if (at > begin && !parts_->joins.joins(previous, step.code_point)) {
        add(all.substr(begin, at - begin));
        begin = at;
      }
      previous = step.code_point;
      at += step.length;
    }
    if (begin < all.size()) add(all.substr(begin));
  }

  // Cuts the text where two bytes meet that no piece has side by side. No piece can reach across such a cut, so the
  // parts can be encoded one by one; most are words that come again and again.
  void encode_segment(std::string_view text, std::vector<std::int32_t>& ids, Cache& cache) const {
    std::size_t begin = 0;
    for (std::size_t end = 1; end <= text.size(); ++end) {
      if (end < text.size()) {
        const bool within_character = (static_cast<unsigned char>(text[end]) & 0xC0U) == 0x80U;
        if (within_character || joins_->test(join(text[end - 1], text[end]))) continue;
      }
      const std::string_view unit = text.substr(begin, end - begin);
      begin = end;
      if (space_in_bytes_ && unit == " ") {
        // The library would spell the bytes of U+2581.
        ids.push_back(byte_ids_[' ']);
        continue;
      }
      const auto found = cache.entries.find(unit);
      if (found != cache.entries.end()) {
        const auto first = cache.ids.begin() + static_cast<std::ptrdiff_t>(found->second.begin);
        ids.insert(ids.end(), first, first + static_cast<std::ptrdiff_t>(found->second.count));
        continue;
      }
      const std::size_t before = ids.size();
      encode_unit(processor_, unit, ids);
      if (unit.size() > kLongestCached || cache.entries.size() >= kMostCached) continue;
      cache.entries.emplace(unit, Cache::Entry{cache.ids.size(), ids.size() - before});
      cache.ids.insert(cache.ids.end(), ids.begin() + static_cast<std::ptrdiff_t>(before), ids.end());
    }
  }

  static void encode_unit(const sentencepiece::SentencePieceProcessor& processor, std::string_view text,
                          std::vector<std::int32_t>& ids) {
    std::vector<int> found;
    const auto status = processor.Encode(text, &found);
    if (!status.ok()) fail(ErrorKind::kInternal, "SentencePiece cannot encode: {}", status.message());
    ids.insert(ids.end(), found.begin(), found.end());
  }

  std::string serialized_;
  NamedFiles companions_;
  SentencePieceModel model_;
  bool lossless_;
  bool space_in_bytes_ = true;    // no piece is a space; for a lossless model, then no piece holds one
  std::unique_ptr<Joins> joins_;  // byte pairs that stand side by side within some piece
  sentencepiece::SentencePieceProcessor processor_;
  std::vector<AddedToken> controls_;
  AddedTokenMatcher control_matcher_;
  std::unique_ptr<Parts> parts_;  // null: the library gets the whole text, or it loses nothing
  SpecialTokens special_;
  std::vector<std::string> token_bytes_;
  std::array<std::int32_t, 256> byte_ids_;
};

}  // namespace

void silence_sentencepiece() {
  static std::once_flag once;
  std::call_once(once, [] {
    // The public headers have no function for the log level, only this argument. Training without input fails.
    constexpr const char* kAboveFatal = "4";
    sentencepiece::SentencePieceTrainer::Train(
        std::unordered_map<std::string, std::string>{{"minloglevel", kAboveFatal}})
        .IgnoreError();
  });
}

std::unique_ptr<Tokenizer> make_sentencepiece_tokenizer(std::string model, const std::string& name,
                                                        const FolderSettings& settings, NamedFiles companions) {
  return std::make_unique<SentencePieceTokenizer>(std::move(model), name, settings, std::move(companions));
}

}  // namespace switchyard::text
