// Lab files: what they say, and the recipes that they come to.

#include <algorithm>

#include "recipe_keys.hpp"
#include "switchyard/base/atomic_file.hpp"
#include "switchyard/train/lab.hpp"
#include "toml_tables.hpp"

namespace switchyard::train {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMostText = std::size_t{1} << 20;
constexpr Index kMostSeeds = 1000;

// The tables of a lab file. Their keys are below.
struct LabTable {
  std::string title, base;
  Index seeds = 3;
  bool keep_models = true;
  std::vector<std::string> set;
};
struct QuickTable {
  Index seeds = 0;  // 0: as [lab]
  std::vector<std::string> set;
};
struct RunTable {
  std::string name, about;
  std::vector<std::string> set;
};
struct ClaimTable {
  std::string text, source, published, metric, relation;
  std::vector<std::string> runs;
  double within = 0.0;
};

template <class V>
void visit_keys(V& v, LabTable& t) {
  v("title", t.title);
  v("base", t.base);
  v("seeds", t.seeds);
  v("keep_models", t.keep_models);
  v("set", t.set);
}
template <class V>
void visit_keys(V& v, QuickTable& t) {
  v("seeds", t.seeds);
  v("set", t.set);
}
template <class V>
void visit_keys(V& v, RunTable& t) {
  v("name", t.name);
  v("about", t.about);
  v("set", t.set);
}
template <class V>
void visit_keys(V& v, ClaimTable& t) {
  v("text", t.text);
  v("source", t.source);
  v("published", t.published);
  v("metric", t.metric);
  v("runs", t.runs);
  v("relation", t.relation);
  v("within", t.within);
}

toml::table parse(const std::string& text, const std::string& name) {
  try {
    return toml::parse(text, name);
  } catch (const toml::parse_error& error) {
    fail(ErrorKind::kBadInput, "{}:{}: not valid TOML: {}", name, error.source().begin.line, error.description());
  }
}

std::size_t line_of(const toml::node& node) { return node.source().begin.line; }

bool is_name(const std::string& name) {
  constexpr std::string_view kOther = "._+-";
  const bool known = std::all_of(name.begin(), name.end(), [&](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           kOther.find(c) != std::string_view::npos;
  });
  return known && !name.empty() && name.size() <= 100 && name.front() != '.';
}
constexpr const char* kNameRule = "letters, digits and . _ + - (it names a folder)";

void check_seeds(Index seeds, const std::string& where) {
  if (seeds < 1 || seeds > kMostSeeds) {
    fail(ErrorKind::kBadInput, "{} = {}, expected 1 to {}", where, seeds, kMostSeeds);
  }
}

// One lab file on its way to a Lab.
class LabFile {
 public:
  LabFile(const fs::path& path, const std::string& text, const LabRequest& request)
      : path_(path), name_(path.string()), text_(text), root_(parse(text, name_)), request_(request) {}

  Lab read() {
    Lab lab;
    lab.source = name_;
    check_tables();
    read_table(*root_.get("lab")->as_table(), "lab", origin_, header_);
    const std::string where = at(*root_.get("lab")) + ": lab.";
    check_seeds(header_.seeds, where + "seeds");
    if (const toml::node* quick = root_.get("quick")) {
      read_table(*quick->as_table(), "quick", origin_, quick_);
      if (quick_.seeds != 0) check_seeds(quick_.seeds, at(*quick) + ": quick.seeds");
    } else if (request_.quick) {
      fail(ErrorKind::kUsage, "--quick: {} has no table [quick] that says what it changes", name_);
    }
    lab.title = header_.title.empty() ? path_.stem().string() : header_.title;
    lab.quick = request_.quick;
    lab.keep_models = header_.keep_models;
    lab.seeds = request_.quick && quick_.seeds > 0 ? quick_.seeds : header_.seeds;
    read_base();
    read_runs(lab);
    read_claims(lab);
    return lab;
  }

