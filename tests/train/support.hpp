#pragma once
// What the tests of training share: temporary folders, expected errors, a text that can be learnt and a tiny recipe.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "support/error_of.hpp"
#include "support/temporary_folder.hpp"
#include "switchyard/base/error.hpp"
#include "switchyard/base/random.hpp"
#include "switchyard/train/recipe.hpp"

namespace switchyard::train {

inline std::filesystem::path put(const std::filesystem::path& path, std::string_view text) {
  std::filesystem::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << text;
  return path;
}

// Sentences of few words: a model of any size learns something of them in a few steps.
inline std::string simple_text(std::size_t bytes, std::uint32_t seed = 1) {
  constexpr std::array<std::string_view, 12> kWords = {"the",  "switch", "sends", "a",    "token",  "to",
                                                       "each", "expert", "and",   "back", "again.", "over"};
  const RandomStream random(seed, RandomPurpose::kTest);
  std::string text;
  for (std::uint64_t i = 0; text.size() < bytes; ++i) {
    text += kWords[random.below(i, kWords.size())];
    text += i % 9 == 8 ? '\n' : ' ';
  }
  text.resize(bytes);
  return text;
}

// A model of two layers, one dense, that takes a few milliseconds a step, with everything on that draws random numbers
// or keeps state.
inline Recipe tiny_recipe(const std::filesystem::path& text) {
  Recipe recipe;
  recipe.data.paths = {text.string()};
  recipe.data.tokenizer = "char";
  recipe.model.width = 16;
  recipe.model.layers = 3;
  recipe.model.heads = 2;
  recipe.model.kv_heads = 1;
  recipe.model.hidden = 24;
  recipe.model.dropout = 0.1;
  recipe.experts.count = 4;
  recipe.experts.hidden = 12;
  recipe.experts.shared_hidden = 8;
  recipe.router.score = "sigmoid";
  recipe.router.selection_bias = true;
  recipe.capacity.factor = 1.25F;
  recipe.balance.bias_update_rate = 0.01F;
  recipe.balance.z_loss = 0.001F;
  LayerRecipe first;
  first.at = {0};
  first.ffn = "dense";
  recipe.layer = {first};
  recipe.optimizer.learning_rate = 0.01;
  recipe.optimizer.warmup_steps = 3;
  recipe.train.steps = 12;
  recipe.train.batch = 3;
  recipe.train.sequence = 20;
  recipe.train.evaluate_every = 5;
  recipe.train.evaluate_batches = 2;
  recipe.train.checkpoint_every = 4;
  recipe.train.keep_checkpoints = 10;
  return recipe;
}

}  // namespace switchyard::train
