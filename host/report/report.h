// A run and its model as one HTML page that needs nothing else: no script, no network.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "host/data/image_set.h"
#include "host/model/model.h"
#include "host/report/evaluation.h"
#include "host/report/svg.h"
#include "host/training/training_log.h"

namespace mnist {

// What a page may do: show its own style and pictures, and no more. The page says so itself; a
// server may say it too.
inline constexpr const char* kReportPolicy =
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
    "form-action 'none'";

struct Fact {
  std::string name, value;
};

// How the model does on the test set.
struct TestResult {
  std::string dataset;
  const ImageSet* images = nullptr;  // outlives the report
  Answers answers;
  double loss = 0;
  int64_t epoch = 0;  // of the run, after which these are the answers; 0: those of the model's file
};

struct Report {
  std::string name;    // of the model's file
  std::string status;  // of a run that is under way or has been stopped; else empty
  bool under_way = false;
  std::vector<EpochResult> epochs;   // ascending; none: there is no log
  std::vector<std::string> remarks;  // on the log, each a sentence
  std::optional<TestResult> test;
  const Model* model = nullptr;
  std::span<const float> weights;  // of the model's arena; none: not shown
  std::vector<Fact> facts;         // what was trained, how, and with what
  std::string written;             // when, and by which program
};

// Those figures that there is something to draw for.
std::vector<Figure> report_figures(const Report& report);

std::string report_html(const Report& report);

}  // namespace mnist
