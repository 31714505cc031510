#include "host/data/dataset.h"

#include <sys/stat.h>

#include <thread>

#include "tests/support/catch.h"
#include "tests/support/data_files.h"
#include "tests/support/loopback.h"
#include "tests/support/npz_file.h"

using namespace mnist;
using namespace mnist::test;
namespace fs = std::filesystem;

namespace {

const char* const kNames[] = {"train-images-idx3-ubyte", "train-labels-idx1-ubyte",
                              "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"};

// No variable of the user's reaches the test; the cache is an empty directory.
struct CleanEnvironment {
  TemporaryDirectory home;
  Environment data_dir{"CUDA_MNIST_DATA_DIR", nullptr};
  Environment cache_home{"XDG_CACHE_HOME", nullptr};
  Environment keras_home{"KERAS_HOME", nullptr};
  Environment mirrors{"CUDA_MNIST_MIRRORS", "http://127.0.0.1:1/"};
  Environment home_variable{"HOME", home.path().c_str()};

  fs::path cache() const { return home / ".cache" / "cuda-mnist"; }
  fs::path keras() const { return home / ".keras" / "datasets"; }
};

DatasetRequest request_for(const std::string& name, const fs::path& data_dir = {}) {
  DatasetRequest request;
  request.name = name;
  request.data_dir = data_dir;
  return request;
}

Dataset load(const DatasetRequest& request) {
  return load_dataset(request, nullptr, nullptr);
}
Failure load_failure(const DatasetRequest& request) {
  return failure_of([&] { load(request); });
}

// A small set of 5 training and 3 test images, named by MNIST's names.
void write_small_set(const fs::path& directory) {
  write_bytes(directory / kNames[0], idx_images(5));
  write_bytes(directory / kNames[1], idx_labels(5));
  write_bytes(directory / kNames[2], idx_images(3));
  write_bytes(directory / kNames[3], idx_labels(3));
}

// The directory of the real MNIST files, from the variable that a user would set.
fs::path real_mnist() {
  const char* directory = std::getenv("CUDA_MNIST_DATA_DIR");
  if (directory == nullptr || !fs::exists(fs::path(directory) / (std::string(kNames[0]) + ".gz")))
    return {};
  return fs::absolute(directory);
}

}  // namespace

TEST_CASE("dataset: where the data are") {
  const CleanEnvironment clean;
  CHECK(data_directory(request_for("mnist")) == clean.cache());
  CHECK(data_directory(request_for("fashion-mnist", "/somewhere")) == "/somewhere");
  {
    const Environment cache_home("XDG_CACHE_HOME", "/srv/cache");
    CHECK(data_directory(request_for("mnist")) == "/srv/cache/cuda-mnist");
    const Environment data_dir("CUDA_MNIST_DATA_DIR", "/srv/data");
    CHECK(data_directory(request_for("mnist")) == "/srv/data");
    CHECK(data_directory(request_for("mnist", "/srv/option")) == "/srv/option");
  }
  {
    const Environment cache_home("XDG_CACHE_HOME", "relative/cache");
    CHECK(data_directory(request_for("mnist")) == clean.cache());
  }
  {
    const Environment home("HOME", nullptr);  // the user database knows
    CHECK(data_directory(request_for("mnist")).is_absolute());
  }
  // The cache keeps Fashion-MNIST apart from MNIST, whose files have the same names; the cache's
  // own directory may be named to find either.
  write_bytes(clean.cache() / "fashion-mnist" / kNames[3], {});
  CHECK(data_directory(request_for("fashion-mnist")) == clean.cache() / "fashion-mnist");
  CHECK(data_directory(request_for("fashion-mnist", clean.cache())) ==
        clean.cache() / "fashion-mnist");
  CHECK(data_directory(request_for("mnist")) == clean.cache());
}

