// Rules that look at no score: for baselines, warm-up, benchmarks and replays.

#include "schemes.hpp"
#include "selection.hpp"

namespace switchyard::moe {

Assignments select_random(const RouterConfig& router, const SelectionInput& input) {
  require_shapes(router, input);
  const Index experts = input.scores_TE.cols, k = router.top_k;
  return assign_k(k, 64 * k, input, [&](Index t, std::int32_t* expert_K) {
    std::vector<std::int32_t> taken;
    distinct_experts(input.random, static_cast<std::uint64_t>(t * k), experts, k, expert_K, taken);
  });
}

Assignments select_round_robin(const RouterConfig& router, const SelectionInput& input) {
  require_shapes(router, input);
  const Index experts = input.scores_TE.cols, k = router.top_k;
  return assign_k(k, k, input, [&](Index t, std::int32_t* expert_K) {
    for (Index i = 0; i < k; ++i) expert_K[i] = static_cast<std::int32_t>((t * k + i) % experts);
  });
}

Assignments select_replay(const RouterConfig& router, const SelectionInput& input) {
  require_shapes(router, input);
  if (input.replayed == nullptr)
    fail(ErrorKind::kBadInput, "router.select 'replay' without a recorded routing to replay");
  const Assignments& recorded = *input.replayed;
  const Index tokens = input.scores_TE.rows, experts = input.scores_TE.cols;
  const auto wrong = [&](std::string_view what) {
    fail(ErrorKind::kBadInput, "replayed routing of {} tokens and {} experts: {}, expected {} tokens and {} experts",
         recorded.tokens, recorded.experts, what, tokens, experts);
  };
  if (recorded.tokens != tokens || recorded.experts != experts) wrong("another shape");
  if (static_cast<Index>(recorded.offset_T1.size()) != tokens + 1 || recorded.offset_T1.front() != 0 ||
      recorded.offset_T1.back() != static_cast<std::int32_t>(recorded.expert_A.size()))
    wrong("offsets that do not belong to its assignments");
  if (!std::is_sorted(recorded.offset_T1.begin(), recorded.offset_T1.end())) wrong("offsets that go down");
  // A recorded expert that was refused at the time is offered again: what happens to it is for capacity to say.
  std::vector<std::int32_t> token_of_expert(static_cast<std::size_t>(experts), -1);
  Index most = 0;
  for (std::size_t t = 0; t < static_cast<std::size_t>(tokens); ++t) {
    const std::int32_t begin = recorded.offset_T1[t], end = recorded.offset_T1[t + 1];
    most = std::max<Index>(most, end - begin);
    for (std::int32_t a = begin; a < end; ++a) {
      const std::int32_t e = recorded.expert_A[static_cast<std::size_t>(a)];
      if (e < 0 || e >= experts) wrong("an expert that is none");
      if (token_of_expert[static_cast<std::size_t>(e)] == static_cast<std::int32_t>(t))
        wrong("one expert twice for a token");
      token_of_expert[static_cast<std::size_t>(e)] = static_cast<std::int32_t>(t);
    }
  }
  return assign_up_to(most, most, input, [&](Index t, std::int32_t* expert_K) {
    const std::int32_t begin = recorded.offset_T1[static_cast<std::size_t>(t)];
    const std::int32_t count = recorded.offset_T1[static_cast<std::size_t>(t) + 1] - begin;
    std::copy_n(recorded.expert_A.begin() + begin, count, expert_K);
    return count;
  });
}

}  // namespace switchyard::moe
