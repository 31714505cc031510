#include "host/data/dataset.h"

#include <fmt/format.h>
#include <pwd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <optional>
#include <span>
#include <system_error>

#include "host/data/download.h"
#include "host/data/idx.h"
#include "host/data/npz.h"
#include "host/data/synthetic.h"
#include "host/error.h"
#include "host/os/atomic_file.h"
#include "host/os/environment.h"
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
  const char* array;   // its name in the set's .npz

  std::string name() const { return fmt::format("{}-{}-ubyte.gz", stem, kind); }
};

enum FileIndex { kTrainImages, kTrainLabels, kTestImages, kTestLabels };

struct FileSet {
  const char* name;
  const char* title;
  const char* subdirectory;  // of the cache
  const char* installed;     // where a package puts it
  const char* npz;           // the one file that has all four as arrays; empty: there is none
  std::array<const char*, 2> mirrors;
  std::array<SetFile, 4> files;

  bool known() const { return files[0].sha256[0] != '\0'; }
};

constexpr FileSet kFileSets[] = {
    {"mnist",
     "MNIST",
     "",
     "/usr/share/cuda-mnist/data",
     "mnist.npz",
     {"https://ossci-datasets.s3.amazonaws.com/mnist/",
      "https://storage.googleapis.com/cvdf-datasets/mnist/"},
     {{{"train-images", "idx3", 3, 9912422, 47040000,
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db", "x_train"},
       {"train-labels", "idx1", 1, 28881, 60000,
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5", "y_train"},
       {"t10k-images", "idx3", 3, 1648877, 7840000,
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7", "x_test"},
       {"t10k-labels", "idx1", 1, 4542, 10000,
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2", "y_test"}}}},
    {"fashion-mnist",
     "Fashion-MNIST",
     "fashion-mnist",
     "/usr/share/datasets/fashion-mnist",
     "",
     {"https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
      "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/"},
     {{{"train-images", "idx3", 3, 26421880, 47040000,
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888", ""},
       {"train-labels", "idx1", 1, 29515, 60000,
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9", ""},
       {"t10k-images", "idx3", 3, 4422102, 7840000,
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b", ""},
       {"t10k-labels", "idx1", 1, 5148, 10000,
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34", ""}}}},
    {"idx",
     "the IDX set",
     "",
     "",
     "",
     {},
     {{{"train-images", "idx3", 3, 0, kMaxForeignValues, "", ""},
       {"train-labels", "idx1", 1, 0, kMaxForeignValues, "", ""},
       {"t10k-images", "idx3", 3, 0, kMaxForeignValues, "", ""},
       {"t10k-labels", "idx1", 1, 0, kMaxForeignValues, "", ""}}}}};

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

// Empty if there is none.
fs::path home_directory() {
  fs::path home = environment("HOME");
  if (!home.is_absolute())
    if (const passwd* user = getpwuid(getuid()); user != nullptr) home = user->pw_dir;
  return home.is_absolute() ? home : fs::path();
}

fs::path cache_directory() {
  const fs::path cache = environment("XDG_CACHE_HOME");
  if (cache.is_absolute()) return cache / "cuda-mnist";
  const fs::path home = home_directory();
  if (home.empty())
    throw Error(
        ExitCode::kMissingInput,
        "no home directory to keep data in; set CUDA_MNIST_DATA_DIR or give --data-dir DIR");
  return home / ".cache" / "cuda-mnist";
}

// Where Keras keeps the data sets that it has fetched; empty if there is no home directory.
fs::path keras_directory() {
  fs::path keras = environment("KERAS_HOME");
  if (keras.empty())
    if (const fs::path home = home_directory(); !home.empty()) keras = home / ".keras";
  return keras.empty() ? keras : keras / "datasets";
}

struct Folder {
  fs::path directory;
  // What to do about a file that is not what it should be: an error that the user must see to;
  // our cache, where it is set aside; Keras', where it is passed over.
  enum class Kind { kNamed, kOurs, kKeras } kind = Kind::kNamed;
};

struct SearchPath {
  std::vector<Folder> folders;  // in this order
  fs::path download;            // what is fetched goes here
  std::string passed_over;      // what was wrong with Keras' file
};

SearchPath search_path_of(const DatasetRequest& request, const FileSet& set) {
  SearchPath search;
  if (!request.data_dir.empty()) {
    search.download = request.data_dir;
    // The cache keeps this set in a subdirectory; naming the cache itself works too.
    if (set.subdirectory[0] != '\0')
      search.folders.push_back({request.data_dir / set.subdirectory});
    search.folders.push_back({request.data_dir});
    return search;
  }
  if (!set.known())
    throw Error(ExitCode::kUsage, fmt::format("--dataset {} needs --data-dir DIR", set.name));
  const std::string chosen = environment("CUDA_MNIST_DATA_DIR");
  search.download = chosen.empty() ? cache_directory() : fs::path(chosen);
  if (set.subdirectory[0] != '\0') search.download /= set.subdirectory;
  search.folders = {{search.download, chosen.empty() ? Folder::Kind::kOurs : Folder::Kind::kNamed},
                    {set.installed}};
  if (const fs::path keras = keras_directory(); set.npz[0] != '\0' && !keras.empty())
    search.folders.push_back({keras, Folder::Kind::kKeras});
  return search;
}

std::vector<std::string> spellings(const SetFile& file) {
  std::vector<std::string> names;
  for (const char* separator : {"-", "."})
    for (const char* suffix : {".gz", ""})
      names.push_back(fmt::format("{}{}{}-ubyte{}", file.stem, separator, file.kind, suffix));
  return names;
}

struct FoundFile {
  fs::path path;
  Folder folder;
  bool npz = false;

  const fs::path& from() const { return npz ? path : folder.directory; }
};

std::optional<FoundFile> find_file(const Folder& folder, const FileSet& set, const SetFile& file) {
  std::error_code ignored;
  if (folder.kind != Folder::Kind::kKeras)
    for (const std::string& name : spellings(file))
      if (fs::is_regular_file(folder.directory / name, ignored))
        return FoundFile{folder.directory / name, folder};
  if (set.npz[0] != '\0' && fs::is_regular_file(folder.directory / set.npz, ignored))
    return FoundFile{folder.directory / set.npz, folder, true};
  return std::nullopt;
}

std::optional<FoundFile> find_file(const SearchPath& search, const FileSet& set,
                                   const SetFile& file) {
  for (const Folder& folder : search.folders)
    if (std::optional<FoundFile> found = find_file(folder, set, file)) return found;
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

IdxFile read_checked(const FileSet& set, const SetFile& file, const FoundFile& found) {
  IdxFile idx = found.npz ? read_npz(found.path, file.array, file.rank, file.value_count)
                          : read_idx(found.path, file.rank, file.value_count);
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
              const SearchPath& search) {
  std::vector<std::string> tried;
  for (const Folder& folder : search.folders) {
    const std::string directory = folder.directory.string();
    if (folder.kind != Folder::Kind::kKeras)
      tried.push_back(fmt::format("{}/{}{{-,.}}{}-ubyte{{.gz,}}", directory, file.stem, file.kind));
    if (set.npz[0] != '\0') tried.push_back(fmt::format("{}/{}", directory, set.npz));
  }
  if (!search.passed_over.empty()) tried.back() = search.passed_over;
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

IdxFile fetch(const FileSet& set, const SetFile& file, const SearchPath& search,
              const Message& message, const DownloadProgress& progress) {
  const fs::path target = search.download / file.name();
  std::error_code error;
  fs::create_directories(search.download, error);
  if (error)
    throw Error(ExitCode::kCannotCreate,
                fmt::format("{}: cannot be created: {}; set CUDA_MNIST_DATA_DIR to a directory "
                            "that can be written",
                            search.download.string(), error.message()));
  check_writable(target);

  Download wanted;
  wanted.file = file.name();
  wanted.mirrors = choose_mirrors({set.mirrors.begin(), set.mirrors.end()});
  wanted.max_bytes = file.gzip_bytes;
  say(message, fmt::format("fetching {} ({}) into {}", wanted.file, describe_size(file.gzip_bytes),
                           search.download.string()));
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
        fmt::format("{}; check the network, or put the four files{} into {}, or use --dataset "
                    "synthetic",
                    failure.what(), set.npz[0] == '\0' ? "" : fmt::format(" or Keras' {}", set.npz),
                    search.download.string()));
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

// Keras' file is Keras': it stays as it is, and is not looked at again.
void pass_over(SearchPath& search, const std::string& problem, const Message& message) {
  std::erase_if(search.folders, [](const Folder& f) { return f.kind == Folder::Kind::kKeras; });
  search.passed_over = problem;
  say(message, problem + "; this file of Keras' is passed over");
}

// Finds, reads and checks one file; what is missing, or damaged in our own cache, is fetched if
// `may_fetch`.
IdxFile obtain(const FileSet& set, const SetFile& file, const DatasetRequest& request,
               SearchPath& search, bool may_fetch, const Message& message,
               const DownloadProgress& progress) {
  while (const std::optional<FoundFile> found = find_file(search, set, file)) {
    try {
      return read_checked(set, file, *found);
    } catch (const Error& error) {
      const bool ours = found->folder.kind == Folder::Kind::kOurs;
      if (found->folder.kind == Folder::Kind::kKeras)
        pass_over(search, error.what(), message);
      else if (error.code() == ExitCode::kBadInput && ours && may_fetch)
        set_aside(found->path, error.what(), message);
      else
        throw Error(error.code(), fmt::format("{}; {}", error.what(), cure_for_bad(set, ours)));
    }
  }
  if (!may_fetch) throw missing(set, file, request, search);
  return fetch(set, file, search, message, progress);
}

void keep_first(ImageSet& set, int64_t limit) {
  if (limit == 0 || limit >= set.count) return;
  set.count = limit;
  set.images.resize(size_t(limit) * set.height * set.width);
  set.labels.resize(size_t(limit));
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
  SearchPath search = search_path_of(request, set);
  const bool may_fetch = request.download && request.data_dir.empty();
  const auto get = [&](FileIndex index) {
    return obtain(set, set.files[index], request, search, may_fetch, message, progress);
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
  const SearchPath search = search_path_of(request, set);
  for (const Folder& folder : search.folders) {
    const auto here = [&](const SetFile& file) { return find_file(folder, set, file).has_value(); };
    if (std::any_of(set.files.begin(), set.files.end(), here)) return folder.directory;
  }
  return search.download;
}

fs::path download_directory(const DatasetRequest& request) {
  return search_path_of(request, find_set(request.name)).download;
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
  SearchPath search = search_path_of(request, set);
  for (const SetFile& file : set.files) {
    const IdxFile idx = obtain(set, file, request, search, true, message, progress);
    say(message, fmt::format("{}: ok", idx.name));
  }
}

std::vector<FileCheck> verify_dataset(const DatasetRequest& request) {
  if (is_synthetic(request)) return {{kSyntheticSource, "ok", true, ExitCode::kOk, {}}};
  const FileSet& set = find_set(request.name);
  SearchPath search = search_path_of(request, set);
  std::vector<FileCheck> checks;
  for (const SetFile& file : set.files) {
    FileCheck check{file.name(), "ok", true, ExitCode::kOk, {}};
    if (const std::optional<FoundFile> found = find_file(search, set, file)) {
      check.file = found->path.string();
      check.from = found->from();
    }
    try {
      check.file = obtain(set, file, request, search, false, nullptr, nullptr).name;
    } catch (const Error& error) {
      check.verdict = error.what();
      check.ok = false;
      check.code = error.code();
    }
    checks.push_back(check);
  }
  return checks;
}

}  // namespace mnist