TEST_CASE("dataset: names and numbers that make no sense") {
  const CleanEnvironment clean;
  CHECK(load_failure(request_for("mnist2")).code == ExitCode::kUsage);
  CHECK(contains(load_failure(request_for("mnist2")).text, "'mnist2'"));
  CHECK(load_failure(request_for("idx")).code == ExitCode::kUsage);
  CHECK(contains(load_failure(request_for("idx")).text, "--data-dir"));
  DatasetRequest negative = request_for("mnist");
  negative.limit = -1;
  CHECK(load_failure(negative).code == ExitCode::kUsage);
  CHECK(failure_of([] { data_directory(request_for("synthetic")); }).code == ExitCode::kUsage);
  CHECK(failure_of([] { fetch_dataset(request_for("idx", "/srv"), nullptr, nullptr); }).code ==
        ExitCode::kUsage);
}

TEST_CASE("dataset: what is missing is told with every place tried") {
  const CleanEnvironment clean;
  DatasetRequest request = request_for("mnist");
  request.download = false;
  Failure failure = load_failure(request);
  CHECK(failure.code == ExitCode::kMissingInput);
  for (const char* part : {"/.cache/cuda-mnist/t10k-labels{-,.}idx1-ubyte{.gz,}", "--data-dir",
                           "/usr/share/cuda-mnist/data/t10k-labels", "/.keras/datasets/mnist.npz",
                           "`cuda-mnist data fetch", "--dataset synthetic"})
    CHECK(contains(failure.text, part));

  // A directory that the user names is never filled by loading.
  failure = load_failure(request_for("mnist", clean.home / "mine"));
  CHECK(failure.code == ExitCode::kMissingInput);
  CHECK(contains(failure.text, (clean.home / "mine/t10k-labels{-,.}idx1-ubyte{.gz,}").string()));
  CHECK(!contains(failure.text, ".cache"));
  CHECK(!fs::exists(clean.home / "mine"));
  CHECK(fs::is_empty(clean.home.path()));

  const std::vector<FileCheck> checks = verify_dataset(request_for("mnist", clean.home / "mine"));
  REQUIRE(checks.size() == 4);
  for (const FileCheck& check : checks) {
    CHECK(!check.ok);
    CHECK(contains(check.verdict, "tried"));
  }
}

TEST_CASE("dataset: one's own files, in every spelling") {
  const CleanEnvironment clean;
  const TemporaryDirectory mine;
  for (const bool dotted : {false, true})
    for (const bool zipped : {false, true}) {
      const fs::path directory =
          mine / (std::string(dotted ? "dot" : "dash") + (zipped ? "gz" : ""));
      write_small_set(directory);
      for (std::string name : kNames) {
        const Bytes raw = read_bytes(directory / name);
        fs::remove(directory / name);
        if (dotted) name.replace(name.find("-idx"), 1, ".");
        write_bytes(directory / (name + (zipped ? ".gz" : "")), zipped ? gzip(raw) : raw);
      }
      const Dataset data = load(request_for("idx", directory));
      CHECK(data.name == "idx");
      CHECK(data.source == directory);
      CHECK(!data.verified);
      CHECK(data.train.count == 5);
      CHECK(data.train.labels == Bytes{0, 1, 2, 3, 4});
      CHECK(data.train.images.size() == 5 * 784);
      CHECK(data.test.count == 3);
      CHECK(idx_header({3, 28, 28}) + data.test.images == idx_images(3));
      for (const FileCheck& check : verify_dataset(request_for("idx", directory))) CHECK(check.ok);
    }
  // A directory by the name of a file, as some archives unpack, is passed over.
  fs::create_directory(mine / "dash" / (std::string(kNames[0]) + ".gz"));
  CHECK(load(request_for("idx", mine / "dash")).train.count == 5);
}

TEST_CASE("dataset: the first N training images") {
  const CleanEnvironment clean;
  const TemporaryDirectory mine;
  write_small_set(mine.path());
  DatasetRequest request = request_for("idx", mine.path());
  const Dataset all = load(request);
  for (const int64_t limit : {1, 4, 5, 6}) {
    request.limit = limit;
    const Dataset some = load(request);
    const auto count = static_cast<size_t>(std::min<int64_t>(limit, 5));
    CHECK(some.train.count == static_cast<int64_t>(count));
    CHECK(some.train.images ==
          Bytes(all.train.images.begin(), all.train.images.begin() + count * 784));
    CHECK(some.train.labels == Bytes(all.train.labels.begin(), all.train.labels.begin() + count));
    CHECK(some.test.count == 3);
  }
}

