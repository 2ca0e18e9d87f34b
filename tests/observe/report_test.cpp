#include "switchyard/observe/report.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <regex>

#include "observe/events.hpp"
#include "support/temporary_folder.hpp"
#include "switchyard/base/atomic_file.hpp"
#include "switchyard/base/error.hpp"

namespace switchyard::observe {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

const std::string kStep = R"({"kind":"step","step":1,"loss":2.0,"bits_per_byte":3.0,"gradient_norm":0.5,"layers":[)"
                          R"({"layer":1,"max_violation":0.25,"entropy":1.5,"drop_rate":0.125,"dead":[]}]})"
                          "\n";

class Report : public ::testing::Test {
 protected:
  void SetUp() override {
    input_.title = "quickstart";
    input_.metrics = folder_ / "metrics.jsonl";
  }

  std::string page(const std::string& metrics) {
    std::ofstream(input_.metrics, std::ios::binary) << metrics;
    write_report(folder_ / "report.html", input_);
    return read_file(folder_ / "report.html");
  }
  json data(const std::string& metrics) {
    const std::string text = page(metrics), begin = R"(<script type="application/json" id="data">)";
    const std::size_t from = text.find(begin) + begin.size();
    return json::parse(text.substr(from, text.find("</script>", from) - from));
  }
  std::string refusal(const std::string& metrics) {
    fs::remove(folder_ / "report.html");
    try {
      page(metrics);
      ADD_FAILURE() << "no error for " << metrics;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kBadInput);
      EXPECT_FALSE(fs::exists(folder_ / "report.html"));
      return error.what();
    }
    return {};
  }

  TemporaryFolder temporary_;
  const fs::path folder_ = temporary_.path();
  ReportInput input_;
};

TEST_F(Report, CarriesTheMetrics) {
  const json d = data(kStep + R"({"kind":"evaluation","step":1,"loss":1.0,"bits_per_byte":2.5})" + "\n" +
                      R"({"kind":"warning","step":1,"text":"expert 3 is dead"})" + "\n");
  EXPECT_EQ(d["title"], "quickstart");
  const json& m = d["metrics"];
  EXPECT_EQ(m["loss"], json::parse("[[1.0, 3.0]]"));
  EXPECT_EQ(m["held_out"], json::parse("[[1.0, 2.5]]"));
  EXPECT_EQ(m["gradient_norm"], json::parse("[[1.0, 0.5]]"));
  EXPECT_EQ(m["warnings"], json::parse(R"([[1.0, "expert 3 is dead"]])"));
  EXPECT_EQ(m["max_violation"], json::parse(R"([{"name": "layer 1", "points": [[1.0, 0.25]]}])"));
  EXPECT_EQ(m["entropy"][0]["points"], json::parse("[[1.0, 1.5]]"));
  EXPECT_EQ(m["drop_rate"][0]["points"], json::parse("[[1.0, 0.125]]"));
  EXPECT_TRUE(d["profile"].is_null());
}

TEST_F(Report, CarriesTheProfile) {
  RoutingProfile profile({"code", "prose"});
  see(profile, 1, 3, {{0}, {0}, {1}}, {5, 5, 6});
  profile.set_domain(1);
  see(profile, 1, 3, {{1}}, {6});
  input_.profile = &profile;
  input_.token_text = [](std::int32_t id) { return "<" + std::to_string(id) + ">"; };
  input_.facts = {{"Parameters", "4 M"}};
  input_.sample = "Once upon";
  const json d = data(kStep);
  EXPECT_EQ(d["facts"], json::parse(R"([["Parameters", "4 M"]])"));
  EXPECT_EQ(d["sample"], "Once upon");
  EXPECT_EQ(d["profile"]["domains"], json::parse(R"(["code", "prose"])"));
  const json& layer = d["profile"]["layers"][0];
  EXPECT_EQ(layer["layer"], 1);
  EXPECT_EQ(layer["load"], json::parse("[1.5, 1.5, 0.0]"));  // of a mean of 4/3
  EXPECT_EQ(layer["dead"], json::parse("[2]"));
  EXPECT_EQ(layer["preference"][0], json::parse("[2.0, 0.5, 0.0]"));
  EXPECT_EQ(layer["favourites"], json::parse(R"([["<5>"], ["<6>"], []])"));
  input_.token_text = nullptr;
  EXPECT_EQ(data(kStep)["profile"]["layers"][0]["favourites"][0][0], "5");
}

TEST_F(Report, IsOneFileThatNeedsNoNetwork) {
  std::string text = page(kStep);
  const std::string svg = "\"http://www.w3.org/2000/svg\"";  // a name, not an address
  const std::size_t at = text.find(svg);
  ASSERT_NE(at, std::string::npos);
  text.erase(at, svg.size());
  for (const char* outside : {"http:", "https:", "\"//", "'//", "src=", "href=", "@import", "url(", "fetch(",
                              "XMLHttpRequest", "import(", "WebSocket", "<link", "<iframe", "<img"}) {
    EXPECT_THAT(text, Not(HasSubstr(outside)));
  }
  // Data reaches the page as text only.
  for (const char* risky : {"innerHTML", "outerHTML", "document.write", "insertAdjacentHTML", "eval("}) {
    EXPECT_THAT(text, Not(HasSubstr(risky)));
  }
  EXPECT_THAT(text, StartsWith("<!doctype html>"));
  EXPECT_THAT(text, AllOf(HasSubstr("charset=\"utf-8\""), HasSubstr("</html>"), Not(HasSubstr("@@DATA@@"))));
}

