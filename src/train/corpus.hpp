#pragma once
// The text files of a recipe.

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "switchyard/base/mapped_file.hpp"
#include "switchyard/train/recipe.hpp"

namespace switchyard::train {

// One file, mapped, cut in two at a character boundary.
struct CorpusFile {
  std::filesystem::path path;
  std::string domain;
  std::shared_ptr<const MappedFile> file;
  std::size_t cut = 0;  // bytes of the training part

  std::string_view text() const { return {reinterpret_cast<const char*>(file->bytes().data()), file->bytes().size()}; }
  std::string_view train_part() const { return text().substr(0, cut); }
  std::string_view validation_part() const { return text().substr(cut); }
};

// Files sorted by domain, then path. Hidden files and empty ones are passed over. Throws as TokenData::prepare.
std::vector<CorpusFile> collect_corpus(const DataConfig& config);

}  // namespace switchyard::train
