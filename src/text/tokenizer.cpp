#include "switchyard/text/tokenizer.hpp"

#include "sentencepiece_tokenizer.hpp"
#include "switchyard/base/atomic_file.hpp"
#include "switchyard/base/error.hpp"
#include "switchyard/text/utf8.hpp"

namespace switchyard::text {
namespace {

namespace fs = std::filesystem;
constexpr std::size_t kLargestTokenizerFile = std::size_t{256} << 20;

}  // namespace

std::string Tokenizer::decode(std::span<const std::int32_t> ids) const {
  std::string text;
  for (const std::int32_t id : ids) text += token_bytes(id);
  return text;
}

void Tokenizer::check_id(std::int32_t id) const {
  if (id < 0 || id >= vocab_size()) {
    fail(ErrorKind::kBadInput, "token id {} is out of range: the vocabulary has {} tokens, expected 0 to {}", id,
         vocab_size(), vocab_size() - 1);
  }
}

std::string StreamDecoder::push(std::int32_t id) {
  held_ += tokenizer_->token_bytes(id);
  std::string_view left = held_;
  std::size_t ready = 0;
  while (!left.empty()) {
    const Utf8Step step = read_utf8(left);
    if (step.status == Utf8Status::kIncomplete) break;
    ready += step.length;
    left.remove_prefix(step.length);
  }
  std::string result = replace_invalid_utf8(std::string_view(held_).substr(0, ready));
  held_.erase(0, ready);
  return result;
}

std::string StreamDecoder::finish() {
  const std::string rest = std::exchange(held_, {});
  return replace_invalid_utf8(rest);
}

std::unique_ptr<Tokenizer> load_tokenizer(const fs::path& folder) {
  if (!fs::is_directory(folder)) {
    fail(ErrorKind::kNotFound, "{}: is not a folder; expected one with tokenizer files", folder.string());
  }
  const fs::path ours = folder / "switchyard_tokenizer.json";
  if (fs::exists(ours)) return parse_switchyard_tokenizer(read_file(ours, kLargestTokenizerFile), ours.string());

  const fs::path sentencepiece = folder / "tokenizer.model";
  if (fs::exists(sentencepiece)) {
    CompanionFiles companions;
    for (const char* name : {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
                             "chat_template.jinja"}) {
      if (fs::exists(folder / name)) companions.emplace_back(name, read_file(folder / name, kLargestTokenizerFile));
    }
    return make_sentencepiece_tokenizer(read_file(sentencepiece, kLargestTokenizerFile), sentencepiece.string(),
                                        std::move(companions));
  }
  if (fs::exists(folder / "tokenizer.json")) {
    fail(ErrorKind::kUnsupported,
         "{}: a Hugging Face tokenizer.json alone cannot be read; expected switchyard_tokenizer.json (byte, char) or "
         "tokenizer.model (SentencePiece)",
         folder.string());
  }
  fail(ErrorKind::kNotFound,
       "{}: no tokenizer; looked for switchyard_tokenizer.json (byte, char) and tokenizer.model (SentencePiece)",
       folder.string());
}

std::unique_ptr<Tokenizer> parse_sentencepiece(std::string_view model, const std::string& name) {
  return make_sentencepiece_tokenizer(std::string(model), name, {});
}

}  // namespace switchyard::text
