#include "switchyard/text/chat_template.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>

#include "support/error_of.hpp"
#include "support/temporary_folder.hpp"
#include "switchyard/base/atomic_file.hpp"
#include "switchyard/text/utf8.hpp"

namespace switchyard::text {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

fs::path golden() { return fs::path(SWITCHYARD_TEST_DIR) / "golden" / "chat_templates"; }
Json read_json(const std::string& name) { return Json::parse(read_file(golden() / name)); }

ChatInput input_of(Json request, const std::string& date = "2024-07-26") {
  ChatInput input;
  const auto take = [&](const char* key) {
    const std::string text = request.contains(key) ? request[key].dump() : "";
    request.erase(key);
    return text;
  };
  input.messages = take("messages");
  input.tools = take("tools");
  input.documents = take("documents");
  if (const std::string open = take("add_generation_prompt"); !open.empty()) {
    input.add_generation_prompt = open == "true";
  }
  input.variables = request.dump();
  std::tm now{};
  EXPECT_NE(::strptime(date.c_str(), "%Y-%m-%d", &now), nullptr);
  input.now = now;
  return input;
}

// Null where the template is refused, which must be as bad input.
Json rendered(const std::string& source, const ChatInput& input, const SpecialTexts& special) {
  try {
    return ChatTemplate::parse(source, "t", special).render(input).text;
  } catch (const Error& error) {
    EXPECT_EQ(static_cast<int>(error.kind()), static_cast<int>(ErrorKind::kBadInput)) << error.what();
    EXPECT_THAT(error.what(), HasSubstr("t: line ")) << source;
    return nullptr;
  }
}

SpecialTexts special_of(const Json& json) {
  SpecialTexts special;
  for (const auto& [name, text] : json.items()) special.emplace_back(name, text.get<std::string>());
  return special;
}

TEST(ChatTemplate, TheLanguageIsThatOfTheReference) {
  const Json language = read_json("language.json");
  Json request = language["variables"];
  request["messages"] = Json::array();
  const ChatInput input = input_of(request);
  const SpecialTexts special = special_of(read_json("requests.json")["special"]);
  for (const Json& one : language["cases"]) {
    const auto source = one["template"].get<std::string>();
    EXPECT_EQ(rendered(source, input, special), one["text"]) << source;
  }
}

TEST(ChatTemplate, ConversationsAreThoseOfTheReference) {
  const Json expected = read_json("expected.json"), requests = read_json("requests.json");
  const SpecialTexts special = special_of(requests["special"]);
  int compared = 0;
  for (const auto& [name, texts] : expected.items()) {
    const std::string source = read_file(golden() / (name + ".jinja"));
    for (const auto& [key, conversation] : requests["requests"].items()) {
      for (const bool open : {true, false}) {
        Json request = conversation;
        request["add_generation_prompt"] = open;
        const std::string case_name = open ? key : key + "-closed";
        EXPECT_EQ(rendered(source, input_of(request), special), texts[case_name]) << name << ", " << case_name;
        ++compared;
      }
    }
  }
  EXPECT_EQ(compared, static_cast<int>(expected.size() * requests["requests"].size() * 2));
}

std::string error_in(const std::string& source, const std::string& messages = "[]") {
  return error_of(ErrorKind::kBadInput, [&] {
    ChatInput input;
    input.messages = messages;
    ChatTemplate::parse(source, "mine.jinja").render(input);
  });
}

TEST(ChatTemplate, ErrorsNameTemplateAndLine) {
  EXPECT_THAT(error_in("a\n\n{% if x %}\nb"), AllOf(HasSubstr("mine.jinja: line "), HasSubstr("endif")));
  EXPECT_EQ(error_in("a\nb {{ x.y }}"), "mine.jinja: line 2: 'x' is undefined");
  EXPECT_EQ(error_in("{# c\nc #}\n{{ raise_exception('Roles must alternate') }}"),
            "mine.jinja: line 3: Roles must alternate");
  EXPECT_EQ(error_in("{% macro m(a) %}\n{{ a.b.c }}\n{% endmacro %}\n\n{{ m({}) }}"),
            "mine.jinja: line 2: 'dict object' has no attribute 'b'");
  EXPECT_EQ(error_in("{% macro m(a) %}\n{{ a }}\n{% endmacro %}\n{{ m(1)\n+ 1 }}"),
            "mine.jinja: line 4: '+' is not defined between a str and a int");
  EXPECT_THAT(error_in("{{ 'a' | no_such }}"), HasSubstr("there is no filter 'no_such'"));
  EXPECT_THAT(error_in("{% include 'x' %}"), HasSubstr("not supported"));
  EXPECT_THAT(error_in("x", "{"), HasSubstr("mine.jinja: the messages are not JSON"));
  EXPECT_THAT(error_in("x", "3"), HasSubstr("the messages are no list"));
  EXPECT_THAT(error_in("x", "[3]"), HasSubstr("a message is no object"));
  EXPECT_THAT(error_in("x", "[{\"a\": " + std::string(200, '[') + std::string(200, ']') + "}]"), HasSubstr("deep"));
}

// Time, memory and stack of a hostile template.
TEST(ChatTemplate, ATemplateThatWantsTooMuchIsRefused) {
  const auto repeat = [](const std::string& text, int times) {
    std::string result;
    for (int i = 0; i < times; ++i) result += text;
    return result;
  };
  const std::string loops = repeat("{% for i in range(1000) %}", 5) + "x" + repeat("{% endfor %}", 5);
  EXPECT_THAT(error_in(loops), HasSubstr("too"));
  for (const std::string& source : {
           std::string("{{ range(10 ** 9) }}"),
           std::string("{{ 'a' * 10 ** 12 }}"),
           std::string("{{ [0] * 10 ** 12 }}"),
           std::string(
               "{% set n = namespace(s='aaaaaaaa') %}{% for i in range(99) %}{% set n.s = n.s + n.s %}{% endfor %}"),
           std::string("{% set n = namespace(l=[0]) %}{% for i in range(99) %}{% set n.l = n.l + n.l %}{% endfor %}"),
           std::string("{% set n = namespace(l=[0]) %}{% for i in range(999) %}{% set n.l = [n.l, n.l] %}{% endfor %}"),
           std::string("{% set n = namespace(l=0) %}{% for i in range(999) %}{% set n.l = {'a': n.l} %}{% endfor %}"),
           std::string("{% set l = [] %}{% for i in range(999) %}{{ l.append(l) }}{% endfor %}{{ l }}"),
           std::string("{% set l = [[]] %}{{ l[0].append(l) }}{{ l | tojson }}"),
           std::string("{% set l = [1] %}{% for i in l %}{{ l.append(i) }}{% endfor %}"),
           std::string("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}"),
           std::string("{% macro m() %}{{ caller() }}{% endmacro %}{% macro k() %}{% call m() %}{{ k() }}{% endcall "
                       "%}{% endmacro %}{{ k() }}"),
           std::string("{{ 'a' | indent(10 ** 12) }}{{ 'a' | center(10 ** 12) }}{{ 'a'.ljust(10 ** 12) }}"),
           std::string("{{ '%1000000000d' % 1 }}"),
           std::string("{{ '{:1000000000}'.format(1) }}"),
           std::string("{% set s = 'a' * 10000000 %}{{ s.replace('a', s) }}"),
           std::string("{% set s = 'a' * 10000000 %}{{ s.join(s) }}"),
           std::string("{% set s = 'ab' * 100000 %}{% for i in range(100000) %}{{ (s + 'c') in (s + s) }}{% endfor %}"),
           std::string("{% set s = 'a' * 1000000 %}{{ [s] * 1000000 }}"),
           std::string("{% set s = 'a' * 1000000 %}{% for i in range(100000) %}{{ s }}{% endfor %}"),
           std::string("{{ 9223372036854775807 + 1 }}"),
           std::string("{{ 10 ** 400 }}"),
           std::string("{{ 99999999999999999999 }}"),
           "{{ " + repeat("(", 5000) + "1" + repeat(")", 5000) + " }}",
           "{{ " + repeat("[", 5000) + repeat("]", 5000) + " }}",
           "{{ " + repeat("-", 5000) + "1 }}",
           "{{ " + repeat("not ", 5000) + "1 }}",
           "{{ 1" + repeat(" + 1", 5000) + " }}",
           "{{ 1" + repeat(" | abs", 5000) + " }}",
           "{{ a" + repeat(".a", 5000) + " }}",
           repeat("{% if true %}", 5000) + repeat("{% endif %}", 5000),
           "{{ 1" + repeat(" if 1 else 1", 5000) + " }}",
       }) {
    EXPECT_THAT(error_in(source), HasSubstr("mine.jinja: line 1: ")) << source.substr(0, 100);
  }
  // A template may hold itself; it is freed all the same.
  ChatInput input;
  const auto text =
      ChatTemplate::parse("{% set n = namespace() %}{% set n.n = n %}{% set l = [n] %}{{ l.append(l) }}x", "t")
          .render(input)
          .text;
  EXPECT_EQ(text, "Nonex");
}

TEST(ChatTemplate, ListsOfItsOwnMayChange) {
  ChatInput input;
  input.variables = R"({"given": [1]})";
  const auto text = [&](const std::string& source) { return ChatTemplate::parse(source, "t").render(input).text; };
  EXPECT_EQ(
      text("{% set l = [1] %}{% set _ = l.append(2) %}{% set _ = l.insert(0, 0) %}{% set _ = l.extend([3]) %}{{ l }}"
           "{{ l.pop() }}{{ l.pop(0) }}{{ l }}"),
      "[0, 1, 2, 3]30[1, 2]");
  EXPECT_THAT(error_of(ErrorKind::kBadInput, [&] { text("{{ given.append(2) }}"); }), HasSubstr("cannot be changed"));
}

TEST(ChatTemplate, IsFoundInAFolder) {
  const TemporaryFolder folder;
  const auto write = [&](const std::string& name, const std::string& content) {
    fs::create_directories((folder.path() / name).parent_path());
    std::ofstream(folder.path() / name) << content;
  };
  const auto text = [&](bool tools = false) {
    ChatInput input;
    if (tools) input.tools = R"([{"name": "f"}])";
    return ChatTemplate::load(folder.path()).value().render(input).text;
  };
  EXPECT_FALSE(ChatTemplate::load(folder.path()));
  write("tokenizer_config.json", R"({"bos_token": {"content": "<b>"}, "eos_token": "<e>"})");
  EXPECT_FALSE(ChatTemplate::load(folder.path()));
  write("chat_template.json", R"({"chat_template": "json {{ bos_token }}"})");
  EXPECT_EQ(text(), "json <b>");
  write("tokenizer_config.json", R"({"chat_template": "config {{ bos_token }}{{ eos_token }}"})");
  write("special_tokens_map.json", R"({"bos_token": "<m>"})");
  EXPECT_EQ(text(), "config <m>");
  write("tokenizer_config.json", R"({"chat_template": [{"name": "default", "template": "plain"},
                                                        {"name": "tool_use", "template": "tools"}]})");
  EXPECT_EQ(text(), "plain");
  EXPECT_EQ(text(true), "tools");
  write("chat_template.jinja", "file");
  EXPECT_EQ(text(true), "file");
  write("additional_chat_templates/tool_use.jinja", "more");
  EXPECT_EQ(text(true), "more");
  EXPECT_EQ(ChatTemplate::load(folder.path())->source(), "file");

  const auto error = [&](const std::string& config) {
    fs::remove(folder / "chat_template.jinja");
    write("tokenizer_config.json", config);
    return error_of(ErrorKind::kBadInput, [&] { ChatTemplate::load(folder.path()); });
  };
  EXPECT_THAT(error("[]"), HasSubstr("tokenizer_config.json: is not a JSON object"));
  EXPECT_THAT(error(R"({"chat_template": 3})"), HasSubstr("key 'chat_template': found 3, expected a string"));
  EXPECT_THAT(error(R"({"chat_template": [{"name": "a"}]})"), HasSubstr("chat_template[0].template"));
  EXPECT_THAT(error(R"({"chat_template": [{"name": "a", "template": ""}]})"), HasSubstr("\"default\""));
  EXPECT_THAT(error(R"({"chat_template": "\n{{ 1"})"), HasSubstr("key 'chat_template': line 2: "));
}

TEST(ChatTemplate, BuiltinOnesTellTheRolesApart) {
  ChatInput input;
  input.messages = R"([{"role": "system", "content": "S1"}, {"role": "user", "content": "U1"},
                       {"role": "assistant", "content": "A1"}, {"role": "user", "content": "U2"}])";
  input.now = std::tm{};
  for (const std::string& name : ChatTemplate::builtin_names()) {
    const auto text = ChatTemplate::builtin(name, {{"bos_token", "<B>"}, {"eos_token", "<E>"}}).render(input).text;
    std::size_t at = 0;
    for (const char* part : {"S1", "U1", "A1", "U2"}) {
      const std::size_t found = text.find(part, at);
      ASSERT_NE(found, std::string::npos) << name << ": " << text;
      EXPECT_GT(found, at == 0 ? 0 : at) << name;
      at = found + 2;
    }
    EXPECT_EQ(text.find("{"), std::string::npos) << text;
  }
  EXPECT_EQ(ChatTemplate::builtin("chatml").render(input).text,
            "<|im_start|>system\nS1<|im_end|>\n<|im_start|>user\nU1<|im_end|>\n<|im_start|>assistant\nA1<|im_end|>\n"
            "<|im_start|>user\nU2<|im_end|>\n<|im_start|>assistant\n");
  EXPECT_EQ(ChatTemplate::builtin("mistral-v1", {{"bos_token", "<s>"}, {"eos_token", "</s>"}}).render(input).text,
            "<s> [INST] S1\n\nU1 [/INST] A1</s> [INST] U2 [/INST]");
  EXPECT_EQ(ChatTemplate::builtin("deepseek2", {{"bos_token", "<s>"}, {"eos_token", "</s>"}}).render(input).text,
            "<s>S1\n\nUser: U1\n\nAssistant: A1</s>User: U2\n\nAssistant:");
  EXPECT_THAT(error_of(ErrorKind::kNotFound, [] { ChatTemplate::builtin("gpt"); }), HasSubstr("chatml"));
}

