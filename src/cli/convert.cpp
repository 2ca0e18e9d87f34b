#include "switchyard/model/convert.hpp"

#include <fmt/format.h>

#include <charconv>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "command.hpp"
#include "switchyard/base/error.hpp"
#include "switchyard/base/parallel.hpp"
#include "switchyard/base/progress.hpp"
#include "switchyard/model/model_folder.hpp"

namespace switchyard::cli {
namespace {

namespace fs = std::filesystem;

struct Options {
  std::string in, out, type = "keep", split_size;
  bool force = false, own_architecture = false, json = false;
  std::string pre;
  int threads = 0;
};

std::optional<DType> type_named(const std::string& name) {
  constexpr std::pair<const char*, DType> kTypes[] = {
      {"f32", DType::kF32}, {"f16", DType::kF16}, {"bf16", DType::kBF16}, {"q8_0", DType::kQ80}};
  for (const auto& [known, type] : kTypes) {
    if (name == known) return type;
  }
  return std::nullopt;
}

// "4G", "500M": decimal, as disks are sold and other tools cut.
std::size_t parse_size(const std::string& text) {
  std::uint64_t number = 0;
  const char* const end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, number);
  const std::string_view unit(rest, static_cast<std::size_t>(end - rest));
  std::uint64_t factor = 0;
  if (unit.empty()) factor = 1;
  if (unit == "K" || unit == "k") factor = 1000;
  if (unit == "M") factor = 1000 * 1000;
  if (unit == "G") factor = 1000 * 1000 * 1000;
  std::uint64_t bytes = 0;
  if (error != std::errc() || factor == 0 || number == 0 || __builtin_mul_overflow(number, factor, &bytes))
    fail(ErrorKind::kUsage, "--split-size {}: expected a number of bytes above 0 with K, M or G, such as 4G", text);
  return bytes;
}

// What stands where the result would go: the path itself, or parts of a split file of that name.
std::optional<fs::path> in_the_way(const fs::path& out, bool gguf) {
  if (fs::exists(fs::symlink_status(out))) return out;
  const fs::path folder = out.has_parent_path() ? out.parent_path() : fs::path(".");
  if (!gguf || !fs::is_directory(folder)) return std::nullopt;
  const std::string stem = out.stem().string() + "-00001-of-";
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with(stem) && name.ends_with(".gguf")) return entry.path();
  }
  return std::nullopt;
}

void print(const model::Converted& done, const Options& options) {
  fmt::print("{} ({}{}): {} tensors, {} in {} file{}\n", options.out, done.model_type,
             done.architecture.empty() ? "" : ", GGUF architecture " + done.architecture, done.tensors,
             format_bytes(done.bytes), done.files.size(), done.files.size() == 1 ? "" : "s");
  if (done.files.size() > 1) {
    for (const fs::path& file : done.files) fmt::print("  {}\n", file.string());
  }
  for (const std::string& note : done.notes) fmt::print("  note: {}\n", note);
}

void print_json(const model::Converted& done, const Options& options) {
  nlohmann::ordered_json json;
  json["out"] = options.out;
  json["model_type"] = done.model_type;
  json["architecture"] = done.architecture.empty() ? nlohmann::json() : nlohmann::json(done.architecture);
  json["tensors"] = done.tensors;
  json["bytes"] = done.bytes;
  json["files"] = nlohmann::json::array();
  for (const fs::path& file : done.files) json["files"].push_back(file.string());
  json["notes"] = done.notes;
  fmt::print("{}\n", json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
}

void run(const Options& options) {
  fs::path out(options.out);
  if (!out.has_filename()) out = out.parent_path();  // "folder/"
  const bool gguf = out.extension() == ".gguf";
  if (!options.force) {
    if (const auto there = in_the_way(out, gguf))
      fail(ErrorKind::kBadInput, "{}: is there already; --force replaces it", there->string());
  }
  if (fs::is_directory(out) && gguf)
    fail(ErrorKind::kBadInput, "{}: is a folder, expected the name of a file to write", out.string());
  if (fs::exists(out) && !fs::is_directory(out) && !gguf)
    fail(ErrorKind::kBadInput, "{}: is a file, expected the name of a folder, or one that ends in .gguf", out.string());
  model::ConvertOptions how;
  how.type = type_named(options.type);
  if (!options.split_size.empty()) how.max_part_bytes = parse_size(options.split_size);
  how.own_architecture = options.own_architecture;
  how.pre = options.pre;
  std::unique_ptr<ProgressLine> line;
  how.progress = [&](std::uint64_t done, std::uint64_t bytes) {
    if (!line) line = std::make_unique<ProgressLine>("writing", bytes);
    line->update(done);
  };
  const fs::path in = model::find_model_folder(options.in);
  const model::Converted done = gguf ? model::convert_to_gguf(in, out, how) : model::convert_to_folder(in, out, how);
  line.reset();
  if (options.json)
    print_json(done, options);
  else
    print(done, options);
}

}  // namespace

void add_convert(CLI::App& program, Action& action) {
  auto options = std::make_shared<Options>();
  CLI::App* command =
      program.add_subcommand("convert", "Turn a Hugging Face folder into a GGUF file, or the other way");
  command->add_option("in", options->in, "A model folder, a GGUF file (of a split one any part), or a training run")
      ->required();
  command->add_option("out", options->out, "NAME.gguf, or the name of a folder to make")->required();
  command
      ->add_option(
          "--type", options->type,
          "Type of the matrices: keep, f32, f16, bf16, or for GGUF q8_0. Norms, biases and routers stay float32")
      ->check(CLI::IsMember({"keep", "f32", "f16", "bf16", "q8_0"}))
      ->capture_default_str();
  command->add_option("--split-size", options->split_size, "Cut into files of at most this many bytes: 500M, 4G");
  command->add_flag("--force", options->force, "Replace what is there");
  command->add_flag("--own-architecture", options->own_architecture,
                    "GGUF that holds any model of this program, but that no other program reads");
  command->add_option("--pre", options->pre,
                      "GGUF's name for how the tokenizer cuts text, where it is not found by itself");
  add_threads(*command, options->threads);
  add_json(*command, options->json);
  command->footer(
      "\nExamples:\n"
      "  switchyard convert runs/mine mine.gguf                       a model trained here, for other programs too\n"
      "  switchyard convert Mixtral-8x7B m.gguf --type q8_0           eight bits a weight\n"
      "  switchyard convert m-00001-of-00003.gguf folder --type bf16  back to a folder for transformers\n"
      "\n"
      "The tokenizer and the chat template go along. With --type keep a type that the new files do not have becomes\n"
      "bf16: FP8 in GGUF, and GGUF's quantised types in a folder. What the keys of GGUF cannot say of a model is "
      "refused\n"
      "and named; --own-architecture writes it nevertheless.\n");
  command->callback(
      [options, &action] { action = [options] { ThreadArena(options->threads).run([&] { run(*options); }); }; });
}

}  // namespace switchyard::cli
