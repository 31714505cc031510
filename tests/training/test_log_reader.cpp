// Reading logs: this program's, Keras', damaged ones.
#include "host/training/log_reader.h"

#include <cmath>
#include <string>
#include <vector>

#include "host/error.h"
#include "tests/support/catch.h"
#include "tests/support/data_files.h"
#include "tests/support/error_code.h"

namespace mnist {
namespace {

const std::string kHeader = "epoch,loss,accuracy,val_loss,val_accuracy\n";

LogContent read(const std::string& text) {
  const test::TemporaryDirectory dir;
  std::ofstream(dir / "log", std::ios::binary) << text;
  return read_training_log(dir / "log");
}

int code_of_reading(const std::string& text) {
  return code_of([&] { read(text); });
}

std::vector<int64_t> epochs(const LogContent& log) {
  std::vector<int64_t> numbers;
  for (const EpochResult& row : log.rows) numbers.push_back(row.epoch);
  return numbers;
}

std::string rows(int64_t first, int64_t last) {
  std::string text;
  for (int64_t e = first; e <= last; ++e) text += std::to_string(e) + ",0.5,0.9,0.25,1.0\n";
  return text;
}

using Numbers = std::vector<int64_t>;

}  // namespace

TEST_CASE("a log is read as it was written", "[log_reader]") {
  const test::TemporaryDirectory dir;
  const std::vector<EpochResult> written{{1, 0.2103, 0.93, 0.0521, 0.9833},
                                         {2, 5e-324, 1, 1e300, 0}};
  {
    TrainingLog log(dir / "log", 0);
    for (const EpochResult& row : written) log.append(row);
  }
  const LogContent read = read_training_log(dir / "log");
  REQUIRE(read.rows.size() == 2);
  for (size_t i = 0; i < 2; ++i) {
    CHECK(read.rows[i].epoch == written[i].epoch);
    CHECK(read.rows[i].loss == written[i].loss);
    CHECK(read.rows[i].accuracy == written[i].accuracy);
    CHECK(read.rows[i].val_loss == written[i].val_loss);
    CHECK(read.rows[i].val_accuracy == written[i].val_accuracy);
  }
  CHECK(read.remarks.empty());
}

TEST_CASE("Keras' logs have other columns, and count from 0", "[log_reader]") {
  const LogContent log = read(
      "epoch,accuracy,learning_rate,loss,val_accuracy,val_loss\r\n"
      "0,0.9,0.001,0.5,0.95,0.25\r\n1,0.91,0.001,0.4,0.96,0.2\r\n");
  REQUIRE(epochs(log) == Numbers{1, 2});
  CHECK(log.rows[1].accuracy == 0.91);
  CHECK(log.rows[1].loss == 0.4);
  CHECK(log.rows[1].val_accuracy == 0.96);
  CHECK(log.rows[1].val_loss == 0.2);
  CHECK(log.remarks.empty());
  const LogContent no_validation = read("epoch,loss\n1,0.5\n");
  CHECK(no_validation.rows[0].loss == 0.5);
  CHECK(std::isnan(no_validation.rows[0].val_loss));
}

TEST_CASE("of a damaged log the rest is read, with a remark", "[log_reader]") {
  const LogContent cut = read(kHeader + rows(1, 3) + "4,0.1");
  CHECK(epochs(cut) == Numbers{1, 2, 3});
  REQUIRE(cut.remarks.size() == 1);
  CHECK(cut.remarks[0] == "Line 5 is damaged and left out.");

  const LogContent holes =
      read(kHeader + rows(1, 2) + "x,0.5,0.9,0.25,1.0\n4,0.5,0.9,0.25\n" + rows(5, 6));
  CHECK(epochs(holes) == Numbers{1, 2, 5, 6});
  REQUIRE(holes.remarks.size() == 2);
  CHECK(holes.remarks[0] == "2 lines are damaged and left out, the first of them line 4.");
  CHECK(holes.remarks[1] == "The log lacks 2 of the epochs up to 6.");

  for (const char* row : {"-1,1,1,1,1\n", "1.5,1,1,1,1\n", "99999999999999999999,1,1,1,1\n",
                          "2,1,1,1,0x1\n", "2,1,1,1, 1\n", "2,1,1,1,1,1\n", "2;1;1;1;1\n"}) {
    const LogContent log = read(kHeader + rows(1, 1) + row);
    CHECK(epochs(log) == Numbers{1});
    CHECK(log.remarks.size() == 1);
  }
}

TEST_CASE("numbers that are none are kept as such", "[log_reader]") {
  const LogContent log = read(kHeader + "1,nan,0.9,inf,0.5\n2,,0.9,0.2,0.5\n3,1,1,1,1\n");
  REQUIRE(epochs(log) == Numbers{1, 2, 3});
  CHECK(std::isnan(log.rows[0].loss));
  CHECK(std::isinf(log.rows[0].val_loss));
  CHECK(std::isnan(log.rows[1].loss));
  REQUIRE(log.remarks.size() == 1);
  CHECK(log.remarks[0] ==
        "In 2 of its 3 epochs the log has a value that is missing, infinite or NaN.");
}

TEST_CASE("of several runs in a file the last one counts", "[log_reader]") {
  const LogContent log = read(kHeader + rows(1, 5) + rows(1, 1) + rows(3, 3) + rows(2, 4));
  CHECK(epochs(log) == Numbers{2, 3, 4});
  REQUIRE(log.remarks.size() == 2);
  CHECK(log.remarks[0].find("In line 9 the epochs begin again") == 0);
  CHECK(log.remarks[1] == "The log begins with epoch 2.");
}

TEST_CASE("what is no log", "[log_reader]") {
  const int bad = int(ExitCode::kBadInput);
  CHECK(code_of_reading("") == bad);
  CHECK(code_of_reading("loss,accuracy\n1,2\n") == bad);
  CHECK(code_of_reading("epoch,time\n1,2\n") == bad);
  CHECK(code_of_reading("\x89HDF\r\n\x1a\n") == bad);
  CHECK(code_of_reading(kHeader + "a,b,c,d,e\n") == bad);
  CHECK(read(kHeader).rows.empty());  // a run without an epoch
  const test::TemporaryDirectory dir;
  CHECK(code_of([&] { read_training_log(dir / "absent"); }) == int(ExitCode::kMissingInput));
  CHECK(code_of([&] { read_training_log(dir.path()); }) == bad);
}

}  // namespace mnist