TEST_CASE("dataset: one's own files that do not fit together") {
  const CleanEnvironment clean;
  const TemporaryDirectory mine;
  const auto failure_with = [&](const char* name, const Bytes& contents) {
    write_small_set(mine.path());
    write_bytes(mine / name, contents);
    const Failure failure = load_failure(request_for("idx", mine.path()));
    CHECK(contains(failure.text, (mine / name).string()));
    CHECK(read_bytes(mine / name) == contents);
    CHECK(failure.code == ExitCode::kBadInput);
    return failure.text;
  };
  CHECK(contains(failure_with(kNames[1], idx_labels(6)), "6 labels for the 5 images"));
  CHECK(contains(failure_with(kNames[3], idx_header({3}) + Bytes{1, 2, 11}), "label 2 is 11"));
  CHECK(contains(failure_with(kNames[0], idx_header({5, 32, 32}) + Bytes(5120)), "32x32"));
  CHECK(contains(failure_with(kNames[2], idx_labels(3)), "1 IDX dimensions"));
  CHECK(contains(failure_with(kNames[0], text_bytes("<html>")), "an HTML page"));
  CHECK(contains(failure_with(kNames[0], {}), "empty"));
}

TEST_CASE("dataset: other contents are not taken for MNIST, nor touched") {
  const CleanEnvironment clean;
  const TemporaryDirectory mine;
  write_small_set(mine.path());
  const Bytes labels = idx_labels(3);
  const Environment data_dir("CUDA_MNIST_DATA_DIR", mine.path().c_str());
  for (const DatasetRequest& request : {request_for("mnist", mine.path()), request_for("mnist"),
                                        request_for("fashion-mnist", mine.path())}) {
    const Failure failure = load_failure(request);
    INFO(failure.text);
    CHECK(failure.code == ExitCode::kBadInput);
    CHECK(contains(failure.text, (mine / kNames[3]).string() + ": is not "));
    CHECK(contains(failure.text, sha256_hex(labels)));
    CHECK(contains(failure.text, "--dataset idx"));
    for (const FileCheck& check : verify_dataset(request)) {
      CHECK(!check.ok);
      CHECK(contains(check.verdict, "SHA-256"));
    }
    CHECK(failure_of([&] { fetch_dataset(request, nullptr, nullptr); }).code ==
          ExitCode::kBadInput);
    CHECK(std::distance(fs::directory_iterator(mine.path()), {}) == 4);
  }
  // More values than the set has are refused before they are read.
  write_bytes(mine / kNames[3], idx_header({10001}) + Bytes(10001));
  CHECK(contains(load_failure(request_for("mnist")).text, "at most 10000"));
}

TEST_CASE("dataset: a damaged file in the cache is set aside and fetched again") {
  const CleanEnvironment clean;
  LoopbackServer server([](const WebRequest&) {
    WebAnswer answer;
    answer.body = text_bytes("<html>sold</html>");
    return answer;
  });
  const Environment mirrors("CUDA_MNIST_MIRRORS", (server.url() + " " + server.url()).c_str());
  const fs::path damaged = clean.cache() / "t10k-labels-idx1-ubyte";
  const Bytes contents = text_bytes("<html>was for sale</html>");
  write_bytes(damaged, contents);

  // Looking does not change anything.
  DatasetRequest look = request_for("mnist");
  look.download = false;
  const Failure seen = load_failure(look);
  CHECK(seen.code == ExitCode::kBadInput);
  CHECK(contains(seen.text, "`cuda-mnist data fetch --dataset mnist` to replace it"));
  CHECK(!verify_dataset(request_for("mnist"))[3].ok);
  CHECK(read_bytes(damaged) == contents);

  std::vector<std::string> messages;
  const Failure failure = failure_of([&] {
    load_dataset(
        request_for("mnist"), [&](const std::string& text) { messages.push_back(text); }, nullptr);
  });
  CHECK(failure.code == ExitCode::kUnavailable);
  CHECK(contains(failure.text, "t10k-labels-idx1-ubyte.gz could not be fetched"));
  CHECK(contains(failure.text, "an HTML page"));
  CHECK(contains(failure.text, clean.cache().string()));
  REQUIRE(messages.size() == 4);
  CHECK(contains(messages[0], damaged.string() + ": is not an IDX file"));
  CHECK(contains(messages[0], "renamed to t10k-labels-idx1-ubyte.bad"));
  CHECK(contains(messages[1], "fetching t10k-labels-idx1-ubyte.gz"));
  CHECK(contains(messages[2], "mirror failed: "));
  CHECK(contains(messages[3], "mirror failed: "));
  CHECK(read_bytes(damaged.string() + ".bad") == contents);
  // Nothing of what the mirrors sent is kept.
  CHECK(std::distance(fs::directory_iterator(clean.cache()), {}) == 1);
}

