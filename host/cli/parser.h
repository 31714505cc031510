// Command lines: what every command's parser shares.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "host/cli/output.h"
#include "host/data/dataset.h"
#include "host/engine/engine.h"
#include "host/error.h"

namespace mnist::cli {

// One per command; `argv[0]` is the program, the command's name has been taken out.
ExitCode run_train(int argc, char** argv, Results& results);
ExitCode run_evaluate(int argc, char** argv, Results& results);
ExitCode run_predict(int argc, char** argv, Results& results);
ExitCode run_bench(int argc, char** argv, Results& results);
ExitCode run_check_backends(int argc, char** argv, Results& results);
ExitCode run_data(int argc, char** argv, Results& results);
ExitCode run_doctor(int argc, char** argv, Results& results);
ExitCode run_inspect(int argc, char** argv, Results& results);

// The parser of one command. `examples` are command lines, shown before the options.
class Parser : public CLI::App {
 public:
  Parser(const std::string& command, const std::string& purpose,
         const std::vector<std::string>& examples);

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
struct DeviceOptions {
  std::string device = "auto";
  std::string backend = "native";
  BackendKind kind() const;
};
void add_data_options(Parser& parser, DataOptions& options);
void add_device_options(Parser& parser, DeviceOptions& options);
void add_backend_option(Parser& parser, DeviceOptions& options);
void add_json_flag(Parser& parser, bool& json, const std::string& what);

// An option that takes one of a few words; the help lists them.
CLI::Option* add_choice(Parser& parser, const std::string& name, std::string& value,
                        const std::vector<std::string>& choices, const std::string& help);
// An option that takes a whole number in [least, greatest].
template <typename Integer>
CLI::Option* add_integer(Parser& parser, const std::string& name, Integer& value, Integer least,
                         Integer greatest, const std::string& help);

// Both throw Error(kUsage) naming the option.
float positive_float(const std::string& option, const std::string& text);
struct StepRange {
  int begin = -1, end = -1;
};
StepRange step_range(const std::string& option, const std::string& text);  // "A:B", A < B

// The candidate that `word` was probably meant to be.
std::optional<std::string> closest(const std::string& word,
                                   const std::vector<std::string>& candidates);

}  // namespace mnist::cli
