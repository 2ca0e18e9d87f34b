// `switchyard run`: a conversation in the terminal.

#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>

#include "command.hpp"
#include "drafts.hpp"
#include "line_editor.hpp"
#include "routing_text.hpp"
#include "sampling_options.hpp"
#include "switchyard/base/atomic_file.hpp"
#include "switchyard/base/error.hpp"
#include "switchyard/base/parallel.hpp"
#include "switchyard/model/encoder_decoder.hpp"
#include "switchyard/observe/routing_profile.hpp"
#include "switchyard/runtime/chat.hpp"

namespace switchyard::cli {
namespace {

struct Options {
  ModelOptions model;
  std::string prompt, file, system, builtin, template_file, tools;
  std::vector<std::string> variables;
  Index tokens = 0, context = 0, batch = 512, draft = 0;
  runtime::SamplingConfig sampling;
  int threads = 0;
  bool stats = false, allow_non_causal = false, one_shot = false;
};

// The only state that the handlers touch. An interrupt stops the answer, the others the program.
std::atomic<bool> g_interrupted{false}, g_stop{false};
std::atomic<int> g_ending{0};

void on_signal(int signal) {
  if (signal != SIGINT) g_ending.store(signal);
  g_interrupted.store(true);
  g_stop.store(true);
}

void catch_signals() {
  // Without SA_RESTART: a signal ends the wait for a line.
  struct sigaction action {};
  action.sa_handler = on_signal;
  sigemptyset(&action.sa_mask);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) ::sigaction(signal, &action, nullptr);
  // A reader that went away shows as an error of writing.
  ::signal(SIGPIPE, SIG_IGN);
}

// Writes to standard output; false where nobody reads it any more.
bool write_out(std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  return std::fflush(stdout) == 0 && std::ferror(stdout) == 0;
}

constexpr std::string_view kHelp =
    "/help          this text\n"
    "/system TEXT   start anew with this system text; without TEXT, with none\n"
    "/reset         forget the conversation, keep the system text\n"
    "/undo          take back the last message and its answer\n"
    "/regen         answer the last message again\n"
    "/routing       which experts worked on the last answer, layer by layer\n"
    "/save FILE     write the conversation as JSON\n"
    "/load FILE     go on with a saved conversation\n"
    "/exit          leave (Ctrl-D, or Ctrl-C twice)\n"
    "A line that ends in \\ goes on with the next; \"\"\" begins and ends a text of several lines.\n"
    "Ctrl-C stops an answer. A message that begins with / is written with //.\n";

class Terminal {
 public:
  Terminal(const Options& options, runtime::Engine& engine, runtime::Chat& chat)
      : options_(options),
        engine_(engine),
        chat_(chat),
        dim_(::isatty(STDOUT_FILENO) == 1 ? "\x1b[2m" : ""),
        plain_(::isatty(STDOUT_FILENO) == 1 ? "\x1b[0m" : "") {}

  // One question, one answer.
  void answer_once(const std::string& prompt) {
    ask([&](const runtime::Chat::Listener& listener) { return chat_.ask(prompt, listener); });
    if (g_ending.load() != 0) throw Interrupted{g_ending.load()};
    if (g_interrupted.load()) throw Interrupted{SIGINT};
  }

  void converse() {
    const auto reader = make_line_reader();
    interactive_ = reader->interactive();
    if (interactive_) {
      fmt::print("{} ({}). /help shows what you can do; Ctrl-D leaves.\n", engine_.folder().string(), engine_.family());
    }
    int interrupts = 0;
    while (g_ending.load() == 0 && readable_) {
      std::string message;
      const auto status = read_message(*reader, message);
      if (status == LineReader::Status::kInterrupted) {
        g_interrupted.store(false);
        g_stop.store(g_ending.load() != 0);
        if (g_ending.load() != 0) break;
        if (++interrupts == 2) {
          say("\n");
          return;
        }
        say("\n(Ctrl-C again or Ctrl-D to leave)\n");
        continue;
      }
      interrupts = 0;
      if (status == LineReader::Status::kEnd) {
        if (interactive_) say("\n");
        break;
      }
      if (message.empty()) continue;
      reader->remember(message);
      if (!respond(message)) return;
      if (!interactive_ && g_interrupted.load()) break;
    }
    if (g_ending.load() != 0) throw Interrupted{g_ending.load()};
    if (!interactive_ && g_interrupted.load()) throw Interrupted{SIGINT};
  }