TEST_CASE("dataset: a cache that cannot be made is told before anything is fetched") {
  const CleanEnvironment clean;
  write_bytes(clean.home / ".cache", {});
  const Failure failure = load_failure(request_for("mnist"));
  CHECK(failure.code == ExitCode::kCannotCreate);
  CHECK(contains(failure.text, "CUDA_MNIST_DATA_DIR"));
}

TEST_CASE("dataset: a mnist.npz of Keras' that is not MNIST is passed over, and left alone") {
  const CleanEnvironment clean;
  const Bytes other = zip_archive({{"x_train.npy", npy_array("(1, 28, 28)", Bytes(784))},
                                   {"y_train.npy", npy_array("(1,)", {3})},
                                   {"x_test.npy", npy_array("(1, 28, 28)", Bytes(784))},
                                   {"y_test.npy", npy_array("(1,)", {3})}});
  for (const Bytes& contents : {other, text_bytes("<html>"), Bytes()}) {
    const fs::path file = clean.keras() / "mnist.npz";
    write_bytes(file, contents);
    CHECK(data_directory(request_for("mnist")) == clean.keras());
    CHECK(download_directory(request_for("mnist")) == clean.cache());

    for (const bool download : {true, false}) {
      DatasetRequest request = request_for("mnist");
      request.download = download;
      std::vector<std::string> messages;
      const Failure failure = failure_of([&] {
        load_dataset(
            request, [&](const std::string& text) { messages.push_back(text); }, nullptr);
      });
      INFO(failure.text);
      CHECK(failure.code == (download ? ExitCode::kUnavailable : ExitCode::kMissingInput));
      REQUIRE(messages.size() == (download ? 3 : 1));  // with `fetching` and `mirror failed`
      CHECK(messages[0].starts_with(file.string()));
      CHECK(messages[0].ends_with("; this file of Keras' is passed over"));
      CHECK(contains(failure.text, "mnist.npz"));
    }
    for (const FileCheck& check : verify_dataset(request_for("mnist"))) {
      CHECK(!check.ok);
      CHECK(check.code == ExitCode::kMissingInput);
      CHECK(contains(check.verdict, "tried"));
      CHECK(contains(check.verdict, file.string()));
    }
    CHECK(read_bytes(file) == contents);
    CHECK(std::distance(fs::directory_iterator(clean.keras()), {}) == 1);
  }
  // Where the user puts one, it is an error.
  write_bytes(clean.home / "mine/mnist.npz", other);
  const Failure failure = load_failure(request_for("mnist", clean.home / "mine"));
  CHECK(failure.code == ExitCode::kBadInput);
  CHECK(contains(failure.text, "mine/mnist.npz (y_test): is not MNIST's t10k-labels"));
  // Other sets are not looked for in it.
  CHECK(load_failure(request_for("idx", clean.home / "mine")).code == ExitCode::kMissingInput);
}

TEST_CASE("dataset: synthetic digits need no files") {
  const CleanEnvironment clean;
  DatasetRequest request = request_for("synthetic");
  request.limit = 20;
  const Dataset data = load(request);
  CHECK(data.name == "synthetic");
  CHECK(data.source == "built-in generator");
  CHECK(!data.verified);
  CHECK(data.train.count == 20);
  CHECK(data.test.count == 10000);
  CHECK(data.train.images.size() == 20 * 784);
  CHECK(data.train.images != Bytes(data.test.images.begin(), data.test.images.begin() + 20 * 784));
  CHECK(verify_dataset(request).at(0).ok);
  fetch_dataset(request, nullptr, nullptr);
  CHECK(fs::is_empty(clean.home.path()));
}

