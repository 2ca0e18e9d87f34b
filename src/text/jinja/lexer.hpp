#pragma once
// A template's source as tokens, with the white space control that chat templates are rendered with: the line end
// behind a block tag goes (trim_blocks), and so does the indentation before one (lstrip_blocks).
// Source: the Jinja2 3.1 documentation, "Template Designer Documentation".

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace switchyard::text::jinja {

struct Token {
  enum class Type {
    kData,           // text between tags
    kVariableBegin,  // {{
    kVariableEnd,
    kBlockBegin,  // {%
    kBlockEnd,
    kName,
    kString,  // text: its value
    kInteger,
    kFloat,
    kOperator,
    kEnd,
  };
  Type type;
  int line;
  std::string text;
  std::int64_t integer = 0;
  double number = 0.0;

  bool is(Type what) const { return type == what; }
  bool is_operator(std::string_view what) const { return type == Type::kOperator && text == what; }
  bool is_name(std::string_view what) const { return type == Type::kName && text == what; }
  std::string describe() const;
};

// The last token is kEnd. `source` is valid UTF-8. Throws Failure with the line.
std::vector<Token> tokenize(std::string_view source);

}  // namespace switchyard::text::jinja
