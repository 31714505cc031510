#include "host/data/download.h"

#include <curl/curl.h>
#include <fmt/format.h>

#include <algorithm>
#include <exception>
#include <memory>
#include <sstream>

#include "host/error.h"
#include "host/os/environment.h"

namespace mnist {
namespace {

constexpr long kMaxRedirects = 5;

using Url = std::unique_ptr<CURLU, decltype(&curl_url_cleanup)>;
using Transfer = std::unique_ptr<CURL, decltype(&curl_easy_cleanup)>;

void check(CURLcode code) {
  if (code != CURLE_OK)
    throw Error(ExitCode::kInternal, fmt::format("libcurl: {}", curl_easy_strerror(code)));
}

void start_libcurl() {
  static const CURLcode status = curl_global_init(CURL_GLOBAL_DEFAULT);
  check(status);
}

std::string url_part(CURLU* url, CURLUPart part) {
  char* text = nullptr;
  if (curl_url_get(url, part, &text, 0) != CURLUE_OK) return "";
  std::string copy = text;
  curl_free(text);
  return copy;
}

// True for HTTP to this machine, false for HTTPS.
bool is_local(const std::string& mirror) {
  const Url url(curl_url(), curl_url_cleanup);
  if (url != nullptr && curl_url_set(url.get(), CURLUPART_URL, mirror.c_str(), 0) == CURLUE_OK) {
    const std::string scheme = url_part(url.get(), CURLUPART_SCHEME);
    const std::string host = url_part(url.get(), CURLUPART_HOST);
    if (scheme == "https") return false;
    if (scheme == "http" && (host == "127.0.0.1" || host == "[::1]" || host == "localhost"))
      return true;
  }
  throw Error(ExitCode::kUsage,
              fmt::format("mirror '{}' is not an https:// URL; check CUDA_MNIST_MIRRORS", mirror));
}

// What the callbacks of one download share.
struct State {
  const Download& wanted;
  const DownloadProgress& progress;
  std::vector<uint8_t> bytes;
  bool too_long = false;
  std::exception_ptr thrown;  // by the progress function
};

size_t on_body(char* data, size_t, size_t count, void* user) {
  State& state = *static_cast<State*>(user);
  if (count > size_t(state.wanted.max_bytes) - state.bytes.size()) {
    state.too_long = true;
    return 0;
  }
  state.bytes.insert(state.bytes.end(), data, data + count);
  return count;
}

int on_progress(void* user, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
  State& state = *static_cast<State*>(user);
  if (!state.progress) return 0;
  try {
    const auto done = int64_t(state.bytes.size());
    return state.progress(state.wanted.file, done, state.wanted.max_bytes) ? 0 : 1;
  } catch (...) {
    state.thrown = std::current_exception();
    return 1;
  }
}

// How one attempt at one mirror ended.
struct Attempt {
  bool complete = false;   // the server sent all it had
  bool resumable = false;  // what has come is worth continuing
  std::string problem;
};

// Appends to state.bytes what follows them in the file at `url`.
Attempt fetch(const std::string& url, bool local, State& state) {
  const Transfer transfer(curl_easy_init(), curl_easy_cleanup);
  CURL* curl = transfer.get();
  if (curl == nullptr) throw Error(ExitCode::kInternal, "libcurl cannot start: out of memory");
  char detail[CURL_ERROR_SIZE] = "";
  const auto offset = curl_off_t(state.bytes.size());
  check(curl_easy_setopt(curl, CURLOPT_URL, url.c_str()));
  check(curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, local ? "http" : "https"));
  check(curl_easy_setopt(curl, CURLOPT_REDIR_PROTOCOLS_STR, "https"));
  if (local) check(curl_easy_setopt(curl, CURLOPT_NOPROXY, "*"));
  check(curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 1L));
  check(curl_easy_setopt(curl, CURLOPT_MAXREDIRS, kMaxRedirects));
  check(curl_easy_setopt(curl, CURLOPT_USERAGENT, "cuda-mnist"));
  check(curl_easy_setopt(curl, CURLOPT_FAILONERROR, 1L));
  check(curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L));
  check(curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, state.wanted.connect_seconds));
  check(curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, 1000L));
  check(curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, state.wanted.stall_seconds));
  check(curl_easy_setopt(curl, CURLOPT_MAXFILESIZE_LARGE,
                         curl_off_t(state.wanted.max_bytes) - offset));
  check(curl_easy_setopt(curl, CURLOPT_RESUME_FROM_LARGE, offset));
  check(curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body));
  check(curl_easy_setopt(curl, CURLOPT_WRITEDATA, &state));
  check(curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_progress));
  check(curl_easy_setopt(curl, CURLOPT_XFERINFODATA, &state));
  check(curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L));
  check(curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, detail));

  const CURLcode code = curl_easy_perform(curl);
  if (state.thrown) std::rethrow_exception(state.thrown);
  if (code == CURLE_ABORTED_BY_CALLBACK)
    throw Error(ExitCode::kInterrupted,
                fmt::format("the download of {} was interrupted", state.wanted.file));
  if (code == CURLE_OK) return {.complete = true, .resumable = false, .problem = ""};
  if (state.too_long || code == CURLE_FILESIZE_EXCEEDED)
    return {
        .complete = false,
        .resumable = false,
        .problem = fmt::format("sends more than the {} bytes of the file", state.wanted.max_bytes)};
  // An answer that was cut off can be continued; a refusal or a bad redirect brought nothing, and
  // what an earlier mirror sent is as good as before.
  const bool resumable = code != CURLE_RANGE_ERROR;
  return {.complete = false,
          .resumable = resumable,
          .problem = detail[0] != '\0' ? detail : curl_easy_strerror(code)};
}

}  // namespace

std::vector<uint8_t> download(const Download& wanted, const AcceptBytes& accept,
                              const Message& message, const DownloadProgress& progress) {
  start_libcurl();
  State state{wanted, progress, {}, false, nullptr};
  state.bytes.reserve(size_t(wanted.max_bytes));
  std::string last_problem = "there is no mirror";
  for (const std::string& mirror : wanted.mirrors) {
    const std::string url = mirror + (mirror.ends_with('/') ? "" : "/") + wanted.file;
    const bool local = is_local(mirror);
    // What came from elsewhere may be wrong: if the file is not right when continued from here,
    // this mirror gets a second chance from the first byte on.
    for (bool again = true; again;) {
      const bool continued = !state.bytes.empty();
      state.too_long = false;
      Attempt attempt = fetch(url, local, state);
      if (attempt.complete) {
        try {
          accept(state.bytes);
          return std::move(state.bytes);
        } catch (const Error& error) {
          if (error.code() != ExitCode::kBadInput) throw;
          attempt.problem = error.what();
        }
      }
      if (!attempt.resumable) state.bytes.clear();
      again = continued && !attempt.resumable;
      last_problem = fmt::format("{}: {}", url, attempt.problem);
    }
    if (message) message(fmt::format("mirror failed: {}", last_problem));
  }
  throw Error(ExitCode::kUnavailable,
              fmt::format("{} could not be fetched from any of {} mirrors (last: {})", wanted.file,
                          wanted.mirrors.size(), last_problem));
}

std::vector<std::string> choose_mirrors(const std::vector<std::string>& known) {
  const std::string text = environment("CUDA_MNIST_MIRRORS");
  if (text.empty()) return known;
  std::istringstream words(text);
  std::vector<std::string> mirrors;
  for (std::string word; words >> word;) mirrors.push_back(word);
  for (const std::string& mirror : mirrors) is_local(mirror);
  return mirrors;
}

}  // namespace mnist