 private:
  std::string at(const toml::node& node) const { return fmt::format("{}:{}", name_, line_of(node)); }

  void check_tables() const {
    const std::vector<std::string> known = {"lab", "quick", "base", "run", "claim"};
    for (const auto& [key, node] : root_) {
      const std::string name(key.str());
      if (std::find(known.begin(), known.end(), name) == known.end()) {
        const std::string guess = closest(name, known);
        fail(ErrorKind::kBadInput, "{}: unknown table \"{}\"{}; known in a lab file: {}", at(node), name,
             guess.empty() ? "" : fmt::format(", did you mean \"{}\"?", guess), fmt::join(known, ", "));
      }
      const bool rows = name == "run" || name == "claim";
      if (rows ? node.as_array() == nullptr || !node.as_array()->is_array_of_tables() : !node.is_table()) {
        fail(ErrorKind::kBadInput, "{}: {} = {}, expected {}", at(node), name, describe(node),
             rows ? fmt::format("tables [[{}]]", name) : fmt::format("a table [{}]", name));
      }
    }
    if (root_.get("run") == nullptr) fail(ErrorKind::kBadInput, "{}: no [[run]], expected one or more", name_);
  }

  // The recipe that all runs start from: a file, or the tables [base.*] with their lines.
  void read_base() {
    const toml::node* inline_base = root_.get("base");
    if (header_.base.empty() == (inline_base == nullptr)) {
      fail(ErrorKind::kBadInput, "{}: {}", at(*root_.get("lab")),
           inline_base == nullptr ? "expected lab.base = \"RECIPE\", or the recipe itself in tables [base.*]"
                                  : "both lab.base and tables [base.*], expected one of them");
    }
    if (inline_base == nullptr) {
      const fs::path file = path_.parent_path() / header_.base;
      base_name_ = file.string();
      base_text_ = read_file(file, kMostText);
    } else {
      base_name_ = name_;
      base_text_ = inline_recipe(*inline_base->as_table());
    }
    try {
      parse_recipe(base_text_, base_name_, header_.set);
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::kUsage) throw;
      throw Error(ErrorKind::kBadInput, fmt::format("{}: lab.set: {}", at(*root_.get("lab")), error.what()));
    }
  }

  // The lines of the tables [base.*] as a recipe, all others blank: so a message about it names the right line.
  std::string inline_recipe(const toml::table& base) const {
    std::vector<std::size_t> headers;         // first lines of all tables
    std::vector<std::size_t> recipe_headers;  // of those that belong to the recipe
    const auto add = [&](const toml::node& node, bool recipe) {
      headers.push_back(line_of(node));
      if (recipe) recipe_headers.push_back(line_of(node));
    };
    for (const auto& [key, node] : base) {
      if (const toml::array* rows = node.as_array(); rows != nullptr && rows->is_array_of_tables()) {
        for (const toml::node& row : *rows) add(row, true);
      } else if (node.is_table() && !node.as_table()->is_inline()) {
        add(node, true);
      } else {
        fail(ErrorKind::kBadInput, "{}: base.{}: expected a table with a header of its own, [base.{}]", at(node),
             std::string(key.str()), std::string(key.str()));
      }
    }
    for (const auto& [key, node] : root_) {
      if (key.str() == "base") continue;
      if (const toml::array* rows = node.as_array()) {
        for (const toml::node& row : *rows) add(row, false);
      } else {
        add(node, false);
      }
    }
    std::string recipe;
    std::istringstream lines(text_);
    std::string line;
    bool inside = false;
    for (std::size_t number = 1; std::getline(lines, line); ++number) {
      if (std::find(headers.begin(), headers.end(), number) != headers.end()) {
        inside = std::find(recipe_headers.begin(), recipe_headers.end(), number) != recipe_headers.end();
        if (const std::size_t name = line.find("base."); inside && name != std::string::npos) line.erase(name, 5);
      }
      recipe += (inside ? line : "") + "\n";
    }
    return recipe;
  }

