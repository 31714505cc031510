#include "host/training/log_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <string_view>

#include "host/error.h"
#include "host/os/file_bytes.h"
#include "host/text.h"

namespace mnist {
namespace {

constexpr size_t kLimit = size_t{16} << 20;  // bytes of a file: some 200,000 epochs
constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  for (;;) {
    const size_t end = text.find(separator);
    parts.push_back(text.substr(0, end));
    if (end == text.npos) return parts;
    text.remove_prefix(end + 1);
  }
}

struct Column {
  std::string_view name;
  double EpochResult::*value;
};

constexpr Column kColumns[] = {{"loss", &EpochResult::loss},
                               {"accuracy", &EpochResult::accuracy},
                               {"val_loss", &EpochResult::val_loss},
                               {"val_accuracy", &EpochResult::val_accuracy}};

// What the columns of a file are.
struct Header {
  size_t count = 0;
  std::optional<size_t> epoch;
  std::vector<double EpochResult::*> values;  // by column; null: not needed

  explicit Header(std::string_view line) {
    for (const std::string_view name : split(line, ',')) {
      if (name == "epoch") epoch = count;
      const auto* known = std::find_if(std::begin(kColumns), std::end(kColumns),
                                       [&](const Column& c) { return c.name == name; });
      values.push_back(known == std::end(kColumns) ? nullptr : known->value);
      ++count;
    }
  }
  bool usable() const {
    return epoch && std::any_of(values.begin(), values.end(), [](auto v) { return v != nullptr; });
  }
};

// Nothing: the row is damaged.
std::optional<EpochResult> parse_row(const Header& header, std::string_view line) {
  const std::vector<std::string_view> cells = split(line, ',');
  if (cells.size() != header.count) return std::nullopt;
  const auto epoch = parse_number<int64_t>(cells[*header.epoch]);
  if (!epoch || *epoch < 0 || *epoch > 1'000'000'000) return std::nullopt;
  EpochResult row{*epoch, kNone, kNone, kNone, kNone};
  for (size_t i = 0; i < cells.size(); ++i) {
    if (header.values[i] == nullptr || cells[i].empty()) continue;
    const auto value = parse_number<double>(cells[i]);
    if (!value) return std::nullopt;
    row.*header.values[i] = *value;
  }
  return row;
}

// What the rows lack.
void remark_on(const std::vector<EpochResult>& rows, std::vector<std::string>& remarks) {
  if (rows.empty()) return;
  if (rows.front().epoch > 1)
    remarks.push_back(fmt::format("The log begins with epoch {}.", grouped(rows.front().epoch)));
  const int64_t missing = rows.back().epoch - rows.front().epoch + 1 - int64_t(rows.size());
  if (missing > 0)
    remarks.push_back(fmt::format("The log lacks {} of the epochs up to {}.", grouped(missing),
                                  grouped(rows.back().epoch)));
  const auto odd = std::count_if(rows.begin(), rows.end(), [](const EpochResult& row) {
    return std::any_of(std::begin(kColumns), std::end(kColumns),
                       [&](const Column& c) { return !std::isfinite(row.*c.value); });
  });
  if (odd > 0)
    remarks.push_back(
        fmt::format("In {} of its {} epochs the log has a value that is missing, infinite or NaN.",
                    grouped(odd), grouped(int64_t(rows.size()))));
}

}  // namespace

LogContent read_training_log(const std::filesystem::path& path) {
  const std::vector<uint8_t> bytes = read_file_bytes(path, kLimit);
  const auto fail = [&](const std::string& why) {
    throw Error(ExitCode::kBadInput,
                fmt::format("{} is no training log: {}; --log names another", path.string(), why));
  };
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  std::vector<std::string_view> lines = split(text, '\n');
  for (std::string_view& line : lines)
    if (line.ends_with('\r')) line.remove_suffix(1);
  const Header header(lines.front());
  if (!header.usable()) fail("its first line does not name the columns epoch, loss, accuracy, ...");

  LogContent content;
  std::vector<size_t> damaged;   // numbers of lines
  std::optional<size_t> begins;  // the line with which the last run begins, if others are before it
  for (size_t i = 1; i < lines.size(); ++i) {
    if (lines[i].empty()) continue;
    const auto row = parse_row(header, lines[i]);
    if (!row) {
      damaged.push_back(i + 1);
      continue;
    }
    if (!content.rows.empty() && row->epoch <= content.rows.back().epoch) {
      begins = i + 1;
      content.rows.clear();
    }
    content.rows.push_back(*row);
  }
  if (content.rows.empty() && !damaged.empty()) fail("none of its rows can be read");
  if (begins)
    content.remarks.push_back(
        fmt::format("In line {} the epochs begin again: what is above it belongs to an earlier run "
                    "and is left out.",
                    *begins));
  if (!damaged.empty())
    content.remarks.push_back(
        damaged.size() == 1
            ? fmt::format("Line {} is damaged and left out.", damaged.front())
            : fmt::format("{} lines are damaged and left out, the first of them line {}.",
                          grouped(int64_t(damaged.size())), damaged.front()));
  if (!content.rows.empty() && content.rows.front().epoch == 0)
    for (EpochResult& row : content.rows) ++row.epoch;
  remark_on(content.rows, content.remarks);
  return content;
}

}  // namespace mnist
