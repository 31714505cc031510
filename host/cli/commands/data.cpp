// The data command: fetch a data set, verify it, or say where it is.
#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <vector>

#include "host/cli/commands/commands.h"
#include "host/cli/parser.h"
#include "host/cli/setup.h"
#include "host/data/dataset.h"

namespace mnist::cli {
namespace {

enum class Action { kFetch, kVerify, kPath };

constexpr Word<Action> kActions[] = {
    {"fetch", Action::kFetch}, {"verify", Action::kVerify}, {"path", Action::kPath}};

ExitCode verify(const DatasetRequest& request, bool json, Results& results) {
  ExitCode code = ExitCode::kOk;
  Json files = Json::array();
  for (const FileCheck& check : verify_dataset(request)) {
    code = std::max(code, check.code);  // a missing file before a bad one
    files.push_back({{"file", check.file}, {"ok", check.ok}, {"verdict", check.verdict}});
    if (!json) results.text(fmt::format("{}: {}\n", check.file, check.verdict));
  }
  if (json)
    results.json(Json{{"dataset", request.name}, {"ok", code == ExitCode::kOk}, {"files", files}});
  return code;
}

}  // namespace

ExitCode run_data(int argc, char** argv, Results& results) {
  Parser parser("data", "fetch: download what is missing; verify: check every byte; path: where.",
                {"cuda-mnist data fetch", "cuda-mnist data verify --dataset fashion-mnist"});
  Action action{};
  DataOptions data;
  bool json = false;
  parser.add("ACTION", action, one_of(kActions), "What to do")->default_str("")->required();
  add_data_options(parser, data);
  add_json_flag(parser, json, "One JSON object");
  if (!parser.parse(argc, argv, results)) return ExitCode::kOk;

  const DatasetRequest request = data.request();
  if (action == Action::kPath) {
    const std::string directory = data_directory(request).string();
    if (json)
      results.json(Json{{"dataset", request.name}, {"directory", directory}});
    else
      results.text(directory + "\n");
    return ExitCode::kOk;
  }
  if (action == Action::kFetch) fetch_data(request);
  return verify(request, json, results);
}

}  // namespace mnist::cli