 private:
  void say(std::string_view text) { readable_ = write_out(text) && readable_; }

  LineReader::Status read_message(LineReader& reader, std::string& message) {
    using Status = LineReader::Status;
    constexpr std::string_view kQuotes = "\"\"\"";
    std::string line;
    Status status = reader.read("> ", line);
    if (status != Status::kLine) return status;
    if (line.substr(0, kQuotes.size()) == kQuotes) {
      std::string text = line.substr(kQuotes.size());
      while (true) {
        const std::size_t end = text.rfind(kQuotes);
        if (end != std::string::npos && end + kQuotes.size() == text.size()) {
          text.resize(end);
          break;
        }
        status = reader.read(". ", line);
        if (status == Status::kInterrupted) return status;
        if (status == Status::kEnd) break;
        text += "\n" + line;
      }
      const std::size_t begin = !text.empty() && text[0] == '\n' ? 1 : 0;
      const std::size_t tail = text.size() > begin && text.back() == '\n' ? 1 : 0;
      message = text.substr(begin, text.size() - begin - tail);
      return Status::kLine;
    }
    while (!line.empty() && line.back() == '\\') {
      line.back() = '\n';
      message += line;
      status = reader.read(". ", line);
      if (status == Status::kInterrupted) return status;
      if (status == Status::kEnd) line.clear();
      if (status == Status::kEnd) break;
    }
    message += line;
    return Status::kLine;
  }

  // False where the user leaves.
  bool respond(const std::string& message) {
    try {
      if (message[0] == '/' && message.substr(0, 2) != "//") return command(message);
      const std::string text = message[0] == '/' ? message.substr(1) : message;
      ask([&](const runtime::Chat::Listener& listener) { return chat_.ask(text, listener); });
    } catch (const Error& error) {
      // In a script the first error ends it; a user may try something else.
      if (!interactive_ || error.kind() == ErrorKind::kInternal) throw;
      say(fmt::format("{}\n", error.what()));
    }
    return true;
  }

  bool command(const std::string& message) {
    const std::size_t space = std::min(message.find(' '), message.size());
    const std::string name = message.substr(1, space - 1);
    const std::size_t begin = std::min(message.find_first_not_of(' ', space), message.size());
    const std::string rest = message.substr(begin, message.find_last_not_of(" \t") + 1 - begin);
    const auto needs_file = [&] {
      if (rest.empty()) fail(ErrorKind::kUsage, "/{}: expected the name of a file", name);
    };
    if (name == "exit" || name == "quit" || name == "bye") return false;
    if (name == "help") {
      say(kHelp);
    } else if (name == "system") {
      chat_.set_system(rest);
    } else if (name == "reset") {
      chat_.reset();
    } else if (name == "undo") {
      if (!chat_.undo()) say("There is nothing to take back.\n");
    } else if (name == "regen") {
      ask([&](const runtime::Chat::Listener& listener) { return chat_.answer_again(listener); });
    } else if (name == "routing") {
      say(answer_table(profile_));
    } else if (name == "save") {
      needs_file();
      write_file_atomically(rest, chat_.save());
    } else if (name == "load") {
      needs_file();
      chat_.load(read_file(rest), rest);
      say(fmt::format("{} messages\n", chat_.messages().size()));
    } else {
      fail(ErrorKind::kUsage, "/{}: no such command; /help lists them, and // begins a message with /", name);
    }
    return true;
  }

