#include "corpus.hpp"

#include <algorithm>
#include <tuple>

#include "switchyard/base/error.hpp"
#include "switchyard/text/utf8.hpp"

namespace switchyard::train {
namespace {

namespace fs = std::filesystem;

bool is_hidden(const fs::path& path) { return path.filename().string().starts_with("."); }

// A first sub-folder of `root` names the domain; files beside the sub-folders belong to one named as the root.
std::string domain_of(const fs::path& root, const fs::path& file) {
  const fs::path relative = file.lexically_relative(root);
  if (relative.has_parent_path()) return relative.begin()->string();
  const fs::path name = root.has_filename() ? root.filename() : root.parent_path().filename();
  return name.empty() || name == "." || name == ".." ? "text" : name.string();
}

void add_file(const fs::path& path, const std::string& domain, const DataConfig& config,
              std::vector<CorpusFile>& files) {
  CorpusFile entry{path, domain, MappedFile::open(path), 0};
  const std::string_view text = entry.text();
  if (text.empty()) return;
  if (config.tokenizer != "byte") {
    if (const std::size_t zero = text.find('\0'); zero != std::string_view::npos) {
      fail(ErrorKind::kBadInput,
           "{}: a zero byte at offset {}: this is not text (data.tokenizer = \"byte\" trains on any bytes)",
           path.string(), zero);
    }
    if (const auto bad = text::find_invalid_utf8(text)) {
      fail(
          ErrorKind::kBadInput,
          "{}: invalid UTF-8 at byte {}, expected UTF-8 text (convert it with iconv, or use data.tokenizer = \"byte\")",
          path.string(), *bad);
    }
  }
  entry.cut = static_cast<std::size_t>(static_cast<double>(text.size()) * (1.0 - config.validation));
  // Continuation bytes are 10xxxxxx: move on to the start of a character.
  while (entry.cut < text.size() && (static_cast<unsigned char>(text[entry.cut]) & 0xC0U) == 0x80U) ++entry.cut;
  files.push_back(std::move(entry));
}

}  // namespace

std::vector<CorpusFile> collect_corpus(const DataConfig& config) {
  std::vector<CorpusFile> files;
  for (const std::string& text_path : config.paths) {
    const fs::path root(text_path);
    std::error_code error;
    const auto status = fs::status(root, error);
    if (!fs::exists(status)) {
      fail(ErrorKind::kNotFound,
           "data.paths: {}: no such file or folder (relative paths start at the working folder, {})", text_path,
           fs::current_path().string());
    }
    if (!fs::is_directory(status)) {
      add_file(root, root.stem().string(), config, files);
      continue;
    }
    const std::size_t before = files.size();
    fs::recursive_directory_iterator walk(root, fs::directory_options::follow_directory_symlink, error);
    if (error) fail(ErrorKind::kResource, "{}: cannot list: {}", text_path, error.message());
    for (; walk != fs::recursive_directory_iterator(); walk.increment(error)) {
      if (error) fail(ErrorKind::kResource, "{}: cannot list: {}", text_path, error.message());
      if (is_hidden(walk->path())) {
        if (walk->is_directory()) walk.disable_recursion_pending();
      } else if (walk->is_regular_file()) {
        add_file(walk->path(), domain_of(root, walk->path()), config, files);
      }
    }
    if (files.size() == before) fail(ErrorKind::kBadInput, "data.paths: {}: no text in this folder", text_path);
  }
  if (files.empty()) fail(ErrorKind::kBadInput, "data.paths: all files are empty");
  std::sort(files.begin(), files.end(), [](const CorpusFile& a, const CorpusFile& b) {
    return std::tie(a.domain, a.path) < std::tie(b.domain, b.path);
  });
  return files;
}

}  // namespace switchyard::train
