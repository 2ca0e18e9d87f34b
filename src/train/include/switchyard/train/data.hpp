#pragma once
// Token data on disk: text is tokenized once into a folder of its own and memory-mapped from then on.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "switchyard/base/mapped_file.hpp"
#include "switchyard/base/random.hpp"
#include "switchyard/text/tokenizer.hpp"
#include "switchyard/train/recipe.hpp"

namespace switchyard::train {

// A stretch of tokens of one domain.
struct Domain {
  std::string name;
  Index begin = 0, end = 0;  // in tokens of the split
  Index bytes = 0;           // of text that they stand for
};

// One split: all domains one after another, as mapped int32 ids.
struct TokenSplit {
  std::span<const std::int32_t> tokens;
  std::vector<Domain> domains;
  Index bytes() const;
};

// The training and held-out tokens of a run, with the tokenizer that made them. Immutable.
class TokenData {
 public:
  // Called with bytes done and bytes in all while text is tokenized.
  using Progress = std::function<void(std::uint64_t done, std::uint64_t total)>;

  // Reads the text of config.paths, trains or makes the tokenizer and writes everything to `folder`, whole or not at
  // all. Throws kNotFound / kBadInput naming the file: missing, empty, binary (zero bytes or invalid UTF-8 where the
  // tokenizer needs text), or too little text for the tokenizer.
  static TokenData prepare(const DataConfig& config, const std::filesystem::path& folder, const Progress& progress);
  // Opens what prepare() wrote. Throws kNotFound, or kBadInput where it was damaged or made from another config.
  static TokenData open(const std::filesystem::path& folder);
  static bool exists(const std::filesystem::path& folder);

  const text::Tokenizer& tokenizer() const { return *tokenizer_; }
  const TokenSplit& train() const { return train_; }
  const TokenSplit& validation() const { return validation_; }
  // What prepare() was given, as text: equal to data_source(config) as long as the config and the files are the same.
  const std::string& source() const { return source_; }

 private:
  TokenSplit train_, validation_;
  std::shared_ptr<const MappedFile> train_file_, validation_file_;
  std::shared_ptr<const text::Tokenizer> tokenizer_;
  std::string source_;
};

// The settings and the files (path, domain, size) that prepare() would use now. Throws as prepare().
std::string data_source(const DataConfig& config);

// Input and target ids of one micro-batch, rows [batch, sequence]; target is the next token.
struct Batch {
  std::vector<std::int32_t> input, target;
};
// Random windows of the training tokens. Depends only on (seed, step, micro), so a resumed run sees the same text; so
// does a step that is cut into more micro-batches of fewer sequences.
void sample_batch(const TokenSplit& split, Index batch, Index sequence, std::uint64_t seed, std::uint32_t step,
                  std::uint32_t micro, Batch& out);

}  // namespace switchyard::train
