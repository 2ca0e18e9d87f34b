#pragma once
// A model from one kind of files to another: Hugging Face folders and GGUF files. docs/convert.md.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "switchyard/tensor/dtype.hpp"

namespace switchyard::model {

struct ConvertOptions {
  // Of matrices; routers, norms, biases and other vectors stay in float types. Nothing: each as it is, and where the
  // new files do not have its type, BF16. F32, F16 and BF16 are known, for GGUF Q8_0 too (F16 where rows are not whole
  // blocks).
  std::optional<DType> type{};
  std::size_t max_part_bytes = std::numeric_limits<std::size_t>::max();  // of tensors in one file
  // GGUF: our own architecture, which has every model but which other programs do not read. Models that only our own
  // model_type expresses have it without being asked.
  bool own_architecture = false;
  std::string pre{};  // GGUF: a name for how the text is cut, instead of the one that the tokenizer tells
  std::function<void(std::uint64_t bytes_done, std::uint64_t bytes)> progress{};
};

struct Converted {
  std::string model_type;                    // of config.json
  std::string architecture;                  // of GGUF; empty for a folder
  std::vector<std::filesystem::path> files;  // that hold tensors
  std::size_t tensors = 0;
  std::uint64_t bytes = 0;         // of tensors
  std::vector<std::string> notes;  // what is not as it was, for people
};

// `from` is what find_model_folder() finds: a folder or a GGUF file. Everything is checked before anything is written,
// and nothing stays where an error ends it. An existing target is replaced. Throws as load_model() does, and
// kUnsupported where GGUF cannot say what the model is: the message names the value and what would help.
Converted convert_to_gguf(const std::filesystem::path& from, const std::filesystem::path& to,
                          const ConvertOptions& options = {});
Converted convert_to_folder(const std::filesystem::path& from, const std::filesystem::path& to,
                            const ConvertOptions& options = {});

}  // namespace switchyard::model