// ---- who wrote what

// The text with what is not the template's in brackets: [] of the user, <> of the model.
std::string marked(const std::string& source, const std::string& messages) {
  ChatInput input;
  input.messages = messages;
  const RenderedChat chat = ChatTemplate::parse(source, "t").render(input);
  std::string result;
  std::size_t done = 0;
  for (const ForeignText& one : chat.foreign) {
    EXPECT_LE(done, one.begin);
    EXPECT_LT(one.begin, one.end);
    result += chat.text.substr(done, one.begin - done);
    result += one.generated ? '<' : '[';
    result += chat.text.substr(one.begin, one.end - one.begin);
    result += one.generated ? '>' : ']';
    done = one.end;
  }
  return result + chat.text.substr(done);
}

TEST(ChatTemplate, KnowsWhoWroteWhat) {
  const std::string messages = R"([{"role": "user", "content": " ab,cd \n"}, {"role": "assistant", "content": "xyz"}])";
  const auto of_user = [&](const std::string& expression) {
    return marked(
        fmt::format("{{% set u = messages[0].content %}}{{% set a = messages[1].content %}}{{{{ {} }}}}", expression),
        messages);
  };
  EXPECT_EQ(of_user("'1' + u + '2' + a"), "1[ ab,cd \n]2<xyz>");
  EXPECT_EQ(of_user("'1' ~ u.strip() ~ a ~ 2"), "1[ab,cd]<xyz>2");
  EXPECT_EQ(of_user("u | trim"), "[ab,cd]");
  EXPECT_EQ(of_user("(u.strip() + '!').split(',') | join(' - ')"), "[ab] - [cd]!");
  EXPECT_EQ(of_user("('<' + u + '>').replace('b', 'B')"), "<[ a]B[,cd \n]>");
  EXPECT_EQ(of_user("('<' + a + '>')[1:3] + 'k'"), "<xy>k");
  EXPECT_EQ(of_user("('<' + a)[::-1]"), "<zyx><");
  EXPECT_EQ(of_user("('i' + a) | upper"), "<IXYZ>");
  EXPECT_EQ(of_user("{'k': u, 'l': 'own'} | tojson"), "{\"k\": [\" ab,cd \\n\"], \"l\": \"own\"}");
  EXPECT_EQ(of_user("'%s and %s' % (u.strip(), 'own')"), "[ab,cd] and own");
  EXPECT_EQ(of_user("'{} and {}'.format(u.strip(), 'own')"), "[ab,cd] and own");
  EXPECT_EQ(of_user("('\n' + a) | indent(2)"), "\n  <xyz>");
  EXPECT_EQ(of_user("[u.strip(), 1]"), "[['ab,cd'], 1]");
  EXPECT_EQ(of_user("messages[0] | string | length > 3"), "True");
  EXPECT_EQ(
      marked(
          "{% for m in messages %}<|{{ m.role }}|>{% set c %}({{ m.content | trim }}){% endset %}{{ c }}{% endfor %}",
          messages),
      "<|user|>([ab,cd])<|assistant|>(<xyz>)");
  // Of roles, the usual ones only are as good as the template's own.
  EXPECT_EQ(marked("{{ messages[0].role }} {{ messages[0].name }} {{ messages[1].role }}",
                   R"([{"role": "tool", "name": "tool"}, {"role": "im_start"}])"),
            "tool [tool] [im_start]");
  EXPECT_EQ(marked("{% macro m(x) %}-{{ x }}-{% endmacro %}{{ m(messages[1].content) }}{% filter trim %} {{ "
                   "messages[0].content }} {% endfilter %}",
                   messages),
            "-<xyz>-[ab,cd]");
}

