// From the files of a Hugging Face folder to the metadata of a GGUF file.

#include <algorithm>
#include <map>
#include <unordered_map>

#include "byte_alphabet.hpp"
#include "charsmap.hpp"
#include "companions.hpp"
#include "gguf_pre_tokenizers.hpp"
#include "loaders.hpp"
#include "sentencepiece_model.hpp"
#include "switchyard/base/error.hpp"
#include "switchyard/text/gguf_vocabulary.hpp"
#include "tokenizer_json_file.hpp"
#include "vocabulary.hpp"

namespace switchyard::text {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;
using Type = GgufVocabulary::TokenType;

class Reader {
 public:
  Reader(const NamedFiles& files, const std::string& name, Index vocab_size, const std::string& pre)
      : files_(files, name), name_(name), vocab_size_(static_cast<std::size_t>(vocab_size)), pre_(pre) {}

  GgufVocabularyOf read() {
    const std::unique_ptr<Tokenizer> tokenizer = load_tokenizer(files_);
    if (!tokenizer) {
      v_.model = "none";
      return {v_, "there is no tokenizer"};
    }
    kind_ = tokenizer->kind();
    if (kind_ == "byte") {
      bytes();
    } else if (kind_ == "byte-level bpe") {
      byte_level();
    } else if (kind_ == "bpe") {
      character_level();
    } else if (kind_ == "sentencepiece") {
      sentencepiece();
    } else if (kind_ == "tiktoken") {
      tiktoken(*tokenizer);
    } else {
      no_form();
    }
    settings(*tokenizer);
    if (v_.model != "none") pad(tokenizer->vocab_size());
    return {std::move(v_), std::move(note_)};
  }

 private:
  void no_form() {
    v_ = {};
    v_.model = "none";
    note_ = fmt::format("the tokenizer ({}) has no form that other programs read in a GGUF file", kind_);
  }

  void put(std::size_t id, std::string token, Type type, float score = 0.0F) {
    if (id >= v_.tokens.size()) {
      v_.tokens.resize(id + 1);
      v_.token_type.resize(id + 1, Type::kUnused);
      v_.scores.resize(id + 1, kLowest);
    }
    v_.tokens[id] = std::move(token);
    v_.token_type[id] = type;
    v_.scores[id] = score;
  }

  // Fills what has no token, up to the rows of the embedding.
  void pad(Index ids) {
    if (static_cast<std::size_t>(ids) > vocab_size_)
      fail(ErrorKind::kBadInput, "{}: the tokenizer has {} ids, but the model's vocabulary only {}", name_, ids,
           vocab_size_);
    v_.tokens.resize(vocab_size_);
    v_.token_type.resize(vocab_size_, Type::kUnused);
    v_.scores.resize(vocab_size_, kLowest);
    for (std::size_t id = 0; id < vocab_size_; ++id) {
      if (v_.token_type[id] == Type::kUnused && v_.tokens[id].empty()) v_.tokens[id] = fmt::format("[PAD{}]", id);
    }
    if (v_.model == "gpt2") v_.scores.clear();
  }

  std::string regex_name(const GgufPreTokenizer* found, const std::string& expressions) const {
    if (!pre_.empty()) return pre_;
    if (found == nullptr)
      fail(ErrorKind::kUnsupported,
           "{}: the text is cut in a way that GGUF has no name for: {}; known are {}. --pre NAME writes one of them "
           "nevertheless, for programs that can do no better",
           name_, expressions, known_gguf_pre_tokenizers());
    return std::string(found->name);
  }

  // Without merges the cut does not matter.
  void bytes() {
    v_.model = "gpt2";
    v_.pre = "gpt-2";
    for (int byte = 0; byte < 256; ++byte)
      put(static_cast<std::size_t>(byte), byte_character(static_cast<unsigned char>(byte)), Type::kNormal);
  }

