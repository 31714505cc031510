// Our own model files: what is written is read, equal contents give equal bytes, damage is noticed,
// and whatever fails while saving leaves the earlier file.
#include "host/model_file/model_file.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <limits>
#include <memory>
#include <thread>

#include "host/model_file/keras_config.h"
#include "tests/support/catch.h"
#include "tests/support/child_process.h"
#include "tests/support/data_files.h"
#include "tests/support/error_code.h"
#include "tests/support/model_cases.h"

namespace mnist {
namespace {

namespace fs = std::filesystem;
using namespace test;
using Catch::Matchers::Contains;

// The smallest file with every kind of object.
Model small_model() {
  return parse_arch("pool:14,flatten,dense:2");
}

Image small_image() {
  Random random;
  const Model model = small_model();
  const std::vector<float> weights = random_arena(model, random);
  const RunState state = random_state(model, random);
  return model_file::build_image(model, weights, &state);
}

Image plain_image() {
  Random random;
  const Model model = parse_arch("flatten,dense:2", {2, 2, 1});
  return model_file::build_image(model, random_arena(model, random), nullptr);
}

// Flips each bit, or one arbitrary bit of each `stride`.
void check_flips(const Image& image, size_t stride) {
  Random random;
  std::vector<size_t> bits;
  if (kSanitized) stride *= 16;
  for (size_t bit = 0; bit < image.size() * 8; bit += stride)
    bits.push_back(bit + size_t(random.integer(0, int(stride) - 1)));
  const Tally tally = read_variants(image, bits.size(), [&](Image& variant, size_t number) {
    const size_t bit = std::min(bits[number], variant.size() * 8 - 1);
    variant[bit / 8] ^= std::byte{1} << (bit % 8);
  });
  CAPTURE(tally.different, tally[Verdict::kSame], tally[Verdict::kCrashed]);
  CHECK(tally[Verdict::kDifferent] == 0);
  // HDF5 1.10 reads beyond its buffers for a few of them, which AddressSanitizer does not let pass.
  CHECK(tally[Verdict::kCrashed] <= int64_t(bits.size()) / 100);
  CHECK(tally[Verdict::kRefused] + tally[Verdict::kSame] + tally[Verdict::kCrashed] ==
        int64_t(bits.size()));
  CHECK(tally[Verdict::kRefused] > int64_t(bits.size()) / 8);
}

Image image_of(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

void save(const fs::path& path, std::span<const std::byte> image) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(reinterpret_cast<const char*>(image.data()), std::streamsize(image.size()));
  REQUIRE(file.good());
}

// The message with which a file is refused; it must be one line and begin with the path.
std::string refusal(const fs::path& path, ExitCode code = ExitCode::kBadInput) {
  try {
    read_model_file(path);
  } catch (const Error& error) {
    const std::string message = error.what();
    CHECK(error.code() == code);
    CHECK(message.find('\n') == message.npos);
    CHECK(message.rfind(path.string() + ": ", 0) == 0);
    return message;
  }
  return "accepted";
}

size_t entries(const fs::path& directory) {
  return size_t(std::distance(fs::directory_iterator(directory), fs::directory_iterator()));
}

}  // namespace

TEST_CASE("a model file gives back every bit", "[model_file]") {
  const TemporaryDirectory dir;
  Random random;
  for (const char* arch :
       {kDefaultArch, "flatten,dense:10", "dropout:0.1,flatten,dense:3:linear:nobias,dense:10",
        "conv:3x5x2:same:stride2x1:nobias,pool:3x2:same:stride1,flatten,dropout:0,dense:10:"
        "nobias"}) {
    INFO(arch);
    const Model model = parse_arch(arch);
    const std::vector<float> weights = random_arena(model, random);
    const RunState state = random_state(model, random);
    write_model_file(dir / "m.h5", model, weights, &state);
    const ModelFile file = read_model_file(dir / "m.h5");
    CHECK(arch_string(file.model) == arch);
    CHECK(same_names(file.model, model));
    CHECK(same_bits(file.weights, weights));
    REQUIRE(file.state);
    CHECK(same(*file.state, state));
    CHECK(file.checksum.size() == 64);
    CHECK(file.checksum_verified);
    CHECK(file.writer == "cuda-mnist");
    CHECK(file.warnings.empty());

    write_model_file(dir / "m.h5", model, weights, nullptr);
    const ModelFile bare = read_model_file(dir / "m.h5");
    CHECK(same_bits(bare.weights, weights));
    CHECK_FALSE(bare.state);
    CHECK(bare.checksum_verified);
    CHECK(bare.checksum != file.checksum);
  }
  CHECK(entries(dir.path()) == 1);
}

TEST_CASE("the state of a run in FP16", "[model_file]") {
  const TemporaryDirectory dir;
  Random random;
  const Model model = small_model();
  const std::vector<float> weights = random_arena(model, random);
  RunState state = random_state(model, random);
  const Image fp32 = model_file::build_image(model, weights, &state);
  CHECK(model_file::parse_image(fp32).format == "1");
  state.math = Math::kFp16;
  state.sums.saturated = 12'345'678'901;
  write_model_file(dir / "m.h5", model, weights, &state);
  const ModelFile file = read_model_file(dir / "m.h5");
  REQUIRE(file.state);
  CHECK(file.state->math == Math::kFp16);
  CHECK(same(*file.state, state));
  CHECK(file.checksum_verified);
  // Earlier versions, which would go on in FP32, refuse it.
  CHECK(model_file::parse_image(image_of(dir / "m.h5")).format == "2");
  // The checksum is of both attributes too.
  const auto code_of_changed = [&](auto change) {
    model_file::Contents contents = model_file::parse_image(image_of(dir / "m.h5"));
    change(*contents.state);
    return code_of([&] { model_file::validate(std::move(contents)); });
  };
  CHECK(code_of_changed([](RunState&) {}) == 0);
  CHECK(code_of_changed([](RunState& s) { s.math = Math::kFp32; }) == int(ExitCode::kBadInput));
  CHECK(code_of_changed([](RunState& s) { ++s.sums.saturated; }) == int(ExitCode::kBadInput));
  state.sums.saturated = -1;
  write_model_file(dir / "m.h5", model, weights, &state);
  CHECK_THAT(refusal(dir / "m.h5"), Contains("makes no sense"));
}

TEST_CASE("extreme values survive", "[model_file]") {
  const TemporaryDirectory dir;
  Random random;
  const Model model = small_model();
  std::vector<float> weights = random_arena(model, random);
  weights[0] = -0.0f;
  weights[1] = std::numeric_limits<float>::denorm_min();
  weights[2] = std::numeric_limits<float>::max();
  RunState state = random_state(model, random);
  state.seed = ~uint64_t(0);
  state.dataset = "";
  state.sums.loss_sum = std::numeric_limits<double>::infinity();
  state.sums.first_nonfinite = 3;
  write_model_file(dir / "m.h5", model, weights, &state);
  const ModelFile file = read_model_file(dir / "m.h5");
  CHECK(same_bits(file.weights, weights));
  CHECK(same(*file.state, state));
}

TEST_CASE("a model with hundreds of layers", "[model_file]") {
  // Its JSON text is too long for a plain attribute.
  std::string arch = "flatten";
  for (int i = 0; i < 300; ++i) arch += ",dense:2";
  const TemporaryDirectory dir;
  Random random;
  const Model model = parse_arch(arch + ",dense:10");
  REQUIRE(model_config(model).size() > 64512);
  const std::vector<float> weights = random_arena(model, random);
  write_model_file(dir / "m.h5", model, weights, nullptr);
  const ModelFile file = read_model_file(dir / "m.h5");
  CHECK(arch_string(file.model) == arch_string(model));
  CHECK(same_bits(file.weights, weights));
}

TEST_CASE("equal contents give equal bytes", "[model_file]") {
  const Image first = small_image();
  std::this_thread::sleep_for(std::chrono::milliseconds(1100));  // HDF5's dates are in seconds
  CHECK(small_image() == first);
}

TEST_CASE("values that are not finite are not written", "[model_file]") {
  const TemporaryDirectory dir;
  Random random;
  const Model model = small_model();
  const std::vector<float> good = random_arena(model, random);
  write_model_file(dir / "m.h5", model, good, nullptr);
  const Image old = image_of(dir / "m.h5");
  for (const float value :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    std::vector<float> bad = good;
    bad[3] = value;
    RunState state = random_state(model, random);
    CHECK(code_of([&] { write_model_file(dir / "m.h5", model, bad, nullptr); }) ==
          int(ExitCode::kInternal));
    state.v = bad;
    CHECK(code_of([&] { write_model_file(dir / "m.h5", model, good, &state); }) ==
          int(ExitCode::kInternal));
  }
  CHECK(code_of([&] {
          write_model_file(dir / "m.h5", model, {1, 2}, nullptr);
        }) == int(ExitCode::kInternal));
  CHECK(image_of(dir / "m.h5") == old);
}

TEST_CASE("files that are not HDF5 are called what they are", "[model_file]") {
  const TemporaryDirectory dir;
  const auto write = [&](const std::string& text) {
    save(dir / "m.h5", std::as_bytes(std::span(text)));
    return refusal(dir / "m.h5");
  };
  CHECK_THAT(write(""), Contains("empty"));
  CHECK_THAT(write("<!DOCTYPE html><html>"), Contains("HTML"));
  CHECK_THAT(write(std::string("PK\x03\x04zip")), Contains(".keras"));
  CHECK_THAT(write("\x89HDF\r\n\x1a\n"), Contains("incomplete"));
  CHECK_THAT(write(std::string("\x89HDF\r\n\x1a\n") + std::string(1000, '\0')),
             Contains("damaged"));
  CHECK_THAT(refusal(dir / "absent.h5", ExitCode::kMissingInput), Contains("No such file"));
  CHECK_THAT(refusal(dir.path()), Contains("directory"));
  mkfifo((dir / "pipe").c_str(), 0600);
  CHECK_THAT(refusal(dir / "pipe"), Contains("pipe"));
  // Larger than any model: refused without being read.
  REQUIRE(truncate((dir / "m.h5").c_str(), (int64_t(256) << 20) + 1) == 0);
  CHECK_THAT(refusal(dir / "m.h5"), Contains("at most"));
}

TEST_CASE("a file cut off anywhere is refused", "[model_file]") {
  const TemporaryDirectory dir;
  const Image image = small_image();
  save(dir / "m.h5", image);
  CHECK(refusal(dir / "m.h5") == "accepted");
  size_t incomplete = 0;
  for (size_t size = image.size(); size-- > 0;) {
    REQUIRE(truncate((dir / "m.h5").c_str(), off_t(size)) == 0);
    const std::string message = refusal(dir / "m.h5");
    REQUIRE(message != "accepted");
    incomplete += message.find("incomplete") != message.npos;
  }
  CHECK(incomplete == image.size() - 8);  // less than a signature is not an HDF5 file at all
}

TEST_CASE("the parser alone refuses a file cut off anywhere", "[model_file]") {
  const Image image = small_image();
  const size_t step = kSanitized ? 16 : 1;
  const Tally tally = read_variants(image, image.size() / step, [=](Image& variant, size_t number) {
    variant.resize(number * step);
  });
  CHECK(tally[Verdict::kRefused] == int64_t(image.size() / step));
}

TEST_CASE("no flipped bit changes what is read", "[model_file]") {
  check_flips(plain_image(), 1);
}

TEST_CASE("no flipped bit changes the state of a run", "[model_file]") {
  check_flips(small_image(), 16);
}

// A minute; the case above takes one bit of every two bytes.
TEST_CASE("no flipped bit changes the state of a run in FP16", "[model_file]") {
  Random random;
  const Model model = parse_arch("flatten,dense:2", {2, 2, 1});
  const std::vector<float> weights = random_arena(model, random);
  RunState state = random_state(model, random);
  state.math = Math::kFp16;
  state.sums.saturated = 5;
  check_flips(model_file::build_image(model, weights, &state), 16);
}

TEST_CASE("no flipped bit at all changes the state of a run", "[.exhaustive]") {
  check_flips(small_image(), 1);
}

TEST_CASE("no changed bytes change what is read", "[model_file]") {
  const Image image = small_image();
  Random random;
  std::vector<uint64_t> seeds(5000);
  for (uint64_t& seed : seeds) seed = random.next();
  const Tally tally = read_variants(image, seeds.size(), [&](Image& variant, size_t number) {
    uint64_t bits = seeds[number];
    for (uint64_t n = 1 + bits % 4; n > 0; --n) {
      variant[(bits >> 16) % variant.size()] = std::byte(bits >> 8);
      bits = bits * 6364136223846793005u + 1442695040888963407u;
    }
  });
  CAPTURE(tally.different, tally[Verdict::kSame], tally[Verdict::kCrashed]);
  CHECK(tally[Verdict::kDifferent] == 0);
}

TEST_CASE("a damaged weight in a file is reported with its path", "[model_file]") {
  const TemporaryDirectory dir;
  const Model model = small_model();
  std::vector<float> weights(model.arena_size, 0.0f);
  weights[5] = 0x1.abcdefp-3f;
  write_model_file(dir / "m.h5", model, weights, nullptr);
  Image image = image_of(dir / "m.h5");
  const auto value = std::as_bytes(std::span(&weights[5], 1));
  const auto found = std::search(image.begin(), image.end(), value.begin(), value.end());
  REQUIRE(found != image.end());
  *found ^= std::byte{1};
  save(dir / "m.h5", image);
  CHECK_THAT(refusal(dir / "m.h5"), Contains("checksum does not fit"));
}

TEST_CASE("wherever saving fails, the earlier file stays and no temporary", "[model_file]") {
  const TemporaryDirectory dir;
  Random random;
  const Model model = small_model();
  const std::vector<float> weights = random_arena(model, random);
  write_model_file(dir / "m.h5", model, weights, nullptr);
  const Image old = image_of(dir / "m.h5");
  const RunState state = random_state(model, random);
  const size_t size = model_file::build_image(model, weights, &state).size();
  for (size_t limit = 0; limit < size; limit += 512) {
    const int code = in_child([&] {
      const struct rlimit bound = {limit, limit};
      if (setrlimit(RLIMIT_FSIZE, &bound) != 0) return 1;
      return code_of([&] { write_model_file(dir / "m.h5", model, weights, &state); });
    });
    INFO("limit " << limit);
    CHECK(code == int(ExitCode::kIoError));
    CHECK(image_of(dir / "m.h5") == old);
    CHECK(entries(dir.path()) == 1);
  }
  CHECK(code_of([&] { write_model_file("/dev/full", model, weights, &state); }) ==
        int(ExitCode::kIoError));
  CHECK(code_of([&] { write_model_file(dir / "no/m.h5", model, weights, &state); }) ==
        int(ExitCode::kCannotCreate));
}

TEST_CASE("killed while saving, the file is a whole one", "[model_file]") {
  const TemporaryDirectory dir;
  Random random;
  const Model model = small_model();
  const std::vector<float> weights[] = {random_arena(model, random), random_arena(model, random)};
  const auto begin = std::chrono::steady_clock::now();
  write_model_file(dir / "m.h5", model, weights[0], nullptr);
  const std::chrono::duration<double> one_save = std::chrono::steady_clock::now() - begin;
  int seen[2] = {};
  for (int round = 0; round < (kSanitized ? 50 : 300); ++round) {
    const pid_t child = start_child([&] {
      for (int i = round;; ++i) write_model_file(dir / "m.h5", model, weights[i % 2], nullptr);
      return 0;
    });
    // Anywhere from before the first save to within the fourth.
    std::this_thread::sleep_for(one_save * random.integer(0, 400) / 100.0);
    kill(child, SIGKILL);
    REQUIRE(wait_for(child) == -SIGKILL);
    const ModelFile file = read_model_file(dir / "m.h5");
    const bool first = same_bits(file.weights, weights[0]);
    REQUIRE((first || same_bits(file.weights, weights[1])));
    ++seen[first ? 0 : 1];
  }
  CHECK(seen[0] > 0);
  CHECK(seen[1] > 0);
}

TEST_CASE("reading works beside other threads", "[model_file]") {
  const TemporaryDirectory dir;
  save(dir / "m.h5", small_image());
  std::atomic<bool> stop = false;
  // The child is forked while that thread may hold the allocator's lock. glibc hands its child a
  // free lock; AddressSanitizer's allocator does not, so there the thread only computes.
  std::thread busy([&] {
    while (!stop)
      if (!kSanitized) std::vector<char>(1000).swap(*std::make_unique<std::vector<char>>(10));
  });
  for (int i = 0; i < 50; ++i) CHECK(read_model_file(dir / "m.h5").checksum_verified);
  stop = true;
  busy.join();
}

}  // namespace mnist
