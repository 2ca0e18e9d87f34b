#include "pipeline_tokenizer.hpp"

#include <algorithm>

#include "switchyard/base/atomic_file.hpp"
#include "switchyard/base/error.hpp"
#include "switchyard/text/utf8.hpp"

namespace switchyard::text {
namespace {

class PipelineTokenizer final : public Tokenizer {
 public:
  explicit PipelineTokenizer(Pipeline pipeline) : p_(std::move(pipeline)) {
    added_of_id_.assign(static_cast<std::size_t>(p_.id_limit()), -1);
    RegexScratch scratch;
    std::vector<AddedTokenMatcher::Entry> raw, normalized;
    for (std::size_t i = 0; i < p_.added.size(); ++i) {
      const AddedToken& token = p_.added[i];
      added_of_id_[static_cast<std::size_t>(token.id)] = static_cast<std::int32_t>(i);
      std::string pattern = token.content;
      if (token.normalized && p_.normalizer) p_.normalizer->normalize(pattern, scratch);
      written_.push_back(pattern);
      (token.normalized ? normalized : raw).push_back({pattern, &token});
    }
    raw_matcher_ = AddedTokenMatcher(raw);
    normalized_matcher_ = AddedTokenMatcher(normalized);
    bytes_.resize(added_of_id_.size());
    for (std::size_t id = 0; id < bytes_.size(); ++id) {
      const AddedToken* token = added(static_cast<std::int32_t>(id));
      if (token != nullptr && token->special) continue;
      std::string text = written(static_cast<std::int32_t>(id));
      if (!p_.byte_tokens && p_.decoder) p_.decoder->decode_one(text, scratch);
      bytes_[id] = std::move(text);
    }
  }

  std::vector<std::int32_t> encode(std::string_view text) const override {
    return encode_text(text, p_.parse_special, {});
  }
  std::vector<std::int32_t> encode_plain(std::string_view text) const override { return encode_text(text, false, {}); }
  std::vector<std::int32_t> encode_mixed(std::string_view text, std::span<const ForeignText> foreign) const override {
    // Marks are of no use where the bytes that they count change.
    if (const auto invalid = find_invalid_utf8(text)) {
      fail(ErrorKind::kBadInput, "the text is not valid UTF-8: invalid byte sequence at byte {}", *invalid);
    }
    return encode_text(text, true, foreign);
  }

  std::string decode(std::span<const std::int32_t> ids) const override {
    std::string text;
    if (p_.byte_tokens) {
      for (const std::int32_t id : ids) {
        check_id(id);
        text += written(id);
      }
      return replace_invalid_utf8(text);
    }
    std::vector<std::string> tokens;
    tokens.reserve(ids.size());
    for (const std::int32_t id : ids) {
      check_id(id);
      if (added(id) != nullptr || p_.tokens.contains(id)) tokens.push_back(written(id));
    }
    if (p_.decoder) {
      RegexScratch scratch;
      p_.decoder->decode(tokens, scratch);
      for (const std::string& token : tokens) text += token;
      return text;
    }
    for (const std::string& token : tokens) {
      if (!text.empty() || &token != tokens.data()) text += ' ';
      text += token;
    }
    return text;
  }

  std::string token_bytes(std::int32_t id) const override {
    check_id(id);
    return bytes_[static_cast<std::size_t>(id)];
  }
  std::string token_text(std::int32_t id) const override {
    check_id(id);
    const AddedToken* token = added(id);
    return token != nullptr ? token->content : bytes_[static_cast<std::size_t>(id)];
  }
  Index vocab_size() const override { return static_cast<Index>(bytes_.size()); }
  std::string kind() const override { return p_.kind; }
  std::optional<std::int32_t> bos_id() const override { return p_.special.begin; }
  std::optional<std::int32_t> eos_id() const override { return p_.special.end; }
  std::vector<std::int32_t> end_ids() const override { return p_.special.ends; }
  bool add_bos() const override { return p_.special.add_begin; }
  bool add_eos() const override { return p_.special.add_end; }

  void save(const std::filesystem::path& folder) const override {
    for (const auto& [name, content] : p_.files) write_file_atomically(folder / name, content);
  }

 private:
  const AddedToken* added(std::int32_t id) const {
    const std::int32_t index = added_of_id_[static_cast<std::size_t>(id)];
    return index < 0 ? nullptr : &p_.added[static_cast<std::size_t>(index)];
  }
  // The token as decoders get it.
  std::string written(std::int32_t id) const {
    const std::int32_t index = added_of_id_[static_cast<std::size_t>(id)];
    return index < 0 ? std::string(p_.tokens.token(id)) : written_[static_cast<std::size_t>(index)];
  }

  // One call of encode().
  struct Call {
    RegexScratch scratch;
    PieceCache cache;
    std::vector<std::int32_t> ids;
  };

