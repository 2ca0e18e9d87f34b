// What single rules ask of a config, where the rule's own file has no more to say about it.

#include "schemes.hpp"
#include "selection.hpp"

namespace switchyard::moe {

void expect_logit_an_expert(const RouterConfig& router) {
  expect(find_score_function(router.score).logits == nullptr, "score", router.score,
         fmt::format("softmax: select \"{}\" needs one logit an expert", router.select));
}

void expect_gradient(const RouterConfig& router) {
  expect(router.top_k > 1 || router.normalise != "softmax", "normalise", router.normalise,
         "none with top_k 1: a softmax over one expert is 1 whatever its logit, so the router would get no gradient");
}

void check_forced(const RouterConfig& router) { expect_no_choice(router); }

void check_from_logits(const RouterConfig& router) {
  expect_no_choice(router);
  expect_logit_an_expert(router);
  expect_gradient(router);
}

void check_base(const RouterConfig& router) {
  check_from_logits(router);
  expect(router.top_k == 1, "top_k", router.top_k, "1 with select \"base\"");
}

void check_top_p(const RouterConfig& router) {
  expect_gradient(router);
  expect(router.score != "logits", "score", router.score, "softmax: select \"top-p\" adds up probabilities");
  expect(router.threshold > 0.0F && router.threshold <= 1.0F, "threshold", router.threshold,
         "above 0 and at most 1, such as 0.4");
}

}  // namespace switchyard::moe
