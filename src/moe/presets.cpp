#include "switchyard/moe/presets.hpp"

#include <array>

#include "named_table.hpp"

namespace switchyard::moe {
namespace {

// Softmax over all experts, the K best.
void softmax_top_k(MoeConfig& c, Index k, const char* normalise) {
  c.router.top_k = k;
  c.router.normalise = normalise;
}

// The K best logits, softmax over those.
void top_k_softmax(MoeConfig& c, Index k) {
  c.router.score = "logits";
  c.router.top_k = k;
  c.router.normalise = "softmax";
}

// Sigmoid scores, chosen with a bias that an update per step keeps balanced; weights without it.
void sigmoid_with_bias(MoeConfig& c, Index k, float scale) {
  c.router.score = "sigmoid";
  c.router.top_k = k;
  c.router.normalise = k > 1 ? "sum" : "none";
  c.router.scale = scale;
  c.router.selection_bias = true;
  c.balance.bias_update_rate = 1e-3F;
}

void groups(MoeConfig& c, Index count, Index kept, const char* score) {
  c.router.select = "group-limited";
  c.router.groups = count;
  c.router.groups_kept = kept;
  c.router.group_score = score;
}

void capacity(MoeConfig& c, float factor, float evaluation, Index minimum, const char* formula, const char* drop) {
  c.capacity.factor = factor;
  c.capacity.evaluation_factor = evaluation;
  c.capacity.minimum = minimum;
  c.capacity.formula = formula;
  c.capacity.drop = drop;
}

// Loads by each token's first choice, as GShard's density.
void balance_of_first(MoeConfig& c, float coefficient) {
  c.balance.load_balance = coefficient;
  c.balance.load_balance_counts = "first";
}

// Top-2 with mesh-tensorflow's capacity: factor 1.25 in training, 2 outside, first choices before second ones.
void gshard(MoeConfig& c, const char* second) {
  softmax_top_k(c, 2, "sum");
  c.router.select = "gshard";
  c.router.second = second;
  capacity(c, 1.25F, 2.0F, 4, "mesh", "position-by-rank");
  balance_of_first(c, 0.01F);
}

// Top-2 whose second is taken by noisy logits; weights are made after drops.
void gumbel_second(MoeConfig& c, Index minimum, const char* formula) {
  softmax_top_k(c, 2, "sum");
  c.router.select = "gshard";
  c.router.second = "gumbel";
  capacity(c, 1.0F, 1.0F, minimum, formula, "position-by-rank");
  c.capacity.renormalise = true;
  balance_of_first(c, 0.01F);
}

constexpr std::array kPresets = {
    Preset{"shazeer-2017", "noisy top-4: learned softplus noise, softmax over the chosen, CV^2 losses",
           "Shazeer et al. 2017, arXiv 1701.06538", 0,
           [](MoeConfig& c) {
             top_k_softmax(c, 4);
             c.router.noise = "shazeer";
             c.balance.importance_cv = 0.1F;
             c.balance.load_cv = 0.1F;
           }},
    Preset{"gshard", "top-2, the second at random by its weight, renormalised before drops, groups' capacity",
           "mesh-tensorflow, transformer/moe.py, _top_2_gating", 0, [](MoeConfig& c) { gshard(c, "random"); }},
    Preset{"switch", "top-1 with its probability as weight, jittered router input, capacity 1.25 by position",
           "Fedus et al. 2021, arXiv 2101.03961; transformers, modeling_switch_transformers.py", 0,
           [](MoeConfig& c) {
             softmax_top_k(c, 1, "none");
             c.router.jitter = 0.01F;
             capacity(c, 1.25F, 2.0F, 1, "megatron", "position");
             c.capacity.scope = "sequence";
             balance_of_first(c, 0.01F);
           }},
    Preset{"glam", "top-2 of 64 with GShard's gating, every second expert kept", "Du et al. 2021, arXiv 2112.06905", 64,
           [](MoeConfig& c) { gshard(c, "all"); }},
    Preset{"st-moe", "GShard's top-2 with the router z-loss", "Zoph et al. 2022, arXiv 2202.08906", 32,
           [](MoeConfig& c) {
             gshard(c, "random");
             c.balance.z_loss = 0.001F;
           }},
    Preset{"base-layers", "one expert each by a balanced assignment, weight is a sigmoid",
           "Lewis et al. 2021, arXiv 2103.16716; fairseq, base_layer.py", 0,
           [](MoeConfig& c) {
             c.router.score = "sigmoid";
             c.router.select = "base";
             c.router.top_k = 1;
           }},
    Preset{"hash-layers", "one expert by a fixed random table of token ids, no router to learn",
           "Roller et al. 2021, arXiv 2106.04426; ParlAI", 0,
           [](MoeConfig& c) {
             c.router.select = "hash";
             c.router.top_k = 1;
           }},
    Preset{"expert-choice", "each expert takes its best tokens, twice the even share; not causal",
           "Zhou et al. 2022, arXiv 2202.09368", 0,
           [](MoeConfig& c) {
             c.router.select = "expert-choice";
             c.router.top_k = 2;
           }},
    Preset{"soft-moe", "experts work on mixes of all tokens; nothing chosen or dropped; not causal",
           "Puigcerver et al. 2023, arXiv 2308.00951; google-research/vmoe", 0,
           [](MoeConfig& c) { c.router.select = "soft"; }},
    Preset{"fairscale-top2", "top-2, the second by logits with Gumbel noise, renormalised after drops",
           "fairscale, nn/moe/top2gate.py", 0, [](MoeConfig& c) { gumbel_second(c, 1, "fairscale"); }},
    Preset{"deepspeed-top2", "top-2, the second by logits with Gumbel noise, renormalised after drops",
           "DeepSpeed, moe/sharded_moe.py, top2gating", 0, [](MoeConfig& c) { gumbel_second(c, 8, "deepspeed"); }},
    Preset{"deepspeed-top1", "top-1 by probability, capacity 1.0, random tokens dropped",
           "DeepSpeed, moe/sharded_moe.py, top1gating", 0,
           [](MoeConfig& c) {
             softmax_top_k(c, 1, "none");
             capacity(c, 1.0F, 1.0F, 8, "deepspeed", "random");
             c.balance.load_balance = 0.01F;
           }},
    Preset{"deepspeed-topk", "softmax, top-k, drops by probability, renormalised after",
           "DeepSpeed, moe/sharded_moe.py, topkgating", 0,
           [](MoeConfig& c) {
             softmax_top_k(c, 2, "sum");
             capacity(c, 1.0F, 1.0F, 8, "deepspeed", "probs");
             c.capacity.renormalise = true;
             c.balance.load_balance = 0.01F;
           }},
    Preset{"tutel", "softmax, top-2, renormalised, first choices keep their place before second ones",
           "Tutel, impls/fast_dispatch.py, extract_critical", 0,
           [](MoeConfig& c) {
             softmax_top_k(c, 2, "sum");
             capacity(c, 1.0F, 1.0F, 1, "tutel", "position-by-rank");
             balance_of_first(c, 0.01F);
           }},
    Preset{"megablocks-dmoe", "softmax, top-1, dropless", "MegaBlocks, layers/router.py and dmoe.py", 0,
           [](MoeConfig& c) {
             softmax_top_k(c, 1, "none");
             c.balance.load_balance = 0.1F;
           }},
    Preset{"megatron", "top-2 of the logits, softmax over those, dropless", "Megatron-LM, moe_utils.py", 0,
           [](MoeConfig& c) {
             top_k_softmax(c, 2);
             c.balance.load_balance = 0.01F;
           }},
    // transformers leaves f undivided by K: its loss is K times ours.
    Preset{"mixtral", "softmax, top-2, divided by their sum", "transformers, modeling_mixtral.py", 8,
           [](MoeConfig& c) {
             softmax_top_k(c, 2, "sum");
             c.balance.load_balance = 0.02F * 2.0F;
           }},
    Preset{"grok-1", "softmax, top-2, not renormalised", "xai-org/grok-1, model.py", 8,
           [](MoeConfig& c) { softmax_top_k(c, 2, "none"); }},
    Preset{"dbrx", "softmax, top-4 of 16, divided by their 1-norm", "transformers, modeling_dbrx.py", 16,
           [](MoeConfig& c) {
             softmax_top_k(c, 4, "p-norm");
             c.router.norm_p = 1.0F;
             c.balance.load_balance = 0.01F * 4.0F;
           }},
    Preset{"qwen2-moe", "softmax, top-4 of 60, not renormalised; a gated shared expert beside it",
           "transformers, modeling_qwen2_moe.py", 60,
           [](MoeConfig& c) {
             softmax_top_k(c, 4, "none");
             c.balance.load_balance = 0.001F * 4.0F;
           }},
    Preset{"qwen3-moe", "softmax, top-8 of 128, divided by their sum", "transformers, modeling_qwen3_moe.py", 128,
           [](MoeConfig& c) {
             softmax_top_k(c, 8, "sum");
             c.balance.load_balance = 0.001F * 8.0F;
           }},
    Preset{"olmoe", "softmax, top-8 of 64, not renormalised, dropless, z-loss",
           "Muennighoff et al. 2024, arXiv 2409.02060; transformers, modeling_olmoe.py", 64,
           [](MoeConfig& c) {
             softmax_top_k(c, 8, "none");
             c.balance.load_balance = 0.01F;
             c.balance.z_loss = 0.001F;
           }},
    Preset{"jetmoe", "top-2 of the logits, softmax over those", "transformers, modeling_jetmoe.py", 8,
           [](MoeConfig& c) {
             top_k_softmax(c, 2);
             c.balance.load_balance = 0.01F * 2.0F;
           }},
    Preset{"phi-3.5-moe", "SparseMixer-v2: two masked samples of experts, each with its masked probability",
           "transformers, modeling_phimoe.py; arXiv 2409.12136", 16,
           [](MoeConfig& c) {
             c.router.select = "sparse-mixer";
             c.router.top_k = 2;
             c.router.threshold = 0.01F;
             c.router.jitter = 0.01F;
             c.router.jitter_on = "layer";
           }},
    Preset{"deepseek-moe", "softmax, top-6 of 64 fine-grained experts, not renormalised; shared experts beside them",
           "Dai et al. 2024, arXiv 2401.06066; modeling_deepseek.py of DeepSeekMoE-16B", 64,
           [](MoeConfig& c) {
             softmax_top_k(c, 6, "none");
             c.balance.load_balance = 0.001F;
             c.balance.load_balance_scope = "sequence";
           }},
    Preset{"deepseek-v2", "softmax, 3 of 8 groups by their best expert, top-6, times 16, device losses",
           "arXiv 2405.04434; modeling_deepseek.py of DeepSeek-V2", 160,
           [](MoeConfig& c) {
             softmax_top_k(c, 6, "none");
             groups(c, 8, 3, "max");
             c.router.scale = 16.0F;
             c.balance.load_balance = 0.003F;
             c.balance.load_balance_scope = "sequence";
             c.balance.device = 0.05F;
             c.balance.communication = 0.02F;
             c.balance.devices = 8;
           }},
    Preset{"deepseek-v3",
           "sigmoid, 4 of 8 groups by their two best biased scores, top-8, divided by the sum, times 2.5",
           "arXiv 2412.19437; inference/model.py of DeepSeek-V3", 256,
           [](MoeConfig& c) {
             sigmoid_with_bias(c, 8, 2.5F);
             groups(c, 8, 4, "top-2-sum");
             c.balance.load_balance = 1e-4F;
             c.balance.load_balance_scope = "sequence";
           }},
    Preset{"kimi-k2", "DeepSeek-V3's router with one group, times 2.827", "config.json of Kimi-K2-Instruct", 384,
           [](MoeConfig& c) {
             sigmoid_with_bias(c, 8, 2.827F);
             c.balance.load_balance = 0.001F;
             c.balance.load_balance_scope = "sequence";
           }},
    Preset{"moonlight", "DeepSeek-V3's router with one group, top-6, times 2.446", "config.json of Moonlight-16B-A3B",
           64,
           [](MoeConfig& c) {
             sigmoid_with_bias(c, 6, 2.446F);
             c.balance.load_balance = 1e-4F;
             c.balance.load_balance_scope = "sequence";
             c.balance.bias_centre = true;
           }},
    Preset{"gpt-oss", "biased logits, top-4, softmax over those", "transformers, modeling_gpt_oss.py", 128,
           [](MoeConfig& c) {
             top_k_softmax(c, 4);
             c.router.logits_bias = true;
             c.balance.load_balance = 0.9F * 4.0F;
           }},
    Preset{"longcat", "softmax over 512 experts and 256 copies of the input, top-12 by biased score, times 6",
           "modeling_longcat_flash.py of LongCat-Flash-Chat", 512,
           [](MoeConfig& c) {
             softmax_top_k(c, 12, "none");
             c.router.selection_bias = true;
             c.router.scale = 6.0F;
             c.router.copy_experts = 256;
             c.balance.bias_update_rate = 1e-3F;
           }},
    Preset{"moe++", "top-2 with a zero, a copy and two constant experts", "Jin et al. 2024, arXiv 2410.07348", 8,
           [](MoeConfig& c) {
             softmax_top_k(c, 2, "sum");
             c.router.zero_experts = 1;
             c.router.copy_experts = 1;
             c.router.constant_experts = 2;
             c.router.residual = true;
             c.balance.load_balance = 0.01F;
           }},
    Preset{"dynamic-top-p", "as many experts as it takes to pass 40% of the probability; entropy loss",
           "Huang et al. 2024, arXiv 2403.07652", 16,
           [](MoeConfig& c) {
             c.router.select = "top-p";
             c.router.threshold = 0.4F;
             c.router.top_k = 16;
             c.balance.load_balance = 0.01F;
             c.balance.entropy = 1e-4F;
           }},
};

}  // namespace

std::span<const Preset> presets() { return kPresets; }

const Preset& find_preset(std::string_view name) { return require_row(presets(), name, "router preset"); }

void apply_preset(const Preset& preset, MoeConfig& config) {
  const Index experts = config.router.experts;
  config.router = {};
  config.router.experts = experts;
  config.capacity = {};
  config.balance = {};
  preset.apply(config);
}

}  // namespace switchyard::moe