  struct TokenizerJson {
    TokenizerJsonFile file;
    std::unordered_map<std::string_view, std::size_t> ids;
  };
  TokenizerJson read_json() const {
    TokenizerJson json{read_tokenizer_json(files_.read("tokenizer.json"), files_.path("tokenizer.json")), {}};
    for (const auto& token : json.file.tokens)
      json.ids.emplace(json.file.text(token.begin, token.length), static_cast<std::size_t>(token.id));
    return json;
  }
  static Json member(const Json& object, const char* key) {
    return object.is_object() && object.contains(key) ? object[key] : Json();
  }

  // As the library numbers them.
  void add_added(const TokenizerJson& json) {
    const Json list = member(json.file.rest, "added_tokens");
    if (!list.is_array()) return;
    std::size_t next = json.file.tokens.size();
    std::map<std::string, std::size_t> seen;
    for (const Json& entry : list) {
      const std::string content = member_text(entry, "content");
      if (content.empty()) continue;
      const auto in_model = json.ids.find(content);
      const auto again = seen.find(content);
      const std::size_t id = again != seen.end()          ? again->second
                             : in_model != json.ids.end() ? in_model->second
                                                          : next++;
      seen[content] = id;
      const bool unknown = id < v_.token_type.size() && v_.token_type[id] == Type::kUnknown;
      put(id, content, unknown ? Type::kUnknown : member_flag(entry, "special") ? Type::kControl : Type::kUserDefined);
    }
  }

  void byte_level() {
    const TokenizerJson json = read_json();
    const Json& rest = json.file.rest;
    v_.model = "gpt2";
    v_.pre = regex_name(recognise_gguf_pre_tokenizer(rest), describe_pre_tokenizer(rest));
    for (const auto& token : json.file.tokens)
      put(static_cast<std::size_t>(token.id), std::string(json.file.text(token.begin, token.length)), Type::kNormal);
    add_added(json);
    for (const auto& merge : json.file.merges)
      v_.merges.push_back(fmt::format("{} {}", json.file.text(merge.begin, merge.left),
                                      json.file.text(merge.begin + merge.left, merge.right)));
  }

  // Whether the text gets a space in front; nothing where it is prepared in a way that GGUF cannot say.
  static std::optional<bool> space_prefix(const Json& rest) {
    const auto is_replace = [](const Json& part) {
      return member_text(part, "type") == "Replace" && member_text(part, "content") == kEscapedSpace &&
             member_text(member(part, "pattern"), "String") == " ";
    };
    const auto is_prepend = [](const Json& part) {
      return member_text(part, "type") == "Prepend" && member_text(part, "prepend") == kEscapedSpace;
    };
    const Json normalizer = member(rest, "normalizer"), pre = member(rest, "pre_tokenizer");
    if (pre.is_null() && normalizer.is_object()) {
      if (is_replace(normalizer)) return false;
      if (member_text(normalizer, "type") != "Sequence") return std::nullopt;
      const Json parts = member(normalizer, "normalizers");
      if (parts.size() == 1 && is_replace(parts[0])) return false;
      if (parts.size() == 2 && is_prepend(parts[0]) && is_replace(parts[1])) return true;
      return std::nullopt;
    }
    if (normalizer.is_null() && member_text(pre, "type") == "Metaspace" &&
        member_text(pre, "replacement") == kEscapedSpace && !member_flag(pre, "split", true))
      return member_text(pre, "prepend_scheme") != "never";
    return std::nullopt;
  }

