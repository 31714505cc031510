// What `report` and `train --report` say alike, and how they write it.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "host/engine/engine.h"
#include "host/model_file/model_file.h"
#include "host/report/report.h"

namespace mnist::cli {

// What was trained, and how.
std::vector<Fact> recipe_facts(const RunState& state);
std::string device_text(const DeviceInfo& device);  // "NVIDIA H100 80GB HBM3 (sm_90)"

// The file is the old one or the new one, whatever happens. Throws Error: kCannotCreate, kIoError.
void write_report(const std::filesystem::path& path, const Report& report);
// Each figure as a file, in a directory that is there. Returns their names.
std::vector<std::string> write_figures(const std::filesystem::path& directory,
                                       const Report& report);
std::string written_text();  // now, by this program

}  // namespace mnist::cli
