// From the metadata of a GGUF file to the files of a Hugging Face folder.

#include <algorithm>
#include <cmath>
#include <tuple>
#include <unordered_map>
#include <unordered_set>

#include "companions.hpp"
#include "gguf_pre_tokenizers.hpp"
#include "loaders.hpp"
#include "sentencepiece_model.hpp"
#include "switchyard/base/error.hpp"
#include "switchyard/text/gguf_vocabulary.hpp"
#include "switchyard/text/utf8.hpp"
#include "vocabulary.hpp"

namespace switchyard::text {
namespace {

using Json = nlohmann::ordered_json;
using Type = GgufVocabulary::TokenType;

class Writer {
 public:
  Writer(const GgufVocabulary& vocabulary, const std::string& name) : v_(vocabulary), name_(name) {}

  NamedFiles files() {
    check();
    const bool byte_level = v_.model == "gpt2";
    if (byte_level) {
      const std::string pre = v_.pre.empty() ? "default" : v_.pre;
      pre_ = find_gguf_pre_tokenizer(pre);
      if (pre_ == nullptr)
        fail(ErrorKind::kUnsupported, "{}: key tokenizer.ggml.pre: found {}, supported are {}", name_, pre,
             known_gguf_pre_tokenizers());
    }
    find_end();
    NamedFiles files;
    files.emplace_back("tokenizer.json", byte_level ? byte_level_json() : sentencepiece_json());
    files.emplace_back("tokenizer_config.json", config().dump(2) + "\n");
    if (const Json generation = generation_config(); !generation.empty())
      files.emplace_back("generation_config.json", generation.dump(2) + "\n");
    return files;
  }

 private:
  Type type(std::size_t id) const {
    return v_.token_type.empty() ? Type::kNormal : static_cast<Type>(v_.token_type[id]);
  }
  bool added(std::size_t id) const {
    const Type t = type(id);
    return t == Type::kControl || t == Type::kUserDefined || t == Type::kUnknown;
  }
  const std::string& token(std::int32_t id) const { return tokens_[static_cast<std::size_t>(id)]; }

  void check() const {
    if (v_.model != "gpt2" && v_.model != "llama")
      fail(ErrorKind::kUnsupported,
           "{}: key tokenizer.ggml.model: found {}, supported are gpt2 (byte-level BPE) and llama (SentencePiece BPE)",
           name_, v_.model);
    if (v_.tokens.empty() || static_cast<std::int64_t>(v_.tokens.size()) > kLargestId)
      fail(ErrorKind::kBadInput, "{}: key tokenizer.ggml.tokens: found {} tokens, expected 1 to {}", name_,
           v_.tokens.size(), kLargestId);
    for (std::size_t id = 0; id < v_.tokens.size(); ++id) {
      if (find_invalid_utf8(v_.tokens[id]))
        fail(ErrorKind::kBadInput, "{}: key tokenizer.ggml.tokens: token {} is not valid UTF-8", name_, id);
    }
    for (const std::string& merge : v_.merges) {
      if (find_invalid_utf8(merge))
        fail(ErrorKind::kBadInput, "{}: key tokenizer.ggml.merges: entry {} is not valid UTF-8", name_,
             &merge - v_.merges.data());
    }
    if (find_invalid_utf8(v_.chat_template))
      fail(ErrorKind::kBadInput, "{}: key tokenizer.chat_template is not valid UTF-8", name_);
    for (const auto& [name, source] : v_.more_templates) {
      if (find_invalid_utf8(name) || find_invalid_utf8(source))
        fail(ErrorKind::kBadInput, "{}: the chat templates by name are not valid UTF-8", name_);
    }
    const auto expect_size = [&](const char* key, std::size_t found) {
      if (found != v_.tokens.size())
        fail(ErrorKind::kBadInput, "{}: key {}: found {} numbers, expected one for each of {} tokens", name_, key,
             found, v_.tokens.size());
    };
    if (!v_.token_type.empty()) expect_size("tokenizer.ggml.token_type", v_.token_type.size());
    if (v_.model == "llama") expect_size("tokenizer.ggml.scores", v_.scores.size());
    const auto expect_id = [&](const char* key, const std::optional<std::int32_t>& id) {
      if (id && (*id < 0 || static_cast<std::size_t>(*id) >= v_.tokens.size()))
        fail(ErrorKind::kBadInput, "{}: key tokenizer.ggml.{}: found {}, expected a token: 0 to {}", name_, key, *id,
             v_.tokens.size() - 1);
    };
    expect_id("bos_token_id", v_.bos);
    expect_id("eos_token_id", v_.eos);
    expect_id("eot_token_id", v_.eot);
    expect_id("eom_token_id", v_.eom);
    expect_id("unknown_token_id", v_.unknown);
    expect_id("padding_token_id", v_.padding);
  }

