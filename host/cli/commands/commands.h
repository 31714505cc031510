// Every command. To add one: its function and its row here, its file beside this one.
#pragma once

#include "host/cli/output.h"
#include "host/error.h"

namespace mnist::cli {

// `argv[0]` is the program; the command's name has been taken out.
ExitCode run_train(int argc, char** argv, Results& results);
ExitCode run_evaluate(int argc, char** argv, Results& results);
ExitCode run_predict(int argc, char** argv, Results& results);
ExitCode run_serve(int argc, char** argv, Results& results);
ExitCode run_report(int argc, char** argv, Results& results);
ExitCode run_bench(int argc, char** argv, Results& results);
ExitCode run_check_backends(int argc, char** argv, Results& results);
ExitCode run_data(int argc, char** argv, Results& results);
ExitCode run_doctor(int argc, char** argv, Results& results);
ExitCode run_inspect(int argc, char** argv, Results& results);

struct Command {
  const char* name;
  const char* purpose;
  ExitCode (*run)(int argc, char** argv, Results& results);
};

// In the order of the help.
inline constexpr Command kCommands[] = {
    {"train", "train a model, validating after every epoch", run_train},
    {"evaluate", "loss, accuracy and confusion matrix on the test set", run_evaluate},
    {"report", "a run as a page to look at: curves, confusion matrix, worst mistakes", run_report},
    {"predict", "read the handwritten digits in pictures", run_predict},
    {"serve", "a page to draw digits on, for the browser", run_serve},
    {"bench", "time every kernel and the training step", run_bench},
    {"check-backends", "compare the results of both backends", run_check_backends},
    {"data", "fetch, verify or locate a data set", run_data},
    {"doctor", "what works on this machine, and what to do about the rest", run_doctor},
    {"inspect", "what is in a model file", run_inspect},
};

}  // namespace mnist::cli
