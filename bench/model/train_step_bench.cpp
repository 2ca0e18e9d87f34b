// One training step without the optimiser: forward, loss, backward. Times are in milliseconds; the argument is the
// number of threads. "Tiny" is nanoGPT's recipe for a CPU: 4 layers, width 128, 12 sequences of 64 tokens, 65
// characters. The MoE variant spends the same on a token: 8 experts, 2 active, each half as wide.

#include <benchmark/benchmark.h>

#include <memory>
#include <vector>

#include "switchyard/base/parallel.hpp"
#include "switchyard/model/transformer.hpp"

namespace switchyard::model {
namespace {

constexpr Index kWidth = 128, kBatch = 12, kSequence = 64, kVocab = 65, kHidden = 344;

ModelConfig tiny(bool with_moe) {
  LayerConfig layer;
  layer.attention.heads = layer.attention.kv_heads = 4;
  layer.attention.head_dim = kWidth / 4;
  if (with_moe) {
    layer.moe.emplace();
    layer.moe->router.experts = 8;
    layer.moe->router.top_k = 2;
    layer.moe->expert.hidden = kHidden / 2;
    layer.moe->balance.load_balance = 0.01F;
  } else {
    layer.dense = DenseFfnConfig{kHidden, kernels::Activation::kSwiGLU};
  }
  ModelConfig config;
  config.vocab = kVocab;
  config.width = kWidth;
  config.max_positions = kSequence;
  config.tied_embeddings = true;
  config.layers.assign(4, layer);
  return config;
}

std::vector<std::int32_t> random_ids(std::uint32_t seed) {
  const RandomStream stream(seed, RandomPurpose::kTest);
  std::vector<std::int32_t> ids(kBatch * kSequence);
  for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<std::int32_t>(stream.below(i, kVocab));
  return ids;
}

void train_step(benchmark::State& state, bool with_moe, bool recompute) {
  ThreadArena arena(static_cast<int>(state.range(0)));
  Transformer transformer(tiny(with_moe));
  transformer.initialize({}, 1);
  const std::vector<std::int32_t> ids = random_ids(1), targets = random_ids(2);
  const auto step = [&] {
    autograd::Tape tape;
    ForwardCall call;
    call.tape = &tape;
    call.batch = kBatch;
    call.sequence = kSequence;
    call.training = true;
    call.recompute = recompute;
    const ForwardResult result = transformer.forward(ids, call);
    std::vector<autograd::Value> terms = result.router_losses;
    terms.push_back(transformer.loss(&tape, result.hidden_TD, targets));
    tape.backward(autograd::sum_scalars(&tape, terms));
  };
  arena.run(step);
  reset_tensor_memory_peak();
  const Index held = tensor_memory().current_bytes;
  for (auto _ : state) arena.run(step);
  state.counters["tokens/s"] =
      benchmark::Counter(static_cast<double>(state.iterations() * kBatch * kSequence), benchmark::Counter::kIsRate);
  state.counters["activations_MiB"] = static_cast<double>(tensor_memory().peak_bytes - held) / 0x1.0p20;
}

void BM_TrainStepTinyDense(benchmark::State& state) { train_step(state, false, false); }
void BM_TrainStepTinyMoe(benchmark::State& state) { train_step(state, true, false); }
void BM_TrainStepTinyDenseRecomputed(benchmark::State& state) { train_step(state, false, true); }

// One token from a cache of 64 positions, as generation does it.
void decode(benchmark::State& state, bool with_moe) {
  ThreadArena arena(static_cast<int>(state.range(0)));
  ModelConfig config = tiny(with_moe);
  Transformer transformer(config);
  transformer.initialize({}, 1);
  const std::vector<std::int32_t> ids = random_ids(1);
  KvCache cache(config, kSequence);
  const auto token = [&] {
    if (cache.length() == kSequence) cache.truncate(kSequence / 2);
    ForwardCall call;
    call.sequence = 1;
    call.cache = &cache;
    const ForwardResult result =
        transformer.forward(std::span(ids).subspan(static_cast<std::size_t>(cache.length()), 1), call);
    benchmark::DoNotOptimize(transformer.logits(result.hidden_TD.matrix()).bytes().data());
  };
  for (auto _ : state) arena.run(token);
}

void BM_DecodeTinyDense(benchmark::State& state) { decode(state, false); }
void BM_DecodeTinyMoe(benchmark::State& state) { decode(state, true); }

BENCHMARK(BM_TrainStepTinyDense)->Arg(1)->Arg(2)->Unit(benchmark::kMillisecond)->UseRealTime();
BENCHMARK(BM_TrainStepTinyMoe)->Arg(1)->Arg(2)->Unit(benchmark::kMillisecond)->UseRealTime();
BENCHMARK(BM_TrainStepTinyDenseRecomputed)->Arg(2)->Unit(benchmark::kMillisecond)->UseRealTime();
BENCHMARK(BM_DecodeTinyDense)->Arg(1)->Arg(2)->Unit(benchmark::kMicrosecond)->UseRealTime();
BENCHMARK(BM_DecodeTinyMoe)->Arg(1)->Arg(2)->Unit(benchmark::kMicrosecond)->UseRealTime();

}  // namespace
}  // namespace switchyard::model