TEST_F(Report, TextOfTheRunCannotBecomeMarkup) {
  const std::string attack = "</script><img src=x onerror=alert(1)><!--<script>\"'&\\u003c\n]]>";
  RoutingProfile profile({attack});
  see(profile, 0, 2, {{0}, {1}}, {5, 6});
  input_.title = attack;
  input_.facts = {{attack, attack}};
  input_.sample = attack;
  input_.profile = &profile;
  input_.token_text = [&](std::int32_t) { return attack; };
  const std::string warning = json{{"kind", "warning"}, {"step", 1}, {"text", attack}}.dump() + "\n";
  const std::string text = page(kStep + warning), harmless = page(kStep);
  EXPECT_THAT(text, Not(HasSubstr("<img")));
  const auto count = [](const std::string& in, const std::string& what) {
    std::size_t found = 0;
    for (std::size_t at = in.find(what); at != std::string::npos; at = in.find(what, at + 1)) ++found;
    return found;
  };
  EXPECT_EQ(count(text, "<script"), 2U);
  EXPECT_EQ(count(text, "</script"), 2U);
  EXPECT_EQ(count(text, "<!--"), 0U);
  // And yet nothing is lost.
  const json d = data(kStep + warning);
  EXPECT_EQ(d["title"], attack);
  EXPECT_EQ(d["facts"][0], json::array({attack, attack}));
  EXPECT_EQ(d["sample"], attack);
  EXPECT_EQ(d["profile"]["domains"][0], attack);
  EXPECT_EQ(d["profile"]["layers"][0]["favourites"][0][0], attack);
  EXPECT_EQ(d["metrics"]["warnings"][0][1], attack);
}

TEST_F(Report, TextThatIsNotUtf8IsShownAsFarAsItIs) {
  input_.sample = "caf\xe9!";
  EXPECT_EQ(data(kStep)["sample"], "caf\uFFFD!");
}

TEST_F(Report, MalformedMetricsNameFileAndLine) {
  const auto check = [&](const std::string& line, const std::string& message) {
    EXPECT_THAT(refusal(kStep + line + "\n" + kStep), AllOf(HasSubstr("metrics.jsonl:2: "), HasSubstr(message)))
        << line;
  };
  check("", "not a JSON object");
  check("[1]", "not a JSON object");
  check("{\"kind\":\"step\"", "not a JSON object");
  check("{\"kind\":\"step\",\"step\":1}\xff", "not a JSON object");
  check(R"({"step":1})", "\"kind\" is not a string");
  check(R"({"kind":5,"step":1})", "\"kind\" is not a string");
  check(R"({"kind":"step"})", "\"step\" is not a whole number");
  check(R"({"kind":"step","step":null})", "\"step\" is not a whole number");
  check(R"({"kind":"step","step":"1"})", "\"step\" is not a whole number");
  check(R"({"kind":"step","step":2,"gradient_norm":1})", "\"bits_per_byte\" is not a number");
  check(R"({"kind":"step","step":2,"bits_per_byte":"x","gradient_norm":1})", "\"bits_per_byte\" is not a number");
  check(R"({"kind":"step","step":2,"bits_per_byte":1})", "\"gradient_norm\" is not a number");
  check(R"({"kind":"step","step":2,"bits_per_byte":1,"gradient_norm":1,"layers":5})", "\"layers\" is not an array");
  check(R"({"kind":"step","step":2,"bits_per_byte":1,"gradient_norm":1,"layers":[5]})", "\"layer\"");
  check(R"({"kind":"step","step":2,"bits_per_byte":1,"gradient_norm":1,"layers":[{"layer":null}]})", "\"layer\"");
  check(R"({"kind":"step","step":2,"bits_per_byte":1,"gradient_norm":1,"layers":[{"layer":1}]})", "\"max_violation\"");
  check(R"({"kind":"evaluation","step":2})", "\"bits_per_byte\" is not a number");
  check(R"({"kind":"warning","step":2,"text":[]})", "\"text\" is not a string");
  fs::remove(input_.metrics);
  EXPECT_THROW(write_report(folder_ / "report.html", input_), Error);
}

TEST_F(Report, LinesStillBeingWrittenAndFiguresThatAreNotFiniteAreLeftOut) {
  const json d = data(kStep + R"({"kind":"step","step":2,"bits_per_byte":null,"gradient_norm":null})"
                              "\n"
                              R"({"kind":"evaluation","step":2,"bits_per_byte":null})"
                              "\n"
                              R"({"kind":"step","step":3,"bits_per_byte":1.0,"gradient_norm":4.0})"
                              "\n"
                              R"({"kind":"step","st)");
  EXPECT_EQ(d["metrics"]["loss"], json::parse("[[1.0, 3.0], [3.0, 1.0]]"));
  EXPECT_EQ(d["metrics"]["gradient_norm"], json::parse("[[1.0, 0.5], [3.0, 4.0]]"));
  EXPECT_EQ(d["metrics"]["held_out"], json::array());
}

TEST_F(Report, ALongRunKeepsItsShapeInFewPoints) {
  std::string metrics;
  for (int step = 1; step <= 10'000; ++step) {
    metrics +=
        json{{"kind", "step"}, {"step", step}, {"bits_per_byte", step % 2}, {"gradient_norm", 1.0}}.dump() + "\n";
  }
  const json d = data(metrics);
  const json& loss = d["metrics"]["loss"];
  EXPECT_LE(loss.size(), 1501U);
  EXPECT_GT(loss.size(), 1000U);
  EXPECT_EQ(loss.back()[0], 10'000.0);
  double sum = 0.0;
  for (const json& point : loss) sum += point[1].get<double>();
  EXPECT_NEAR(sum / static_cast<double>(loss.size()), 0.5, 0.01);
}

TEST_F(Report, AnEmptyRunStillMakesAPage) { EXPECT_EQ(data("")["metrics"]["loss"], json::array()); }

}  // namespace
}  // namespace switchyard::observe