  // SentencePiece as tokenizer.json has it: pairs in the order of their rank instead of scores.
  void character_level() {
    const TokenizerJson json = read_json();
    const Json& rest = json.file.rest;
    const Json model = member(rest, "model");
    const std::optional<bool> prefix = space_prefix(rest);
    if (!prefix || !member_flag(model, "byte_fallback")) return no_form();
    v_.model = "llama";
    v_.pre = "default";
    v_.add_space_prefix = prefix;
    const Json unknown = member(model, "unk_token");
    std::unordered_map<std::string, float> scores;
    for (const auto& merge : json.file.merges) {
      const auto rank = static_cast<float>(scores.size());
      scores.emplace(json.file.text(merge.begin, merge.left + merge.right), -rank);
    }
    const auto alone = static_cast<float>(scores.size());
    for (const auto& token : json.file.tokens) {
      const std::string text(json.file.text(token.begin, token.length));
      const auto score = scores.find(text);
      const Type type = byte_of_piece(text) >= 0                       ? Type::kByte
                        : unknown.is_string() && unknown == Json(text) ? Type::kUnknown
                                                                       : Type::kNormal;
      put(static_cast<std::size_t>(token.id), text, type,
          score == scores.end() ? (type == Type::kNormal ? -alone - static_cast<float>(token.id) : 0.0F)
                                : score->second);
      if (type == Type::kUnknown) v_.unknown = static_cast<std::int32_t>(token.id);
    }
    add_added(json);
    if (files_.has("tokenizer.model")) take_scores();
  }

  // The published model's own, where it has the same pieces.
  void take_scores() {
    const std::string bytes = files_.read("tokenizer.model");
    if (looks_like_tiktoken(bytes)) return;
    const SentencePieceModel model = parse_sentencepiece_model(bytes, files_.path("tokenizer.model"));
    for (std::size_t id = 0; id < std::min(model.pieces.size(), v_.tokens.size()); ++id) {
      if (model.pieces[id].text == v_.tokens[id]) v_.scores[id] = model.pieces[id].score;
    }
  }

  void sentencepiece() {
    const SentencePieceModel model =
        parse_sentencepiece_model(files_.read("tokenizer.model"), files_.path("tokenizer.model"));
    if (model.algorithm != SentencePieceModel::Algorithm::kBpe) return no_form();
    v_.model = "llama";
    v_.pre = "default";
    v_.add_space_prefix = model.add_dummy_prefix;
    for (std::size_t id = 0; id < model.pieces.size(); ++id) {
      const SentencePiece& piece = model.pieces[id];
      // The library looks for user-defined pieces when spaces have become U+2581 already: one with a space is never
      // found.
      const bool lost = piece.type == SentencePiece::Type::kUserDefined && model.escape_whitespaces &&
                        piece.text.find(' ') != std::string::npos;
      put(id, piece.text, lost ? Type::kUnused : static_cast<Type>(piece.type), piece.score);
    }
    if (model.unk_id >= 0) v_.unknown = model.unk_id;
  }

  // A token's bytes are merged by rank up to the last pair: those two are what it is made of.
  void tiktoken(const Tokenizer& tokenizer) {
    std::string name;
    for (const std::string& file : files_.names()) {
      if (file == "tiktoken.model" || file == "tokenizer.model" || fs::path(file).extension() == ".tiktoken")
        name = file;
    }
    const std::string content = files_.read(name);
    std::unordered_map<std::string, std::size_t> ranks;
    std::string_view left = content;
    std::string bytes;
    while (!left.empty()) {
      const std::size_t end = left.find('\n');
      const std::string_view line = left.substr(0, end);
      left.remove_prefix(end == std::string_view::npos ? left.size() : end + 1);
      const std::size_t space = line.find(' ');
      if (space == std::string_view::npos || !decode_base64(line.substr(0, space), bytes)) continue;
      ranks.emplace(bytes, static_cast<std::size_t>(std::stoul(std::string(line.substr(space + 1)))));
    }
    v_.model = "gpt2";
    const std::string pattern = tiktoken_pattern(read_folder_settings(files_), files_.path(name), ranks.size());
    v_.pre = regex_name(recognise_gguf_pattern(pattern), pattern);
    std::map<std::size_t, const std::string*> by_rank;
    for (const auto& [token, rank] : ranks) by_rank.emplace(rank, &token);
    for (const auto& [rank, token] : by_rank) {
      put(rank, to_byte_characters(*token), Type::kNormal);
      if (token->size() > 1) add_merge(*token, rank, ranks);
    }
    for (std::int32_t id = 0; id < static_cast<std::int32_t>(tokenizer.vocab_size()); ++id) {
      if (by_rank.count(static_cast<std::size_t>(id)) == 0 && !tokenizer.token_text(id).empty())
        put(static_cast<std::size_t>(id), tokenizer.token_text(id), Type::kControl);
    }
  }

