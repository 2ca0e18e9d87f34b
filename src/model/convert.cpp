#include "switchyard/model/convert.hpp"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "families/native_schema.hpp"
#include "gguf/gguf_config.hpp"
#include "gguf/gguf_tokenizer.hpp"
#include "load_plan.hpp"
#include "repack.hpp"
#include "switchyard/base/atomic_file.hpp"
#include "switchyard/formats/safetensors.hpp"
#include "switchyard/model/model_folder.hpp"
#include "weight_files.hpp"

namespace switchyard::model {
namespace {

namespace fs = std::filesystem;
using formats::DeferredTensor;
using formats::GgufMetadata;
using formats::TensorFiles;
using Json = nlohmann::ordered_json;

// What is converted.
struct Source {
  // prediction: with the first layer for multi-token prediction, if `from` has one.
  Source(const fs::path& from, const std::function<bool(const Family&)>& prediction)
      : path(from),
        files(TensorFiles::open(from)),
        read(config_of(from, files, prediction)),
        rows(parameter_table(read.config)),
        weights(files, read.scale_block, true),
        plan(plan_load(read, rows, files, weights)) {
    require(plan.size() == rows.size(), "{}: a parameter without a place", from.string());
    tokenizer = files.gguf() != nullptr ? gguf_tokenizer_files(*files.gguf(), read.text) : text::tokenizer_files(from);
  }

  static FolderConfig config_of(const fs::path& from, const TensorFiles& files,
                                const std::function<bool(const Family&)>& prediction) {
    FolderConfig read = files.gguf() != nullptr ? read_gguf_config(files) : read_folder_config(from);
    if (has_prediction(read, files) && prediction(*read.family)) add_prediction(read, files, from);
    return read;
  }

  fs::path path;
  TensorFiles files;
  FolderConfig read;
  std::vector<ParameterRow> rows;
  WeightFiles weights;
  std::vector<PlannedParameter> plan;
  text::NamedFiles tokenizer;
};

// A part of a tensor that is written, and the matrix that it is a part of.
struct Part {
  std::size_t row = 0, matrix = 0;
  TensorPlace place;
};

struct Target {
  std::string name;
  Shape shape;
  bool matrix = false;  // one whose type may be chosen
  std::vector<Part> parts;
};

// The tensors of a scheme, in the order of the first parameters that lie in them.
std::vector<Target> targets_of(const Source& source, const TensorScheme& scheme) {
  const TensorNames names(scheme, source.rows);
  std::vector<Target> targets;
  std::map<std::string, std::size_t> index;
  for (const PlannedParameter& planned : source.plan) {
    const ParameterRow& row = source.rows[planned.row];
    const TensorRule* rule = names.rule_to_write(row);
    require(rule != nullptr, "nothing names {}", row.name);
    const std::vector<MatrixPlaces> matrices = names.places(*rule, row);
    for (std::size_t m = 0; m < matrices.size(); ++m) {
      for (const TensorPlace& place : matrices[m]) {
        const auto [at, is_new] = index.emplace(place.name, targets.size());
        if (is_new) targets.push_back({place.name, place.shape, is_chosen(row), {}});
        targets[at->second].parts.push_back({planned.row, m, place});
      }
    }
  }
  return targets;
}

class Converter {
 public:
  Converter(Source& source, const ConvertOptions& options, bool gguf)
      : source_(source), options_(options), gguf_(gguf) {
    for (const PlannedParameter& planned : source.plan) matrices_[planned.row] = &planned.matrices;
  }

  void add(const Target& target) {
    if (!gguf_ && target.matrix && !options_.type && all_mxfp4(target) && source_.read.family->model_type == "gpt_oss")
      return add_mxfp4(target);
    const DType dtype = type_for(target);
    add({target.name, dtype, target.shape, [this, target, dtype] { return make(target, dtype); }},
        static_cast<std::uint64_t>(dtype_bytes(dtype, target.shape.numel())));
  }

  void add(const std::string& name, const std::vector<float>& numbers) {
    const Shape shape({static_cast<Index>(numbers.size())});
    add({name, DType::kF32, shape,
         [shape, numbers] {
           Tensor tensor = Tensor::uninitialized(DType::kF32, shape);
           std::copy(numbers.begin(), numbers.end(), tensor.f32().begin());
           return tensor;
         }},
        numbers.size() * sizeof(float));
  }

