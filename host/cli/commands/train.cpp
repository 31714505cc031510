// The train command: the seed recipe by default; a fresh run, or one that goes on with an earlier.
#include <fmt/format.h>

#include <chrono>
#include <filesystem>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "host/cli/commands/commands.h"
#include "host/cli/commands/train_report.h"
#include "host/cli/parser.h"
#include "host/cli/progress.h"
#include "host/cli/setup.h"
#include "host/cli/signals.h"
#include "host/cli/tables.h"
#include "host/os/atomic_file.h"
#include "host/os/file_identity.h"
#include "host/os/sha256.h"
#include "host/training/trainer.h"

namespace mnist::cli {
namespace {

namespace fs = std::filesystem;

constexpr Word<bool> kResident[] = {{"stream", false}, {"resident", true}};

struct TrainOptions {
  DataOptions data;
  DeviceOptions device;
  int64_t epochs = 100;
  int batch_size = 128;
  float learning_rate = 0.001f;
  uint64_t seed = 1;
  std::string out = "mnist.h5";
  std::string log = "training_log.csv";
  std::string report;
  std::string arch = kDefaultArch;
  std::string init, resume;
  bool shuffle = true;
  int64_t limit = 0;
  bool resident = false;
  int threads = 0;
  StepRange profile_steps;
  bool eager = false;
  bool json = false;
};

void add_options(Parser& parser, TrainOptions& options) {
  constexpr int64_t kMany = 1'000'000'000;
  parser.option_defaults()->group("What is trained");
  parser.add("--epochs", options.epochs, whole_number<int64_t>(0, kMany),
             "Epochs in all; 0 writes the initial model");
  parser.add("--batch-size", options.batch_size, whole_number(1, 65536), "Images per update");
  parser.add("--learning-rate", options.learning_rate, positive_number(), "Adam's step size");
  parser.add("--seed", options.seed,
             whole_number<uint64_t>(0, std::numeric_limits<uint64_t>::max()),
             "Of initial weights, order and dropout");
  parser.add("--shuffle", options.shuffle, one_of(kOnOff), "A new order every epoch");
  parser
      .add("--limit", options.limit, whole_number<int64_t>(1, kMany),
           "Only the first N training images")
      ->default_str("all");
  parser.add_option("--arch", options.arch, "Layers")->type_name("SPEC")->capture_default_str();
  add_data_options(parser, options.data);

  parser.option_defaults()->group("Files");
  parser.add_option("--out", options.out, "Model, saved after every epoch")
      ->type_name("FILE.h5")
      ->capture_default_str();
  parser.add_option("--log", options.log, "Log, one row per epoch")
      ->type_name("FILE.csv")
      ->capture_default_str();
  parser.add_option("--report", options.report, "A page that follows the run, like that of report")
      ->type_name("FILE.html");
  parser.add_option("--init", options.init, "Start from the layers and weights in a file")
      ->type_name("FILE.h5");
  parser
      .add_option("--resume", options.resume,
                  "Resume the run saved in a file, exactly; the default of --out")
      ->type_name("FILE.h5");

  parser.option_defaults()->group("Where and how it runs");
  add_device_options(parser, options.device);
  add_backend_option(parser, options.device);
  add_math_option(parser, options.device);
  parser.add("--data", options.resident, one_of(kResident),
             "Stream the batches to the device, or keep all images there");
  add_threads_option(parser, options.threads);
  parser.add("--profile-steps", options.profile_steps, step_range(),
             "Steps of this run for the CUDA profiler, from 0, without B");
  parser.add_flag("--eager", options.eager,
                  "No CUDA graph: slower, same results; shows profilers each layer");
  add_json_flag(parser, options.json, "One JSON object per epoch, and a summary");
}

// Where a run begins: from the seed, from given weights, or where an earlier one stopped.
struct Start {
  Model model;
  std::optional<std::vector<float>> weights;  // absent: initialised from the seed
  RunState state;
};

void require_same_arch(const Parser& parser, const TrainOptions& options, const Model& model,
                       const std::string& file) {
  if (parser.count("--arch") == 0) return;
  const std::string given = arch_string(parse_arch(options.arch));
  if (given == arch_string(model)) return;
  throw Error(ExitCode::kUsage, fmt::format("--arch {} contradicts {}, which has {}; leave it out",
                                            given, file, arch_string(model)));
}

// Takes what the file says of its run; an option that says otherwise is an error.
Start resumed_start(const Parser& parser, TrainOptions& options) {
  const std::string& path = options.resume;
  ModelFile file = load_model(path);
  if (!file.state)
    throw Error(ExitCode::kBadInput,
                fmt::format("{} (written by {}) holds no training state to resume; --init {} "
                            "starts a new run from its weights",
                            path, file.writer, path));
  const RunState& state = *file.state;
  const auto require_same = [&](const char* option, const auto& given, const auto& kept) {
    if (parser.count(option) == 0 || given == kept) return;
    throw Error(ExitCode::kUsage,
                fmt::format("{} {} contradicts {}, whose run has {}; leave it out", option, given,
                            path, kept));
  };
  require_same("--batch-size", options.batch_size, state.batch_size);
  require_same("--learning-rate", options.learning_rate, state.learning_rate);
  require_same("--seed", options.seed, state.seed);
  require_same("--shuffle", std::string(word_of(kOnOff, options.shuffle)),
               word_of(kOnOff, state.shuffle));
  require_same("--math", std::string(name_of(options.device.math)), name_of(state.math));
  require_same("--limit", options.limit, state.train_samples);
  require_same("--dataset", options.data.dataset, state.dataset);
  require_same_arch(parser, options, file.model, path);
  if (state.epoch >= options.epochs)
    throw Error(ExitCode::kUsage,
                fmt::format("{} has {} already; a larger number after --epochs (now {}) goes on",
                            path, counted(state.epoch, "epoch"), options.epochs));
  options.data.dataset = state.dataset;
  if (parser.count("--out") == 0) options.out = path;
  return {std::move(file.model), std::move(file.weights), std::move(*file.state)};
}

Start fresh_start(const Parser& parser, const TrainOptions& options) {
  Start start;
  if (options.init.empty()) {
    start.model = parse_arch(options.arch);
    check_fits_digits(start.model, "--arch", ExitCode::kUsage);
  } else {
    ModelFile file = load_model(options.init);
    require_same_arch(parser, options, file.model, options.init);
    start.model = std::move(file.model);
    start.weights = std::move(file.weights);
  }
  start.state.learning_rate = options.learning_rate;
  start.state.seed = options.seed;
  start.state.batch_size = options.batch_size;
  start.state.math = options.device.math;
  start.state.shuffle = options.shuffle;
  start.state.dataset = options.data.dataset;
  return start;
}

void check_outputs(const TrainOptions& options, const Model& model) {
  const std::pair<const char*, const std::string&> outputs[] = {
      {"--out", options.out}, {"--log", options.log}, {"--report", options.report}};
  const auto require_apart = [](const auto& a, const auto& b) {
    if (!a.second.empty() && !b.second.empty() &&
        file_identity(a.second) == file_identity(b.second))
      throw Error(ExitCode::kUsage, fmt::format("{} and {} name the same file", a.first, b.first));
  };
  for (const auto& a : outputs)
    for (const auto& b : outputs)
      if (&a < &b) require_apart(a, b);
  // A model may be replaced by the one that it becomes.
  const std::pair<const char*, const std::string&> inputs[] = {{"--resume", options.resume},
                                                               {"--init", options.init}};
  for (const auto& input : inputs)
    for (const auto& output : {outputs[1], outputs[2]}) require_apart(input, output);
  // Weights and both moments are nearly all of the file.
  check_writable(options.out, 3 * model.arena_size * sizeof(float));
  check_writable(options.log);
  if (!options.report.empty()) check_writable(options.report);
}

// A resumed run whose log is gone starts a new one; it says so, since the earlier rows are lost.
void find_log(const TrainOptions& options, RunState& state) {
  if (state.log_bytes == 0 || fs::exists(options.log)) return;
  message(fmt::format("{} is not there: a new log starts with epoch {}. (--log names another.)",
                      options.log, state.epoch + 1));
  state.log_bytes = 0;
}

void load_weights(Engine& engine, Start& start) {
  if (!start.weights) {
    engine.initialize();
    return;
  }
  RunState& state = start.state;
  state.m.resize(start.model.arena_size);  // zero unless resumed
  state.v.resize(start.model.arena_size);
  engine.load({.weights = std::move(*start.weights),
               .m = std::move(state.m),
               .v = std::move(state.v),
               .iteration = state.iteration,
               .learning_rate = state.learning_rate});
}

Json epoch_json(const EpochReport& report, Math math) {
  const EpochResult& result = report.result;
  Json json{{"epoch", result.epoch},
            {"loss", result.loss},
            {"accuracy", result.accuracy},
            {"val_loss", result.val_loss},
            {"val_accuracy", result.val_accuracy},
            {"train_seconds", report.train_seconds},
            {"seconds", report.seconds}};
  if (math == Math::kFp16) json["saturated"] = report.saturated;
  return json;
}

// The bar, the JSON lines, the page and the signals of a run.
class Console : public TrainingObserver {
 public:
  // `page`: null without one.
  Console(const TrainOptions& options, Math math, Results& results, TrainingReport* page)
      : bar_(options.epochs), json_(options.json), math_(math), results_(results), page_(page) {}

