// The report command: a model, its log and its answers on the test set as a page to look at.
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <string>
#include <vector>

#include "host/cli/commands/commands.h"
#include "host/cli/commands/test_model.h"
#include "host/cli/parser.h"
#include "host/cli/report_writer.h"
#include "host/os/atomic_file.h"
#include "host/os/file_identity.h"
#include "host/os/posix_io.h"
#include "host/report/report.h"
#include "host/training/log_reader.h"

namespace mnist::cli {
namespace {

namespace fs = std::filesystem;

struct ReportOptions {
  TestOptions test;
  std::string log = "training_log.csv";
  std::string out = "report.html";
  std::string svg;
  int mistakes = 24;
  bool json = false;
};

void add_options(Parser& parser, ReportOptions& options) {
  add_test_options(parser, options.test);
  parser.get_option("--dataset")->default_str("the run's");
  parser.add_option("--log", options.log, "Training log of the run")
      ->type_name("FILE.csv")
      ->capture_default_str();
  parser.add_option("--out", options.out, "The page")
      ->type_name("FILE.html")
      ->capture_default_str();
  parser.add_option("--svg", options.svg, "The figures too, as files in a directory")
      ->type_name("DIR");
  parser.add("--mistakes", options.mistakes, whole_number(0, 1000), "How many mistakes to show");
  add_json_flag(parser, options.json, "What was written, as one JSON object");
}

void check_outputs(const ReportOptions& options) {
  for (const auto& [option, input] :
       {std::pair{"--model", options.test.model}, {"--log", options.log}})
    if (file_identity(options.out) == file_identity(input))
      throw Error(ExitCode::kUsage,
                  fmt::format("--out {} is the file of {}; choose another", options.out, option));
  check_writable(options.out);
  if (options.svg.empty()) return;
  if (file_identity(options.svg) == file_identity(options.out))
    throw Error(ExitCode::kUsage, "--out and --svg name the same place");
  std::error_code error;
  fs::create_directories(options.svg, error);
  if (error)
    throw Error(ExitCode::kCannotCreate, fmt::format("cannot create the directory {}: {}",
                                                     options.svg, why_unwritable(error.value())));
  check_writable(fs::path(options.svg) / "loss.svg");
}

// A log that was asked for must be there. The one of the usual name may be missing, or be something
// else: the report says so.
LogContent find_log(const Parser& parser, const std::string& path) {
  try {
    return read_training_log(path);
  } catch (const Error& error) {
    if (parser.count("--log") > 0) throw;
    return {{}, {fmt::format("Without curves: {}.", error.what())}};
  }
}

// Whether log and model are of one run.
void compare_with_model(LogContent& log, const RunState& state, const TestedModel& tested) {
  if (log.rows.empty()) return;
  const int64_t last = log.rows.back().epoch;
  if (last < state.epoch)
    log.remarks.push_back(
        fmt::format("The log ends with epoch {}, but the model is that of epoch {}.", grouped(last),
                    grouped(state.epoch)));
  if (last > state.epoch)
    log.remarks.push_back(fmt::format("The log goes on to epoch {}; the model is that of epoch {}.",
                                      grouped(last), grouped(state.epoch)));
  const auto row = std::find_if(log.rows.begin(), log.rows.end(), [&](const EpochResult& epoch) {
    return epoch.epoch == state.epoch;
  });
  const bool same_images =
      tested.data.name == state.dataset && tested.answers.samples == tested.data.test.count;
  if (row == log.rows.end() || state.batch > 0 || !same_images) return;
  // Other kernels may differ by a little.
  if (!(std::fabs(row->val_loss - tested.loss) <= 0.01 * tested.loss + 1e-6))
    log.remarks.push_back(fmt::format(
        "Log and model seem to be of different runs: for epoch {} the log has a validation loss "
        "of {:.4f}, the model's is {:.4f}.",
        grouped(state.epoch), row->val_loss, tested.loss));
}

std::vector<Fact> facts_of(const ReportOptions& options, const TestedModel& tested,
                           const LogContent& log) {
  const ModelFile& file = tested.file;
  std::vector<Fact> facts{{"Model file", options.test.model}, {"Written by", file.writer}};
  struct stat info;
  if (::stat(options.test.model.c_str(), &info) == 0)
    facts.push_back({"Last changed", utc_text(info.st_mtime)});
  if (file.state)
    for (Fact& fact : recipe_facts(*file.state)) facts.push_back(std::move(fact));
  if (!file.checksum.empty()) facts.push_back({"SHA-256 of the tensors", file.checksum});
  if (!log.rows.empty()) facts.push_back({"Log", options.log});
  facts.push_back({"Tested", fmt::format("on {} images of {}, {}", grouped(tested.answers.samples),
                                         tested.data.name, device_text(tested.device))});
  return facts;
}

Json result_json(const ReportOptions& options, const TestedModel& tested, const LogContent& log,
                 const std::vector<std::string>& figures) {
  Json paths = Json::array();
  for (const std::string& name : figures) paths.push_back((fs::path(options.svg) / name).string());
  return {{"report", options.out},
          {"figures", paths},
          {"model", options.test.model},
          {"dataset", tested.data.name},
          {"samples", tested.answers.samples},
          {"loss", tested.loss},
          {"accuracy", tested.accuracy},
          {"mistakes", tested.answers.wrong},
          {"epochs", log.rows.size()},
          {"remarks", log.remarks}};
}

}  // namespace

ExitCode run_report(int argc, char** argv, Results& results) {
  Parser parser(
      "report",
      "A run as one HTML page: curves, confusion matrix, scores, worst mistakes, the "
      "first layer.",
      {"cuda-mnist report", "cuda-mnist report --model run1.h5 --log run1.csv --svg figures"});
  ReportOptions options;
  add_options(parser, options);
  if (!parser.parse(argc, argv, results)) return ExitCode::kOk;

  check_outputs(options);
  LogContent log = find_log(parser, options.log);
  ModelFile file = load_digit_model(options.test.model);
  if (file.state && parser.count("--dataset") == 0) options.test.data.dataset = file.state->dataset;
  const TestedModel tested = test_model(std::move(file), options.test, size_t(options.mistakes));
  if (tested.file.state) compare_with_model(log, *tested.file.state, tested);
  for (const std::string& remark : log.remarks) message(options.log + ": " + remark);

  Report report;
  report.name = fs::path(options.test.model).filename().string();
  report.epochs = log.rows;
  report.remarks = log.remarks;
  report.test = TestResult{tested.data.name, &tested.data.test, tested.answers, tested.loss, 0};
  report.model = &tested.file.model;
  report.weights = tested.file.weights;
  report.facts = facts_of(options, tested, log);
  report.written = written_text();
  write_report(options.out, report);
  std::vector<std::string> figures;
  if (!options.svg.empty()) figures = write_figures(options.svg, report);

  if (options.json)
    results.json(result_json(options, tested, log, figures));
  else
    results.text(fmt::format("{}: {} on {} test images of {}: {}, {}\n", options.out,
                             options.test.model, grouped(tested.answers.samples), tested.data.name,
                             fmt::format("accuracy: {:.4f}", tested.accuracy),
                             counted(tested.answers.wrong, "mistake")));
  return ExitCode::kOk;
}

}  // namespace mnist::cli