  // Unused tokens at the end fill the rows of the embedding: no tokenizer has them. Before them stand the tokens that
  // the library counts on from the model's own.
  void find_end() {
    end_ = v_.tokens.size();
    while (end_ > 0 && type(end_ - 1) == Type::kUnused) --end_;
    model_end_ = end_;
    while (model_end_ > 0 && added(model_end_ - 1)) --model_end_;
    // A table by token needs a different one for each id; the first of those that are the same is the one that is
    // found.
    tokens_ = v_.tokens;
    std::unordered_set<std::string_view> seen;
    for (std::size_t id = 0; id < end_; ++id) {
      if (v_.tokens[id].empty() || !seen.insert(v_.tokens[id]).second) tokens_[id] = fmt::format("[UNUSED{}]", id);
    }
  }

  Json added_tokens() const {
    Json list = Json::array();
    for (std::size_t id = 0; id < end_; ++id) {
      if (!added(id)) continue;
      list.push_back({{"id", id},
                      {"content", tokens_[id]},
                      {"single_word", false},
                      {"lstrip", false},
                      {"rstrip", false},
                      {"normalized", false},
                      {"special", type(id) != Type::kUserDefined}});
    }
    return list;
  }

  bool add_bos() const {
    if (v_.add_bos) return *v_.add_bos && v_.bos;
    return v_.bos && (v_.model == "llama" || (pre_ != nullptr && pre_->name == "llama-bpe"));
  }

  Json post_processor(Json otherwise) const {
    const bool bos = add_bos(), eos = v_.add_eos.value_or(false) && v_.eos;
    if (!bos && !eos) return otherwise;
    Json single = Json::array(), pair = Json::array(), specials = Json::object();
    const auto special = [&](std::int32_t id, int part) {
      const Json entry = {{"SpecialToken", {{"id", token(id)}, {"type_id", part}}}};
      if (part == 0) single.push_back(entry);
      pair.push_back(entry);
      specials[token(id)] = {{"id", token(id)}, {"ids", {id}}, {"tokens", {token(id)}}};
    };
    const auto sequence = [&](const char* which, int part) {
      const Json entry = {{"Sequence", {{"id", which}, {"type_id", part}}}};
      if (part == 0) single.push_back(entry);
      pair.push_back(entry);
    };
    for (const int part : {0, 1}) {
      if (bos) special(*v_.bos, part);
      sequence(part == 0 ? "A" : "B", part);
      if (eos) special(*v_.eos, part);
    }
    return {{"type", "TemplateProcessing"}, {"single", single}, {"pair", pair}, {"special_tokens", specials}};
  }

  // The lists are written one entry after the other: they have hundreds of thousands.
  std::string whole(const Json& head, Json model, const std::vector<std::string>& merges) const {
    std::string text = head.dump();
    text.pop_back();
    text += ",\"model\":" + model.dump();
    text.pop_back();
    text += ",\"vocab\":{";
    bool first = true;
    for (std::size_t id = 0; id < model_end_; ++id) {
      if (!first) text += ',';
      first = false;
      text += Json(tokens_[id]).dump() + ':' + std::to_string(id);
    }
    text += "},\"merges\":[";
    for (std::size_t i = 0; i < merges.size(); ++i) {
      if (i > 0) text += ',';
      text += merges[i];
    }
    return text + "]}}";
  }

  Json head(Json normalizer, Json pre_tokenizer, Json post, Json decoder) const {
    return {{"version", "1.0"},
            {"truncation", nullptr},
            {"padding", nullptr},
            {"added_tokens", added_tokens()},
            {"normalizer", std::move(normalizer)},
            {"pre_tokenizer", std::move(pre_tokenizer)},
            {"post_processor", std::move(post)},
            {"decoder", std::move(decoder)}};
  }

  static Json bpe(Json unknown, bool byte_fallback, bool fuse_unknown, bool ignore_merges) {
    return {{"type", "BPE"},
            {"dropout", nullptr},
            {"unk_token", std::move(unknown)},
            {"continuing_subword_prefix", nullptr},
            {"end_of_word_suffix", nullptr},
            {"fuse_unk", fuse_unknown},
            {"byte_fallback", byte_fallback},
            {"ignore_merges", ignore_merges}};
  }

  std::string byte_level_json() const {
    const Json byte_level = {
        {"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", true}};
    std::vector<std::string> merges;
    merges.reserve(v_.merges.size());
    for (const std::string& merge : v_.merges) merges.push_back(Json(merge).dump());
    return whole(head(pre_->nfc ? Json{{"type", "NFC"}} : Json(), pre_tokenizer_json(*pre_), post_processor(byte_level),
                      byte_level),
                 bpe(nullptr, false, false, pre_->ignore_merges), merges);
  }

