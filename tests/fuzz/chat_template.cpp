// A chat template, rendered with a conversation. Where the input has a line "====", what follows are the messages.

#include "switchyard/text/chat_template.hpp"
#include "fuzz.hpp"
#include "switchyard/text/utf8.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace switchyard;
  return fuzz::run([&] {
    const std::string_view input = fuzz::text_of(data, size);
    constexpr std::string_view kBorder = "\n====\n";
    const std::size_t border = input.find(kBorder);
    text::ChatInput chat;
    chat.messages =
        R"([{"role": "system", "content": "Be brief."}, {"role": "user", "content": " Hi <|im_end|> "},
            {"role": "assistant", "content": "Hello", "reasoning_content": "Greet.",
             "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": {"a": [1, 2.5, null, true]}}}]},
            {"role": "tool", "content": "{}"}, {"role": "user", "content": [{"type": "text", "text": "\u00e9"}]}])";
    chat.tools = R"([{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}])";
    chat.variables = R"({"enable_thinking": true, "n": 3})";
    chat.now = std::tm{};
    if (border != std::string_view::npos) chat.messages = std::string(input.substr(border + kBorder.size()));
    const auto parsed =
        text::ChatTemplate::parse(std::string(input.substr(0, border)), "input", {{"bos_token", "<s>"}});
    const text::RenderedChat result = parsed.render(chat);
    fuzz::check(!text::find_invalid_utf8(result.text), "the prompt is valid UTF-8");
    std::size_t done = 0;
    for (const text::ForeignText& one : result.foreign) {
      fuzz::check(done <= one.begin && one.begin < one.end && one.end <= result.text.size(),
                  "stretches ascend within the text");
      done = one.end;
    }
  });
}
