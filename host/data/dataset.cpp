#include "host/data/dataset.h"

#include <fmt/format.h>
#include <pwd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <optional>
#include <span>
#include <system_error>

#include "host/data/download.h"
#include "host/data/idx.h"
#include "host/data/synthetic.h"
#include "host/error.h"
#include "host/os/atomic_file.h"
#include "host/os/file_bytes.h"

namespace mnist {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kSyntheticTrainCount = 60000, kSyntheticTestCount = 10000;
constexpr uint64_t kSyntheticTrainSeed = 1, kSyntheticTestSeed = 2;
constexpr int64_t kMaxForeignValues = int64_t{1} << 30;
constexpr const char* kSyntheticSource = "built-in generator";

// One of the four files. Its gzip_bytes and sha256 are 0 and empty if the set is not known.
struct SetFile {
  const char* stem;  // "train-images"
  const char* kind;  // "idx3"
  int rank;
  int64_t gzip_bytes;  // as the mirrors send it
  int64_t value_count;
  const char* sha256;  // of the raw bytes

  std::string name() const { return fmt::format("{}-{}-ubyte.gz", stem, kind); }
};

enum FileIndex { kTrainImages, kTrainLabels, kTestImages, kTestLabels };

struct FileSet {
  const char* name;
  const char* title;
  const char* subdirectory;  // of the cache
  const char* installed;     // where a package puts it
  std::array<const char*, 2> mirrors;
  std::array<SetFile, 4> files;

