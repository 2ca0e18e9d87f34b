#include "switchyard/runtime/chat.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "model/small_models.hpp"
#include "support/error_of.hpp"
#include "switchyard/moe/statistics.hpp"
#include "switchyard/text/utf8.hpp"

namespace switchyard::runtime {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;
using Ids = std::vector<std::int32_t>;
using End = ChatAnswer::End;

// Speaks bytes.
model::Transformer byte_model(Index max_positions) {
  model::ModelConfig config =
      model::model_of(256, 16, {model::moe_layer(2, 1, 8, 4, 2, 12), model::moe_layer(2, 2, 8, 3, 1, 12)});
  config.max_positions = max_positions;
  model::Transformer transformer(config);
  model::randomize(transformer, 5);
  return transformer;
}

class ChatTest : public ::testing::Test {
 protected:
  ChatTest() : transformer_(byte_model(600)), tokenizer_(text::make_byte_tokenizer()) {
    config_.max_tokens = 24;
    config_.batch = 50;
    config_.sampling.temperature = 0.0F;
  }
  Chat make() { return Chat(transformer_, *tokenizer_, text::ChatTemplate::builtin("chatml"), config_); }

  model::Transformer transformer_;
  std::unique_ptr<text::Tokenizer> tokenizer_;
  ChatConfig config_;
};

TEST_F(ChatTest, EveryAnswerIsThatOfANewSession) {
  Chat chat = make();
  chat.set_system("Be brief.");
  for (const char* question : {"Hello", "How are you today?", "\xC3\xA9"}) {
    std::string heard;
    Chat::Listener listener;
    listener.on_text = [&](std::string_view piece, bool reasoning) {
      EXPECT_FALSE(reasoning);
      EXPECT_FALSE(text::find_invalid_utf8(piece)) << "half a character";
      heard += piece;
      return true;
    };
    const ChatAnswer answer = chat.ask(question, listener);
    EXPECT_EQ(heard, answer.text);
    EXPECT_EQ(answer.end, End::kMaxTokens);
    EXPECT_THAT(answer.ids, SizeIs(24));
    EXPECT_EQ(chat.messages().back(), (ChatMessage{"assistant", answer.text, ""}));
    if (chat.messages().size() > 3) {
      EXPECT_GT(answer.reused_tokens, 30) << "the cache is used again";
    }

    // The same conversation, all of it at once.
    Chat other = make();
    std::string before = chat.save();
    auto json = nlohmann::ordered_json::parse(before);
    json["messages"].erase(json["messages"].size() - 1);
    other.load(json.dump(), "saved");
    EXPECT_EQ(other.prompt_ids().size(), static_cast<std::size_t>(answer.prompt_tokens));
    const ChatAnswer again = other.answer_again({});
    EXPECT_EQ(again.reused_tokens, 0);
    EXPECT_EQ(again.ids, answer.ids) << question;
  }
}

TEST_F(ChatTest, MessagesComeAndGo) {
  Chat chat = make();
  EXPECT_FALSE(chat.undo());
  EXPECT_THAT(error_of(ErrorKind::kUsage, [&] { chat.answer_again({}); }), HasSubstr("no message"));
  chat.set_system("S");
  const ChatAnswer first = chat.ask("one", {});
  chat.ask("two", {});
  EXPECT_THAT(chat.messages(), SizeIs(5));
  EXPECT_TRUE(chat.undo());
  EXPECT_THAT(chat.messages(), SizeIs(3));
  EXPECT_EQ(chat.answer_again({}).ids, first.ids) << "temperature 0";
  EXPECT_THAT(chat.messages(), SizeIs(3));
  const std::string saved = chat.save();
  chat.reset();
  EXPECT_THAT(chat.messages(), ElementsAre(ChatMessage{"system", "S", ""}));
  chat.load(saved, "saved");
  EXPECT_THAT(chat.messages(), SizeIs(3));
  EXPECT_EQ(chat.save(), saved);
  chat.set_system("");
  EXPECT_THAT(chat.messages(), SizeIs(0));
  for (const char* bad : {"", "3", "{}", R"({"messages": 3})", R"({"messages": [3]})",
                          R"({"messages": [{"role": "user"}]})", R"({"messages": [{"role": "user", "content": 3}]})",
                          R"({"messages": [{"role": "user", "content": "a"}, {"role": "system", "content": "b"}]})"}) {
    EXPECT_THAT(error_of(ErrorKind::kBadInput, [&] { chat.load(bad, "bad.json"); }), HasSubstr("bad.json: ")) << bad;
  }
}

TEST_F(ChatTest, AnAnswerMayBeStopped) {
  Chat chat = make();
  std::atomic<bool> stop{false};
  Chat::Listener listener;
  listener.stop = &stop;
  int pieces = 0;
  listener.on_text = [&](std::string_view, bool) {
    if (++pieces == 3) stop = true;
    return true;
  };
  const ChatAnswer part = chat.ask("Hello", listener);
  EXPECT_EQ(part.end, End::kStopped);
  EXPECT_THAT(part.ids, SizeIs(3));
  EXPECT_THAT(chat.messages(), SizeIs(2));
  // Stopped while the prompt is read: as if nothing had been said.
  const ChatAnswer none = chat.ask("More", listener);
  EXPECT_EQ(none.end, End::kStopped);
  EXPECT_THAT(chat.messages(), SizeIs(2));
  // The session goes on as one that was never stopped would.
  stop = false;
  listener.on_text = nullptr;
  Chat other = make();
  other.load(chat.save(), "saved");
  EXPECT_EQ(chat.ask("More", listener).ids, other.ask("More", {}).ids);

  listener.on_text = [](std::string_view, bool) { return false; };
  EXPECT_THAT(chat.ask("x", listener).ids, SizeIs(1));
}

TEST_F(ChatTest, OldMessagesMakeRoom) {
  config_.context = 300;
  Chat chat = make();
  chat.set_system("S");
  Index forgotten = 0;
  for (int i = 0; i < 12; ++i) {
    const ChatAnswer answer = chat.ask("a question of some length", {});
    EXPECT_LE(answer.prompt_tokens, 300 - 24);
    EXPECT_THAT(answer.ids, SizeIs(24));
    forgotten += answer.forgotten_messages;
  }
  EXPECT_GT(forgotten, 0);
  EXPECT_THAT(chat.messages(), SizeIs(25)) << "all are kept for saving";
  EXPECT_THAT(error_of(ErrorKind::kBadInput, [&] { chat.ask(std::string(400, 'x'), {}); }),
              HasSubstr("the context holds 300"));
  EXPECT_THAT(chat.messages(), SizeIs(25));
  // Not limited by a number of tokens, an answer ends with the context.
  config_.max_tokens = 0;
  Chat endless = make();
  const ChatAnswer answer = endless.ask("Hi", {});
  EXPECT_EQ(answer.end, End::kContext);
  EXPECT_EQ(answer.prompt_tokens + static_cast<Index>(answer.ids.size()), 300);
}

TEST_F(ChatTest, TheObserverSeesTheAnswerAlone) {
  Chat chat = make();
  moe::StatisticsRecorder recorder;
  Chat::Listener listener;
  listener.observer = &recorder;
  chat.ask("Hello there", listener);
  EXPECT_EQ(recorder.layers().at(0).tokens, 23) << "all tokens of the answer but the last, which nothing follows";
}

TEST_F(ChatTest, ATemplateThatRefusesChangesNothing) {
  const std::string source =
      "{% if messages|length > 1 %}\n{{ raise_exception('one message only') }}{% endif %}{{ messages[0].content }}";
  Chat chat(transformer_, *tokenizer_, text::ChatTemplate::parse(source, "mine"), config_);
  chat.ask("a", {});
  EXPECT_EQ(error_of(ErrorKind::kBadInput, [&] { chat.ask("b", {}); }), "mine: line 2: one message only");
  EXPECT_THAT(chat.messages(), SizeIs(2));
}

TEST(ChatEnds, WhatTheTemplateWritesBehindAnAnswerEndsOne) {
  const std::string sentence = "the quick brown fox jumps over the lazy dog, and the dog sleeps on\n";
  const std::vector<std::string_view> texts = {sentence};
  const std::vector<std::string> names = {"text"};
  text::SentencePieceTraining training;
  training.vocab_size = 300;
  const auto tokenizer = text::train_sentencepiece(texts, names, training);
  model::ModelConfig config = model::model_of(300, 16, {model::dense_layer(2, 1, 8, 12)});
  model::Transformer transformer(config);
  model::randomize(transformer, 5);
  const auto ends = [&](const std::string& source) {
    return Chat(transformer, *tokenizer, text::ChatTemplate::parse(source, "t"), {}).end_ids();
  };
  EXPECT_THAT(ends("{{ messages[-1].content }}<s>"), Contains(1)) << "a control token";
  EXPECT_THAT(ends("{{ messages[-1].content }} the"), ElementsAre(2)) << "the model's own alone";
  EXPECT_THAT(ends("{{ raise_exception('no') }}"), ElementsAre(2));
}

TEST(SessionRewind, AnotherTextMayFollow) {
  for (const auto& [name, config] : model::small_models()) {
    model::Transformer transformer(config);
    model::randomize(transformer, 3);
    const Ids first = model::random_ids(20, config.vocab, 1);
    Ids second = model::random_ids(20, config.vocab, 2);
    std::copy_n(first.begin(), 12, second.begin());
    Session session(transformer);
    session.append(first);
    EXPECT_EQ(session.rewind(25), 20);
    EXPECT_EQ(session.rewind(12), 12) << name;
    error_of(ErrorKind::kInternal, [&] { session.logits(); });
    session.append(std::span(second).subspan(12));
    EXPECT_EQ(session.tokens(), second);
    Session fresh(transformer);
    fresh.append(second);
    EXPECT_TRUE(oracle::close(session.logits(), oracle::to_double(fresh.logits()), model::model_tolerance(config, 2)))
        << name;
  }
}

TEST(SessionRewind, StartsAnewWhereTheCacheDoesNotHold) {
  model::Transformer transformer = byte_model(64);
  Session session(transformer, 8);
  session.append(Ids{1, 2, 3, 4, 5, 6});
  session.append(Ids{7, 8, 9});  // the older half is forgotten
  EXPECT_EQ(session.rewind(7), 0);
  EXPECT_THAT(session.tokens(), SizeIs(0));
  EXPECT_EQ(session.rewind(0), 0);
}

}  // namespace
}  // namespace switchyard::runtime
