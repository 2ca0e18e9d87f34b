#include "corpus.hpp"

#include <algorithm>
#include <tuple>

#include "switchyard/base/error.hpp"
#include "switchyard/text/utf8.hpp"

namespace switchyard::train {
namespace {

namespace fs = std::filesystem;

bool is_hidden(const fs::path& path) { return path.filename().string().starts_with("."); }

// Whether a folder below `root` is a link to one of the folders that it stands in: the walk would go in circles.
bool leads_back(const fs::path& root, const fs::path& folder) {
  std::error_code ignored;
  if (!fs::is_symlink(folder, ignored)) return false;
  for (fs::path above = folder.parent_path();; above = above.parent_path()) {
    if (fs::equivalent(folder, above, ignored)) return true;
    if (above == root || !above.has_relative_path()) return false;
  }
}

// Names of domains go into JSON, which is UTF-8; names of files are any bytes.
std::string domain_name(const fs::path& path) { return text::replace_invalid_utf8(path.string()); }

// A first sub-folder of `root` names the domain; files beside the sub-folders belong to one named as the root.
std::string domain_of(const fs::path& root, const fs::path& file) {
  const fs::path relative = file.lexically_relative(root);
  if (relative.has_parent_path()) return domain_name(*relative.begin());
  const fs::path name = root.has_filename() ? root.filename() : root.parent_path().filename();
  return name.empty() || name == "." || name == ".." ? "text" : domain_name(name);
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
      add_file(root, domain_name(root.stem()), config, files);
      continue;
    }
    const std::size_t before = files.size();
    fs::recursive_directory_iterator walk(root, fs::directory_options::follow_directory_symlink, error);
    fs::path last = root;
    for (; !error && walk != fs::recursive_directory_iterator(); walk.increment(error)) {
      last = walk->path();
      std::error_code ignored;  // of a link that leads nowhere: neither a folder nor a file
      if (walk->is_directory(ignored)) {
        if (is_hidden(last) || leads_back(root, last)) walk.disable_recursion_pending();
      } else if (is_hidden(last)) {
        continue;
      } else if (walk->is_regular_file(ignored)) {
        add_file(last, domain_of(root, last), config, files);
      }
    }
    // An iterator that met an error is at its end: without this the rest of the text would be missing silently.
    if (error) fail(ErrorKind::kResource, "{}: cannot list this folder: {}", last.string(), error.message());
    if (files.size() == before) fail(ErrorKind::kBadInput, "data.paths: {}: no text in this folder", text_path);
  }
  if (files.empty()) fail(ErrorKind::kBadInput, "data.paths: all files are empty");
  std::sort(files.begin(), files.end(), [](const CorpusFile& a, const CorpusFile& b) {
    return std::tie(a.domain, a.path) < std::tie(b.domain, b.path);
  });
  return files;
}

}  // namespace switchyard::train
