#pragma once
// The readers behind load_tokenizer().

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

#include "companions.hpp"
#include "switchyard/text/tokenizer.hpp"

namespace switchyard::text {

// As load_tokenizer() of a path, but null where there is none.
std::unique_ptr<Tokenizer> load_tokenizer(const FileSource& folder);

// `files` is what save() writes.
std::unique_ptr<Tokenizer> make_json_tokenizer(std::string_view json, const std::string& name,
                                               const FolderSettings& settings, NamedFiles files);

// Whether the content begins as a tiktoken file does: base64, a space, a rank.
bool looks_like_tiktoken(std::string_view content);
// The regular expression that cuts the text of a tokenizer of so many tokens. Throws kUnsupported where nothing tells.
std::string tiktoken_pattern(const FolderSettings& settings, const std::string& name, std::size_t tokens);
std::unique_ptr<Tokenizer> make_tiktoken_tokenizer(std::string_view content, const std::string& name,
                                                   const FolderSettings& settings, NamedFiles files);

}  // namespace switchyard::text
