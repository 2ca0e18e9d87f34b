#include "sentinel_tokenizer.hpp"

#include <algorithm>

#include "added_tokens.hpp"
#include "sentencepiece_model.hpp"
#include "sentencepiece_tokenizer.hpp"
#include "switchyard/base/atomic_file.hpp"
#include "switchyard/base/error.hpp"
#include "switchyard/text/utf8.hpp"

namespace switchyard::text {
namespace {

constexpr std::int64_t kUsualSentinels = 100;

class SentinelTokenizer final : public Tokenizer {
 public:
  SentinelTokenizer(std::string model, const std::string& name, const FolderSettings& settings, NamedFiles companions)
      : pieces_(make_sentencepiece_tokenizer(model, name, settings, {})),
        serialized_(std::move(model)),
        companions_(std::move(companions)) {
    using Type = SentencePiece::Type;
    const SentencePieceModel read = parse_sentencepiece_model(serialized_, name);
    for (std::size_t id = 0; id < read.pieces.size(); ++id) {
      const SentencePiece& piece = read.pieces[id];
      if (piece.type == Type::kControl || piece.type == Type::kUnknown)
        add(static_cast<std::int64_t>(id), piece.text, {});
    }
    add_sentinels(name, settings);
    special_of_id_.assign(static_cast<std::size_t>(size_), -1);
    std::vector<AddedTokenMatcher::Entry> entries;
    for (std::size_t i = 0; i < special_.size(); ++i) {
      special_of_id_[static_cast<std::size_t>(special_[i].id)] = static_cast<std::int32_t>(i);
      entries.push_back({special_[i].content, &special_[i]});
    }
    matcher_ = AddedTokenMatcher(entries);
    parse_special_ = !settings.split_special;
  }

  std::vector<std::int32_t> encode(std::string_view text) const override { return encode_text(text, parse_special_); }
  std::vector<std::int32_t> encode_plain(std::string_view text) const override { return encode_text(text, false); }

  // As the reference: the space before the first word is dropped.
  std::string decode(std::span<const std::int32_t> ids) const override {
    std::string text;
    for (const std::int32_t id : ids) text += special(id) != nullptr ? special(id)->content : token_bytes(id);
    const bool spaced = !ids.empty() && special(ids[0]) == nullptr && text.starts_with(' ');
    return spaced ? text.substr(1) : text;
  }
  std::string token_bytes(std::int32_t id) const override {
    check_id(id);
    return special(id) != nullptr ? std::string() : pieces_->token_bytes(id);
  }
  std::string token_text(std::int32_t id) const override {
    check_id(id);
    return special(id) != nullptr ? special(id)->content : pieces_->token_text(id);
  }
  Index vocab_size() const override { return size_; }
  std::string kind() const override { return pieces_->kind(); }
  std::optional<std::int32_t> bos_id() const override { return pieces_->bos_id(); }
  std::optional<std::int32_t> eos_id() const override { return pieces_->eos_id(); }
  std::vector<std::int32_t> end_ids() const override { return pieces_->end_ids(); }
  bool add_eos() const override { return eos_id().has_value(); }

  void save(const std::filesystem::path& folder) const override {
    write_file_atomically(folder / "spiece.model", serialized_);
    for (const auto& [name, content] : companions_) write_file_atomically(folder / name, content);
  }

 private:
  void add(std::int64_t id, const std::string& content, const FolderSettings::Added& flags) {
    AddedToken token;
    token.id = static_cast<std::int32_t>(id);
    token.content = content;
    token.single_word = flags.single_word;
    token.lstrip = flags.lstrip;
    token.rstrip = flags.rstrip;
    token.special = true;
    special_.push_back(std::move(token));
  }

  void add_sentinels(const std::string& name, const FolderSettings& settings) {
    const auto pieces = pieces_->vocab_size();
    size_ = pieces;
    for (const FolderSettings::Added& token : settings.added) {
      if (token.id < pieces) {
        // The file says the names of control pieces once more.
        if (pieces_->token_text(static_cast<std::int32_t>(token.id)) == token.content || is_special(token.id)) continue;
        fail(ErrorKind::kBadInput, "{}: id {} is {} in tokenizer_config.json, but {} in the model", name, token.id,
             token.content, pieces_->token_text(static_cast<std::int32_t>(token.id)));
      }
      add(token.id, token.content, token);
      size_ = std::max(size_, static_cast<Index>(token.id) + 1);
    }
    if (size_ > pieces) return;
    const std::int64_t count = settings.extra_ids.value_or(kUsualSentinels);
    if (count > kLargestId - pieces)
      fail(ErrorKind::kBadInput, "{}: {} sentinels behind {} pieces, expected at most {} ids", name, count, pieces,
           kLargestId + 1);
    for (std::int64_t n = 0; n < count; ++n) add(pieces + count - 1 - n, fmt::format("<extra_id_{}>", n), {});
    size_ = pieces + count;
  }

  bool is_special(std::int64_t id) const {
    return std::any_of(special_.begin(), special_.end(), [&](const AddedToken& token) { return token.id == id; });
  }
  const AddedToken* special(std::int32_t id) const {
    check_id(id);
    const std::int32_t at = special_of_id_[static_cast<std::size_t>(id)];
    return at < 0 ? nullptr : &special_[static_cast<std::size_t>(at)];
  }

  std::vector<std::int32_t> encode_text(std::string_view text, bool parse_special) const {
    std::string valid;
    if (find_invalid_utf8(text)) {
      valid = replace_invalid_utf8(text);
      text = valid;
    }
    std::vector<std::int32_t> ids;
    matcher_.split(text, parse_special, {}, [&](std::string_view part, const AddedToken* token) {
      if (token != nullptr) {
        ids.push_back(token->id);
        return;
      }
      const std::vector<std::int32_t> more = pieces_->encode(part);
      ids.insert(ids.end(), more.begin(), more.end());
    });
    return ids;
  }

  std::unique_ptr<Tokenizer> pieces_;
  std::string serialized_;
  NamedFiles companions_;
  std::vector<AddedToken> special_;
  std::vector<std::int32_t> special_of_id_;  // its number in special_, -1
  AddedTokenMatcher matcher_;
  Index size_ = 0;
  bool parse_special_ = true;
};

}  // namespace

std::unique_ptr<Tokenizer> make_sentinel_tokenizer(std::string model, const std::string& name,
                                                   const FolderSettings& settings, NamedFiles companions) {
  return std::make_unique<SentinelTokenizer>(std::move(model), name, settings, std::move(companions));
}

}  // namespace switchyard::text
