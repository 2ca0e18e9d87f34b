#include "switchyard/model/model_folder.hpp"

#include <algorithm>
#include <fstream>
#include <string>
#include <string_view>

#include "switchyard/base/error.hpp"

namespace switchyard::model {

namespace fs = std::filesystem;

std::vector<fs::path> list_checkpoints(const fs::path& run) {
  constexpr std::string_view kPrefix = "step-";
  std::vector<fs::path> found;
  const fs::path folder = run / "checkpoints";
  if (!fs::is_directory(folder)) return found;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    const bool is_step = name.size() > kPrefix.size() && name.starts_with(kPrefix) &&
                         name.find_first_not_of("0123456789", kPrefix.size()) == std::string::npos;
    if (is_step && fs::exists(entry.path() / kTrainingStateFile)) found.push_back(entry.path());
  }
  // Numbers of equal length compare as text, shorter ones are smaller.
  std::sort(found.begin(), found.end(), [](const fs::path& a, const fs::path& b) {
    const std::string x = a.filename().string(), y = b.filename().string();
    return std::pair(x.size(), x) < std::pair(y.size(), y);
  });
  return found;
}

bool is_gguf_file(const fs::path& path) {
  std::error_code ignored;
  if (!fs::is_regular_file(path, ignored)) return false;
  if (path.extension() == ".gguf") return true;
  char magic[4] = {};
  std::ifstream file(path, std::ios::binary);
  return file.read(magic, sizeof magic) && std::string_view(magic, sizeof magic) == "GGUF";
}

fs::path find_model_folder(const fs::path& path) {
  if (!fs::exists(path)) fail(ErrorKind::kNotFound, "{}: no such model folder or file", path.string());
  if (is_gguf_file(path)) return path;
  if (fs::exists(path / "config.json")) return path;
  const auto checkpoints = list_checkpoints(path);
  if (!checkpoints.empty()) return checkpoints.back();
  fail(ErrorKind::kNotFound,
       "{}: neither a model (config.json), a GGUF file, nor a run with a checkpoint (checkpoints/step-*)",
       path.string());
}

}  // namespace switchyard::model
