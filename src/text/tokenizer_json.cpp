// tokenizer.json of the Hugging Face tokenizers library.

#include <algorithm>

#include "byte_alphabet.hpp"
#include "json_node.hpp"
#include "loaders.hpp"
#include "pipeline_tokenizer.hpp"
#include "switchyard/base/error.hpp"
#include "switchyard/text/utf8.hpp"
#include "tokenizer_json_file.hpp"

namespace switchyard::text {
namespace {

constexpr std::size_t kLongestAdded = 4096;

// Empty stands for null.
std::string optional_text(const JsonNode& node) { return node.text_or(""); }

Vocabulary read_vocabulary(const TokenizerJsonFile& file, const std::string& name) {
  Vocabulary tokens;
  tokens.reserve(file.tokens.size(), file.characters.size());
  for (const auto& token : file.tokens) {
    const std::string_view text = file.text(token.begin, token.length);
    const auto added = tokens.add(text, static_cast<std::int32_t>(token.id));
    if (added == Vocabulary::Added::kTokenTwice) {
      fail(ErrorKind::kBadInput, "{}: key 'model.vocab': token '{}' is there twice", name, text);
    }
    if (added == Vocabulary::Added::kIdTwice) {
      fail(ErrorKind::kBadInput, "{}: key 'model.vocab': id {} belongs to '{}' and to '{}'", name, token.id,
           tokens.token(static_cast<std::int32_t>(token.id)), text);
    }
  }
  return tokens;
}

std::vector<Bpe::Rule> read_merges(const TokenizerJsonFile& file, const Vocabulary& tokens, const std::string& prefix,
                                   const std::string& name) {
  std::vector<Bpe::Rule> rules;
  rules.reserve(file.merges.size());
  std::string joined;
  const auto find = [&](std::string_view token) {
    const std::int32_t id = tokens.find(token);
    if (id < 0) {
      fail(ErrorKind::kBadInput, "{}: key 'model.merges': entry {} needs the token '{}', which model.vocab lacks", name,
           rules.size(), token);
    }
    return id;
  };
  for (const auto& merge : file.merges) {
    const std::string_view left = file.text(merge.begin, merge.left);
    const std::string_view right = file.text(merge.begin + merge.left, merge.right);
    if (right.size() < prefix.size()) {
      fail(ErrorKind::kBadInput, "{}: key 'model.merges': entry {} has '{}', expected it to start with '{}'", name,
           rules.size(), right, prefix);
    }
    joined = left;
    joined += right.substr(prefix.size());
    rules.push_back({find(left), find(right), find(joined)});
  }
  return rules;
}

// The model's table for text that stays bytes.
Vocabulary in_bytes(const Vocabulary& tokens) {
  Vocabulary result;
  result.reserve(tokens.count(), static_cast<std::size_t>(tokens.count()) * 8);
  std::string bytes;
  for (std::int32_t id = 0; id < tokens.id_limit(); ++id) {
    if (!tokens.contains(id)) continue;
    // A token with other characters can never come out of the pre-tokenizer.
    const bool findable = from_byte_characters(tokens.token(id), bytes);
    result.add(findable ? std::string_view(bytes) : tokens.token(id), id, findable);
  }
  return result;
}

void read_bpe(const JsonNode& model, const TokenizerJsonFile& file, bool byte_level, Pipeline& pipeline) {
  if (file.vocab_form != TokenizerJsonFile::Form::kObject) model.get("vocab").wrong_type("an object of ids by token");
  if (!file.has_merges) model.get("merges").wrong_type("a list");
  if (const JsonNode dropout = model.get("dropout"); !dropout.is_null() && dropout.value() != 0) {
    fail(ErrorKind::kUnsupported, "{}: random merges are for training, expected null", dropout.where());
  }
  BpeSettings settings;
  settings.ignore_merges = model.get("ignore_merges").boolean_or(false);
  settings.byte_fallback = model.get("byte_fallback").boolean_or(false);
  settings.fuse_unknown = model.get("fuse_unk").boolean_or(false);
  settings.unknown = optional_text(model.get("unk_token"));
  settings.continuing_prefix = optional_text(model.get("continuing_subword_prefix"));
  settings.end_suffix = optional_text(model.get("end_of_word_suffix"));
  const std::vector<Bpe::Rule> rules = read_merges(file, pipeline.tokens, settings.continuing_prefix, pipeline.name);

  const bool plain = settings.continuing_prefix.empty() && settings.end_suffix.empty() && !settings.byte_fallback;
  if (byte_level && plain) {
    settings.unit = BpeSettings::Unit::kByte;
    // The unknown token goes by its spelling, which may not be in the alphabet of bytes.
    Vocabulary vocabulary = in_bytes(pipeline.tokens);
    pipeline.model = std::make_unique<Bpe>(std::move(vocabulary), rules, settings,
                                           settings.unknown.empty() ? -1 : pipeline.tokens.find(settings.unknown));
    return;
  }
  if (byte_level) pipeline.pre_tokenizers.push_back(byte_characters_step());
  settings.unit = BpeSettings::Unit::kCharacter;
  const std::int32_t unknown = settings.unknown.empty() ? -1 : pipeline.tokens.find(settings.unknown);
  pipeline.model = std::make_unique<Bpe>(pipeline.tokens, rules, settings, unknown);
}

void read_unigram(const JsonNode& model, const TokenizerJsonFile& file, bool byte_level, Pipeline& pipeline) {
  if (file.vocab_form != TokenizerJsonFile::Form::kList) model.get("vocab").wrong_type("a list of [token, score]");
  std::vector<double> scores;
  for (const auto& token : file.tokens) scores.push_back(token.score);
  const JsonNode unknown = model.get("unk_id");
  std::int32_t unknown_id = -1;
  if (!unknown.is_null()) {
    if (scores.empty()) model.get("vocab").wrong_type("a list that is not empty");
    unknown_id = static_cast<std::int32_t>(unknown.count(static_cast<std::int64_t>(scores.size()) - 1));
  }
  if (byte_level) pipeline.pre_tokenizers.push_back(byte_characters_step());
  pipeline.model = std::make_unique<Unigram>(pipeline.tokens, std::move(scores), unknown_id,
                                             model.get("byte_fallback").boolean_or(false));
}

// The library gives an added token the id of the model's token of the same text, or else the next free one, whatever
// the file says.
void read_added_tokens(const JsonNode& list, Pipeline& pipeline) {
  if (list.is_null()) return;
  list.array();
  const auto model_size = static_cast<std::int64_t>(pipeline.tokens.count());
  Vocabulary seen;
  std::int64_t next = model_size;
  for (std::size_t i = 0; i < list.size(); ++i) {
    const JsonNode node = list.at(i);
    AddedToken token;
    const JsonNode content = node.get("content");
    token.content = content.text();
    node.get("id").count(kLargestId);
    token.single_word = node.get("single_word").boolean_or(false);
    token.lstrip = node.get("lstrip").boolean_or(false);
    token.rstrip = node.get("rstrip").boolean_or(false);
    token.special = node.get("special").boolean_or(false);
    token.normalized = node.get("normalized").boolean_or(!token.special);
    if (token.content.empty()) continue;
    if (token.content.size() > kLongestAdded) {
      fail(ErrorKind::kBadInput, "{}: has {} bytes, expected at most {}", content.where(), token.content.size(),
           kLongestAdded);
    }
    if (const std::int32_t again = seen.find(token.content); again >= 0) {
      token.id = again;
      const auto same = std::find_if(pipeline.added.begin(), pipeline.added.end(),
                                     [&](const AddedToken& other) { return other.id == again; });
      *same = token;
      continue;
    }
    token.id = pipeline.tokens.find(token.content);
    if (token.id < 0) {
      if (next > kLargestId) content.wrong_type(fmt::format("at most {} tokens", kLargestId + 1));
      token.id = static_cast<std::int32_t>(next++);
      if (pipeline.tokens.contains(token.id)) {
        fail(ErrorKind::kBadInput, "{}: '{}' would get the id {}, which '{}' has: model.vocab has gaps",
             content.where(), token.content, token.id, pipeline.tokens.token(token.id));
      }
    }
    seen.add(token.content, token.id);
    pipeline.added.push_back(std::move(token));
  }
}

// The token that the post-processor puts in front of a text, or behind it.
enum class Edge { kBegin, kEnd };
std::optional<std::int32_t> token_of_template(const JsonNode& node, Edge edge,
                                              const std::function<std::int32_t(std::string_view)>& find) {
  if (node.is_null()) return std::nullopt;
  const auto found = [&](const std::string& token) {
    const std::int32_t id = find(token);
    return id < 0 ? std::nullopt : std::optional(id);
  };
  const std::string type = node.get("type").text();
  if (type == "Sequence") {
    const JsonNode list = node.get("processors").array();
    for (std::size_t i = 0; i < list.size(); ++i) {
      if (const auto token = token_of_template(list.at(i), edge, find)) return token;
    }
    return std::nullopt;
  }
  if (edge == Edge::kBegin && (type == "BertProcessing" || type == "RobertaProcessing")) {
    const JsonNode pair = node.get("cls").array();
    if (pair.size() != 2) pair.wrong_type("[token, id]");
    return found(pair.at(0).text());
  }
  if (type != "TemplateProcessing") return std::nullopt;
  const JsonNode single = node.get("single").array();
  if (single.size() == 0) return std::nullopt;
  const JsonNode piece = single.at(edge == Edge::kBegin ? 0 : single.size() - 1);
  if (!piece.has("SpecialToken")) return std::nullopt;
  return found(piece.get("SpecialToken").get("id").text());
}

}  // namespace

std::unique_ptr<Tokenizer> make_json_tokenizer(std::string_view json, const std::string& name,
                                               const FolderSettings& settings, NamedFiles files) {
  const TokenizerJsonFile file = read_tokenizer_json(json, name);
  const JsonNode root(file.rest, name);
  const JsonNode model = root.get("model");
  if (!model.is_object()) model.wrong_type("an object");

  Pipeline pipeline;
  pipeline.name = name;
  pipeline.files = std::move(files);
  pipeline.parse_special = !settings.split_special;
  pipeline.normalizer = read_normalizer(root.get("normalizer"));
  PreTokenizers pre_tokenizers = read_pre_tokenizer(root.get("pre_tokenizer"));
  pipeline.pre_tokenizers = std::move(pre_tokenizers.steps);
  pipeline.decoder = read_decoder(root.get("decoder"));

  // Older files leave the type of a BPE model out.
  const JsonNode type = model.get("type");
  const std::string type_name = type.text_or(file.has_merges ? "BPE" : "Unigram");
  if (type_name != "BPE" && type_name != "Unigram") type.unsupported("BPE, Unigram");
  pipeline.tokens = read_vocabulary(file, name);
  if (type_name == "BPE") {
    pipeline.kind = pre_tokenizers.byte_level ? "byte-level bpe" : "bpe";
    read_bpe(model, file, pre_tokenizers.byte_level, pipeline);
  } else {
    pipeline.kind = "unigram";
    read_unigram(model, file, pre_tokenizers.byte_level, pipeline);
  }
  read_added_tokens(root.get("added_tokens"), pipeline);
  if (pipeline.tokens.count() == 0 && pipeline.added.empty()) {
    fail(ErrorKind::kBadInput, "{}: has no tokens", name);
  }

  const auto find = [&](std::string_view token) { return pipeline.find(token); };
  pipeline.special = resolve_special_tokens(settings, pipeline.id_limit(), find,
                                            token_of_template(root.get("post_processor"), Edge::kBegin, find));
  const auto end = token_of_template(root.get("post_processor"), Edge::kEnd, find);
  if (end && !pipeline.special.end) {
    pipeline.special.end = end;
    if (pipeline.special.ends.empty()) pipeline.special.ends.push_back(*end);
  }
  pipeline.special.add_end = end && end == pipeline.special.end;
  return make_pipeline_tokenizer(std::move(pipeline));
}

std::unique_ptr<Tokenizer> parse_tokenizer_json(std::string_view json, const std::string& name) {
  return make_json_tokenizer(json, name, {}, {{"tokenizer.json", std::string(json)}});
}

}  // namespace switchyard::text