  // Hands the pieces of one step to the next, and those of the last to the model. A piece goes all the way before the
  // next one is cut, so that no list of pieces is ever held.
  class Stage final : public PieceSink {
   public:
    Stage(const PipelineTokenizer& tokenizer, Call& call, std::size_t step, PieceSink* next)
        : tokenizer_(tokenizer), call_(call), step_(step), next_(next) {}
    void piece(std::string_view piece, bool at_start) override {
      if (next_ == nullptr) {
        tokenizer_.encode_piece(piece, call_);
      } else {
        tokenizer_.p_.pre_tokenizers[step_]->split(piece, at_start, call_.scratch, *next_);
      }
    }

   private:
    const PipelineTokenizer& tokenizer_;
    Call& call_;
    std::size_t step_;
    PieceSink* next_;
  };

  void encode_piece(std::string_view piece, Call& call) const {
    if (const auto* bpe = std::get_if<std::unique_ptr<Bpe>>(&p_.model)) {
      (*bpe)->encode(piece, call.cache, call.ids);
    } else {
      std::get<std::unique_ptr<Unigram>>(p_.model)->encode(piece, call.cache, call.ids);
    }
  }

  // Where the stretches of `part` lie in what the normaliser makes of it: as far in as what stands before them becomes
  // long. Of very many, none is told from what lies between them.
  void follow(std::string_view part, std::vector<ForeignText>& foreign, std::size_t size, RegexScratch& scratch) const {
    constexpr std::size_t kMost = 64;
    if (foreign.size() > kMost) foreign = {{foreign.front().begin, foreign.back().end, false}};
    const auto place = [&](std::size_t end) {
      std::string before(part.substr(0, end));
      p_.normalizer->normalize(before, scratch);
      return std::min(before.size(), size);
    };
    for (ForeignText& one : foreign) {
      // The end first: a mark that joins the letter before it belongs to both.
      one.end = one.end == part.size() ? size : place(one.end);
      one.begin = one.begin == 0 ? 0 : std::min(place(one.begin), one.end);
    }
  }

  std::vector<std::int32_t> encode_text(std::string_view text, bool parse_special,
                                        std::span<const ForeignText> foreign) const {
    std::string valid;
    if (find_invalid_utf8(text)) {
      valid = replace_invalid_utf8(text);
      text = valid;
    }
    Call call;
    call.ids.reserve(text.size() / 4);
    std::vector<std::unique_ptr<Stage>> stages(p_.pre_tokenizers.size() + 1);
    for (std::size_t step = stages.size(); step-- > 0;) {
      PieceSink* next = step + 1 < stages.size() ? stages[step + 1].get() : nullptr;
      stages[step] = std::make_unique<Stage>(*this, call, step, next);
    }
    raw_matcher_.split(text, parse_special, foreign, [&](std::string_view part, const AddedToken* token) {
      if (token != nullptr) {
        call.ids.push_back(token->id);
        return;
      }
      const bool at_start = part.data() == text.data();
      const auto offset = static_cast<std::size_t>(part.data() - text.data());
      std::vector<ForeignText> inner_foreign = foreign_within(foreign, offset, offset + part.size());
      std::string changed;
      if (p_.normalizer) {
        changed = part;
        p_.normalizer->normalize(changed, call.scratch);
        if (!normalized_matcher_.empty()) follow(part, inner_foreign, changed.size(), call.scratch);
        part = changed;
      }
      normalized_matcher_.split(part, parse_special, inner_foreign,
                                [&](std::string_view piece, const AddedToken* inner) {
                                  if (inner != nullptr) {
                                    call.ids.push_back(inner->id);
                                  } else {
                                    stages[0]->piece(piece, at_start && piece.data() == part.data());
                                  }
                                });
    });
    return std::move(call.ids);
  }

  Pipeline p_;
  AddedTokenMatcher raw_matcher_, normalized_matcher_;
  std::vector<std::int32_t> added_of_id_;  // the index of an added token, -1
  std::vector<std::string> written_;       // by that index: as the normaliser leaves it
  std::vector<std::string> bytes_;         // token_bytes()
};

}  // namespace

std::int32_t Pipeline::id_limit() const {
  std::int32_t limit = tokens.id_limit();
  for (const AddedToken& token : added) limit = std::max(limit, token.id + 1);
  return limit;
}

std::int32_t Pipeline::find(std::string_view token) const {
  for (const AddedToken& one : added) {
    if (one.content == token) return one.id;
  }
  return tokens.find(token);
}

std::unique_ptr<Tokenizer> make_pipeline_tokenizer(Pipeline pipeline) {
  return std::make_unique<PipelineTokenizer>(std::move(pipeline));
}

}  // namespace switchyard::text
