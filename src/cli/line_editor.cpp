#include "line_editor.hpp"

#include <histedit.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <clocale>
#include <cstdio>
#include <iostream>
#include <string_view>

#include "switchyard/text/utf8.hpp"

namespace switchyard::cli {
namespace {

std::wstring to_wide(std::string_view text) {
  std::wstring wide;
  while (!text.empty()) {
    const text::Utf8Step step = text::read_utf8(text);
    wide += static_cast<wchar_t>(step.status == text::Utf8Status::kValid ? step.code_point : U'\xFFFD');
    text.remove_prefix(step.length);
  }
  return wide;
}

std::string to_utf8(std::wstring_view wide) {
  std::string text;
  for (const wchar_t c : wide) {
    const auto code = static_cast<char32_t>(c);
    text::append_utf8(text, code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF) ? U'\xFFFD' : code);
  }
  return text;
}

// What the terminal sends around a pasted text once it is asked to.
constexpr const char* kPasteOn = "\x1b[?2004h";
constexpr const char* kPasteOff = "\x1b[?2004l";
constexpr std::wstring_view kPasteEnd = L"\x1b[201~";

unsigned char insert_paste(EditLine* editor, wint_t) {
  constexpr std::size_t kLongest = std::size_t{1} << 20;
  std::wstring pasted;
  wchar_t c = 0;
  while (pasted.size() < kLongest && el_wgetc(editor, &c) == 1) {
    pasted += c;
    if (pasted.size() < kPasteEnd.size()) continue;
    if (std::wstring_view(pasted).substr(pasted.size() - kPasteEnd.size()) == kPasteEnd) {
      pasted.resize(pasted.size() - kPasteEnd.size());
      break;
    }
  }
  // A terminal sends a pasted line end as the key that ends a line.
  std::wstring clean;
  for (std::size_t i = 0; i < pasted.size(); ++i) {
    const bool pair = pasted[i] == L'\r' && i + 1 < pasted.size() && pasted[i + 1] == L'\n';
    if (!pair && pasted[i] != L'\0') clean += pasted[i] == L'\r' ? L'\n' : pasted[i];
  }
  while (!clean.empty() && clean.back() == L'\n') clean.pop_back();
  if (clean.empty()) return CC_REFRESH;
  return el_winsertstr(editor, clean.c_str()) == -1 ? CC_ERROR : CC_REFRESH;
}

class TerminalReader final : public LineReader {
 public:
  TerminalReader() {
    editor_ = el_init("switchyard", stdin, stdout, stderr);
    history_ = history_winit();
    HistEventW event{};
    history_w(history_, &event, H_SETSIZE, 1000);
    el_wset(editor_, EL_CLIENTDATA, this);
    el_wset(editor_, EL_PROMPT, prompt_of);
    el_wset(editor_, EL_EDITOR, L"emacs");
    el_wset(editor_, EL_HIST, history_w, history_);
    el_wset(editor_, EL_ADDFN, L"insert-paste", L"Insert a pasted text", insert_paste);
    el_wset(editor_, EL_BIND, L"\x1b[200~", L"insert-paste", nullptr);
    // Keys that many terminals send and libedit does not know by itself.
    el_wset(editor_, EL_BIND, L"\x1b[1~", L"ed-move-to-beg", nullptr);
    el_wset(editor_, EL_BIND, L"\x1b[4~", L"ed-move-to-end", nullptr);
    el_wset(editor_, EL_BIND, L"\x1b[3~", L"ed-delete-next-char", nullptr);
  }
  ~TerminalReader() override {
    history_wend(history_);
    el_end(editor_);
  }
  TerminalReader(const TerminalReader&) = delete;
  TerminalReader& operator=(const TerminalReader&) = delete;

  Status read(const std::string& prompt, std::string& line) override {
    prompt_ = to_wide(prompt);
    el_resize(editor_);
    show(kPasteOn);
    int count = 0;
    errno = 0;
    const wchar_t* found = el_wgets(editor_, &count);
    const int reason = errno;
    show(kPasteOff);
    if (found == nullptr || count <= 0) {
      el_wset(editor_, EL_REFRESH);
      return count < 0 && reason == EINTR ? Status::kInterrupted : Status::kEnd;
    }
    line = to_utf8(std::wstring_view(found, static_cast<std::size_t>(count)));
    while (!line.empty() && (line.back() == '\n' || line.back() == '\r')) line.pop_back();
    return Status::kLine;
  }
  void remember(const std::string& entry) override {
    HistEventW event{};
    history_w(history_, &event, H_ENTER, to_wide(entry).c_str());
  }
  bool interactive() const override { return true; }

 private:
  static void show(const char* sequence) {
    std::fputs(sequence, stdout);
    std::fflush(stdout);
  }
  static wchar_t* prompt_of(EditLine* editor) {
    TerminalReader* self = nullptr;
    el_wget(editor, EL_CLIENTDATA, &self);
    return self->prompt_.data();
  }
  EditLine* editor_;
  HistoryW* history_;
  std::wstring prompt_;
};

class PipeReader final : public LineReader {
 public:
  Status read(const std::string&, std::string& line) override {
    if (!std::getline(std::cin, line)) return Status::kEnd;
    if (!line.empty() && line.back() == '\r') line.pop_back();
    return Status::kLine;
  }
  void remember(const std::string&) override {}
  bool interactive() const override { return false; }
};

}  // namespace

std::unique_ptr<LineReader> make_line_reader() {
  if (::isatty(STDIN_FILENO) != 1 || ::isatty(STDOUT_FILENO) != 1) return std::make_unique<PipeReader>();
  // Without a locale the editor would take every byte of a character for a character.
  const char* locale = std::setlocale(LC_CTYPE, "");
  if (locale == nullptr || std::string_view(locale) == "C" || std::string_view(locale) == "POSIX") {
    std::setlocale(LC_CTYPE, "C.UTF-8");
  }
  return std::make_unique<TerminalReader>();
}

}  // namespace switchyard::cli