  const std::vector<DeferredTensor>& tensors() const { return tensors_; }
  std::uint64_t bytes() const { return bytes_; }
  bool wrote_mxfp4() const { return wrote_mxfp4_; }
  // The type that most bytes have.
  DType main_type() const {
    const auto most = std::max_element(of_type_.begin(), of_type_.end(),
                                       [](const auto& a, const auto& b) { return a.second < b.second; });
    return most == of_type_.end() ? DType::kF32 : most->first;
  }
  std::vector<std::string> notes() const {
    std::vector<std::string> notes;
    for (const auto& [types, count] : changed_)
      notes.push_back(fmt::format("{} tensor{} of {} became {}", count, count == 1 ? "" : "s",
                                  dtype_info(types.first).name, dtype_info(types.second).name));
    return notes;
  }

 private:
  void add(DeferredTensor tensor, std::uint64_t bytes) {
    tensor.make = [this, make = std::move(tensor.make), bytes] {
      Tensor made = make();
      done_ += bytes;
      if (options_.progress) options_.progress(done_, bytes_);
      return made;
    };
    bytes_ += bytes;
    of_type_[tensor.dtype] += bytes;
    tensors_.push_back(std::move(tensor));
  }

  const MatrixPlaces& places(const Part& part) const { return (*matrices_.at(part.row))[part.matrix]; }
  DType type_of(const Part& part) const { return source_.weights.type_of(places(part)); }

  bool all_mxfp4(const Target& target) const {
    return std::all_of(target.parts.begin(), target.parts.end(), [&](const Part& part) {
      const DType type = type_of(part);
      return type == DType::kF4 || type == DType::kMXFP4;
    });
  }

  // Whether the new files can have a type, and its blocks stay whole where the matrix lies in them.
  bool can_keep(const Target& target, DType type) const {
    if (type == DType::kF32 || type == DType::kF16 || type == DType::kBF16) return true;
    if (!gguf_) return false;
    const bool rows =
        std::none_of(target.parts.begin(), target.parts.end(), [](const Part& part) { return part.place.transposed; });
    return rows && dtype_info(type).is_quantised && formats::gguf_tensor_type(type).has_value();
  }

  DType type_for(const Target& target) {
    DType common = type_of(target.parts.front());
    bool same = true, floats = true;
    for (const Part& part : target.parts) {
      const DType type = type_of(part);
      same = same && type == common;
      floats = floats && (type == DType::kF32 || type == DType::kF16 || type == DType::kBF16 || type == DType::kF64);
    }
    // The types of folders' MXFP4.
    const bool scaled_fp8 = common == DType::kF8E4M3 || common == DType::kF8E5M2;
    if (common == DType::kF4) common = DType::kMXFP4;
    if (!target.matrix) {
      const bool kept = !gguf_ && same && can_keep(target, common);
      return kept ? common : DType::kF32;
    }
    if (options_.type) {
      if (*options_.type != DType::kQ80 || can_keep_blocks(target)) return *options_.type;
      ++changed_[{common, DType::kF16}];
      return DType::kF16;
    }
    if (same && !scaled_fp8 && can_keep(target, common)) return common;
    const DType type = floats ? DType::kF32 : DType::kBF16;
    ++changed_[{common, type}];
    return type;
  }

  static bool can_keep_blocks(const Target& target) {
    const Index block = dtype_info(DType::kQ80).block_elements;
    return std::all_of(target.parts.begin(), target.parts.end(), [&](const Part& part) {
      const Index length = part.place.transposed ? part.place.rows : part.place.cols;
      return part.place.file_cols % block == 0 && part.place.first_col % block == 0 && length % block == 0;
    });
  }

  // One matrix after the other: parts of the same stand side by side.
  template <class Use>
  void each_part(const Target& target, const Use& use) const {
    WeightFiles::Taken taken;
    const Part* last = nullptr;
    for (const Part& part : target.parts) {
      if (last == nullptr || last->row != part.row || last->matrix != part.matrix) {
        if (last != nullptr) source_.weights.release(places(*last));
        taken = source_.weights.take(places(part));
        last = &part;
      }
      use(taken.view, part.place);
    }
    source_.weights.release(places(*last));
  }

  Tensor make(const Target& target, DType dtype) const {
    Tensor tensor = Tensor::uninitialized(dtype, target.shape);
    try {
      each_part(target, [&](const WeightView& weight, const TensorPlace& place) {
        put(weight, place, dtype, tensor.mutable_bytes());
      });
    } catch (const Error& error) {
      fail(error.kind(), "{}: tensor {}: {}", source_.path.string(), target.name, error.what());
    }
    return tensor;
  }