TEST_CASE("dataset: the real MNIST, verified, raw or gzipped") {
  const fs::path real = real_mnist();
  if (real.empty()) {
    WARN("not run: CUDA_MNIST_DATA_DIR does not name a directory with MNIST's four .gz files");
    return;
  }
  const CleanEnvironment clean;
  const Dataset data = load(request_for("mnist", real));
  CHECK(data.verified);
  CHECK(data.train.count == 60000);
  CHECK(data.test.count == 10000);
  CHECK(Bytes(data.train.labels.begin(), data.train.labels.begin() + 5) == Bytes{5, 0, 4, 1, 9});
  CHECK(Bytes(data.test.labels.begin(), data.test.labels.begin() + 5) == Bytes{7, 2, 1, 0, 4});
  for (const FileCheck& check : verify_dataset(request_for("mnist", real)))
    CHECK(check.verdict == "ok");

  const Failure failure = load_failure(request_for("fashion-mnist", real));
  CHECK(failure.code == ExitCode::kBadInput);
  CHECK(contains(failure.text, "is MNIST's t10k-labels, not Fashion-MNIST's"));

  // One bit of the raw contents is enough to be refused.
  for (const char* name : kNames)
    fs::create_symlink(real / (std::string(name) + ".gz"),
                       clean.home / (std::string(name) + ".gz"));
  Bytes labels = idx_header({10000}) + data.test.labels;
  fs::remove(clean.home / "t10k-labels-idx1-ubyte.gz");
  write_bytes(clean.home / "t10k-labels.idx1-ubyte", labels);
  CHECK(load(request_for("mnist", clean.home.path())).verified);
  labels[5000] ^= 1;
  write_bytes(clean.home / "t10k-labels.idx1-ubyte", labels);
  CHECK(contains(load_failure(request_for("mnist", clean.home.path())).text, "SHA-256"));
}

TEST_CASE("dataset: the real MNIST, from Keras' own cache") {
  const fs::path real = real_mnist();
  if (real.empty()) {
    WARN("not run: CUDA_MNIST_DATA_DIR does not name a directory with MNIST's four .gz files");
    return;
  }
  const CleanEnvironment clean;
  const Dataset data = load(request_for("mnist", real));
  std::map<std::string, Bytes> arrays{
      {"x_train.npy", npy_array("(60000, 28, 28)", data.train.images)},
      {"y_train.npy", npy_array("(60000,)", data.train.labels)},
      {"x_test.npy", npy_array("(10000, 28, 28)", data.test.images)},
      {"y_test.npy", npy_array("(10000,)", data.test.labels)}};
  const auto check_same = [&](const Dataset& found) {
    CHECK(found.verified);
    CHECK(found.train.images == data.train.images);
    CHECK(found.train.labels == data.train.labels);
    CHECK(found.test.images == data.test.images);
    CHECK(found.test.labels == data.test.labels);
  };
  const auto no_message = [](const std::string& text) { FAIL(text); };

  // Nothing is asked of the mirrors, and nothing written.
  write_bytes(clean.keras() / "mnist.npz", zip_archive(arrays));
  check_same(load_dataset(request_for("mnist"), no_message, nullptr));
  CHECK(!fs::exists(clean.cache()));
  for (const FileCheck& check : verify_dataset(request_for("mnist"))) {
    CHECK(check.verdict == "ok");
    CHECK(check.from == clean.keras() / "mnist.npz");
    CHECK(check.file.starts_with(check.from.string() + " ("));
  }
  std::vector<std::string> messages;
  fetch_dataset(
      request_for("mnist"), [&](const std::string& text) { messages.push_back(text); }, nullptr);
  REQUIRE(messages.size() == 4);
  CHECK(messages[0] == (clean.keras() / "mnist.npz").string() + " (x_train): ok");

  // Uncompressed, where KERAS_HOME says; and in a directory that the user names.
  const Environment keras_home("KERAS_HOME", (clean.home / "elsewhere").c_str());
  write_bytes(clean.home / "elsewhere/datasets/mnist.npz", zip_archive(arrays, ZIP_CM_STORE));
  CHECK(data_directory(request_for("mnist")) == clean.home / "elsewhere/datasets");
  check_same(load(request_for("mnist")));
  check_same(load(request_for("mnist", clean.keras())));
  // Files of our own come first.
  write_bytes(clean.cache() / kNames[3], idx_header({10000}) + data.test.labels);
  CHECK(verify_dataset(request_for("mnist"))[3].from == clean.cache());
  check_same(load(request_for("mnist")));

  // One array is another: the rest is still used, and what is missing asked of the mirrors.
  arrays["y_train.npy"].back() ^= 1;
  write_bytes(clean.home / "elsewhere/datasets/mnist.npz", zip_archive(arrays));
  const Failure failure = load_failure(request_for("mnist"));
  CHECK(failure.code == ExitCode::kUnavailable);
  CHECK(contains(failure.text, "train-labels-idx1-ubyte.gz could not be fetched"));
  const std::vector<FileCheck> checks = verify_dataset(request_for("mnist"));
  CHECK(checks[0].ok);
  CHECK(contains(checks[1].verdict, "(y_train): is not MNIST's train-labels"));
}

