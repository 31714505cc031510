#include "host/cli/report_writer.h"

#include <fmt/format.h>

#include <ctime>
#include <span>

#include "host/cli/output.h"
#include "host/cli/version.h"
#include "host/os/atomic_file.h"

namespace mnist::cli {
namespace {

void write(const std::filesystem::path& path, const std::string& text) {
  write_file_atomically(path, std::as_bytes(std::span(text)));
}

}  // namespace

std::vector<Fact> recipe_facts(const RunState& state) {
  std::string reached = counted(state.epoch, "epoch");
  if (state.batch > 0) reached += " and " + counted(state.batch, "step");
  const char* math = state.math == Math::kFp16 ? ", in FP16" : "";
  return {{"Trained", fmt::format("{}, {}", reached, counted(state.iteration, "update"))},
          {"On", fmt::format("{} images of {}{}", grouped(state.train_samples), state.dataset,
                             state.shuffle ? ", in a new order every epoch" : ", unshuffled")},
          {"Batch size", grouped(state.batch_size)},
          {"Optimizer", fmt::format("Adam, learning rate {}{}", state.learning_rate, math)},
          {"Seed", fmt::format("{}", state.seed)}};
}

std::string device_text(const DeviceInfo& device) {
  return fmt::format("{} ({})", device.name, device.architecture);
}

void write_report(const std::filesystem::path& path, const Report& report) {
  write(path, report_html(report));
}

std::vector<std::string> write_figures(const std::filesystem::path& directory,
                                       const Report& report) {
  std::vector<std::string> names;
  for (const Figure& figure : report_figures(report)) {
    names.push_back(figure.id + ".svg");
    write(directory / names.back(), svg_file(figure));
  }
  return names;
}

std::string written_text() {
  return fmt::format("Written {} by {}.", utc_text(std::time(nullptr)), program_text());
}

}  // namespace mnist::cli