  void read_runs(Lab& lab) {
    for (const toml::node& node : *root_.get("run")->as_array()) {
      RunTable table;
      read_table(*node.as_table(), "run", origin_, table);
      const std::string where = at(node);
      if (!is_name(table.name)) {
        fail(ErrorKind::kBadInput, "{}: run.name = \"{}\", expected {}", where, table.name, kNameRule);
      }
      for (const LabRun& other : lab.runs) {
        if (other.name == table.name) fail(ErrorKind::kBadInput, "{}: a second run \"{}\"", where, table.name);
      }
      // The user's own changes come last and are blamed apart from those of the file.
      std::vector<std::string> set = header_.set;
      set.insert(set.end(), table.set.begin(), table.set.end());
      if (request_.quick) set.insert(set.end(), quick_.set.begin(), quick_.set.end());
      try {
        parse_recipe(base_text_, base_name_, set);
      } catch (const Error& error) {
        throw Error(ErrorKind::kBadInput, fmt::format("{}: run \"{}\": {}", where, table.name, error.what()));
      }
      set.insert(set.end(), request_.set.begin(), request_.set.end());
      lab.runs.push_back({table.name, table.about, parse_recipe(base_text_, base_name_, set)});
    }
  }

  void read_claims(Lab& lab) {
    const toml::node* rows = root_.get("claim");
    if (rows == nullptr) return;
    for (const toml::node& node : *rows->as_array()) {
      ClaimTable table;
      read_table(*node.as_table(), "claim", origin_, table);
      lab.claims.push_back(claim(table, at(node), lab));
    }
  }

  LabClaim claim(const ClaimTable& table, const std::string& where, const Lab& lab) const {
    if (table.text.empty()) fail(ErrorKind::kBadInput, "{}: claim.text is missing: what is claimed", where);
    const LabMetric* metric = find_lab_metric(table.metric);
    if (metric == nullptr) {
      std::vector<std::string> known;
      for (const LabMetric& m : lab_metrics()) known.emplace_back(m.name);
      fail(ErrorKind::kBadInput, "{}: claim.metric = \"{}\", expected one of: {}", where, table.metric,
           fmt::join(known, ", "));
    }
    LabClaim result{table.text, table.source,     table.published, table.metric,
                    table.runs, Relation::kLower, table.within};
    const std::map<std::string, Relation> relations = {{"lower", Relation::kLower},
                                                       {"higher", Relation::kHigher},
                                                       {"equal", Relation::kEqual},
                                                       {"not-higher", Relation::kNotHigher}};
    const auto relation = relations.find(table.relation);
    if (relation == relations.end()) {
      fail(ErrorKind::kBadInput,
           "{}: claim.relation = \"{}\", expected \"lower\", \"higher\", \"equal\" or \"not-higher\"", where,
           table.relation);
    }
    result.relation = relation->second;
    const bool margin = table.within > 0.0;  // also false for NaN
    if (margin != (result.relation == Relation::kEqual || result.relation == Relation::kNotHigher)) {
      fail(ErrorKind::kBadInput, "{}: claim.within = {}, expected {}", where, table.within,
           margin ? "none, because only \"equal\" and \"not-higher\" have a margin"
                  : "above 0: the difference that does not count");
    }
    if (table.runs.size() < 2) {
      fail(ErrorKind::kBadInput, "{}: claim.runs = [{}], expected two or more", where, fmt::join(table.runs, ", "));
    }
    for (std::size_t i = 0; i < table.runs.size(); ++i) {
      const std::string& name = table.runs[i];
      const auto run = std::find_if(lab.runs.begin(), lab.runs.end(), [&](const LabRun& r) { return r.name == name; });
      if (run == lab.runs.end()) {
        std::vector<std::string> known;
        for (const LabRun& r : lab.runs) known.push_back(r.name);
        const std::string guess = closest(name, known);
        fail(ErrorKind::kBadInput, "{}: claim.runs: no run \"{}\"{}", where, name,
             guess.empty() ? "" : fmt::format(", did you mean \"{}\"?", guess));
      }
      if (i > 0 && table.runs[i - 1] == name) {
        fail(ErrorKind::kBadInput, "{}: claim.runs: \"{}\" is compared with itself", where, name);
      }
      if (metric->needs_router) {
        const auto layers = resolve_model(run->recipe, run->recipe.data.vocab).layers;
        if (std::none_of(layers.begin(), layers.end(), [](const auto& layer) { return layer.moe.has_value(); })) {
          fail(ErrorKind::kBadInput, "{}: claim.metric = \"{}\": run \"{}\" is dense and has no router", where,
               table.metric, name);
        }
      }
    }
    return result;
  }