TEST_CASE("dataset: Fashion-MNIST as Debian installs it") {
  if (!fs::exists("/usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz")) {
    WARN("not run: the package dataset-fashion-mnist is not installed");
    return;
  }
  const CleanEnvironment clean;
  const Dataset data = load(request_for("fashion-mnist"));
  CHECK(data.verified);
  CHECK(data.source == "/usr/share/datasets/fashion-mnist");
  CHECK(data.train.count == 60000);
  CHECK(data.test.count == 10000);
}

TEST_CASE("dataset: the real MNIST, fetched by two at once from a mirror that breaks off") {
  const fs::path real = real_mnist();
  if (real.empty()) {
    WARN("not run: CUDA_MNIST_DATA_DIR does not name a directory with MNIST's four .gz files");
    return;
  }
  const CleanEnvironment clean;
  const auto serve = [&](const WebRequest& request) {
    return serve_file(request, read_bytes(real / request.path.substr(1)));
  };
  LoopbackServer breaking([&](const WebRequest& request) {
    WebAnswer answer = serve(request);
    answer.cut_after = static_cast<int64_t>(answer.body.size()) / 2;
    return answer;
  });
  LoopbackServer good(serve);
  const Environment mirrors("CUDA_MNIST_MIRRORS", (breaking.url() + " " + good.url()).c_str());
  write_bytes(clean.cache() / "train-labels-idx1-ubyte.gz", gzip(idx_labels(60000)));

  const auto load_all = [](bool& good_load) {
    const Dataset data = load(request_for("mnist"));
    good_load = data.verified && data.train.count == 60000 && data.test.count == 10000;
  };
  bool first = false, second = false;
  std::thread other([&] { load_all(second); });
  load_all(first);
  other.join();
  CHECK(first);
  CHECK(second);
  for (const WebRequest& request : good.requests()) CHECK(request.range_start > 0);

  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(clean.cache())) {
    names.push_back(entry.path().filename());
    struct stat status {};
    REQUIRE(stat(entry.path().c_str(), &status) == 0);
    CHECK((status.st_mode & S_IRUSR) != 0);
  }
  std::sort(names.begin(), names.end());
  CHECK(names == std::vector<std::string>{"t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz",
                                          "train-images-idx3-ubyte.gz",
                                          "train-labels-idx1-ubyte.gz",
                                          "train-labels-idx1-ubyte.gz.bad"});

  // What is there is not fetched again; nothing is asked of the mirrors.
  const size_t asked = breaking.requests().size();
  std::vector<std::string> messages;
  fetch_dataset(
      request_for("mnist"), [&](const std::string& text) { messages.push_back(text); }, nullptr);
  CHECK(breaking.requests().size() == asked);
  REQUIRE(messages.size() == 4);
  CHECK(messages[0] == (clean.cache() / "train-images-idx3-ubyte.gz: ok").string());

  // A directory that is named to fetch_dataset() is filled.
  const TemporaryDirectory mine;
  fetch_dataset(request_for("mnist", mine / "new"), nullptr, nullptr);
  CHECK(load(request_for("mnist", mine / "new")).verified);
}
