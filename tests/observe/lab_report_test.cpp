#include "switchyard/observe/lab_report.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "support/error_of.hpp"
#include "support/temporary_folder.hpp"
#include "switchyard/base/atomic_file.hpp"

namespace switchyard::observe {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

json spread(double mean, double deviation, int seeds) {
  return {{"mean", mean}, {"deviation", deviation}, {"seeds", seeds}};
}

json run(const std::string& name, double loss) {
  return {{"name", name},
          {"about", "about " + name},
          {"figures", {{"bits_per_byte", spread(loss, 0.25, 3)}, {"train_seconds", spread(10.0 * loss, 0.0, 3)}}},
          {"domains", {{"prose", spread(loss + 1.0, 0.0, 3)}}},
          {"seeds", {{{"seed", 1}, {"state", "finished"}}}},
          {"loss", {{100.0, 1.0, loss + 1.0}, {200.0, 2.0, loss}}},
          {"held_out", json::array()},
          {"max_violation", json::array()}};
}

json report() {
  json r = {{"version", 1}, {"title", "Two runs"}, {"source", "my.toml"}, {"quick", true},     {"seeds", 3},
            {"jobs", 2},    {"tokens_a_run", 200}, {"sequence", 20},      {"rule", "The rule"}};
  r["data"] = {{"paths", {"text"}}, {"tokenizer", "char"}, {"vocab", 99}, {"held_out_share", 0.1}};
  r["metrics"] = {{{"name", "bits_per_byte"}, {"unit", "bits"}, {"meaning", "held-out loss"}},
                  {{"name", "train_seconds"}, {"unit", "s"}, {"meaning", "time"}},
                  {{"name", "entropy"}, {"unit", ""}, {"meaning", "nobody has it"}}};
  r["runs"] = {run("small", 1.5), run("large", 2.5)};
  r["claims"] = {{{"text", "small is better"},
                  {"source", "somebody"},
                  {"published", "1 < 2"},
                  {"statement", "bits_per_byte: small < large"},
                  {"metric", "bits_per_byte"},
                  {"relation", "lower"},
                  {"runs", {"small", "large"}},
                  {"verdict", "disagrees"},
                  {"comparisons",
                   {{{"first", "small"},
                     {"second", "large"},
                     {"first_spread", spread(1.5, 0.25, 3)},
                     {"second_spread", spread(2.5, 0.0, 1)},
                     {"difference", -1.0},
                     {"standard_error", 0.125},
                     {"verdict", "disagrees"},
                     {"reason", "not finished: seeds 2"}}}}}};
  return r;
}

class LabReport : public ::testing::Test {
 protected:
  void write(const json& report) { write_lab_report(folder_.path(), report.dump()); }
  std::string html() const { return read_file(folder_ / "report.html"); }
  std::string markdown() const { return read_file(folder_ / "report.md"); }
  TemporaryFolder folder_;
};

TEST_F(LabReport, ShowsClaimsWithFiguresAndSeeds) {
  write(report());
  EXPECT_EQ(read_file(folder_ / "report.json"), report().dump());
  for (const std::string& page : {html(), markdown()}) {
    for (const char* fact : {"Two runs", "my.toml (--quick)", "2 recipes, 3 seeds each, 2 at a time", "small is better",
                             "somebody", "disagrees", "The rule", "1.5 ± 0.25 (3 seeds)", "2.5 (1 seed)", "-1", "0.25",
                             "not finished: seeds 2", "about large", "held-out loss"}) {
      EXPECT_THAT(page, HasSubstr(fact));
    }
  }
  EXPECT_THAT(html(), AllOf(HasSubstr("1 &lt; 2"), HasSubstr("bits_per_byte: small &lt; large"),
                            HasSubstr("bits per byte, prose")));
  EXPECT_THAT(markdown(), AllOf(HasSubstr("1 &lt; 2"), HasSubstr("`bits_per_byte: small < large`")));
  // A metric that no run has gets no column.
  EXPECT_THAT(html(), Not(HasSubstr("<th>entropy</th>")));
}

TEST_F(LabReport, ChartsOfThePageAreFilesToo) {
  write(report());
  std::size_t shown = 0;
  for (const auto& entry : fs::directory_iterator(folder_ / "plots")) {
    const std::string svg = read_file(entry.path());
    EXPECT_THAT(svg, AllOf(StartsWith("<svg xmlns="), HasSubstr("</svg>"))) << entry.path();
    EXPECT_THAT(html(), HasSubstr(svg));
    EXPECT_THAT(markdown(), HasSubstr("(plots/" + entry.path().filename().string() + ")"));
    EXPECT_THAT(svg, Not(HasSubstr("nan")));
    ++shown;
  }
  EXPECT_GE(shown, 6U);
  const std::string curve = read_file(folder_ / "plots/claim-01-loss-tokens.svg");
  EXPECT_THAT(curve, AllOf(HasSubstr("small (1.5)"), HasSubstr("large (2.5)"), HasSubstr("tokens")));
}

TEST_F(LabReport, NeedsNoNetworkAndNoScript) {
  write(report());
  std::string page = html();
  const std::string name = "xmlns=\"http://www.w3.org/2000/svg\"";  // a name, not an address
  for (std::size_t at = page.find(name); at != std::string::npos; at = page.find(name)) page.erase(at, name.size());
  for (const char* outside :
       {"http:", "https:", "\"//", "src=", "@import", "url(", "<script", "<link", "<iframe", "<img"}) {
    EXPECT_THAT(page, Not(HasSubstr(outside)));
  }
}

TEST_F(LabReport, RunsWithoutResultAreSaid) {
  json r = report();
  r["runs"][1]["figures"] = json::object();
  r["runs"][1]["domains"] = json::object();
  r["runs"][1]["loss"] = json::array();
  r["runs"][1]["seeds"] = {{{"seed", 2}, {"state", "failed"}, {"message", "no space"}},
                           {{"seed", 3}, {"state", "unfinished"}}};
  r["claims"][0]["comparisons"][0]["difference"] = nullptr;
  r["claims"][0]["comparisons"][0]["standard_error"] = nullptr;
  r["claims"][0]["comparisons"][0]["second_spread"] = spread(0.0, 0.0, 0);
  write(r);
  for (const std::string& page : {html(), markdown()}) {
    EXPECT_THAT(page, AllOf(HasSubstr("large, seed 2: failed: no space"), HasSubstr("large, seed 3: unfinished"),
                            HasSubstr("- (0 seeds)")));
  }
  // None at all: still a page.
  r["runs"][0] = r["runs"][1];
  r["runs"][0]["name"] = "small";
  write(r);
  EXPECT_THAT(html(), HasSubstr("Nothing was recorded"));
}

TEST_F(LabReport, TextCannotBecomeMarkup) {
  const std::string attack = "</section><script>alert(1)</script><img src=x onerror=alert(1)> | `x` *b* \" '";
  json r = report();
  r["title"] = r["source"] = r["rule"] = attack;
  r["claims"][0]["text"] = r["claims"][0]["source"] = r["claims"][0]["published"] = attack;
  r["runs"][0]["about"] = attack;
  r["runs"][0]["domains"][attack] = spread(1.0, 0.0, 1);
  r["runs"][0]["seeds"][0]["state"] = "failed";
  r["runs"][0]["seeds"][0]["message"] = attack;
  write(r);
  for (const std::string& page : {html(), markdown()}) {
    EXPECT_THAT(page, AllOf(Not(HasSubstr("<script")), Not(HasSubstr("<img"))));
  }
  EXPECT_THAT(markdown(), Not(HasSubstr(" | `x`")));
}

TEST_F(LabReport, WhatIsNoReportIsRefused) {
  json lacking = report();
  lacking["runs"][0].erase("figures");
  json unknown = report();
  unknown["claims"][0]["runs"][1] = "nobody";
  for (const std::string& text :
       {std::string("{"), std::string("[]"), std::string("{}"), lacking.dump(), unknown.dump()}) {
    EXPECT_THAT(error_of(ErrorKind::kBadInput, [&] { write_lab_report(folder_.path(), text); }),
                HasSubstr("report.json"));
  }
  EXPECT_FALSE(fs::exists(folder_ / "report.html"));
}

}  // namespace
}  // namespace switchyard::observe