  template <class Ask>
  void ask(Ask&& question) {
    if (g_ending.load() == 0) {
      g_interrupted.store(false);
      g_stop.store(false);
    }
    observe::RoutingProfile profile;
    runtime::Chat::Listener listener;
    bool thinking = false, ends_line = true;
    listener.stop = &g_stop;
    listener.observer = &profile;
    listener.on_text = [&](std::string_view piece, bool reasoning) {
      if (piece.empty()) return readable_;
      if (reasoning != thinking) {
        say(fmt::format("{}{}", thinking ? "\n\n" : "", reasoning ? dim_ : plain_));
        thinking = reasoning;
      }
      say(piece);
      ends_line = piece.back() == '\n';
      return readable_;
    };
    const runtime::ChatAnswer answer = question(listener);
    if (thinking) say(plain_);
    if (!ends_line || answer.ids.empty()) say("\n");
    profile_ = std::move(profile);
    tell(answer);
  }

  void tell(const runtime::ChatAnswer& answer) {
    using End = runtime::ChatAnswer::End;
    // Beside the answer, so that a script gets the answer alone.
    if (answer.forgotten_messages > 0) {
      fmt::print(stderr, "(the context is full: the oldest {} messages are forgotten)\n", answer.forgotten_messages);
    }
    if (answer.end == End::kStopped && readable_ && g_ending.load() == 0) {
      fmt::print(stderr, "{}\n",
                 answer.ids.empty() ? "(stopped before the answer began; the message is taken back)" : "(stopped)");
    }
    if (answer.end == End::kContext) fmt::print(stderr, "(the context is full; -c gives more, /reset starts anew)\n");
    if (!options_.stats) return;
    const auto rate = [](Index tokens, double seconds) {
      return seconds > 0.0 ? static_cast<double>(tokens) / seconds : 0.0;
    };
    const auto generated = static_cast<Index>(answer.ids.size());
    fmt::print(stderr, "[prompt {} tokens, {} of them known, the rest at {:.0f}/s; answer {} tokens at {:.1f}/s]\n",
               answer.prompt_tokens, answer.reused_tokens,
               rate(answer.prompt_tokens - answer.reused_tokens, answer.prefill_seconds), generated,
               rate(std::max<Index>(0, generated - 1), answer.decode_seconds));
    if (options_.draft > 0) {
      const Index decoded = std::max<Index>(0, generated - (answer.end == End::kModel ? 0 : 1));
      fmt::print(stderr, "[{}]\n", drafts_text({answer.drafts, decoded}));
    }
  }

