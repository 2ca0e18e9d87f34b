#include "switchyard/text/tokenizer.hpp"

#include "companions.hpp"
#include "loaders.hpp"
#include "sentencepiece_model.hpp"
#include "sentencepiece_tokenizer.hpp"
#include "sentinel_tokenizer.hpp"
#include "switchyard/base/atomic_file.hpp"
#include "switchyard/base/error.hpp"
#include "switchyard/text/utf8.hpp"

namespace switchyard::text {
namespace {

namespace fs = std::filesystem;

// tiktoken.model or the first *.tiktoken; empty where there is none.
fs::path find_tiktoken(const fs::path& folder) {
  if (fs::exists(folder / "tiktoken.model")) return folder / "tiktoken.model";
  fs::path found;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().extension() != ".tiktoken") continue;
    if (found.empty() || entry.path() < found) found = entry.path();
  }
  return found;
}

Files with_companions(const fs::path& file, const std::string& content, const fs::path& folder) {
  Files files = read_companions(folder);
  files.emplace_back(file.filename().string(), content);
  return files;
}

std::unique_ptr<Tokenizer> load_json(const fs::path& folder) {
  const fs::path file = folder / "tokenizer.json";
  Files files = read_companions(folder);
  const std::string json = read_file(file, kLargestTokenizerFile);
  return make_json_tokenizer(json, file.string(), read_folder_settings(folder), std::move(files));
}

}  // namespace

std::string Tokenizer::decode(std::span<const std::int32_t> ids) const {
  std::string text;
  for (const std::int32_t id : ids) text += token_bytes(id);
  return text;
}

std::vector<std::int32_t> Tokenizer::end_ids() const {
  const auto id = eos_id();
  return id ? std::vector<std::int32_t>{*id} : std::vector<std::int32_t>{};
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

  const fs::path model_file = folder / "tokenizer.model";
  const bool has_json = fs::exists(folder / "tokenizer.json");
  if (fs::exists(model_file)) {
    const std::string model = read_file(model_file, kLargestTokenizerFile);
    const bool tiktoken = looks_like_tiktoken(model);
    const bool first = !has_json || (!tiktoken && parse_sentencepiece_model(model, model_file.string()).lossless());
    if (!first) {
      try {
        return load_json(folder);
      } catch (const Error& error) {
        if (error.kind() != ErrorKind::kUnsupported) throw;
      }
    }
    if (tiktoken) {
      return make_tiktoken_tokenizer(model, model_file.string(), read_folder_settings(folder),
                                     with_companions(model_file, model, folder));
    }
    return make_sentencepiece_tokenizer(model, model_file.string(), read_folder_settings(folder),
                                        read_companions(folder));
  }
  if (has_json) return load_json(folder);
  if (const fs::path file = folder / "spiece.model"; fs::exists(file)) {
    return make_sentinel_tokenizer(read_file(file, kLargestTokenizerFile), file.string(), read_folder_settings(folder),
                                   read_companions(folder));
  }
  if (const fs::path file = find_tiktoken(folder); !file.empty()) {
    const std::string ranks = read_file(file, kLargestTokenizerFile);
    return make_tiktoken_tokenizer(ranks, file.string(), read_folder_settings(folder),
                                   with_companions(file, ranks, folder));
  }
  fail(ErrorKind::kNotFound,
       "{}: no tokenizer; looked for switchyard_tokenizer.json (byte, char), tokenizer.json (Hugging Face), "
       "tokenizer.model (SentencePiece), spiece.model (T5), tiktoken.model and *.tiktoken",
       folder.string());
}

bool has_tokenizer(const fs::path& folder) {
  if (!fs::is_directory(folder)) return false;
  for (const char* name : {"switchyard_tokenizer.json", "tokenizer.json", "tokenizer.model", "spiece.model"}) {
    if (fs::exists(folder / name)) return true;
  }
  return !find_tiktoken(folder).empty();
}

std::unique_ptr<Tokenizer> parse_sentencepiece(std::string_view model, const std::string& name) {
  return make_sentencepiece_tokenizer(std::string(model), name, {}, {});
}

}  // namespace switchyard::text
