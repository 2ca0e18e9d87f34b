// Routes three tokens through the installed library and checks the sorted plan by hand.
#include <cstdio>

#include "switchyard/moe/assignments.hpp"
#include "switchyard/moe/score.hpp"

int main() {
  switchyard::moe::Assignments assignments;
  assignments.tokens = 3;
  assignments.experts = 2;
  assignments.offset_T1 = {0, 1, 2, 3};
  assignments.expert_A = {1, 0, 1};
  assignments.score_A = {0.5F, 0.25F, 0.75F};
  assignments.weight_A = assignments.score_A;
  assignments.dropped_A = {0, 0, 0};
  const auto plan = switchyard::moe::make_dispatch_plan(assignments);
  const bool right = plan.load(0) == 1 && plan.load(1) == 2 && plan.token_of_slot_S[0] == 1;
  const auto& score = switchyard::moe::find_score_function("softmax");
  std::printf("expert 0: %lld, expert 1: %lld, scores by %.*s\n", static_cast<long long>(plan.load(0)),
              static_cast<long long>(plan.load(1)), static_cast<int>(score.name.size()), score.name.data());
  return right ? 0 : 1;
}
