// tiktoken files: a line a token, its bytes in base64 and its rank, which is its id.
// Source: the openai/tiktoken project. The regular expression that cuts the text, and the special tokens, are not in
// the file: they belong to the encoding, which is told by the files beside it or by the number of tokens.

#include <algorithm>
#include <array>

#include "charsmap.hpp"
#include "loaders.hpp"
#include "pipeline_tokenizer.hpp"
#include "published_patterns.hpp"
#include "switchyard/base/error.hpp"

namespace switchyard::text {
namespace {

constexpr std::size_t kLongestToken = 4096;

// As tiktoken has it; the other expressions are in published_patterns.hpp.
constexpr std::string_view kGpt2 = R"('(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

struct Encoding {
  std::string_view name;  // part of the file's name
  std::size_t tokens;     // the number of lines of the published file
  std::string_view pattern;
};
constexpr std::array kEncodings = {
    Encoding{"r50k", 50256, kGpt2},      Encoding{"p50k", 50280, kGpt2},      Encoding{"gpt2", 50256, kGpt2},
    Encoding{"cl100k", 100256, kCl100k}, Encoding{"o200k", 199998, kO200k},   Encoding{"qwen", 151643, kQwen2},
    Encoding{"kimi", 163584, kKimi},     Encoding{"llama3", 128000, kCl100k},
};

// Kimi-K2 has 256 special tokens behind the others; those without a name of their own are called after their id.
constexpr std::int32_t kKimiSpecials = 256;

bool is_kimi(const FolderSettings& settings, std::size_t tokens) {
  return settings.tokenizer_class == "TikTokenTokenizer" || settings.model_type == "kimi_k2" ||
         (settings.tokenizer_class.empty() && tokens == 163584);
}

std::string_view find_pattern(const FolderSettings& settings, const std::string& name, std::size_t tokens) {
  if (!settings.pattern.empty()) return settings.pattern;
  if (is_kimi(settings, tokens)) return kKimi;
  if (settings.tokenizer_class == "QWenTokenizer") return kQwen2;
  const std::string file = std::filesystem::path(name).filename().string();
  for (const Encoding& encoding : kEncodings) {
    if (file.find(encoding.name) != std::string::npos) return encoding.pattern;
  }
  for (const Encoding& encoding : kEncodings) {
    if (encoding.tokens == tokens) return encoding.pattern;
  }
  fail(ErrorKind::kUnsupported,
       "{}: nothing says how the text is cut: expected key 'pat_str' in tokenizer_config.json, a known tokenizer_class "
       "(TikTokenTokenizer, QWenTokenizer), a known name (r50k, p50k, cl100k, o200k) or number of tokens; found {}",
       name, tokens);
}

// A line without its end; false at the end of the text.
bool next_line(std::string_view& left, std::string_view& line) {
  if (left.empty()) return false;
  const std::size_t end = left.find('\n');
  line = left.substr(0, end);
  left.remove_prefix(end == std::string_view::npos ? left.size() : end + 1);
  if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
  return true;
}

// -1 where the line is not of that form.
std::int64_t read_line(std::string_view line, std::string& bytes) {
  const std::size_t space = line.find(' ');
  if (space == std::string_view::npos || space == 0 || !decode_base64(line.substr(0, space), bytes)) return -1;
  const std::string_view digits = line.substr(space + 1);
  if (digits.empty() || digits.size() > 9) return -1;
  std::int64_t rank = 0;
  for (const char c : digits) {
    if (c < '0' || c > '9') return -1;
    rank = rank * 10 + (c - '0');
  }
  return rank;
}

Vocabulary read_ranks(std::string_view content, const std::string& name) {
  Vocabulary tokens;
  tokens.reserve(content.size() / 16, content.size() / 2);
  std::string_view left = content, line;
  std::string bytes;
  for (std::size_t number = 1; next_line(left, line); ++number) {
    if (line.empty()) continue;
    const std::int64_t rank = read_line(line, bytes);
    if (rank < 0 || rank > kLargestId) {
      fail(ErrorKind::kBadInput, "{}: line {} is not base64, a space and a rank up to {}", name, number, kLargestId);
    }
    if (bytes.empty() || bytes.size() > kLongestToken) {
      fail(ErrorKind::kBadInput, "{}: line {} has a token of {} bytes, expected 1 to {}", name, number, bytes.size(),
           kLongestToken);
    }
    const auto added = tokens.add(bytes, static_cast<std::int32_t>(rank));
    if (added != Vocabulary::Added::kYes) {
      fail(ErrorKind::kBadInput, "{}: line {} repeats {}", name, number,
           added == Vocabulary::Added::kIdTwice ? fmt::format("rank {}", rank) : "a token");
    }
  }
  if (tokens.count() == 0) fail(ErrorKind::kBadInput, "{}: holds no tokens", name);
  for (int byte = 0; byte < 256; ++byte) {
    const char c = static_cast<char>(static_cast<unsigned char>(byte));
    if (tokens.find({&c, 1}) < 0) fail(ErrorKind::kBadInput, "{}: has no token for the byte {}", name, byte);
  }
  return tokens;
}

}  // namespace

bool looks_like_tiktoken(std::string_view content) {
  std::string_view line;
  std::string bytes;
  return next_line(content, line) && line.size() < 2 * kLongestToken && read_line(line, bytes) >= 0;
}

std::string tiktoken_pattern(const FolderSettings& settings, const std::string& name, std::size_t tokens) {
  return std::string(find_pattern(settings, name, tokens));
}

std::unique_ptr<Tokenizer> make_tiktoken_tokenizer(std::string_view content, const std::string& name,
                                                   const FolderSettings& settings, NamedFiles files) {
  Pipeline pipeline;
  pipeline.name = name;
  pipeline.kind = "tiktoken";
  pipeline.files = std::move(files);
  pipeline.parse_special = !settings.split_special;
  pipeline.tokens = read_ranks(content, name);
  pipeline.byte_tokens = true;
  const std::string_view pattern = find_pattern(settings, name, pipeline.tokens.count());
  pipeline.pre_tokenizers.push_back(
      keep_matches(Regex(pattern, RegexDialect::kRust, fmt::format("{}: the pattern of its encoding", name))));
  BpeSettings bpe;
  bpe.rank_is_id = true;
  bpe.ignore_merges = true;
  pipeline.model = std::make_unique<Bpe>(pipeline.tokens, std::vector<Bpe::Rule>{}, bpe, -1);

  const auto add = [&](std::int64_t id, std::string token, bool special) {
    if (pipeline.tokens.contains(static_cast<std::int32_t>(id))) {
      fail(ErrorKind::kBadInput, "{}: the added token '{}' of tokenizer_config.json has the id {} of a token", name,
           token, id);
    }
    AddedToken added;
    added.id = static_cast<std::int32_t>(id);
    added.content = std::move(token);
    added.special = special;
    pipeline.added.push_back(std::move(added));
  };
  for (const auto& token : settings.added) {
    const bool same = pipeline.tokens.token(static_cast<std::int32_t>(token.id)) == token.content;
    if (!same) add(token.id, token.content, token.special);
  }
  if (is_kimi(settings, pipeline.tokens.count())) {
    const std::int32_t first = pipeline.tokens.id_limit();
    std::vector<bool> named(kKimiSpecials);
    for (const AddedToken& token : pipeline.added) {
      if (token.id >= first && token.id < first + kKimiSpecials)
        named[static_cast<std::size_t>(token.id - first)] = true;
    }
    for (std::int32_t i = 0; i < kKimiSpecials; ++i) {
      if (!named[static_cast<std::size_t>(i)]) add(first + i, fmt::format("<|reserved_token_{}|>", first + i), true);
    }
  }
  const auto find = [&](std::string_view token) { return pipeline.find(token); };
  pipeline.special = resolve_special_tokens(settings, pipeline.id_limit(), find, std::nullopt);
  return make_pipeline_tokenizer(std::move(pipeline));
}

std::unique_ptr<Tokenizer> parse_tiktoken(std::string_view content, const std::string& name,
                                          const std::string& pattern) {
  FolderSettings settings;
  settings.pattern = pattern;
  return make_tiktoken_tokenizer(content, name, settings, {});
}

}  // namespace switchyard::text