  // gpt-oss as it was published: the bytes of blocks and their scales as two tensors, never transposed.
  void add_mxfp4(const Target& target) {
    wrote_mxfp4_ = true;
    constexpr Index kBlock = 32, kBytes = 16;
    const TensorPlace& first = target.parts.front().place;
    const Index rows = first.transposed ? first.file_cols : first.file_rows;
    const Index cols = first.transposed ? first.file_rows : first.file_cols;
    const Shape scales({first.matrices, rows, cols / kBlock});
    const Shape blocks({first.matrices, rows, cols / kBlock, kBytes});
    const auto half = [this, target, rows, cols](bool want_blocks, const Shape& shape) {
      Tensor tensor = Tensor::uninitialized(DType::kU8, shape);
      const Index row_bytes = want_blocks ? cols / 2 : cols / kBlock;
      std::vector<std::byte> other(static_cast<std::size_t>(cols / 2));
      each_part(target, [&](const WeightView& weight, const TensorPlace& place) {
        const Index begin = place.transposed ? place.first_col : place.first_row;
        for (Index r = 0; r < place.rows; ++r) {
          const Index row = place.matrix * rows + begin + r * place.step;
          std::byte* to = tensor.mutable_bytes().data() + row * row_bytes;
          split_mxfp4_row(weight, place.begin + r, want_blocks ? to : other.data(), want_blocks ? other.data() : to);
        }
      });
      return tensor;
    };
    add({target.name + "_blocks", DType::kU8, blocks, [half, blocks] { return half(true, blocks); }},
        static_cast<std::uint64_t>(blocks.numel()));
    add({target.name + "_scales", DType::kU8, scales, [half, scales] { return half(false, scales); }},
        static_cast<std::uint64_t>(scales.numel()));
  }

  Source& source_;
  const ConvertOptions& options_;
  bool gguf_;
  std::map<std::size_t, const std::vector<MatrixPlaces>*> matrices_;  // by row
  std::vector<DeferredTensor> tensors_;
  std::map<DType, std::uint64_t> of_type_;
  std::map<std::pair<DType, DType>, int> changed_;
  std::uint64_t bytes_ = 0, done_ = 0;
  bool wrote_mxfp4_ = false;
};

void check_paths(const fs::path& from, const fs::path& to) {
  const fs::path source = fs::weakly_canonical(from), target = fs::weakly_canonical(to);
  const auto mismatch = std::mismatch(target.begin(), target.end(), source.begin(), source.end());
  if (mismatch.first == target.end())
    fail(ErrorKind::kUsage, "{}: is or holds what is converted, {}", to.string(), from.string());
}

// general.file_type: what most of the file is, for people.
std::uint32_t file_type(DType dtype) {
  constexpr std::pair<DType, std::uint32_t> kTypes[] = {
      {DType::kF32, 0},  {DType::kF16, 1},    {DType::kBF16, 32},  {DType::kQ80, 7},
      {DType::kQ40, 2},  {DType::kQ41, 3},    {DType::kQ50, 8},    {DType::kQ51, 9},
      {DType::kQ2K, 10}, {DType::kQ3K, 12},   {DType::kQ4K, 15},   {DType::kQ5K, 17},
      {DType::kQ6K, 18}, {DType::kIQ4NL, 25}, {DType::kIQ4XS, 30}, {DType::kMXFP4, 38}};
  for (const auto& [type, number] : kTypes) {
    if (type == dtype) return number;
  }
  return 0;
}

std::string torch_name(DType dtype) {
  return dtype == DType::kF16 ? "float16" : dtype == DType::kF32 ? "float32" : "bfloat16";
}

// The config.json of the new files: the old one without what is not so any more.
Json new_config(const FolderConfig& read, std::vector<std::string>& notes) {
  Json json = Json::parse(read.text);
  json.erase(kQuantisationKey);
  const Index kept = read.config.prediction ? 1 : 0;
  if (json.contains(kPredictionLayersKey) || kept > 0) json[kPredictionLayersKey] = kept;
  if (kept == 0 && read.prediction_layers > 0) notes.push_back("layers for multi-token prediction are left out");
  if (kept > 0 && read.prediction_layers > kept)
    notes.push_back("of the layers for multi-token prediction only the first is kept");
  return json;
}

// What a family would write for a model that came without a config.json of its own.
Json family_config(const FolderConfig& read) {
  const Json said = Json::parse(read.text);
  Json json = published_config(*read.family, read.config);
  const FolderConfig again = read_config(formats::JsonConfig::parse(json.dump(), "config.json"));
  return config_difference(read.config, again.config).empty() ? json : said;
}

void name_special_tokens(const text::NamedFiles& files, Json& config) {
  if (files.empty()) return;
  const auto tokenizer = text::load_tokenizer(files, "tokenizer");
  if (!tokenizer) return;
  config["bos_token_id"] = tokenizer->bos_id() ? Json(*tokenizer->bos_id()) : Json();
  const auto ends = tokenizer->end_ids();
  config["eos_token_id"] = ends.empty() ? Json() : ends.size() == 1 ? Json(ends.front()) : Json(ends);
}

bool takes_own_form(const Family& family, const ConvertOptions& options) {
  return options.own_architecture || family.tensors.empty();
}

GgufForm form_for(const Source& source, const ConvertOptions& options) {
  if (takes_own_form(*source.read.family, options)) return own_gguf_form(source.read);
  try {
    return gguf_form(source.read, source.rows);
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kUnsupported) throw;
    fail(ErrorKind::kUnsupported,
         "{}: {}. --own-architecture writes the model whole, in a form that no other program reads",
         source.path.string(), error.what());
  }
}

}  // namespace

