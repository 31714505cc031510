// cuda-mnist: finds the command, turns every failure into one line and an exit code.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <exception>
#include <new>
#include <string>
#include <vector>

#include "host/cli/commands/commands.h"
#include "host/cli/output.h"
#include "host/cli/parser.h"
#include "host/cli/signals.h"
#include "host/cli/version.h"
#include "host/error.h"

namespace mnist::cli {
namespace {

std::string help_text() {
  std::string text =
      "cuda-mnist trains a convolutional network on MNIST with hand-written CUDA kernels.\n"
      "\n"
      "Examples:\n"
      "  cuda-mnist train                    100 epochs; writes mnist.h5 and training_log.csv\n"
      "  cuda-mnist train --epochs 5 --dataset synthetic     without any download\n"
      "  cuda-mnist evaluate                 how good mnist.h5 is\n"
      "  cuda-mnist predict seven.png        which digit this is\n"
      "  cuda-mnist serve                    draw digits in the browser\n"
      "  cuda-mnist doctor                   when something does not work\n"
      "\n"
      "Commands:\n";
  for (const Command& command : kCommands)
    text += fmt::format("  {:<16}{}\n", command.name, command.purpose);
  text +=
      "\n"
      "  cuda-mnist COMMAND --help shows a command's options; --version what was built.\n"
      "\n"
      "Exit codes: 0 ok, 2 usage, 65 bad or corrupt input, 66 input missing, 69 no usable GPU,\n"
      "network or port, 70 internal or CUDA fault, 73 cannot create and 74 cannot write output,\n"
      "130 interrupted, 143 terminated.\n";
  return text;
}

std::vector<std::string> command_names() {
  std::vector<std::string> names;
  for (const Command& command : kCommands) names.push_back(command.name);
  return names;
}

const Command& find_command(const std::string& name) {
  for (const Command& command : kCommands)
    if (name == command.name) return command;
  const auto meant = closest(name, command_names());
  throw Error(ExitCode::kUsage,
              fmt::format("unknown command '{}'{} See 'cuda-mnist --help'.", name,
                          meant ? fmt::format(", did you mean '{}'?", *meant) : "."));
}

ExitCode dispatch(int argc, char** argv, Results& results) {
  if (argc < 2) {
    message(
        fmt::format("usage: cuda-mnist COMMAND [OPTION...]   ({})\n"
                    "Try 'cuda-mnist train' or 'cuda-mnist --help'.",
                    fmt::join(command_names(), ", ")));
    return ExitCode::kUsage;
  }
  std::vector<char*> arguments(argv, argv + argc);
  std::string name = argv[1];
  std::string help_flag = "--help";
  if (name == "--version" || name == "-V" || name == "version") {
    results.text(version_text());
    return ExitCode::kOk;
  }
  if (name == "--help" || name == "-h" || name == "help") {
    if (argc == 2) {
      results.text(help_text());
      return ExitCode::kOk;
    }
    name = argv[2];
    arguments = {argv[0], argv[2], help_flag.data()};
  }
  const Command& command = find_command(name);
  arguments.erase(arguments.begin() + 1);
  arguments.push_back(nullptr);
  return command.run(int(arguments.size()) - 1, arguments.data(), results);
}

ExitCode guarded_main(int argc, char** argv) {
  try {
    Results results;
    const ExitCode code = dispatch(argc, argv, results);
    results.finish();
    return code;
  } catch (const Error& error) {
    message(fmt::format("cuda-mnist: {}", visible(error.what())));
    return error.code();
  } catch (const std::bad_alloc&) {
    message(
        "cuda-mnist: out of memory. Try a smaller --batch-size, --limit or --arch, or close "
        "other programs.");
    return ExitCode::kInternal;
  } catch (const std::exception& error) {
    message(fmt::format("cuda-mnist: internal error: {}", error.what()));
    return ExitCode::kInternal;
  }
}

}  // namespace
}  // namespace mnist::cli

int main(int argc, char** argv) {
  mnist::cli::prepare_standard_streams();
  return int(mnist::cli::guarded_main(argc, argv));
}