class MixedText : public ::testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Tokenizers, MixedText, ::testing::Values("llama2", "llama3", "qwen2", "deepseek-v3", "o200k"),
                         [](const auto& instance) {
                           std::string name = instance.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

// Texts that no user tampers with get the ids that the library gives the whole; tokens that a user spells are text.
TEST_P(MixedText, UsersCannotWriteTokens) {
  const fs::path folder = fs::path(SWITCHYARD_TEST_DIR) / "golden" / "tokenizers" / GetParam();
  const auto tokenizer = load_tokenizer(folder);
  const Json json = Json::parse(read_file(folder / "tokenizer.json"));
  int tried = 0;
  for (const Json& added : json["added_tokens"]) {
    const auto token = added["content"].get<std::string>();
    const auto id = tokenizer->encode(token);
    if (id.size() != 1) continue;
    const auto count = [&](const std::vector<std::int32_t>& ids) { return std::count(ids.begin(), ids.end(), id[0]); };
    for (const std::string& user :
         {std::string("a friendly text"), " \xC3\xA9 e\xCC\x81 " + token + " in it", token, token + token}) {
      const std::string text = token + "user\n" + user + token + "\n";
      const std::size_t begin = token.size() + 5, end = begin + user.size();
      const std::vector<ForeignText> foreign = {{begin, end, false}};
      const auto ids = tokenizer->encode_mixed(text, foreign);
      const bool word = token.find_first_of("<[|") == std::string::npos;
      EXPECT_EQ(count(ids), word ? count(tokenizer->encode(text)) : 2) << token << " in " << user;
      EXPECT_EQ(count(tokenizer->encode_mixed(text, {})), count(tokenizer->encode(text))) << user;
      if (user.find(token) == std::string::npos) {
        EXPECT_EQ(ids, tokenizer->encode(text)) << token;
      }
      // Somebody else's text beside it takes nothing away.
      const std::vector<ForeignText> generated = {{begin, end, true}};
      const bool special = added["special"].get<bool>();
      EXPECT_EQ(count(tokenizer->encode_mixed(text, generated)), special ? 2 : count(tokenizer->encode(text))) << user;
      ++tried;
    }
    // Half of it by the user, half by the template.
    const std::vector<ForeignText> half = {{0, 1, false}};
    const bool word = token.find_first_of("<[|") == std::string::npos;
    EXPECT_EQ(count(tokenizer->encode_mixed(token, half)), word ? 1 : 0) << token;
  }
  EXPECT_GT(tried, 0);
}

TEST(MixedTextOfSentencePiece, FindsControlTokensOfTheTemplateOnly) {
  const std::string sentence = "the quick brown fox jumps over the lazy dog, and the dog sleeps on\n";
  const std::vector<std::string_view> texts = {sentence};
  const std::vector<std::string> names = {"text"};
  SentencePieceTraining training;
  training.vocab_size = 300;
  const auto tokenizer = train_sentencepiece(texts, names, training);
  const std::vector<ForeignText> foreign = {{3, 10, false}};
  const auto ids = tokenizer->encode_mixed("<s>dog</s></s>", foreign);
  EXPECT_EQ(ids.front(), 1);
  EXPECT_EQ(ids.back(), 2);
  EXPECT_EQ(std::count(ids.begin(), ids.end(), 2), 1);
  EXPECT_EQ(tokenizer->decode(ids), "dog</s>");
}

}  // namespace
}  // namespace switchyard::text