  void epoch_begin(int64_t epoch, int64_t batches, int64_t first_batch) override {
    bar_.epoch_begin(epoch, batches, first_batch);
  }
  void batches_done(const Metrics& so_far) override { bar_.batches_done(so_far); }
  void epoch_end(const EpochReport& report) override {
    bar_.epoch_end(report);
    if (json_) results_.json(epoch_json(report, math_));
    if (page_ != nullptr) page_->epoch_end(report);
  }
  bool stop_requested() override { return StopSignals::received() != 0; }
  void end_line() { bar_.end_line(); }

 private:
  TrainingBar bar_;
  bool json_;
  Math math_;
  Results& results_;
  TrainingReport* page_;
};

// `word` as a POSIX shell reads it back.
std::string quoted(const std::string& word) {
  constexpr const char* kPlain =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=./:,@%";
  if (!word.empty() && word.find_first_not_of(kPlain) == std::string::npos) return word;
  std::string text = "'";
  for (const char c : word) text += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return text + "'";
}

// Everything that the file does not keep and that was not left at its default.
std::string resume_command(const char* program, const Parser& parser, const TrainOptions& options,
                           bool saved) {
  // A leading dash would be taken for an option.
  const auto path = [](const std::string& name) {
    return quoted(name.starts_with("-") ? "./" + name : name);
  };
  std::string command = fmt::format("{} train --resume {} --epochs {}", quoted(program),
                                    path(saved ? options.out : options.resume), options.epochs);
  if (!saved && parser.count("--out")) command += " --out " + path(options.out);
  if (parser.count("--log")) command += " --log " + path(options.log);
  if (parser.count("--report")) command += " --report " + path(options.report);
  if (parser.count("--data-dir")) command += " --data-dir " + path(options.data.data_dir);
  if (parser.count("--device")) command += " --device " + options.device.device.text();
  if (parser.count("--backend"))
    command += fmt::format(" --backend {}", word_of(kBackends, options.device.backend));
  if (parser.count("--data"))
    command += fmt::format(" --data {}", word_of(kResident, options.resident));
  if (parser.count("--threads")) command += fmt::format(" --threads {}", options.threads);
  if (options.json) command += " --json";
  return command;
}

Json summary_json(const TrainOptions& options, const Model& model, const DeviceInfo& device,
                  const TrainingOutcome& outcome, double seconds) {
  const Math math = outcome.state.math;
  Json summary{{"finished", outcome.finished}, {"epochs", outcome.state.epoch}};
  for (const char* name : {"loss", "accuracy", "val_loss", "val_accuracy"})
    summary[name] = outcome.last ? epoch_json(*outcome.last, math)[name] : Json();
  summary["seed"] = outcome.state.seed;
  summary["device"] = name_of(device.target);
  summary["device_name"] = device.name;
  summary["math"] = name_of(math);
  if (math == Math::kFp16) summary["saturated"] = outcome.saturated;
  summary["dataset"] = outcome.state.dataset;
  summary["train_seconds"] = outcome.train_seconds;
  summary["seconds"] = seconds;
  summary["steps"] = outcome.steps;
  summary["parameters"] = model.parameter_count();
  summary["model"] = options.out;
  summary["log"] = options.log;
  summary["sha256"] = outcome.saved ? Json(file_sha256(options.out)) : Json();
  return summary;
}

std::string summary_text(const TrainOptions& options, const Model& model,
                         const TrainingOutcome& outcome, double seconds) {
  std::string text;
  if (outcome.last) {
    const EpochResult& last = outcome.last->result;
    text =
        fmt::format("accuracy: {:.4f} - loss: {:.4f} - val_accuracy: {:.4f} - val_loss: {:.4f}\n",
                    last.accuracy, last.loss, last.val_accuracy, last.val_loss);
  }
  text += fmt::format("{} in {:.1f} s, {:.1f} s in all, seed {}\n", counted(outcome.steps, "step"),
                      outcome.train_seconds, seconds, outcome.state.seed);
  text += fmt::format("{}: {} parameters after {}, SHA-256 {}\n", options.out,
                      grouped(int64_t(model.parameter_count())),
                      counted(outcome.state.epoch, "epoch"), file_sha256(options.out));
  return text;
}

std::string start_text(const Start& start, const Dataset& data, const DeviceInfo& device) {
  const bool fp16 = start.state.math == Math::kFp16;
  return fmt::format("{}\n{} parameters, {} training images ({}), seed {}, {}on {} ({})",
                     arch_string(start.model), grouped(int64_t(start.model.parameter_count())),
                     grouped(data.train.count), data.name, start.state.seed, fp16 ? "FP16 " : "",
                     device.name, device.architecture);
}

Start find_start(const Parser& parser, TrainOptions& options) {
  if (!options.init.empty() && !options.resume.empty())
    throw Error(ExitCode::kUsage, "--init starts a run and --resume goes on with one: choose one");
  const bool resume = !options.resume.empty();
  Start start = resume ? resumed_start(parser, options) : fresh_start(parser, options);
  check_fits_digits(start.model, resume ? options.resume : options.init, ExitCode::kBadInput);
  return start;
}

// The data set; `state` takes the number of its training images, or must have it already.
Dataset load_data_for(const TrainOptions& options, RunState& state) {
  const bool resume = !options.resume.empty();
  DatasetRequest request = options.data.request();
  request.limit = resume ? state.train_samples : options.limit;
  Dataset data = load_data(request);
  if (!resume) state.train_samples = data.train.count;
  if (data.train.count != state.train_samples)
    throw Error(ExitCode::kBadInput,
                fmt::format("{} has {} training images, the run in {} used {}", data.source,
                            data.train.count, options.resume, state.train_samples));
  return data;
}

EngineConfig engine_config(const TrainOptions& options, const RunState& state) {
  EngineConfig config;
  config.backend = options.device.backend;
  config.math = state.math;
  config.batch_size = state.batch_size;
  config.learning_rate = state.learning_rate;
  config.seed = state.seed;
  config.resident = options.resident;
  config.threads = options.threads;
  config.eager = options.eager;
  config.profile_begin = options.profile_steps.begin;
  config.profile_end = options.profile_steps.end;
  return config;
}

std::unique_ptr<Engine> start_engine(const EngineConfig& config, Target target, Start& start,
                                     const Dataset& data) {
  std::unique_ptr<Engine> engine = make_engine(target, start.model, config);
  load_weights(*engine, start);
  engine->set_training_set(data.train.samples());
  engine->set_validation_set(data.test.samples());
  return engine;
}

// What became of a run that was stopped, and how to go on with it.
std::string stopped_text(const char* program, const Parser& parser, const TrainOptions& options,
                         const TrainingOutcome& outcome) {
  if (!outcome.saved && options.resume.empty())
    return "Stopped before the first step; nothing was written.";
  return fmt::format("Stopped after {} and {}{}. To go on:\n  {}",
                     counted(outcome.state.epoch, "epoch"), counted(outcome.state.batch, "step"),
                     outcome.saved ? "; " + options.out + " is saved" : "",
                     resume_command(program, parser, options, outcome.saved));
}

// train(); the page tells of an error that ends it.
TrainingOutcome run(Engine& engine, Start& start, const TrainingFiles& files, int64_t epochs,
                    Console& console, TrainingReport* page) {
  try {
    return train(engine, start.model, std::move(start.state), files, epochs, console);
  } catch (const std::exception& error) {
    if (page != nullptr) page->fail(error.what());
    throw;
  }
}

}  // namespace

ExitCode run_train(int argc, char** argv, Results& results) {
  const auto begin = std::chrono::steady_clock::now();
  TrainOptions options;
  Parser parser("train", "Train a model, validating on the test set after every epoch.",
                {"cuda-mnist train", "cuda-mnist train --epochs 5 --out run1.h5 --log run1.csv",
                 "cuda-mnist train --arch conv:16x5:same,pool:2,flatten,dropout:0.5,dense:10",
                 "cuda-mnist train --resume mnist.h5 --epochs 200"});
  add_options(parser, options);
  if (!parser.parse(argc, argv, results)) return ExitCode::kOk;

  Start start = find_start(parser, options);
  check_outputs(options, start.model);
  find_log(options, start.state);
  const Target target = choose_target(options.device);
  const EngineConfig config = engine_config(options, start.state);
  check_math(target, start.model, config);
  const StopSignals signals;
  const Dataset data = load_data_for(options, start.state);
  const std::unique_ptr<Engine> engine = start_engine(config, target, start, data);
  const DeviceInfo& device = engine->device();
  message(start_text(start, data, device));

  const TrainingFiles files{options.out, options.log};
  std::optional<TrainingReport> page;
  if (!options.report.empty())
    page.emplace(files, options.report, *engine, start.model, data, start.state, options.epochs);
  Console console(options, config.math, results, page ? &*page : nullptr);
  const TrainingOutcome outcome =
      run(*engine, start, files, options.epochs, console, page ? &*page : nullptr);
  console.end_line();

  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
  if (options.json)
    results.json(summary_json(options, start.model, device, outcome, seconds.count()));
  else if (outcome.saved)
    results.text(summary_text(options, start.model, outcome, seconds.count()));
  const ExitCode page_written = page ? page->finish(outcome) : ExitCode::kOk;
  if (outcome.finished) return page_written;
  message(stopped_text(argv[0], parser, options, outcome));
  return StopSignals::exit_code();
}

}  // namespace mnist::cli
