// Writes the inputs that fuzzing starts from: make_seeds FOLDER makes FOLDER/TARGET/ for every target.

#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "switchyard/base/atomic_file.hpp"
#include "switchyard/base/error.hpp"
#include "switchyard/formats/gguf.hpp"
#include "switchyard/formats/npy.hpp"
#include "switchyard/formats/safetensors.hpp"
#include "switchyard/text/tokenizer.hpp"

namespace {

namespace fs = std::filesystem;
using namespace switchyard;

void put(const fs::path& root, std::string_view target, std::string_view name, std::string_view content) {
  fs::create_directories(root / target);
  write_file_atomically(root / target / name, content);
}

void make_safetensors(const fs::path& root) {
  const Tensor weight = Tensor::zeros(DType::kF32, {2, 3}), scalar = Tensor::zeros(DType::kI64, {}),
               empty = Tensor::zeros(DType::kBF16, {0, 4}), bytes = Tensor::zeros(DType::kU8, {5});
  const std::vector<formats::NamedTensor> tensors = {
      {"weight", &weight}, {"scalar", &scalar}, {"empty", &empty}, {"bytes", &bytes}};
  fs::create_directories(root / "safetensors");
  const fs::path path = root / "safetensors" / "four";
  formats::write_safetensors(path, tensors, {{"format", "pt"}});
  const std::string file = read_file(path);
  put(root, "safetensors", "none", std::string_view("\x02\0\0\0\0\0\0\0{}", 10));
  const std::size_t data_bytes = 24 + 8 + 5;
  const std::string header = file.substr(8, file.size() - 8 - data_bytes);
  put(root, "safetensors_header", "four", header + '\0' + file.substr(file.size() - data_bytes));
  put(root, "safetensors_header", "none", "{}");
}

void make_gguf(const fs::path& root) {
  using formats::GgufArray;
  formats::GgufMetadata metadata;
  metadata.set("general.architecture", std::string("llama"));
  metadata.set("general.alignment", std::uint32_t{32});
  metadata.set("i", std::int64_t{-1});
  metadata.set("f", 0.5F);
  metadata.set("b", true);
  metadata.set("s", GgufArray(std::vector<std::string>{"a", ""}));
  metadata.set("u", GgufArray(std::vector<std::uint16_t>{1, 2}));
  metadata.set("t", GgufArray(std::vector<bool>{true}));
  std::vector<formats::DeferredTensor> tensors;
  fs::create_directories(root / "gguf");
  formats::write_gguf(root / "gguf" / "none", metadata, tensors);
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kQ80, DType::kQ4K, DType::kMXFP4, DType::kI8}) {
    const Shape shape = {2, dtype_info(dtype).block_elements};
    tensors.push_back(
        {std::string(dtype_info(dtype).name), dtype, shape, [dtype, shape] { return Tensor::zeros(dtype, shape); }});
  }
  formats::write_gguf(root / "gguf" / "six", metadata, tensors);
}

void make_json(const fs::path& root) {
  put(root, "safetensors_index", "two",
      R"({"metadata": {"total_size": 8}, "weight_map": {"a": "m-1.safetensors", "b": "m-2.safetensors"}})");
  put(root, "json_config", "flat",
      R"({"model_type": "mixtral", "num_experts": 8, "rms_norm_eps": 1e-05, "tie_word_embeddings": false,
          "sliding_window": null, "eos_token_id": [1, 2], "architectures": ["A"]})");
  put(root, "json_config", "nested",
      R"({"rope_scaling": {"type": "yarn", "factor": 40.0, "x": {"y": [[1], [2.5]]}}, "name": "\u00e4\ud834\udd1e"})");
}

void make_npy(const fs::path& root) {
  fs::create_directories(root / "npy");
  formats::write_npy(root / "npy" / "f32", Tensor::zeros(DType::kF32, {2, 3}));
  formats::write_npy(root / "npy" / "f64", Tensor::zeros(DType::kF64, {}));
  formats::write_npy(root / "npy" / "i32", Tensor::zeros(DType::kI32, {1}));
  formats::write_npy(root / "npy" / "i64", Tensor::zeros(DType::kI64, {0, 2, 1}));
}