  bool known() const { return files[0].sha256[0] != '\0'; }
};

constexpr FileSet kFileSets[] = {
    {"mnist",
     "MNIST",
     "",
     "/usr/share/cuda-mnist/data",
     {"https://ossci-datasets.s3.amazonaws.com/mnist/",
      "https://storage.googleapis.com/cvdf-datasets/mnist/"},
     {{{"train-images", "idx3", 3, 9912422, 47040000,
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"},
       {"train-labels", "idx1", 1, 28881, 60000,
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"},
       {"t10k-images", "idx3", 3, 1648877, 7840000,
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"},
       {"t10k-labels", "idx1", 1, 4542, 10000,
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"}}}},
    {"fashion-mnist",
     "Fashion-MNIST",
     "fashion-mnist",
     "/usr/share/datasets/fashion-mnist",
     {"https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
      "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/"},
     {{{"train-images", "idx3", 3, 26421880, 47040000,
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"},
       {"train-labels", "idx1", 1, 29515, 60000,
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"},
       {"t10k-images", "idx3", 3, 4422102, 7840000,
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"},
       {"t10k-labels", "idx1", 1, 5148, 10000,
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"}}}},
    {"idx",
     "the IDX set",
     "",
     "",
     {},
     {{{"train-images", "idx3", 3, 0, kMaxForeignValues, ""},
       {"train-labels", "idx1", 1, 0, kMaxForeignValues, ""},
       {"t10k-images", "idx3", 3, 0, kMaxForeignValues, ""},
       {"t10k-labels", "idx1", 1, 0, kMaxForeignValues, ""}}}}};

bool is_synthetic(const DatasetRequest& request) {
  return request.name == "synthetic";
}

const FileSet& find_set(const std::string& name) {
  for (const FileSet& set : kFileSets)
    if (name == set.name) return set;
  throw Error(
      ExitCode::kUsage,
      fmt::format("unknown data set '{}'; there are mnist, fashion-mnist, synthetic, and idx "
                  "(your own files in --data-dir)",
                  name));
}

void say(const Message& message, const std::string& text) {
  if (message) message(text);
}

// --- directories --------------------------------------------------------------------------------

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

fs::path cache_directory() {
  const fs::path cache = environment("XDG_CACHE_HOME");
  if (cache.is_absolute()) return cache / "cuda-mnist";
  fs::path home = environment("HOME");
  if (!home.is_absolute())
    if (const passwd* user = getpwuid(getuid()); user != nullptr) home = user->pw_dir;
  if (!home.is_absolute())
    throw Error(
        ExitCode::kMissingInput,
        "no home directory to keep data in; set CUDA_MNIST_DATA_DIR or give --data-dir DIR");
  return home / ".cache" / "cuda-mnist";
}

struct Places {
  std::vector<fs::path> search;  // in this order
  fs::path home;                 // what is fetched goes here
  bool own_cache = false;        // damaged files in `home` may be set aside
};

Places find_places(const DatasetRequest& request, const FileSet& set) {
  Places places;
  if (!request.data_dir.empty()) {
    places.home = request.data_dir;
    // The cache keeps this set in a subdirectory; naming the cache itself works too.
    if (set.subdirectory[0] != '\0') places.search.push_back(request.data_dir / set.subdirectory);
    places.search.push_back(request.data_dir);
    return places;
  }
  if (!set.known())
    throw Error(ExitCode::kUsage, fmt::format("--dataset {} needs --data-dir DIR", set.name));
  const std::string chosen = environment("CUDA_MNIST_DATA_DIR");
  places.own_cache = chosen.empty();
  places.home = chosen.empty() ? cache_directory() : fs::path(chosen);
  if (set.subdirectory[0] != '\0') places.home /= set.subdirectory;
  places.search = {places.home, set.installed};
  return places;
}

std::vector<std::string> spellings(const SetFile& file) {
  std::vector<std::string> names;
  for (const char* separator : {"-", "."})
    for (const char* suffix : {".gz", ""})
      names.push_back(fmt::format("{}{}{}-ubyte{}", file.stem, separator, file.kind, suffix));
  return names;
}

std::optional<fs::path> find_file(const Places& places, const SetFile& file) {
  for (const fs::path& directory : places.search)
    for (const std::string& name : spellings(file)) {
      std::error_code ignored;
      if (fs::is_regular_file(directory / name, ignored)) return directory / name;
    }
  return std::nullopt;
}

// --- one file -----------------------------------------------------------------------------------

// Throws Error(kBadInput) if the raw bytes are not those of the known set.
void check_identity(const FileSet& set, const SetFile& file, const IdxFile& idx) {
  if (!set.known() || idx.sha256 == file.sha256) return;
  for (const FileSet& other : kFileSets)
    for (const SetFile& known : other.files)
      if (idx.sha256 == known.sha256)
        throw Error(ExitCode::kBadInput,
                    fmt::format("{}: is {}'s {}, not {}'s {}", idx.name, other.title, known.stem,
                                set.title, file.stem));
  throw Error(ExitCode::kBadInput,
              fmt::format("{}: is not {}'s {}: the SHA-256 of its contents is {}, not {}", idx.name,
                          set.title, file.stem, idx.sha256, file.sha256));
}

IdxFile read_checked(const FileSet& set, const SetFile& file, const fs::path& path) {
  IdxFile idx = read_idx(path, file.rank, file.value_count);
  check_identity(set, file, idx);
  return idx;
}

std::string cure_for_bad(const FileSet& set, bool in_own_cache) {
  if (!set.known()) return "replace it";
  if (in_own_cache)
    return fmt::format("run `cuda-mnist data fetch --dataset {}` to replace it", set.name);
  return "put the original in its place, or choose another --data-dir, or train on files of your "
         "own with --dataset idx --data-dir DIR";
}

Error missing(const FileSet& set, const SetFile& file, const DatasetRequest& request,
              const Places& places) {
  std::vector<std::string> tried;
  for (const fs::path& directory : places.search)
    tried.push_back(
        fmt::format("{}/{}{{-,.}}{}-ubyte{{.gz,}}", directory.string(), file.stem, file.kind));
  std::string cure;
  if (set.known()) {
    const std::string where =
        request.data_dir.empty() ? "" : " --data-dir " + request.data_dir.string();
    cure = fmt::format("run `cuda-mnist data fetch --dataset {}{}`, or ", set.name, where);
  }
  return Error(ExitCode::kMissingInput,
               fmt::format("{} has no {} file; tried {}; {}give its directory with --data-dir DIR, "
                           "or use --dataset synthetic",
                           set.title, file.stem, fmt::join(tried, " and "), cure));
}

IdxFile fetch(const FileSet& set, const SetFile& file, const Places& places, const Message& message,
              const DownloadProgress& progress) {
  const fs::path target = places.home / file.name();
  std::error_code error;
  fs::create_directories(places.home, error);
  if (error)
    throw Error(ExitCode::kCannotCreate,
                fmt::format("{}: cannot be created: {}; set CUDA_MNIST_DATA_DIR to a directory "
                            "that can be written",
                            places.home.string(), error.message()));
  check_writable(target);

  Download wanted;
  wanted.file = file.name();
  wanted.mirrors = choose_mirrors({set.mirrors.begin(), set.mirrors.end()});
  wanted.max_bytes = file.gzip_bytes;
  say(message, fmt::format("fetching {} ({}) into {}", wanted.file, describe_size(file.gzip_bytes),
                           places.home.string()));
  IdxFile idx;
  const auto accept = [&](std::span<const uint8_t> bytes) {
    idx = parse_idx(bytes, "the answer", file.rank, file.value_count);
    check_identity(set, file, idx);
  };
  std::vector<uint8_t> bytes;
  try {
    bytes = download(wanted, accept, message, progress);
  } catch (const Error& failure) {
    if (failure.code() != ExitCode::kUnavailable) throw;
    throw Error(
        failure.code(),
        fmt::format("{}; check the network, or put the four files into {}, or use --dataset "
                    "synthetic",
                    failure.what(), places.home.string()));
  }
  write_file_atomically(target, std::as_bytes(std::span(bytes)));
  idx.name = target.string();
  return idx;
}

// Renames a damaged file of our cache, so that it is neither used nor lost.
void set_aside(const fs::path& path, const std::string& problem, const Message& message) {
  const fs::path aside = path.string() + ".bad";
  std::error_code error;
  fs::rename(path, aside, error);
  // Another process may have done it first.
  if (error && error != std::errc::no_such_file_or_directory)
    throw Error(ExitCode::kCannotCreate, fmt::format("{}; it cannot be renamed to {}: {}", problem,
                                                     aside.string(), error.message()));
  say(message, fmt::format("{}; renamed to {}", problem, aside.filename().string()));
}

// Finds, reads and checks one file; what is missing, or damaged in our own cache, is fetched if
// `may_fetch`.
IdxFile obtain(const FileSet& set, const SetFile& file, const DatasetRequest& request,
               const Places& places, bool may_fetch, const Message& message,
               const DownloadProgress& progress) {
  while (const std::optional<fs::path> path = find_file(places, file)) {
    try {
      return read_checked(set, file, *path);
    } catch (const Error& error) {
      const bool ours = places.own_cache && path->parent_path() == places.home;
      if (error.code() == ExitCode::kBadInput && ours && may_fetch)
        set_aside(*path, error.what(), message);
      else
        throw Error(error.code(), fmt::format("{}; {}", error.what(), cure_for_bad(set, ours)));
    }
  }
  if (!may_fetch) throw missing(set, file, request, places);
  return fetch(set, file, places, message, progress);
}

void keep_first(ImageSet& set, int64_t limit) {
  if (limit == 0 || limit >= set.count) return;
  set.count = limit;
  set.images.resize(static_cast<size_t>(limit) * set.height * set.width);
  set.labels.resize(static_cast<size_t>(limit));
}

Dataset load_synthetic(int64_t limit) {
  const int64_t train = limit == 0 ? kSyntheticTrainCount : std::min(limit, kSyntheticTrainCount);
  return {"synthetic", kSyntheticSource, false, synthetic_digits(train, kSyntheticTrainSeed),
          synthetic_digits(kSyntheticTestCount, kSyntheticTestSeed)};
}

}  // namespace

Dataset load_dataset(const DatasetRequest& request, const Message& message,
                     const DownloadProgress& progress) {
  if (request.limit < 0)
    throw Error(ExitCode::kUsage,
                fmt::format("--limit is {}; it must be 0 (all) or more", request.limit));
  if (is_synthetic(request)) return load_synthetic(request.limit);

  const FileSet& set = find_set(request.name);
  const Places places = find_places(request, set);
  const bool may_fetch = request.download && request.data_dir.empty();
  const auto get = [&](FileIndex index) {
    return obtain(set, set.files[index], request, places, may_fetch, message, progress);
  };
  // The small files first: if something is amiss, it shows before the large ones are fetched.
  IdxFile test_labels = get(kTestLabels);
  IdxFile train_labels = get(kTrainLabels);
  IdxFile test_images = get(kTestImages);
  IdxFile train_images = get(kTrainImages);

  Dataset data;
  data.name = set.name;
  data.source = fs::path(train_images.name).parent_path().string();
  data.verified = set.known();
  data.train = join_idx(std::move(train_images), std::move(train_labels));
  data.test = join_idx(std::move(test_images), std::move(test_labels));
  keep_first(data.train, request.limit);
  return data;
}

fs::path data_directory(const DatasetRequest& request) {
  if (is_synthetic(request))
    throw Error(ExitCode::kUsage, "the synthetic data set has no directory: it is generated");
  const FileSet& set = find_set(request.name);
  const Places places = find_places(request, set);
  for (const fs::path& directory : places.search) {
    const auto here = [&](const SetFile& file) {
      return find_file({{directory}, {}, false}, file).has_value();
    };
    if (std::any_of(set.files.begin(), set.files.end(), here)) return directory;
  }
  return places.home;
}

void fetch_dataset(const DatasetRequest& request, const Message& message,
                   const DownloadProgress& progress) {
  if (is_synthetic(request)) {
    say(message, "the synthetic data set is generated; there is nothing to fetch");
    return;
  }
  const FileSet& set = find_set(request.name);
  if (!set.known())
    throw Error(ExitCode::kUsage,
                fmt::format("--dataset {} is your own files; there is nothing to fetch", set.name));
  const Places places = find_places(request, set);
  for (const SetFile& file : set.files) {
    const IdxFile idx = obtain(set, file, request, places, true, message, progress);
    say(message, fmt::format("{}: ok", idx.name));
  }
}

std::vector<FileCheck> verify_dataset(const DatasetRequest& request) {
  if (is_synthetic(request)) return {{kSyntheticSource, "ok", true}};
  const FileSet& set = find_set(request.name);
  const Places places = find_places(request, set);
  std::vector<FileCheck> checks;
  for (const SetFile& file : set.files) {
    const std::optional<fs::path> path = find_file(places, file);
    FileCheck check{path ? path->string() : file.name(), "ok", true};
    try {
      obtain(set, file, request, places, false, nullptr, nullptr);
    } catch (const Error& error) {
      check.verdict = error.what();
      check.ok = false;
    }
    checks.push_back(check);
  }
  return checks;
}

}  // namespace mnist