  const Options& options_;
  runtime::Engine& engine_;
  runtime::Chat& chat_;
  std::string_view dim_, plain_;
  observe::RoutingProfile profile_;
  bool interactive_ = false, readable_ = true;
};

// NAME=VALUE, the value as JSON where it is some, else as text.
std::string variables_json(const std::vector<std::string>& given) {
  if (given.empty()) return {};
  nlohmann::ordered_json json = nlohmann::ordered_json::object();
  for (const std::string& one : given) {
    const std::size_t equals = one.find('=');
    if (equals == std::string::npos || equals == 0) fail(ErrorKind::kUsage, "--var {}: expected NAME=VALUE", one);
    const std::string value = one.substr(equals + 1);
    auto parsed = nlohmann::ordered_json::parse(value, nullptr, false);
    json[one.substr(0, equals)] = parsed.is_discarded() ? nlohmann::ordered_json(value) : parsed;
  }
  return json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

text::ChatTemplate find_template(const Options& options, const runtime::Engine& engine) {
  std::optional<text::ChatTemplate> found;
  if (!options.builtin.empty()) found = text::ChatTemplate::builtin(options.builtin);
  if (!options.template_file.empty()) {
    found = text::ChatTemplate::parse(read_file(options.template_file), options.template_file);
  }
  if (!found) found = engine.chat_template();
  if (!found) {
    fail(ErrorKind::kNotFound,
         "{}: the model has no chat template; it may never have been trained to chat. --template NAME renders the "
         "conversation as one of {}; `switchyard generate` continues a text",
         engine.folder().string(), fmt::join(text::ChatTemplate::builtin_names(), ", "));
  }
  runtime::add_special_texts(*found, engine.tokenizer());
  return *std::move(found);
}

void run(const Options& options) {
  options.sampling.validate();
  runtime::ChatConfig config;
  config.context = options.context;
  config.batch = options.batch;
  config.max_tokens = options.tokens;
  config.sampling = options.sampling;
  config.draft = options.draft;
  config.variables = variables_json(options.variables);
  if (!options.tools.empty()) config.tools = read_file(options.tools);
  config.allow_non_causal = options.allow_non_causal;
  std::string prompt = options.prompt;
  if (!options.file.empty()) prompt = read_text(options.file);

  if (model::is_encoder_decoder(options.model.path)) {
    fail(ErrorKind::kUnsupported, "{}: an encoder-decoder answers one text and cannot chat; use `switchyard generate`",
         options.model.path);
  }
  const auto engine = runtime::Engine::load(options.model.path, !options.model.no_mmap, options.draft > 0);
  check_context(options.context, *engine);
  runtime::Chat chat(engine->transformer(), engine->tokenizer(), find_template(options, *engine), config);
  if (!options.system.empty()) chat.set_system(options.system);
  catch_signals();
  Terminal terminal(options, *engine, chat);
  if (options.one_shot) {
    terminal.answer_once(prompt);
  } else {
    terminal.converse();
  }
}

}  // namespace

void add_run(CLI::App& program, Action& action) {
  auto options = std::make_shared<Options>();
  CLI::App* command = program.add_subcommand("run", "Chat with a model in the terminal");
  add_model(*command, options->model);
  auto* prompt = command->add_option("-p,--prompt", options->prompt, "Answer this message and exit");
  auto* file =
      command->add_option("-f,--file", options->file, "The same with a message from a file (- = standard input)")
          ->excludes(prompt);
  command->add_option("--system", options->system, "The system text");
  auto* builtin =
      command->add_option("--template", options->builtin, "Use one of the program's own templates: chatml ...");
  command->add_option("--template-file", options->template_file, "Use this Jinja template")->excludes(builtin);
  command
      ->add_option("--var", options->variables,
                   "NAME=VALUE for the template, such as enable_thinking=false; may be repeated")
      ->allow_extra_args(false);
  command->add_option("--tools", options->tools, "A JSON file with the tools that the template shows to the model");
  command->add_option("-n,--predict", options->tokens, "Most tokens of an answer; 0 = what the context holds")
      ->check(CLI::Range(Index{0}, Index{1} << 30))
      ->capture_default_str();
  add_context(*command, options->context, options->batch);
  add_sampling(*command, options->sampling);
  command->add_flag("--stats", options->stats, "Show tokens and speed behind every answer");
  add_draft(*command, options->draft);
  add_allow_non_causal(*command, options->allow_non_causal);
  add_threads(*command, options->threads);
  command->footer(
      "\nIn a pipe every line is a message; \\ at the end of a line and \"\"\" work there too.\n"
      "\nExamples:\n  switchyard run -m MODEL --system \"Answer in one sentence.\"\n"
      "  switchyard run -m MODEL -p \"What is a mixture of experts?\" --temp 0\n"
      "  switchyard run -m MODEL -f letter.txt >answer.txt\n");
  command->callback([options, prompt, file, &action] {
    options->one_shot = prompt->count() > 0 || file->count() > 0;
    action = [options] { ThreadArena(options->threads).run([&] { run(*options); }); };
  });
}

}  // namespace switchyard::cli
