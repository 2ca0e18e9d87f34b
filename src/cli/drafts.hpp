#pragma once
// --draft, of the commands that generate text, and what came of it.

#include <CLI/CLI.hpp>
#include <string>

#include "switchyard/runtime/engine.hpp"

namespace switchyard::cli {

void add_draft(CLI::App& command, Index& draft);

struct DraftFigures {
  // `decoded`: tokens that were drawn after the first.
  DraftFigures(const runtime::Drafts& drafts, Index decoded);
  Index guessed, accepted;
  double acceptance = 0.0;       // accepted / guessed
  double tokens_per_pass = 0.0;  // that the model reads the weights for
};
// "12 of 30 guesses accepted (40%), 1.4 tokens a pass"
std::string drafts_text(const DraftFigures& figures);

}  // namespace switchyard::cli