void make_tokenizers(const fs::path& root) {
  const auto save = [&](const text::Tokenizer& tokenizer, std::string_view file, std::string_view target) {
    const fs::path folder = root / "scratch";
    fs::create_directories(folder);
    tokenizer.save(folder);
    put(root, target, tokenizer.kind(), read_file(folder / file));
    fs::remove_all(folder);
  };
  save(*text::make_byte_tokenizer(), "switchyard_tokenizer.json", "switchyard_tokenizer");
  save(*text::make_char_tokenizer("to be, or not to be \xC3\xA4"), "switchyard_tokenizer.json", "switchyard_tokenizer");
  const std::string sentence = "the quick brown fox jumps over the lazy dog, and the dog sleeps on\n";
  const std::vector<std::string_view> texts = {sentence};
  const std::vector<std::string> names = {"seed"};
  text::SentencePieceTraining training;
  training.vocab_size = 300;
  save(*text::train_sentencepiece(texts, names, training), "tokenizer.model", "sentencepiece");
}

// The fixtures' templates, and each line of what is known of the language.
void make_templates(const fs::path& root) {
  const fs::path folder = fs::path(SWITCHYARD_SOURCE_DIR) / "tests" / "golden" / "chat_templates";
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().extension() != ".jinja") continue;
    put(root, "chat_template", entry.path().stem().string(), read_file(entry.path()));
  }
  const auto language = nlohmann::json::parse(read_file(folder / "language.json"));
  std::size_t number = 0;
  for (const auto& one : language["cases"]) {
    put(root, "chat_template", std::to_string(number++), one["template"].get<std::string>());
  }
}

// The fixtures, and a small file that names most of what a tokenizer.json may hold.
void make_json_tokenizers(const fs::path& root) {
  for (const auto& entry :
       fs::directory_iterator(fs::path(SWITCHYARD_SOURCE_DIR) / "tests" / "golden" / "tokenizers")) {
    const fs::path file = entry.path() / "tokenizer.json";
    if (fs::exists(file)) put(root, "tokenizer_json", entry.path().filename().string(), read_file(file));
  }
  put(root, "tokenizer_json", "small", R"json({"version": "1.0", "added_tokens": [
    {"id": 9, "content": "<|end|>", "single_word": true, "lstrip": true, "rstrip": true, "normalized": false,
     "special": true}, {"id": 10, "content": "fox", "normalized": true, "special": false}],
    "normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Lowercase"},
      {"type": "Prepend", "prepend": "_"}, {"type": "Replace", "pattern": {"Regex": "[a-c&&[^b]]+"}, "content": "a"},
      {"type": "Strip", "strip_left": true, "strip_right": false}]},
    "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
      {"type": "Split", "pattern": {"Regex": "(?i:'s|'ll)|\\p{N}{1,3}|\\s+(?!\\S)"}, "behavior": "Contiguous",
       "invert": true}, {"type": "Metaspace", "replacement": "_", "prepend_scheme": "first", "split": true},
      {"type": "Digits", "individual_digits": true}, {"type": "Punctuation", "behavior": "MergedWithNext"}]},
    "post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<|end|>", "type_id": 0}}]},
    "decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"},
      {"type": "Replace", "pattern": {"String": "_"}, "content": " "}, {"type": "Fuse"},
      {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
    "model": {"type": "BPE", "dropout": null, "unk_token": "u", "continuing_subword_prefix": "",
      "end_of_word_suffix": "", "fuse_unk": true, "byte_fallback": false, "ignore_merges": true,
      "vocab": {"u": 0, "_": 1, "t": 2, "h": 3, "e": 4, "th": 5, "the": 6, "_the": 7}, "merges": ["t h", ["th", "e"],
      "_ the"]}})json");
  put(root, "tokenizer_json", "unigram", R"json({"added_tokens": [], "normalizer": null, "pre_tokenizer": null,
    "decoder": {"type": "Metaspace", "replacement": "_"}, "model": {"type": "Unigram", "unk_id": 0,
    "byte_fallback": true, "vocab": [["?", 0.0], ["t", -1.5], ["he", -2], ["the", -3.25], ["<0x20>", -9]]}})json");
  put(root, "tiktoken", "two", "dGg= 256\ndGhl 257\n");
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: make_seeds FOLDER\n");
    return 2;
  }
  try {
    const fs::path root = argv[1];
    make_safetensors(root);
    make_gguf(root);
    make_json(root);
    make_npy(root);
    make_tokenizers(root);
    make_json_tokenizers(root);
    make_templates(root);
  } catch (const Error& error) {
    std::fprintf(stderr, "make_seeds: %s\n", error.what());
    return 1;
  }
  return 0;
}
