#include "regex.hpp"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <array>

#include "switchyard/base/error.hpp"

namespace switchyard::text {
namespace {

// A sane expression takes some hundred steps a character; a hostile one would go on for ever.
constexpr std::uint32_t kMostSteps = 20'000'000, kMostHeapKib = 256 * 1024;
constexpr std::size_t kFirstStack = std::size_t{32} << 10, kLargestStack = std::size_t{64} << 20;

std::string message_of(int code) {
  std::array<PCRE2_UCHAR, 256> text{};
  pcre2_get_error_message(code, text.data(), text.size());
  return reinterpret_cast<const char*>(text.data());
}

}  // namespace

struct RegexScratch::Parts {
  pcre2_match_data* data = pcre2_match_data_create(1, nullptr);
  pcre2_match_context* context = pcre2_match_context_create(nullptr);
  pcre2_jit_stack* stack = nullptr;
  ~Parts() {
    pcre2_jit_stack_free(stack);
    pcre2_match_context_free(context);
    pcre2_match_data_free(data);
  }
};

RegexScratch::RegexScratch() : parts_(std::make_unique<Parts>()) {
  if (parts_->data == nullptr || parts_->context == nullptr) fail(ErrorKind::kResource, "out of memory");
  pcre2_set_match_limit(parts_->context, kMostSteps);
  pcre2_set_heap_limit(parts_->context, kMostHeapKib);
}
RegexScratch::~RegexScratch() = default;

struct Regex::Code {
  pcre2_code* code = nullptr;
  std::string where, pattern;
  ~Code() { pcre2_code_free(code); }
};

Regex::Regex(std::string_view pattern, RegexDialect dialect, const std::string& where)
    : code_(std::make_unique<Code>()) {
  code_->where = where;
  code_->pattern = pattern;
  const std::string translated = translate_regex(pattern, dialect, where);
  int error = 0;
  PCRE2_SIZE offset = 0;
  code_->code =
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                    PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, &error, &offset, nullptr);
  if (code_->code == nullptr) {
    fail(ErrorKind::kUnsupported, "{}: the regular expression '{}' cannot be used: {}", where, pattern,
         message_of(error));
  }
  // Where there is no compiler for the machine, or the expression is too large for it, the interpreter does it.
  pcre2_jit_compile(code_->code, PCRE2_JIT_COMPLETE);
}
Regex::~Regex() = default;
Regex::Regex(Regex&&) noexcept = default;
Regex& Regex::operator=(Regex&&) noexcept = default;

std::optional<RegexMatch> Regex::find(std::string_view text, std::size_t from, RegexScratch& scratch) const {
  RegexScratch::Parts& parts = *scratch.parts_;
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  int result = pcre2_match(code_->code, subject, text.size(), from, PCRE2_NO_UTF_CHECK, parts.data, parts.context);
  if (result == PCRE2_ERROR_JIT_STACKLIMIT && parts.stack == nullptr) {
    parts.stack = pcre2_jit_stack_create(kFirstStack, kLargestStack, nullptr);
    if (parts.stack != nullptr) {
      pcre2_jit_stack_assign(parts.context, nullptr, parts.stack);
      result = pcre2_match(code_->code, subject, text.size(), from, PCRE2_NO_UTF_CHECK, parts.data, parts.context);
    }
  }
  if (result == PCRE2_ERROR_NOMATCH) return std::nullopt;
  if (result < 0) {
    fail(ErrorKind::kBadInput, "{}: the regular expression '{}' gave up on the text at byte {}: {}", code_->where,
         code_->pattern, from, message_of(result));
  }
  const PCRE2_SIZE* found = pcre2_get_ovector_pointer(parts.data);
  if (found[0] > found[1]) {
    fail(ErrorKind::kUnsupported, "{}: the regular expression '{}' ends before it begins", code_->where,
         code_->pattern);
  }
  return RegexMatch{found[0], found[1]};
}

std::size_t Regex::next_character(std::string_view text, std::size_t at) {
  ++at;
  while (at < text.size() && (static_cast<unsigned char>(text[at]) & 0xC0U) == 0x80U) ++at;
  return at;
}

}  // namespace switchyard::text
