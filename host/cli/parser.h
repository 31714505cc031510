// Command lines: what every command's parser shares.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "host/cli/output.h"
#include "host/data/dataset.h"
#include "host/engine/engine.h"
#include "host/error.h"
#include "host/model/math.h"

namespace mnist::cli {

// What an option may say, and what that means.
template <typename T>
struct Syntax {
  std::string type;      // for the help: "N", "on|off"
  std::string expected;  // for messages: "a whole number from 1 to 9", "one of: on, off"
  std::function<std::optional<T>(const std::string&)> parse;
  std::function<std::string(const T&)> text;  // what the help shows of a default
};

// A word and what it stands for. A table of them is an option's syntax.
template <typename T>
struct Word {
  const char* word;
  T value;
};

template <typename T, size_t kCount>
const char* word_of(const Word<T> (&words)[kCount], const T& value) {
  for (const Word<T>& known : words)
    if (known.value == value) return known.word;
  return "";
}

template <typename T, size_t kCount>
Syntax<T> one_of(const Word<T> (&words)[kCount]) {
  std::string type, expected = "one of: ";
  for (const Word<T>& known : words) {
    type += (type.empty() ? "" : "|") + std::string(known.word);
    expected += (&known == words ? "" : ", ") + std::string(known.word);
  }
  const auto parse = [&words](const std::string& text) -> std::optional<T> {
    for (const Word<T>& known : words)
      if (text == known.word) return known.value;
    return std::nullopt;
  };
  return {type, expected, parse, [&words](const T& value) { return word_of(words, value); }};
}

Syntax<std::string> one_of(const std::vector<std::string>& words);

// In [least, greatest].
template <typename Integer>
Syntax<Integer> whole_number(Integer least, Integer greatest);
Syntax<float> positive_number();

struct StepRange {
  int begin = -1, end = -1;  // steps begin..end-1; -1: none
};
Syntax<StepRange> step_range();  // "A:B", A < B

inline constexpr Word<bool> kOnOff[] = {{"on", true}, {"off", false}};
inline constexpr Word<BackendKind> kBackends[] = {{"native", BackendKind::kNative},
                                                  {"cudnn", BackendKind::kCudnn}};
inline constexpr Word<Math> kMath[] = {{name_of(Math::kFp32), Math::kFp32},
                                       {name_of(Math::kFp16), Math::kFp16}};

// The parser of one command. `examples` are command lines, shown before the options.
class Parser : public CLI::App {
 public:
  Parser(const std::string& command, const std::string& purpose,
         const std::vector<std::string>& examples);

  // An option that sets `value`, which outlives the parser; what it holds now is the default.
  template <typename T>
  CLI::Option* add(const std::string& name, T& value, const Syntax<T>& syntax,
                   const std::string& help) {
    const auto check = [syntax](const std::string& text) {
      return syntax.parse(text) ? "" : "'" + text + "' is not " + syntax.expected;
    };
    const auto set = [&value, parse = syntax.parse](const CLI::results_t& texts) {
      value = *parse(texts.back());
      return true;
    };
    return add_option(name, set, help)
        ->type_name(syntax.type)
        ->default_str(syntax.text(value))
        ->check(CLI::Validator(check, ""));
  }

  // False: the help was asked for and has been written. Throws Error(kUsage) with a hint.
  bool parse(int argc, char** argv, Results& results);

 private:
  std::string command_;
};

// Options that several commands have.
struct DataOptions {
  std::string dataset = "mnist";
  std::string data_dir;
  DatasetRequest request() const;
};
struct DeviceChoice {
  enum class Kind { kAuto, kCuda, kCpu } kind = Kind::kAuto;
  std::optional<int> gpu;    // N of cuda:N
  std::string text() const;  // as --device has it
};
struct DeviceOptions {
  DeviceChoice device;
  BackendKind backend = BackendKind::kNative;
  Math math = Math::kFp32;
};
void add_data_options(Parser& parser, DataOptions& options);
void add_device_options(Parser& parser, DeviceOptions& options);
void add_backend_option(Parser& parser, DeviceOptions& options);
void add_math_option(Parser& parser, DeviceOptions& options);
void add_threads_option(Parser& parser, int& threads);
void add_json_flag(Parser& parser, bool& json, const std::string& what);

// The candidate closest to `word`, if any is close: "--epoch" -> "--epochs", "--lr" ->
// "--learning-rate".
std::optional<std::string> closest(const std::string& word,
                                   const std::vector<std::string>& candidates);

}  // namespace mnist::cli
