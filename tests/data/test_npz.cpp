#include "host/data/npz.h"

#include <algorithm>

#include "tests/support/catch.h"
#include "tests/support/npz_file.h"

using namespace mnist;
using namespace mnist::test;

namespace {

const Bytes kValues{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
const char* const kHead = "{'descr': '|u1', 'fortran_order': False, 'shape': ";

IdxFile parse(const Bytes& archive, int rank = 3, int64_t max_values = 12) {
  return parse_npz(archive, "file", "x", rank, max_values);
}

// What is wrong with an archive whose one array is the file `npy`.
std::string problem(const Bytes& npy, int rank = 3, int64_t max_values = 12) {
  const Failure failure = failure_of([&] {
    parse(zip_archive({{"x.npy", npy}}), rank, max_values);
  });
  if (failure.code != ExitCode::kBadInput) return "accepted";
  REQUIRE(failure.text.starts_with("file (x): "));
  REQUIRE(!contains(failure.text, "\n"));
  return failure.text.substr(10);
}
std::string problem_of_header(const std::string& header, uint8_t version = 1) {
  return problem(npy(header, kValues, version));
}
const std::string kUnclear = "has an .npy header that is not understood";

}  // namespace

TEST_CASE("npz: an array is the IDX file of the same values") {
  const Bytes idx = idx_header({2, 3, 2}) + kValues;
  for (const zip_int32_t method : {ZIP_CM_STORE, ZIP_CM_DEFLATE}) {
    const IdxFile found = parse(zip_archive(
        {{"other.npy", npy_array("(1,)", {7})}, {"x.npy", npy_array("(2, 3, 2)", kValues)}},
        method));
    CHECK(found.name == "file (x)");
    CHECK(found.sizes == std::vector<int64_t>{2, 3, 2});
    CHECK(found.values == kValues);
    CHECK(found.sha256 == sha256_hex(idx));
    CHECK(found.sha256 == parse_idx(idx, "idx", 3, 12).sha256);
  }
  const Bytes labels = zip_archive({{"x.npy", npy_array("(12,)", kValues)}});
  CHECK(parse(labels, 1).sizes == std::vector<int64_t>{12});
}

TEST_CASE("npz: every spelling of a header that NumPy has had") {
  for (const char* header : {
           "{'descr': '|u1', 'fortran_order': False, 'shape': (2, 3, 2), }",
           "{'descr': '|u1', 'fortran_order': False, 'shape': (2, 3, 2)}",
           "{'shape': (2L, 3L, 2L), 'fortran_order': False, 'descr': '|u1'}",
           "{\"descr\":\"|u1\",\"fortran_order\":False,\"shape\":(2,3,2)}",
       })
    for (const uint8_t version : {1, 2, 3}) {
      INFO(header);
      CHECK(parse(zip_archive({{"x.npy", npy(header, kValues, version)}})).values == kValues);
    }
}

TEST_CASE("npz: arrays of another kind") {
  const auto array_of = [](const std::string& type) {
    return problem_of_header("{'descr': '" + type +
                             "', 'fortran_order': False, 'shape': (2, 3, 2), }");
  };
  for (const char* type : {"|O", "<f4", "|i1", "|b1", "|S1", ">u2", ""})
    CHECK(array_of(type) ==
          "holds values of type '" + std::string(type) + "'; '|u1' (unsigned byte) is needed");
  CHECK(contains(array_of(std::string("\x1b[31m") + std::string(100, 'a')), "type '?[31maaaa"));
  CHECK(contains(problem_of_header("{'descr': [('a', '|u1')], 'fortran_order': False, "
                                   "'shape': (2, 3, 2), }"),
                 "structured"));
  CHECK(contains(problem_of_header("{'descr': '|u1', 'fortran_order': True, 'shape': (2, 3, 2), }"),
                 "C order"));
  CHECK(problem(npy_array("(12,)", kValues)) == "has 1 dimensions; images have 3");
  CHECK(problem(npy_array("(2, 3, 2)", kValues), 1) == "has 3 dimensions; labels have 1");
  CHECK(problem(npy_array("()", {7})) == "has 0 dimensions; images have 3");
}

TEST_CASE("npz: sizes that do not fit the values") {
  CHECK(problem(npy_array("(2, 3, 3)", kValues), 3, 18) ==
        "is too short: its header promises 18 values, it has 12");
  CHECK(problem(npy_array("(2, 3, 1)", kValues)) ==
        "is too long: more follows the 6 values its header promises");
  CHECK(problem(npy_array("(2, 3, 2)", kValues), 3, 11) ==
        "its header promises 2 x 3 x 2 values; at most 11 are accepted");
  CHECK(problem(npy_array("(2, 0, 2)", kValues)) == "is an array with nothing in it");
  // A product that overflows, to 0 in 64 bits.
  for (const char* shape : {"(4294967296, 4294967296, 1)", "(9223372036854775807, 2, 3)"})
    CHECK(contains(problem(npy_array(shape, kValues)), "at most 12 are accepted"));
}

TEST_CASE("npz: headers that are none") {
  const std::string head = kHead;
  for (const std::string& header :
       {std::string(),
        std::string("{"),
        std::string("{}"),
        std::string("[]"),
        head + "(2, 3, 2)",
        head + "(2, 3, 2), } x",
        head + "(2, 3, 2), 'shape': (2, 3, 2), }",
        head + "(2, 3, 2), 'more': 1, }",
        head + "(2, -3, 2), }",
        head + "(2, 3.0, 2), }",
        head + "(2, 3, 2, }",
        head + "(2, 3, 99999999999999999999), }",
        head + "[2, 3, 2], }",
        head + "(2, 3, __import__('os')), }",
        head + "(2 3 2), }",
        head + "(,), }",
        std::string("{'descr': '|u1', 'shape': (2, 3, 2), }"),
        std::string("{'fortran_order': False, 'shape': (2, 3, 2), }"),
        std::string("{'descr': '|u1', 'fortran_order': False, }"),
        std::string("{'descr: 1}"),
        std::string("{'descr': |u1, 'fortran_order': False, 'shape': (2, 3, 2), }")}) {
    INFO(header);
    CHECK(problem_of_header(header) == kUnclear);
  }
  CHECK(problem(text_bytes("\x93NUMPX")) == "is not an .npy array");
  CHECK(problem({}) == "ends within its .npy header");
  CHECK(contains(problem_of_header(head + "(2, 3, 2), }", 9), "version 9"));
  Bytes cut = npy_array("(2, 3, 2)", kValues);
  cut.resize(100);
  CHECK(problem(cut) == "ends within its .npy header");
  // Four gigabytes of header.
  CHECK(contains(problem(text_bytes("\x93NUMPY") + Bytes{2, 0, 0xff, 0xff, 0xff, 0xff}),
                 "header of 4294967295 bytes"));
}

TEST_CASE("npz: what is not an archive, or lacks the array") {
  const auto failure = [](const Bytes& bytes) {
    const Failure failure = failure_of([&] { parse(bytes); });
    CHECK(failure.code == ExitCode::kBadInput);
    CHECK(failure.text.starts_with("file"));
    CHECK(!contains(failure.text, "\n"));
    return failure.text;
  };
  CHECK(contains(failure({}), "is empty"));
  CHECK(contains(failure(text_bytes("<html>")), "an HTML page"));
  CHECK(contains(failure(text_bytes("PK\x03\x04 and no more")), "a zip archive"));
  CHECK(contains(failure(zip_archive({{"y.npy", npy_array("(12,)", kValues)}})), "file (x): "));
  CHECK(contains(failure(zip_archive({{"x", npy_array("(12,)", kValues)}})), "file (x): "));
  CHECK(failure_of([] { read_npz("/nowhere/mnist.npz", "x", 3, 12); }).code ==
        ExitCode::kMissingInput);
}

TEST_CASE("npz: no flipped bit passes unnoticed or does harm") {
  // Values that do not compress, so that each bit counts.
  Bytes values(300);
  uint32_t state = 1;
  for (uint8_t& value : values) value = static_cast<uint8_t>((state = state * 1664525 + 1) >> 24);
  for (const zip_int32_t method : {ZIP_CM_STORE, ZIP_CM_DEFLATE}) {
    const Bytes archive = zip_archive({{"x.npy", npy_array("(3, 10, 10)", values)}}, method);
    const std::string whole = parse(archive, 3, 300).sha256;
    int refused = 0;
    for (size_t i = 0; i < archive.size(); ++i)
      for (const int bit : {0, 3, 7}) {
        Bytes damaged = archive;
        damaged[i] ^= static_cast<uint8_t>(1 << bit);
        std::string digest;
        const Failure failure = failure_of([&] { digest = parse(damaged, 3, 300).sha256; });
        if (failure.code == ExitCode::kBadInput)
          ++refused;
        else
          CHECK(digest == whole);  // a date, say
      }
    CHECK(refused > 900);
    for (size_t size = 0; size < archive.size(); ++size)
      CHECK(failure_of([&] {
              parse(Bytes(archive.begin(), archive.begin() + long(size)), 3, 300);
            }).code == ExitCode::kBadInput);
  }
}
