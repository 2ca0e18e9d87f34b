#pragma once
// Model folders for tests: temporary ones, copies of golden ones, and changes to their files.

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "oracle/compare.hpp"
#include "support/temporary_folder.hpp"
#include "switchyard/base/atomic_file.hpp"
#include "switchyard/base/error.hpp"
#include "switchyard/formats/npy.hpp"
#include "switchyard/formats/safetensors.hpp"
#include "switchyard/formats/tensor_files.hpp"
#include "switchyard/model/checkpoint.hpp"

namespace switchyard::model {

inline std::filesystem::path golden(const std::string& name) {
  return std::filesystem::path(SWITCHYARD_TEST_DIR) / "golden" / name;
}

// Every folder of tests/golden that holds ids.npy, by its path there: decoder-only models.
inline std::vector<std::string> golden_models() {
  namespace fs = std::filesystem;
  std::vector<std::string> names;
  const fs::path root = golden("");
  for (const fs::directory_entry& family : fs::directory_iterator(root)) {
    if (!family.is_directory()) continue;
    for (const fs::directory_entry& model : fs::directory_iterator(family.path()))
      if (fs::exists(model.path() / "ids.npy")) names.push_back(fs::relative(model.path(), root).string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

inline std::vector<std::int32_t> golden_ids(const std::string& name) {
  const Tensor tensor = formats::read_npy(golden(name) / "ids.npy");
  const auto values = tensor.values<std::int64_t>();
  return {values.begin(), values.end()};
}

// The name of a golden model in that of a test.
inline std::string golden_test_name(const testing::TestParamInfo<std::string>& test) {
  std::string name = test.param;
  for (char& c : name) c = std::isalnum(static_cast<unsigned char>(c)) != 0 ? c : '_';
  return name;
}

inline void expect_same_parameters(const std::filesystem::path& a, const std::filesystem::path& b) {
  const LoadedModel first = load_model(a), second = load_model(b);
  const auto before = first.transformer.parameters(), after = second.transformer.parameters();
  ASSERT_EQ(before.size(), after.size());
  for (std::size_t i = 0; i < before.size(); ++i)
    EXPECT_TRUE(oracle::same_bits(before[i]->value.f32(), after[i]->value.f32())) << before[i]->name;
}

inline void write_text(const std::filesystem::path& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

// Replaces `from`, which must be there, in a text file.
inline void replace_in(const std::filesystem::path& path, const std::string& from, const std::string& to) {
  std::string text = read_file(path);
  const std::size_t at = text.find(from);
  ASSERT_NE(at, std::string::npos) << path << " has no " << from;
  write_text(path, text.replace(at, from.size(), to));
}

using Tensors = std::map<std::string, Tensor>;

// Owning copies of all tensors of a folder.
inline Tensors read_tensors(const std::filesystem::path& folder) {
  const auto files = formats::TensorFiles::open(folder);
  Tensors tensors;
  for (const std::string& name : files.names()) tensors.emplace(name, files.load(name).clone());
  return tensors;
}

inline std::vector<formats::NamedTensor> named(const Tensors& tensors) {
  std::vector<formats::NamedTensor> list;
  for (const auto& [name, tensor] : tensors) list.push_back({name, &tensor});
  return list;
}

// Rewrites model.safetensors of a folder after a change.
inline void change_tensors(const std::filesystem::path& folder, const std::function<void(Tensors&)>& change) {
  Tensors tensors = read_tensors(folder);
  change(tensors);
  formats::write_safetensors(folder / "model.safetensors", named(tensors));
}

inline Tensor logits_of(Transformer& transformer, std::span<const std::int32_t> ids, KvCache* cache = nullptr) {
  ForwardCall call;
  call.sequence = static_cast<Index>(ids.size());
  call.cache = cache;
  return transformer.logits(transformer.forward(ids, call).hidden_TD.matrix());
}

}  // namespace switchyard::model
