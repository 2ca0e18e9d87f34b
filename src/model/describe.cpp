#include "switchyard/model/describe.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace switchyard::model {
namespace {

std::string rotary(const AttentionConfig& a) {
  std::string text = fmt::format("rotary theta {:g}", a.rope_theta);
  const Index head = a.latent ? a.latent->rope_dim : a.head_dim;
  if (rotary_elements(a) != head) text += fmt::format(" on {} of {} elements", rotary_elements(a), head);
  const kernels::RopeScaling& s = a.rope_scaling;
  if (s.kind == "longrope")
    text += fmt::format(", longrope beyond {:g} positions", s.original_positions);
  else if (s.kind == "linear")
    text += fmt::format(", linear x{:g}", s.factor);
  else if (s.kind != "none")
    text += fmt::format(", {} x{:g} from {:g} positions", s.kind, s.factor, s.original_positions);
  return text;
}

bool weights_of_logits(const moe::RouterConfig& r) { return r.normalise == "softmax"; }

std::string weights_text(const moe::RouterConfig& r) {
  if (r.select == "sparse-mixer") return "the share of each chosen expert among those nearly as good, not renormalised";
  if (weights_of_logits(r)) return fmt::format("softmax over the {} chosen logits (after the choice)", r.top_k);
  if (r.normalise == "sum") return fmt::format("scores of the {} chosen, divided by their sum", r.top_k);
  if (r.normalise == "p-norm")
    return fmt::format("scores of the {} chosen, divided by their {:g}-norm", r.top_k, r.norm_p);
  return "scores of the chosen as they are, not renormalised";
}

}  // namespace

std::string describe(const AttentionConfig& a) {
  std::vector<std::string> parts;
  if (a.latent) {
    const LatentConfig& l = *a.latent;
    parts.push_back(fmt::format("latent attention, {} heads of {} ({} rotated), values {}, latent {}", a.heads,
                                a.head_dim, l.rope_dim, l.value_dim, l.rank));
    if (l.query_rank != 0) parts.back() += fmt::format(", queries of rank {}", l.query_rank);
  } else {
    parts.push_back(fmt::format("attention {} heads, {} kv, {} wide", a.heads, a.kv_heads, a.head_dim));
    if (a.qk_norm) parts.back() += ", q/k norm";
    if (a.qk_norm_whole) parts.back() += ", q/k norm over all heads";
    if (a.qkv_bias || a.output_bias) parts.back() += ", biases";
  }
  parts.push_back(rotary(a));
  if (a.window != 0) parts.push_back(fmt::format("window {}", a.window));
  if (a.sinks) parts.push_back("sinks");
  if (a.clip != 0.0F) parts.push_back(fmt::format("clipped at {:g}", a.clip));
  if (a.softcap != 0.0F) parts.push_back(fmt::format("scores capped at {:g}", a.softcap));
  if (a.scale != 0.0F) parts.push_back(fmt::format("scores times {:.6g}", a.scale));
  return fmt::format("{}", fmt::join(parts, "; "));
}

std::string describe(const moe::MoeConfig& m) {
  const moe::RouterConfig& r = m.router;
  std::string text = fmt::format("{} experts of {} ({}), {} a token; {} {}, weights {}", r.experts, m.expert.hidden,
                                 kernels::activation_name(m.expert.activation), r.top_k, r.score, r.select,
                                 r.normalise == "none" ? "as they are" : "normalised by " + r.normalise);
  if (r.scale != 1.0F) text += fmt::format(", times {:g}", r.scale);
  if (r.selection_bias) text += ", selection bias";
  if (m.shared.hidden > 0)
    text += fmt::format("; shared expert {}{}", m.shared.hidden, m.shared.gated ? " (gated)" : "");
  return text;
}

std::string describe(const LayerConfig& layer) {
  std::string ffn;
  if (layer.dense)
    ffn = fmt::format("dense FFN {} ({})", layer.dense->hidden, kernels::activation_name(layer.dense->activation));
  else
    ffn = describe(*layer.moe);
  return fmt::format("{}; {}{}", describe(layer.attention), ffn, layer.post_norms ? "; norms after each branch" : "");
}

std::vector<RouterStep> describe_routing(const moe::RouterConfig& r) {
  std::vector<RouterStep> steps;
  const std::string logits = r.logits_bias ? "logits with a learned bias" : "logits";
  if (r.score == "logits" || r.select == "sparse-mixer")
    steps.push_back({"score", fmt::format("the {} of {} experts themselves", logits, r.choices())});
  else
    steps.push_back(
        {"score", fmt::format("{} of the {} of all {} experts (before the choice)", r.score, logits, r.choices())});
  if (r.selection_bias)
    steps.push_back({"bias", "a bias is added to the scores for the choice, and is not part of the weights"});
  if (r.select == "group-limited")
    steps.push_back({"groups", fmt::format("{} of {} groups of {} experts are kept, by their {}", r.groups_kept,
                                           r.groups, r.experts / r.groups,
                                           r.group_score == "max"         ? "best expert"
                                           : r.group_score == "top-2-sum" ? "two best experts"
                                                                          : r.group_score)});
  if (r.select == "top-k" || r.select == "group-limited")
    steps.push_back({"selection", fmt::format("the {} largest; the lowest number wins a tie", r.top_k)});
  else
    steps.push_back({"selection", fmt::format("rule {}, {} a token", r.select, r.top_k)});
  steps.push_back({"weights", weights_text(r)});
  steps.push_back({"scale", r.scale == 1.0F ? std::string("none") : fmt::format("weights times {:g}", r.scale)});
  return steps;
}

}  // namespace switchyard::model
