// training_log.csv: text of the numbers, rows, going on after an interruption, failures.
#include "host/training/training_log.h"

#include <sys/resource.h>

#include <bit>
#include <clocale>
#include <cmath>
#include <limits>

#include "host/error.h"
#include "tests/support/catch.h"
#include "tests/support/child_process.h"
#include "tests/support/data_files.h"
#include "tests/support/error_code.h"
#include "tests/support/random.h"

namespace mnist {
namespace {

using test::TemporaryDirectory;

const std::string kHeader = "epoch,loss,accuracy,val_loss,val_accuracy\n";

std::string read(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

EpochResult row(int64_t epoch) {
  return {epoch, 0.5 / double(epoch), 0.9, 0.25, 1.0};
}

}  // namespace

TEST_CASE("numbers are written as Python's repr writes them", "[training_log]") {
  // Right-hand sides: python3 -c 'print(repr(float("...")))'.
  const std::pair<double, const char*> cases[] = {
      {0.0, "0.0"},
      {-0.0, "-0.0"},
      {1.0, "1.0"},
      {120.0, "120.0"},
      {-2.5, "-2.5"},
      {0.1, "0.1"},
      {0.10300000011920929, "0.10300000011920929"},
      {2.3281588554382324, "2.3281588554382324"},
      {0.0001, "0.0001"},
      {0.00012345, "0.00012345"},
      {0.000095, "9.5e-05"},
      {1e-05, "1e-05"},
      {-1.25e-10, "-1.25e-10"},
      {123456789012345.0, "123456789012345.0"},
      {1e15, "1000000000000000.0"},
      {9007199254740993.0, "9007199254740992.0"},
      {1e16, "1e+16"},
      {1.2345e+16, "1.2345e+16"},
      {1e22, "1e+22"},
      {5e-324, "5e-324"},
      {1.7976931348623157e308, "1.7976931348623157e+308"},
      {std::numeric_limits<double>::infinity(), "inf"},
      {-std::numeric_limits<double>::infinity(), "-inf"},
      {std::numeric_limits<double>::quiet_NaN(), "nan"},
      {-std::numeric_limits<double>::quiet_NaN(), "nan"}};
  for (const auto& [value, text] : cases) CHECK(shortest_decimal(value) == text);
}

TEST_CASE("numbers read back as the same bits", "[training_log]") {
  Random random;
  for (int i = 0; i < 20'000; ++i) {
    const double value = std::bit_cast<double>(random.next());
    if (!std::isfinite(value)) continue;
    const std::string text = shortest_decimal(value);
    REQUIRE(std::bit_cast<uint64_t>(std::strtod(text.c_str(), nullptr)) ==
            std::bit_cast<uint64_t>(value));
  }
}

TEST_CASE("a decimal comma in the locale changes nothing", "[training_log]") {
  const std::string old = std::setlocale(LC_ALL, nullptr);
  for (const char* name : {"de_DE.UTF-8", "fr_FR.UTF-8", "C"})
    if (std::setlocale(LC_ALL, name)) break;
  const std::string text = shortest_decimal(0.5);
  std::setlocale(LC_ALL, old.c_str());
  CHECK(text == "0.5");
}

TEST_CASE("a log has a header and one row per epoch, there at once", "[training_log]") {
  const TemporaryDirectory dir;
  std::ofstream(dir / "log") << "an older file\n";
  TrainingLog log(dir / "log", 0);
  CHECK(read(dir / "log") == kHeader);
  log.append(row(1));
  CHECK(read(dir / "log") == kHeader + "1,0.5,0.9,0.25,1.0\n");
  log.append(row(2));
  CHECK(read(dir / "log") == kHeader + "1,0.5,0.9,0.25,1.0\n2,0.25,0.9,0.25,1.0\n");
  CHECK(log.bytes() == read(dir / "log").size());
  CHECK_NOTHROW(log.sync());
}

TEST_CASE("a resumed log is cut where the model was saved and goes on", "[training_log]") {
  const TemporaryDirectory dir;
  uint64_t saved = 0;
  {
    TrainingLog log(dir / "log", 0);
    log.append(row(1));
    saved = log.bytes();
    log.append(row(2));
    log.append(row(3));
  }
  const std::string whole = read(dir / "log");
  {
    TrainingLog log(dir / "log", saved);
    CHECK(log.bytes() == saved);
    CHECK(read(dir / "log") == whole.substr(0, saved));
    log.append(row(2));
    log.append(row(3));
    CHECK(log.bytes() == whole.size());
  }
  CHECK(read(dir / "log") == whole);
}

TEST_CASE("a resumed log must be the one that was saved", "[training_log]") {
  const TemporaryDirectory dir;
  const int bad = int(ExitCode::kBadInput);
  const auto resume = [&](const std::string& contents, uint64_t bytes) {
    std::ofstream(dir / "log", std::ios::trunc) << contents;
    const int code = code_of([&] { TrainingLog log(dir / "log", bytes); });
    if (code != 0) CHECK(read(dir / "log") == contents);
    return code;
  };
  const std::string good = kHeader + "1,0.5,0.9,0.25,1.0\n";
  CHECK(resume(good, good.size()) == 0);
  CHECK(resume(good, kHeader.size()) == 0);
  CHECK(resume(good, good.size() + 1) == bad);
  CHECK(resume(good, good.size() - 1) == bad);
  CHECK(resume(good, 5) == bad);
  CHECK(resume("epoch,accuracy,loss,val_accuracy,val_loss\n1,2,3,4,5\n", kHeader.size()) == bad);
  CHECK(resume("", 10) == bad);
  CHECK(code_of([&] { TrainingLog log(dir / "absent", 100); }) == int(ExitCode::kMissingInput));
  CHECK_FALSE(std::filesystem::exists(dir / "absent"));
}

TEST_CASE("a log that cannot be written", "[training_log]") {
  const TemporaryDirectory dir;
  CHECK(code_of([&] { TrainingLog log(dir / "missing/log", 0); }) == int(ExitCode::kCannotCreate));
  CHECK(code_of([&] { TrainingLog log(dir.path(), 0); }) == int(ExitCode::kCannotCreate));
  CHECK(code_of([&] { TrainingLog log("/dev/full", 0); }) == int(ExitCode::kIoError));
  TrainingLog null("/dev/null", 0);
  null.append(row(1));
  CHECK_NOTHROW(null.sync());
}

TEST_CASE("a full disk leaves whole rows only", "[training_log]") {
  const TemporaryDirectory dir;
  const std::string first = "1,0.5,0.9,0.25,1.0\n";
  for (size_t limit = kHeader.size(); limit < kHeader.size() + 2 * first.size(); ++limit) {
    INFO("limit " << limit);
    const int code = test::in_child([&] {
      const struct rlimit bound = {limit, limit};
      if (setrlimit(RLIMIT_FSIZE, &bound) != 0) return 1;
      TrainingLog log(dir / "log", 0);
      return code_of([&] {
        for (int i = 1; i < 4; ++i) log.append(row(i));
      });
    });
    CHECK(code == int(ExitCode::kIoError));
    CHECK(read(dir / "log") == (limit < kHeader.size() + first.size() ? kHeader : kHeader + first));
  }
}

}  // namespace mnist
