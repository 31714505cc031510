#include "host/cli/parser.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <memory>

#include "host/text.h"

namespace mnist::cli {
namespace {

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
    for (const CLI::Option* option : get_options()) {
      for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
    }
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
  add_choice(parser, "--dataset", options.dataset, {"mnist", "fashion-mnist", "synthetic", "idx"},
             "Data set; idx: files of your own, in --data-dir");
  parser
      .add_option("--data-dir", options.data_dir,
                  "Where its files are [$CUDA_MNIST_DATA_DIR, else the cache]")
      ->type_name("DIR");
}

void add_device_options(Parser& parser, DeviceOptions& options) {
  add_choice(parser, "--device", options.device, {"auto", "cuda", "cpu"},
             "Where to compute; auto: a GPU if one is usable");
}

void add_backend_option(Parser& parser, DeviceOptions& options) {
  add_choice(parser, "--backend", options.backend, {"native", "cudnn"},
             "Kernels: this program's, or NVIDIA's libraries (GPU)");
}

BackendKind DeviceOptions::kind() const {
  return backend == "cudnn" ? BackendKind::kCudnn : BackendKind::kNative;
}

void add_json_flag(Parser& parser, bool& json, const std::string& what) {
  parser.add_flag("--json", json, what);
}

CLI::Option* add_choice(Parser& parser, const std::string& name, std::string& value,
                        const std::vector<std::string>& choices, const std::string& help) {
  const auto check = [choices](const std::string& text) {
    if (std::find(choices.begin(), choices.end(), text) != choices.end()) return std::string();
    return fmt::format("'{}' is not one of: {}", text, fmt::join(choices, ", "));
  };
  return parser.add_option(name, value, help)
      ->type_name(fmt::format("{}", fmt::join(choices, "|")))
      ->capture_default_str()
      ->check(CLI::Validator(check, ""));
}

template <typename Integer>
CLI::Option* add_integer(Parser& parser, const std::string& name, Integer& value, Integer least,
                         Integer greatest, const std::string& help) {
  const auto check = [least, greatest](const std::string& text) {
    const auto number = parse_number<Integer>(text);
    if (number && *number >= least && *number <= greatest) return std::string();
    return fmt::format("'{}' is not a whole number from {} to {}", text, least, greatest);
  };
  return parser.add_option(name, value, help)
      ->type_name("N")
      ->capture_default_str()
      ->check(CLI::Validator(check, ""));
}

template CLI::Option* add_integer(Parser&, const std::string&, int&, int, int, const std::string&);
template CLI::Option* add_integer(Parser&, const std::string&, int64_t&, int64_t, int64_t,
                                  const std::string&);
template CLI::Option* add_integer(Parser&, const std::string&, uint64_t&, uint64_t, uint64_t,
                                  const std::string&);

float positive_float(const std::string& option, const std::string& text) {
  const auto value = parse_number<float>(text);
  if (!value || !std::isfinite(*value) || !(*value > 0)) {
    throw Error(ExitCode::kUsage, fmt::format("{}: '{}' is not a positive number", option, text));
  }
  return *value;
}

StepRange step_range(const std::string& option, const std::string& text) {
  const size_t colon = text.find(':');
  if (colon != std::string::npos) {
    const auto begin = parse_number<int>(text.substr(0, colon));
    const auto end = parse_number<int>(text.substr(colon + 1));
    if (begin && end && *begin >= 0 && *begin < *end) return {*begin, *end};
  }
  throw Error(ExitCode::kUsage,
              fmt::format("{}: '{}' is not a range of steps A:B with 0 <= A < B", option, text));
}

std::optional<std::string> closest(const std::string& word,
                                   const std::vector<std::string>& candidates) {
  std::optional<std::string> best;
  size_t least = std::max<size_t>(2, word.size() / 3) + 1;
  for (const std::string& candidate : candidates) {
    const size_t distance = edit_distance(word, candidate);
    if (distance < least) {
      least = distance;
      best = candidate;
    }
  }
  return best;
}

}  // namespace mnist::cli
