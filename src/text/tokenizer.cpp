#include "switchyard/text/tokenizer.hpp"

#include "companions.hpp"
#include "loaders.hpp"
#include "sentencepiece_model.hpp"
#include "sentencepiece_tokenizer.hpp"
#include "sentinel_tokenizer.hpp"
#include "switchyard/base/error.hpp"
#include "switchyard/text/utf8.hpp"

namespace switchyard::text {
namespace {

namespace fs = std::filesystem;

// tiktoken.model or the first *.tiktoken; empty where there is none.
std::string find_tiktoken(const FileSource& folder) {
  if (folder.has("tiktoken.model")) return "tiktoken.model";
  std::string found;
  for (const std::string& name : folder.names()) {
    if (fs::path(name).extension() != ".tiktoken") continue;
    if (found.empty() || name < found) found = name;
  }
  return found;
}

NamedFiles with_companions(const std::string& name, const std::string& content, const FileSource& folder) {
  NamedFiles files = read_companions(folder);
  files.emplace_back(name, content);
  return files;
}

std::unique_ptr<Tokenizer> load_json(const FileSource& folder) {
  NamedFiles files = read_companions(folder);
  const std::string json = folder.read("tokenizer.json");
  return make_json_tokenizer(json, folder.path("tokenizer.json"), read_folder_settings(folder), std::move(files));
}

bool has_tokenizer_file(const FileSource& folder) {
  for (const char* name : {"switchyard_tokenizer.json", "tokenizer.json", "tokenizer.model", "spiece.model"}) {
    if (folder.has(name)) return true;
  }
  return !find_tiktoken(folder).empty();
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

std::unique_ptr<Tokenizer> load_tokenizer(const FileSource& folder) {
  constexpr const char* kOurs = "switchyard_tokenizer.json";
  if (folder.has(kOurs)) return parse_switchyard_tokenizer(folder.read(kOurs), folder.path(kOurs));

  constexpr const char* kModel = "tokenizer.model";
  const bool has_json = folder.has("tokenizer.json");
  if (folder.has(kModel)) {
    const std::string model = folder.read(kModel), path = folder.path(kModel);
    const bool tiktoken = looks_like_tiktoken(model);
    const bool first = !has_json || (!tiktoken && parse_sentencepiece_model(model, path).lossless());
    if (!first) {
      try {
        return load_json(folder);
      } catch (const Error& error) {
        if (error.kind() != ErrorKind::kUnsupported) throw;
      }
    }
    if (tiktoken) {
      return make_tiktoken_tokenizer(model, path, read_folder_settings(folder), with_companions(kModel, model, folder));
    }
    return make_sentencepiece_tokenizer(model, path, read_folder_settings(folder), read_companions(folder));
  }
  if (has_json) return load_json(folder);
  if (folder.has("spiece.model")) {
    return make_sentinel_tokenizer(folder.read("spiece.model"), folder.path("spiece.model"),
                                   read_folder_settings(folder), read_companions(folder));
  }
  if (const std::string file = find_tiktoken(folder); !file.empty()) {
    const std::string ranks = folder.read(file);
    return make_tiktoken_tokenizer(ranks, folder.path(file), read_folder_settings(folder),
                                   with_companions(file, ranks, folder));
  }
  return nullptr;
}

std::unique_ptr<Tokenizer> load_tokenizer(const fs::path& folder) {
  if (!fs::is_directory(folder)) {
    fail(ErrorKind::kNotFound, "{}: is not a folder; expected one with tokenizer files", folder.string());
  }
  if (auto tokenizer = load_tokenizer(FileSource(folder))) return tokenizer;
  fail(ErrorKind::kNotFound,
       "{}: no tokenizer; looked for switchyard_tokenizer.json (byte, char), tokenizer.json (Hugging Face), "
       "tokenizer.model (SentencePiece), spiece.model (T5), tiktoken.model and *.tiktoken",
       folder.string());
}

bool has_tokenizer(const fs::path& folder) {
  return fs::is_directory(folder) && has_tokenizer_file(FileSource(folder));
}

std::unique_ptr<Tokenizer> parse_sentencepiece(std::string_view model, const std::string& name) {
  return make_sentencepiece_tokenizer(std::string(model), name, {}, {});
}

}  // namespace switchyard::text
