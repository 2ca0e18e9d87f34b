#include "drafts.hpp"

#include <fmt/format.h>

namespace switchyard::cli {

void add_draft(CLI::App& command, Index& draft) {
  constexpr Index kMost = 64;
  command
      .add_option("--draft", draft,
                  "Tokens guessed ahead with the model's layer for multi-token prediction (DeepSeek-V3, GLM-4.5) and "
                  "checked in one pass; 0 = none. The text is the same")
      ->check(CLI::Range(Index{0}, kMost))
      ->capture_default_str();
}

DraftFigures::DraftFigures(const runtime::Drafts& drafts, Index decoded)
    : guessed(drafts.guessed), accepted(drafts.accepted) {
  const auto ratio = [](Index a, Index b) { return b > 0 ? static_cast<double>(a) / static_cast<double>(b) : 0.0; };
  acceptance = ratio(accepted, guessed);
  tokens_per_pass = ratio(decoded, drafts.passes);
}

std::string drafts_text(const DraftFigures& figures) {
  return fmt::format("{} of {} guesses accepted ({:.0f}%), {:.2f} tokens a pass", figures.accepted, figures.guessed,
                     100.0 * figures.acceptance, figures.tokens_per_pass);
}

}  // namespace switchyard::cli