  // The pairs that make up each piece, those of the best piece first: SentencePiece merges by the score of the result.
  std::vector<std::string> merges_by_score() const {
    std::unordered_map<std::string_view, std::int32_t> ids;
    for (std::size_t id = 0; id < model_end_; ++id) {
      if (type(id) == Type::kNormal) ids.emplace(tokens_[id], static_cast<std::int32_t>(id));
    }
    struct Pair {
      std::int32_t left, right, whole;
    };
    std::vector<Pair> pairs;
    for (const auto& [piece, id] : ids) {
      for (std::size_t cut = 1; cut < piece.size(); ++cut) {
        if ((static_cast<unsigned char>(piece[cut]) & 0xC0U) == 0x80U) continue;  // within a character
        const auto left = ids.find(piece.substr(0, cut)), right = ids.find(piece.substr(cut));
        if (left != ids.end() && right != ids.end()) pairs.push_back({left->second, right->second, id});
      }
    }
    const auto score = [&](const Pair& pair) { return v_.scores[static_cast<std::size_t>(pair.whole)]; };
    std::sort(pairs.begin(), pairs.end(), [&](const Pair& a, const Pair& b) {
      if (score(a) != score(b)) return score(a) > score(b);
      return std::tie(a.whole, a.left, a.right) < std::tie(b.whole, b.left, b.right);
    });
    std::vector<std::string> merges;
    merges.reserve(pairs.size());
    for (const Pair& pair : pairs) merges.push_back(Json({token(pair.left), token(pair.right)}).dump());
    return merges;
  }

  std::string sentencepiece_json() const {
    for (const float score : v_.scores) {
      if (std::isnan(score)) fail(ErrorKind::kBadInput, "{}: key tokenizer.ggml.scores: found NaN", name_);
    }
    const std::string space(kEscapedSpace);
    const bool prefix = v_.add_space_prefix.value_or(true);
    bool bytes = false;
    std::int32_t unknown = v_.unknown.value_or(-1);
    for (std::size_t id = 0; id < end_; ++id) {
      bytes = bytes || type(id) == Type::kByte;
      if (unknown < 0 && type(id) == Type::kUnknown) unknown = static_cast<std::int32_t>(id);
    }
    const Json replace = {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", space}};
    Json normalizers = Json::array();
    if (prefix) normalizers.push_back({{"type", "Prepend"}, {"prepend", space}});
    normalizers.push_back(replace);
    Json decoders = Json::array({{{"type", "Replace"}, {"pattern", {{"String", space}}}, {"content", " "}},
                                 {{"type", "ByteFallback"}},
                                 {{"type", "Fuse"}}});
    if (prefix) decoders.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
    return whole(head({{"type", "Sequence"}, {"normalizers", normalizers}}, nullptr, post_processor(nullptr),
                      {{"type", "Sequence"}, {"decoders", decoders}}),
                 bpe(unknown < 0 ? Json() : Json(token(unknown)), bytes, true, false), merges_by_score());
  }

  Json config() const {
    Json json = {{"tokenizer_class", "PreTrainedTokenizerFast"},
                 {"clean_up_tokenization_spaces", false},
                 {"add_bos_token", add_bos()},
                 {"add_eos_token", v_.add_eos.value_or(false)}};
    const auto name = [&](const char* key, const std::optional<std::int32_t>& id) {
      if (id) json[key] = token(*id);
    };
    name("bos_token", v_.bos);
    name("eos_token", v_.eos);
    name("unk_token", v_.unknown);
    name("pad_token", v_.padding);
    if (v_.more_templates.empty()) {
      if (!v_.chat_template.empty()) json["chat_template"] = v_.chat_template;
      return json;
    }
    Json& templates = json["chat_template"] = Json::array();
    if (!v_.chat_template.empty()) templates.push_back({{"name", "default"}, {"template", v_.chat_template}});
    for (const auto& [named, source] : v_.more_templates) templates.push_back({{"name", named}, {"template", source}});
    return json;
  }

  Json generation_config() const {
    Json json = Json::object(), ends = Json::array();
    for (const auto& id : {v_.eos, v_.eot, v_.eom}) {
      if (id && std::find(ends.begin(), ends.end(), Json(*id)) == ends.end()) ends.push_back(*id);
    }
    if (v_.bos) json["bos_token_id"] = *v_.bos;
    if (ends.size() == 1) json["eos_token_id"] = ends.front();
    if (ends.size() > 1) json["eos_token_id"] = std::move(ends);
    return json;
  }

  const GgufVocabulary& v_;
  const std::string& name_;
  const GgufPreTokenizer* pre_ = nullptr;
  std::vector<std::string> tokens_;
  std::size_t end_ = 0, model_end_ = 0;
};

}  // namespace

NamedFiles hugging_face_files(const GgufVocabulary& vocabulary, const std::string& name) {
  if (vocabulary.model == "none" || vocabulary.model == "no_vocab") return {};
  return Writer(vocabulary, name).files();
}

std::unique_ptr<Tokenizer> load_tokenizer(const NamedFiles& files, const std::string& name) {
  return load_tokenizer(FileSource(files, name));
}

}  // namespace switchyard::text