  fs::path path_;
  std::string name_;
  const std::string& text_;
  toml::table root_;
  const LabRequest& request_;
  LabTable header_;
  QuickTable quick_;
  std::vector<std::string> none_;
  Origin origin_{name_, &none_, {}};
  std::string base_name_, base_text_;
};

// What must be the same for figures to be comparable: the text, the tokenizer, the window that held-out text is read
// in, and how many tokens a run trains on.
void check_comparable(const Lab& lab) {
  const auto budget = [](const Recipe& r) {
    return r.train.steps * r.train.batch * r.train.sequence * r.train.accumulate;
  };
  const LabRun& first = lab.runs.front();
  for (const LabRun& run : lab.runs) {
    const auto differ = [&](std::string_view what, const auto& here, const auto& there) {
      if (here == there) return;
      fail(ErrorKind::kBadInput,
           "{}: run \"{}\" has {} = {}, but run \"{}\" has {}; the runs of a lab share text, tokenizer, sequence and "
           "budget, or their losses would not be comparable",
           lab.source, run.name, what, here, first.name, there);
    };
    const DataConfig &a = run.recipe.data, &b = first.recipe.data;
    differ("data.paths", fmt::format("[{}]", fmt::join(a.paths, ", ")), fmt::format("[{}]", fmt::join(b.paths, ", ")));
    differ("data.tokenizer", a.tokenizer, b.tokenizer);
    differ("data.vocab", a.vocab, b.vocab);
    differ("data.validation", a.validation, b.validation);
    differ("train.sequence", run.recipe.train.sequence, first.recipe.train.sequence);
    differ("steps x batch x sequence x accumulate (tokens)", budget(run.recipe), budget(first.recipe));
  }
}

bool is_lab_file(const std::string& text, const std::string& name) { return parse(text, name).contains("lab"); }

}  // namespace

Lab load_lab(const LabRequest& request) {
  if (request.files.empty()) fail(ErrorKind::kUsage, "no recipe and no lab file given");
  Lab lab;
  for (const fs::path& file : request.files) {
    const std::string text = read_file(file, kMostText);
    if (is_lab_file(text, file.string())) {
      if (request.files.size() > 1) {
        fail(ErrorKind::kUsage, "{} is a lab file, which stands alone; {} files were given", file.string(),
             request.files.size());
      }
      lab = LabFile(file, text, request).read();
      break;
    }
    if (request.quick) {
      fail(ErrorKind::kUsage, "--quick: {} is a recipe; only a lab file says what --quick changes", file.string());
    }
    const std::string name = file.stem().string();
    if (!is_name(name))
      fail(ErrorKind::kUsage, "{}: a run's name is the file's: expected {}", file.string(), kNameRule);
    for (const LabRun& other : lab.runs) {
      if (other.name == name) fail(ErrorKind::kUsage, "{}: a second run \"{}\"; rename one", file.string(), name);
    }
    lab.runs.push_back({name, "", parse_recipe(text, file.string(), request.set)});
    lab.source += (lab.source.empty() ? "" : ", ") + file.string();
    lab.title += (lab.title.empty() ? "" : ", ") + name;
  }
  if (request.seeds > 0) lab.seeds = request.seeds;
  check_comparable(lab);
  return lab;
}

}  // namespace switchyard::train
