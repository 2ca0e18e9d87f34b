#include "gguf_pre_tokenizers.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <algorithm>

#include "published_patterns.hpp"

namespace switchyard::text {
namespace {

using Json = nlohmann::json;

// As the published tokenizer.json files have them.
constexpr std::string_view kDigit = R"(\p{N})";
constexpr std::string_view kThreeDigits = R"(\p{N}{1,3})";
constexpr std::string_view kGpt2 = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
constexpr std::string_view kQwen35 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kBailing =
    R"('(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+)";
constexpr std::string_view kTekken = R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+)"
                                     R"(|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*)"
                                     R"(|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kDeepseekCjk = "[一-龥぀-ゟ゠-ヿ]+";
constexpr std::string_view kDeepseekWords =
    R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+)"
    R"(| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kCasedLetters =
    R"(\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-Ჺ)"
    R"(Ჽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-ώᾀ-ᾴᾶ-ᾼιῂ-ῄῆ-ῌῐ-ΐῖ-Ίῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝ)"
    R"(ℤΩℨK-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀)"
    R"(-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+)";
constexpr std::string_view kPunctuationBlocks = "\\s?[!-/:-~！-／：-～‘-‟　-。]+";
constexpr std::string_view kCjkBlocks = "[一-龥ࠀ-一가-퟿]+";

const std::vector<GgufPreTokenizer>& table() {
  static const std::vector<GgufPreTokenizer> kTable = {
      {"gpt-2", {}, true},
      {"olmo", {}, true, true},
      {"qwen2", {kQwen2}, false, true},
      {"qwen35", {kQwen35}, false, true},
      {"dbrx", {kCl100k}},
      {"llama-bpe", {kCl100k}, false, false, true},
      {"gpt-4o", {kO200k}, false, false, true},
      {"kimi-k2", {kKimi}},
      {"deepseek-llm", {R"([\r\n])", kCasedLetters, kPunctuationBlocks, R"(\s+$)", kCjkBlocks, kDigit}},
      {"deepseek-v3", {kThreeDigits, kDeepseekCjk, kDeepseekWords}},
      {"refact", {kDigit}, true},
      {"bailingmoe", {kBailing}},
      {"tekken", {kTekken}, false, false, true},
      {"deepseek-coder", {R"([\r\n])", R"(\s?\p{L}+)", R"(\s?\p{P}+)", kCjkBlocks, kDigit}},
      {"default", {R"([\p{P}\$\+<=>\^~\|]+)", kGpt2, R"(\p{N}+)", "[0-9][0-9][0-9]"}},
  };
  return kTable;
}

struct Alias {
  std::string_view name, same_as;
};
constexpr Alias kAliases[] = {
    {"llama3", "llama-bpe"},  {"llama-v3", "llama-bpe"},
    {"falcon3", "llama-bpe"}, {"pixtral", "llama-bpe"},
    {"glm4", "dbrx"},         {"chatglm-bpe", "dbrx"},
    {"smaug-bpe", "dbrx"},    {"deepseek-r1-qwen", "qwen2"},
    {"stablelm2", "qwen2"},   {"llama4", "gpt-4o"},
    {"minimax-m2", "gpt-4o"}, {"phi-2", "gpt-2"},
    {"gigachat", "gpt-2"},    {"granite-docling", "gpt-2"},
    {"starcoder", "refact"},  {"smollm", "refact"},
    {"command-r", "refact"},  {"codeshell", "refact"},
    {"exaone", "refact"},     {"hunyuan-dense", "deepseek-v3"},
    {"grok-2", "qwen2"},      {"hunyuan", "qwen2"},
    {"solar-open", "qwen2"},  {"joyai-llm", "deepseek-v3"},
    {"mpt", "gpt-2"},         {"jais", "gpt-2"},
    {"trillion", "gpt-2"},    {"minerva-7b", "refact"},
};

// Line ends are written out in some files and escaped in others.
std::string normalised(std::string_view pattern) {
  std::string result;
  for (const char c : pattern) {
    if (c == '\r') {
      result += "\\r";
    } else if (c == '\n') {
      result += "\\n";
    } else {
      result += c;
    }
  }
  return result;
}

struct Cut {
  std::vector<std::string> splits;
  bool gpt2_last = false;
  bool byte_level = false;  // ends in ByteLevel
  bool other = false;       // has a part that has no form in GGUF
  bool ignore_merges = false, nfc = false;
};

