#include "host/cli/parser.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <memory>

#include "host/text.h"

namespace mnist::cli {
namespace {

constexpr Word<DeviceChoice::Kind> kDevices[] = {{"auto", DeviceChoice::Kind::kAuto},
                                                 {"cuda", DeviceChoice::Kind::kCuda},
                                                 {"cpu", DeviceChoice::Kind::kCpu}};

std::optional<DeviceChoice> parse_device(const std::string& text) {
  if (const auto kind = one_of(kDevices).parse(text)) return DeviceChoice{*kind, {}};
  const std::string prefix = "cuda:";
  if (!text.starts_with(prefix)) return std::nullopt;
  const auto gpu = parse_number<int>(text.substr(prefix.size()));
  if (!gpu || *gpu < 0) return std::nullopt;
  return DeviceChoice{DeviceChoice::Kind::kCuda, *gpu};
}

size_t edit_distance(const std::string& a, const std::string& b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t substituted = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, substituted});
    }
  }
  return row[b.size()];
}

// "--learning-rate" -> "lr"
std::string initials(const std::string& option) {
  std::string letters;
  for (size_t i = 1; i < option.size(); ++i)
    if (option[i - 1] == '-' && option[i] != '-') letters += option[i];
  return letters;
}

// "--epochs N   Epochs in all [100]"
class HelpFormatter : public CLI::Formatter {
 public:
  std::string make_option_opts(const CLI::Option* option) const override {
    if (option->get_type_size() == 0) return "";
    return " " + option->get_type_name() + (option->get_expected_max() > 1 ? "..." : "");
  }
  std::string make_option_desc(const CLI::Option* option) const override {
    const std::string& value = option->get_default_str();
    return option->get_description() + (value.empty() ? "" : " [" + value + "]");
  }
};

}  // namespace

Parser::Parser(const std::string& command, const std::string& purpose,
               const std::vector<std::string>& examples)
    : CLI::App(fmt::format("{}\n\nExamples:\n  {}\n", purpose, fmt::join(examples, "\n  ")),
               "cuda-mnist " + command),
      command_(command) {
  option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  set_help_flag("-h,--help", "Show this help");
  const auto formatter = std::make_shared<HelpFormatter>();
  formatter->column_width(30);
  CLI::App::formatter(formatter);
}

bool Parser::parse(int argc, char** argv, Results& results) {
  try {
    CLI::App::parse(argc, argv);
    return true;
  } catch (const CLI::CallForHelp&) {
    results.text(help());
    return false;
  } catch (const CLI::ExtrasError&) {
    const std::string unknown = remaining().front();
    std::string cause = fmt::format("unexpected argument '{}'", unknown);
    std::vector<std::string> names;
    for (const CLI::Option* option : get_options())
      for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
    const auto meant = closest(unknown.substr(0, unknown.find('=')), names);
    if (meant) cause += fmt::format(", did you mean {}?", *meant);
    throw Error(ExitCode::kUsage,
                fmt::format("{}: {} See 'cuda-mnist {} --help'.", command_, cause, command_));
  } catch (const CLI::ParseError& error) {
    throw Error(ExitCode::kUsage, fmt::format("{}: {}. See 'cuda-mnist {} --help'.", command_,
                                              error.what(), command_));
  }
}

DatasetRequest DataOptions::request() const {
  DatasetRequest request;
  request.name = dataset;
  request.data_dir = data_dir;
  return request;
}

void add_data_options(Parser& parser, DataOptions& options) {
  parser.add("--dataset", options.dataset, one_of({"mnist", "fashion-mnist", "synthetic", "idx"}),
             "Data set; idx: files of your own, in --data-dir");
  parser
      .add_option("--data-dir", options.data_dir,
                  "Where its files are [$CUDA_MNIST_DATA_DIR, else the cache]")
      ->type_name("DIR");
}

std::string DeviceChoice::text() const {
  return gpu ? fmt::format("cuda:{}", *gpu) : word_of(kDevices, kind);
}

void add_device_options(Parser& parser, DeviceOptions& options) {
  const Syntax<DeviceChoice> syntax{"auto|cuda|cuda:N|cpu", "one of: auto, cuda, cuda:N, cpu",
                                    parse_device, std::mem_fn(&DeviceChoice::text)};
  parser.add("--device", options.device, syntax,
             "Where to compute; auto: a GPU if one is usable; N: as in doctor");
}

void add_backend_option(Parser& parser, DeviceOptions& options) {
  parser.add("--backend", options.backend, one_of(kBackends),
             "Kernels: this program's, or NVIDIA's libraries (GPU)");
}

void add_math_option(Parser& parser, DeviceOptions& options) {
  parser.add("--math", options.math, one_of(kMath),
             "Arithmetic; fp16: on tensor cores, default network or cudnn");
}

void add_threads_option(Parser& parser, int& threads) {
  parser.add("--threads", threads, whole_number(0, 1024),
             "Threads of the processor; 0: one per core");
}

void add_json_flag(Parser& parser, bool& json, const std::string& what) {
  parser.add_flag("--json", json, what);
}

Syntax<std::string> one_of(const std::vector<std::string>& words) {
  const auto parse = [words](const std::string& text) -> std::optional<std::string> {
    if (std::find(words.begin(), words.end(), text) == words.end()) return std::nullopt;
    return text;
  };
  return {fmt::format("{}", fmt::join(words, "|")),
          fmt::format("one of: {}", fmt::join(words, ", ")), parse,
          [](const std::string& value) { return value; }};
}

template <typename Integer>
Syntax<Integer> whole_number(Integer least, Integer greatest) {
  const auto parse = [=](const std::string& text) {
    auto number = parse_number<Integer>(text);
    if (number && (*number < least || *number > greatest)) number.reset();
    return number;
  };
  return {"N", fmt::format("a whole number from {} to {}", least, greatest), parse,
          [](const Integer& value) { return fmt::format("{}", value); }};
}

template Syntax<int> whole_number(int, int);
template Syntax<int64_t> whole_number(int64_t, int64_t);
template Syntax<uint64_t> whole_number(uint64_t, uint64_t);

Syntax<float> positive_number() {
  const auto parse = [](const std::string& text) {
    auto number = parse_number<float>(text);
    if (number && !(std::isfinite(*number) && *number > 0)) number.reset();
    return number;
  };
  return {"X", "a positive number", parse,
          [](const float& value) { return fmt::format("{}", value); }};
}

Syntax<StepRange> step_range() {
  const auto parse = [](const std::string& text) -> std::optional<StepRange> {
    const size_t colon = text.find(':');
    if (colon == text.npos) return std::nullopt;
    const auto begin = parse_number<int>(text.substr(0, colon));
    const auto end = parse_number<int>(text.substr(colon + 1));
    if (!begin || !end || *begin < 0 || *begin >= *end) return std::nullopt;
    return StepRange{*begin, *end};
  };
  return {"A:B", "a range of steps A:B with 0 <= A < B", parse, [](const StepRange& steps) {
            return steps.begin < 0 ? "" : fmt::format("{}:{}", steps.begin, steps.end);
          }};
}

std::optional<std::string> closest(const std::string& word,
                                   const std::vector<std::string>& candidates) {
  std::optional<std::string> best;
  size_t least = std::max<size_t>(2, word.size() / 3) + 1;
  for (const std::string& candidate : candidates) {
    if (word.size() > 3 && word == "--" + initials(candidate)) return candidate;
    const size_t distance = edit_distance(word, candidate);
    if (distance < least) {
      least = distance;
      best = candidate;
    }
  }
  return best;
}

}  // namespace mnist::cli
