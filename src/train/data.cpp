#include "switchyard/train/data.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "corpus.hpp"
#include "switchyard/base/atomic_file.hpp"
#include "switchyard/base/error.hpp"
#include "switchyard/formats/json_config.hpp"
#include "switchyard/text/utf8.hpp"

namespace switchyard::train {
namespace {

namespace fs = std::filesystem;

constexpr Index kFormatVersion = 1;
constexpr const char* kMetaFile = "tokens.json";

// Everything that the tokens depend on, with the files' sizes as a cheap sign of an edited text.
std::string describe_source(const DataConfig& config, std::span<const CorpusFile> files) {
  nlohmann::ordered_json json;
  json["paths"] = config.paths;
  json["tokenizer"] = config.tokenizer;
  if (config.tokenizer == "sentencepiece") json["vocab"] = config.vocab;
  json["validation"] = config.validation;
  for (const CorpusFile& file : files) {
    json["files"].push_back({{"path", file.path.string()}, {"domain", file.domain}, {"bytes", file.text().size()}});
  }
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::unique_ptr<text::Tokenizer> make_tokenizer(const DataConfig& config, std::span<const CorpusFile> files) {
  if (config.tokenizer == "byte") return text::make_byte_tokenizer();
  if (config.tokenizer == "char") {
    // The alphabet is that of all the text: a held-out character without an id could not be scored at all.
    std::string all;
    for (const CorpusFile& file : files) all += file.text();
    return text::make_char_tokenizer(all);
  }
  std::vector<std::string_view> texts;
  std::vector<std::string> names;
  for (const CorpusFile& file : files) {
    texts.push_back(file.train_part());
    names.push_back(file.path.string());
  }
  text::SentencePieceTraining training;
  training.vocab_size = config.vocab;
  try {
    return text::train_sentencepiece(texts, names, training);
  } catch (const Error& error) {
    throw Error(error.kind(), fmt::format("data.vocab = {}: {}", config.vocab, error.what()));
  }
}

// Writes the tokens of one part of every file, file after file; files are sorted by domain.
class SplitWriter {
 public:
  explicit SplitWriter(const fs::path& path) : file_(path) {}

  void add(const std::string& domain, std::string_view part, const text::Tokenizer& tokenizer) {
    if (domains_.empty() || domains_.back().name != domain) domains_.push_back({domain, count_, count_, 0});
    std::vector<std::int32_t> ids = tokenizer.encode(part);
    // An end token keeps two documents apart, where the tokenizer has one.
    if (tokenizer.eos_id()) ids.push_back(*tokenizer.eos_id());
    file_.write(std::as_bytes(std::span(ids)));
    count_ += static_cast<Index>(ids.size());
    domains_.back().end = count_;
    domains_.back().bytes += static_cast<Index>(part.size());
  }

  nlohmann::ordered_json commit() {
    file_.commit();
    nlohmann::ordered_json json;
    json["tokens"] = count_;
    for (const Domain& domain : domains_) {
      json["names"].push_back(domain.name);
      json["ends"].push_back(domain.end);
      json["bytes"].push_back(domain.bytes);
    }
    return json;
  }

 private:
  AtomicFile file_;
  std::vector<Domain> domains_;
  Index count_ = 0;
};

TokenSplit read_split(const formats::JsonConfig& meta, const std::string& name, const MappedFile& file, Index vocab) {
  const auto json = meta.object(name);
  const Index count = json.get_int("tokens");
  const std::string path = file.path().string();
  const auto bytes = static_cast<Index>(file.bytes().size());
  if (count < 0 || count > bytes || bytes != count * static_cast<Index>(sizeof(std::int32_t))) {
    fail(ErrorKind::kBadInput, "{}: {} bytes, expected {} tokens of 4 bytes; delete the folder to tokenize again", path,
         bytes, count);
  }
  TokenSplit split;
  split.tokens = {reinterpret_cast<const std::int32_t*>(file.bytes().data()), static_cast<std::size_t>(count)};
  const auto out_of_range = std::find_if(split.tokens.begin(), split.tokens.end(),
                                         [vocab](std::int32_t id) { return id < 0 || id >= vocab; });
  if (out_of_range != split.tokens.end()) {
    fail(ErrorKind::kBadInput, "{}: token {} has id {}, expected 0 to {}; delete the folder to tokenize again", path,
         out_of_range - split.tokens.begin(), *out_of_range, vocab - 1);
  }
  const auto names = json.get_strings("names");
  const auto ends = json.get_ints("ends"), sizes = json.get_ints("bytes");
  Index begin = 0;
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (i >= ends.size() || i >= sizes.size() || ends[i] < begin || ends[i] > count || sizes[i] < 0) {
      fail(ErrorKind::kBadInput, "{}: the domains do not cover the tokens in order", meta.where(name));
    }
    split.domains.push_back({names[i], begin, ends[i], sizes[i]});
    begin = ends[i];
  }
  if (begin != count)
    fail(ErrorKind::kBadInput, "{}: the domains end at {}, expected {}", meta.where(name), begin, count);
  return split;
}

}  // namespace

Index TokenSplit::bytes() const {
  Index sum = 0;
  for (const Domain& domain : domains) sum += domain.bytes;
  return sum;
}

bool TokenData::exists(const fs::path& folder) { return fs::exists(folder / kMetaFile); }

TokenData TokenData::prepare(const DataConfig& config, const fs::path& folder, const Progress& progress) {
  const std::vector<CorpusFile> files = collect_corpus(config);
  AtomicDirectory directory(folder);  // first: a folder that cannot be written shows before the tokenizer has learnt
  const auto tokenizer = make_tokenizer(config, files);
  std::uint64_t total = 0, done = 0;
  for (const CorpusFile& file : files) total += file.text().size();

  SplitWriter train(directory.path() / "train.bin"), validation(directory.path() / "validation.bin");
  for (const CorpusFile& file : files) {
    if (progress) progress(done, total);
    try {
      train.add(file.domain, file.train_part(), *tokenizer);
      validation.add(file.domain, file.validation_part(), *tokenizer);
    } catch (const Error& error) {
      throw Error(error.kind(), fmt::format("{}: {}", file.path.string(), error.what()));
    }
    done += file.text().size();
  }
  if (progress) progress(done, total);
  nlohmann::ordered_json meta;
  meta["version"] = kFormatVersion;
  meta["source"] = describe_source(config, files);
  meta["train"] = train.commit();
  meta["validation"] = validation.commit();
  tokenizer->save(directory.path());
  write_file_atomically(directory.path() / kMetaFile, meta.dump(1) + "\n");
  directory.commit();
  return open(folder);
}

TokenData TokenData::open(const fs::path& folder) {
  const auto meta = formats::JsonConfig::load(folder / kMetaFile);
  if (meta.get_int("version") != kFormatVersion) {
    fail(ErrorKind::kBadInput, "{}: version {}, expected {}; delete the folder to tokenize again",
         (folder / kMetaFile).string(), meta.get_int("version"), kFormatVersion);
  }
  TokenData data;
  data.source_ = meta.get_string("source");
  data.tokenizer_ = text::load_tokenizer(folder);
  data.train_file_ = MappedFile::open(folder / "train.bin");
  data.validation_file_ = MappedFile::open(folder / "validation.bin");
  data.train_ = read_split(meta, "train", *data.train_file_, data.tokenizer_->vocab_size());
  data.validation_ = read_split(meta, "validation", *data.validation_file_, data.tokenizer_->vocab_size());
  return data;
}

std::string data_source(const DataConfig& config) { return describe_source(config, collect_corpus(config)); }

void sample_batch(const TokenSplit& split, Index batch, Index sequence, std::uint64_t seed, std::uint32_t step,
                  std::uint32_t micro, Batch& out) {
  const auto tokens = static_cast<Index>(split.tokens.size());
  require(tokens > sequence, "a window of {} tokens from {}", sequence + 1, tokens);
  const auto count = static_cast<std::size_t>(batch * sequence);
  out.input.resize(count);
  out.target.resize(count);
  // Rows are numbered through the step: two micro-batches of b sequences are the text of one of 2 b.
  const RandomStream random(seed, RandomPurpose::kData, step);
  const auto first_row = static_cast<std::uint64_t>(micro) * static_cast<std::uint64_t>(batch);
  for (Index b = 0; b < batch; ++b) {
    const auto start =
        random.below(first_row + static_cast<std::uint64_t>(b), static_cast<std::uint64_t>(tokens - sequence));
    const auto window = split.tokens.subspan(start, static_cast<std::size_t>(sequence + 1));
    std::copy(window.begin(), window.end() - 1, out.input.begin() + b * sequence);
    std::copy(window.begin() + 1, window.end(), out.target.begin() + b * sequence);
  }
}

}  // namespace switchyard::train