void add_step(const Json& step, Cut& cut) {
  const std::string type = member_text(step, "type");
  if (type == "Sequence") {
    if (step.contains("pretokenizers"))
      for (const Json& part : step["pretokenizers"]) add_step(part, cut);
  } else if (type == "Split") {
    const Json pattern = step.contains("pattern") ? step["pattern"] : Json();
    const std::string behaviour = member_text(step, "behavior");
    const bool inverted = member_flag(step, "invert");
    // Matches that leave no gap: what is between them cannot be lost.
    const bool whole = behaviour == "Isolated" || (behaviour == "Removed" && inverted);
    if (member_text(pattern, "Regex").empty() || !whole) cut.other = true;
    cut.splits.push_back(normalised(member_text(pattern, "Regex")));
  } else if (type == "Digits") {
    cut.splits.emplace_back(member_flag(step, "individual_digits") ? kDigit : R"(\p{N}+)");
  } else if (type == "ByteLevel") {
    cut.byte_level = true;
    cut.gpt2_last = member_flag(step, "use_regex", true);
    cut.other = cut.other || member_flag(step, "add_prefix_space", true);
  } else {
    cut.other = true;
  }
}

Cut cut_of(const Json& tokenizer) {
  Cut cut;
  if (const auto pre = tokenizer.find("pre_tokenizer"); pre != tokenizer.end() && pre->is_object()) add_step(*pre, cut);
  if (const auto model = tokenizer.find("model"); model != tokenizer.end())
    cut.ignore_merges = member_flag(*model, "ignore_merges");
  if (const auto normalizer = tokenizer.find("normalizer"); normalizer != tokenizer.end())
    cut.nfc = member_text(*normalizer, "type") == "NFC";
  return cut;
}

const GgufPreTokenizer* recognise(const Cut& cut) {
  const GgufPreTokenizer* found = nullptr;
  int best = -1;
  for (const GgufPreTokenizer& pre : table()) {
    if (pre.gpt2_last != cut.gpt2_last || pre.splits.size() != cut.splits.size()) continue;
    if (!std::equal(pre.splits.begin(), pre.splits.end(), cut.splits.begin())) continue;
    const int fits = 2 * (pre.ignore_merges == cut.ignore_merges ? 1 : 0) + (pre.nfc == cut.nfc ? 1 : 0);
    if (fits > best) found = &pre;
    best = std::max(best, fits);
  }
  return found;
}

}  // namespace

std::string member_text(const Json& object, const char* key) {
  if (!object.is_object()) return {};
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

bool member_flag(const Json& object, const char* key, bool otherwise) {
  if (!object.is_object()) return otherwise;
  const auto found = object.find(key);
  return found != object.end() && found->is_boolean() ? found->get<bool>() : otherwise;
}

const GgufPreTokenizer* find_gguf_pre_tokenizer(std::string_view name) {
  for (const Alias& alias : kAliases) {
    if (alias.name == name) name = alias.same_as;
  }
  for (const GgufPreTokenizer& pre : table()) {
    if (pre.name == name) return &pre;
  }
  return nullptr;
}

std::string known_gguf_pre_tokenizers() {
  std::vector<std::string_view> names;
  for (const GgufPreTokenizer& pre : table()) names.push_back(pre.name);
  for (const Alias& alias : kAliases) names.push_back(alias.name);
  return fmt::format("{}", fmt::join(names, ", "));
}

const GgufPreTokenizer* recognise_gguf_pre_tokenizer(const Json& tokenizer) {
  const Cut cut = cut_of(tokenizer);
  return cut.other || !cut.byte_level ? nullptr : recognise(cut);
}

const GgufPreTokenizer* recognise_gguf_pattern(std::string_view pattern) {
  Cut cut;
  cut.splits.push_back(normalised(pattern));
  return recognise(cut);
}

std::string describe_pre_tokenizer(const Json& tokenizer) {
  const Cut cut = cut_of(tokenizer);
  std::string text = fmt::format("{}", fmt::join(cut.splits, "  then  "));
  if (cut.gpt2_last) text += text.empty() ? "that of GPT-2" : "  then that of GPT-2";
  return text.empty() ? "none" : text;
}

nlohmann::ordered_json pre_tokenizer_json(const GgufPreTokenizer& pre) {
  using Ordered = nlohmann::ordered_json;
  Ordered steps = Ordered::array();
  for (const std::string_view split : pre.splits)
    steps.push_back({{"type", "Split"}, {"pattern", {{"Regex", split}}}, {"behavior", "Isolated"}, {"invert", false}});
  steps.push_back(
      {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", pre.gpt2_last}});
  return {{"type", "Sequence"}, {"pretokenizers", std::move(steps)}};
}

}  // namespace switchyard::text
