#pragma once
// The files beside a tokenizer that say which tokens begin and end a text.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "switchyard/text/gguf_vocabulary.hpp"

namespace switchyard::text {

inline constexpr std::size_t kLargestTokenizerFile = std::size_t{256} << 20;

// A folder, or files in memory as if they were one.
class FileSource {
 public:
  explicit FileSource(std::filesystem::path folder) : folder_(std::move(folder)) {}
  // `name` stands for the folder in messages. `files` must outlive the object.
  FileSource(const NamedFiles& files, std::string name) : files_(&files), folder_(std::move(name)) {}

  bool has(std::string_view name) const;
  std::string read(std::string_view name, std::size_t limit = kLargestTokenizerFile) const;  // of a file that is there
  std::string path(std::string_view name) const;                                             // for messages
  std::vector<std::string> names() const;                                                    // in no order

 private:
  const NamedFiles* files_ = nullptr;
  std::filesystem::path folder_;
};

// Those of a tokenizer that a folder holds beside the tokenizer itself; save() writes them again.
NamedFiles read_companions(const FileSource& folder);

struct SpecialTokens {
  std::optional<std::int32_t> begin, end;
  std::vector<std::int32_t> ends;  // all that end a text; holds `end` where there is no other
  bool add_begin = false;          // the published tokenizer puts `begin` in front
  bool add_end = false;            // and `end` behind
};

// What tokenizer_config.json, generation_config.json and config.json say.
struct FolderSettings {
  std::string begin_token, end_token;     // tokenizer_config.json; empty: not named
  std::optional<bool> add_begin;          // the same: add_bos_token
  bool split_special = false;             // the same: split_special_tokens, special tokens in a text are text
  std::string tokenizer_class;            // the same
  std::string pattern;                    // the same: pat_str, of some tiktoken tokenizers
  std::optional<std::int64_t> extra_ids;  // the same: how many <extra_id_N> a T5 tokenizer has
  std::optional<std::int64_t> begin_id;   // bos_token_id of generation_config.json, or else config.json
  std::vector<std::int64_t> end_ids;      // eos_token_id of the same
  std::string model_type;                 // config.json
  struct Added {
    std::int64_t id;
    std::string content;
    bool special, single_word, lstrip, rstrip, normalized;
  };
  std::vector<Added> added;  // added_tokens_decoder of tokenizer_config.json, by id
};
// Absent files and keys leave their fields empty. Throws kBadInput where a file is malformed.
FolderSettings read_folder_settings(const FileSource& folder);

// Resolves names to ids below `id_limit`; ids beyond it are no tokens of this tokenizer and are left out. `find` gives
// -1 for a name that is no token. `template_begin`: whether the tokenizer's own post-processor begins a text with a
// token, where that is known.
SpecialTokens resolve_special_tokens(const FolderSettings& settings, std::int64_t id_limit,
                                     const std::function<std::int32_t(std::string_view)>& find,
                                     std::optional<std::int32_t> template_begin);

}  // namespace switchyard::text
