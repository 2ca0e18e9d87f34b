#pragma once
// The readers behind load_tokenizer().

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

#include "companions.hpp"
#include "switchyard/text/tokenizer.hpp"

namespace switchyard::text {

// `files` is what save() writes.
std::unique_ptr<Tokenizer> make_json_tokenizer(std::string_view json, const std::string& name,
                                               const FolderSettings& settings, Files files);

// Whether the content begins as a tiktoken file does: base64, a space, a rank.
bool looks_like_tiktoken(std::string_view content);
std::unique_ptr<Tokenizer> make_tiktoken_tokenizer(std::string_view content, const std::string& name,
                                                   const FolderSettings& settings, Files files);

}  // namespace switchyard::text