Converted convert_to_gguf(const fs::path& from, const fs::path& to, const ConvertOptions& options) {
  check_paths(from, to);
  Source source(
      from, [&](const Family& family) { return !takes_own_form(family, options) && gguf_holds_prediction(family); });
  Converted result;
  result.model_type = source.read.family->model_type;
  GgufForm form = form_for(source, options);
  GgufMetadata& metadata = form.metadata;
  result.architecture = metadata.string("general.architecture");
  Converter converter(source, options, true);
  for (const auto& [name, numbers] : form.tensors) converter.add(name, numbers);
  for (const Target& target : targets_of(source, form.scheme)) converter.add(target);

  const fs::path absolute = fs::absolute(from).lexically_normal();
  metadata.set("general.type", std::string("model"));
  metadata.set("general.name", (absolute.has_filename() ? absolute : absolute.parent_path()).stem().string());
  metadata.set("general.file_type", file_type(converter.main_type()));
  metadata.set("general.quantization_version", std::uint32_t{2});
  metadata.set(kConfigKey, new_config(source.read, result.notes).dump());
  text::NamedFiles with_config = source.tokenizer;
  with_config.emplace_back(kConfigFile, source.read.text);
  text::GgufVocabularyOf tokens =
      text::gguf_vocabulary(with_config, from.string(), source.read.config.vocab, options.pre);
  add_gguf_vocabulary(tokens.vocabulary, metadata);
  add_tokenizer_files(source.tokenizer, metadata);
  if (!tokens.note.empty()) result.notes.push_back(std::move(tokens.note));

  result.files = formats::write_gguf(to, metadata, converter.tensors(), options.max_part_bytes);
  result.tensors = converter.tensors().size();
  result.bytes = converter.bytes();
  for (std::string& note : converter.notes()) result.notes.push_back(std::move(note));
  return result;
}

Converted convert_to_folder(const fs::path& from, const fs::path& to, const ConvertOptions& options) {
  if (options.type == DType::kQ80)
    fail(ErrorKind::kUsage, "--type q8_0: {} is a folder, and safetensors has no such type", to.string());
  check_paths(from, to);
  Source source(from, [](const Family& family) { return has_prediction_names(family.scheme()); });
  Converted result;
  result.model_type = source.read.family->model_type;
  Converter converter(source, options, false);
  for (const Target& target : targets_of(source, source.read.family->scheme())) converter.add(target);

  Json config = source.read.translated ? family_config(source.read) : new_config(source.read, result.notes);
  if (source.read.translated) name_special_tokens(source.tokenizer, config);
  config[config.contains("dtype") ? "dtype" : "torch_dtype"] = torch_name(converter.main_type());
  if (converter.wrote_mxfp4())
    config[kQuantisationKey] = {
        {"quant_method", "mxfp4"},
        {"modules_to_not_convert",
         {"model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"}}};
  AtomicDirectory folder(to);
  formats::write_safetensors_sharded(folder.path(), std::span<const DeferredTensor>(converter.tensors()),
                                     {{"format", "pt"}}, std::min(options.max_part_bytes, kMaxShardBytes));
  for (const auto& [name, content] : source.tokenizer) write_file_atomically(folder.path() / name, content);
  write_file_atomically(folder.path() / kConfigFile, config.dump(2) + "\n");
  for (const auto& entry : fs::directory_iterator(folder.path())) {
    if (entry.path().extension() == ".safetensors") result.files.push_back(to / entry.path().filename());
  }
  std::sort(result.files.begin(), result.files.end());
  folder.commit();
  result.tensors = converter.tensors().size();
  result.bytes = converter.bytes();
  for (std::string& note : converter.notes()) result.notes.push_back(std::move(note));
  return result;
}

}  // namespace switchyard::model