  void add_merge(const std::string& token, std::size_t rank,
                 const std::unordered_map<std::string, std::size_t>& ranks) {
    std::vector<std::string> parts;
    for (const char c : token) parts.emplace_back(1, c);
    while (parts.size() > 2) {
      std::size_t best = rank, at = parts.size();
      for (std::size_t i = 0; i + 1 < parts.size(); ++i) {
        const auto found = ranks.find(parts[i] + parts[i + 1]);
        if (found != ranks.end() && found->second < best) {
          best = found->second;
          at = i;
        }
      }
      if (at == parts.size()) return;  // no pair makes it: it is only ever taken whole
      parts[at] += parts[at + 1];
      parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(at) + 1);
    }
    v_.merges.push_back(to_byte_characters(parts[0]) + ' ' + to_byte_characters(parts[1]));
  }

  void settings(const Tokenizer& tokenizer) {
    v_.bos = tokenizer.bos_id();
    const std::vector<std::int32_t> ends = tokenizer.end_ids();
    v_.eos = tokenizer.eos_id();
    if (!v_.eos && !ends.empty()) v_.eos = ends.front();
    for (const std::int32_t id : ends) {
      if (id == v_.eos) continue;
      if (!v_.eot) {
        v_.eot = id;
      } else if (!v_.eom) {
        v_.eom = id;
      }
    }
    v_.add_bos = tokenizer.add_bos();
    v_.add_eos = false;
    find_chat_templates();
  }

  void find_chat_templates() {
    if (files_.has("chat_template.jinja")) {
      v_.chat_template = files_.read("chat_template.jinja");
      return;
    }
    for (const char* file : {"chat_template.json", "tokenizer_config.json"}) {
      if (!files_.has(file)) continue;
      const Json json = Json::parse(files_.read(file), nullptr, false);
      if (!json.is_object() || !json.contains("chat_template")) continue;
      const Json& value = json["chat_template"];
      if (value.is_string()) {
        v_.chat_template = value.get<std::string>();
        return;
      }
      if (!value.is_array()) continue;
      for (const Json& named : value) {
        const std::string name = member_text(named, "name");
        // The one that is meant where none is asked for has a key without a name.
        if (name == "default")
          v_.chat_template = member_text(named, "template");
        else
          v_.more_templates.emplace_back(name, member_text(named, "template"));
      }
      return;
    }
  }

  static constexpr float kLowest = -10000.0F;
  FileSource files_;
  std::string name_, kind_, note_;
  std::size_t vocab_size_;
  std::string pre_;
  GgufVocabulary v_;
};

}  // namespace

NamedFiles tokenizer_files(const fs::path& folder) {
  NamedFiles files;
  if (!fs::is_directory(folder)) return files;
  for (const auto& entry : fs::directory_iterator(folder)) {
    constexpr const char* kNames[] = {"tokenizer.json",        "tokenizer_config.json", "special_tokens_map.json",
                                      "added_tokens.json",     "chat_template.jinja",   "chat_template.json",
                                      "tokenizer.model",       "tiktoken.model",        "switchyard_tokenizer.json",
                                      "generation_config.json"};
    const std::string name = entry.path().filename().string();
    const bool known = std::find(std::begin(kNames), std::end(kNames), name) != std::end(kNames);
    if (known || entry.path().extension() == ".tiktoken") files.emplace_back(name, FileSource(folder).read(name));
  }
  std::sort(files.begin(), files.end());
  return files;
}

GgufVocabularyOf gguf_vocabulary(const NamedFiles& files, const std::string& name, Index vocab_size,
                                 const std::string& pre) {
  return Reader(files, name, vocab_size, pre).read();
}

}  // namespace switchyard::text
