#include "host/serve/server.h"

#include <fmt/format.h>
#include <httplib.h>

#include <chrono>
#include <cstdint>
#include <future>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <semaphore>
#include <string_view>
#include <utility>

#include "host/error.h"
#include "host/recognition/reading_json.h"
#include "host/serve/bounded_server.h"
#include "host/serve/page.h"
#include "host/serve/reading_desk.h"
#include "host/serve/report_page.h"
#include "host/serve/request_rules.h"

namespace mnist {
namespace {

using namespace std::chrono_literals;
using Json = nlohmann::ordered_json;
using httplib::Request, httplib::Response;
using Handled = httplib::Server::HandlerResponse;

constexpr int kMaxPicturesAtOnce = 2;      // each has a process
constexpr int kMaxLargePictures = 4;       // in memory
constexpr size_t kLargePicture = 1 << 20;  // bytes; a drawing has far fewer
constexpr auto kPatience = 5s;             // of a picture that waits for its turn

constexpr const char* kReadPath = "/api/read";
constexpr const char* kAboutPath = "/api/about";
constexpr const char* kReportPath = "/report";

const httplib::Headers kHeaders = {
    {"Accept-Ranges", "none"},
    {"Cache-Control", "no-store"},
    {"Content-Security-Policy",
     "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
     "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"},
    {"Cross-Origin-Embedder-Policy", "require-corp"},
    {"Cross-Origin-Opener-Policy", "same-origin"},
    {"Cross-Origin-Resource-Policy", "same-origin"},
    {"Permissions-Policy", "camera=(), geolocation=(), microphone=(), usb=()"},
    {"Referrer-Policy", "no-referrer"},
    {"X-Content-Type-Options", "nosniff"},
    {"X-Frame-Options", "DENY"},
};

struct Answer {
  int status;
  Json json;
};

// One of a number of places, while it exists.
template <ptrdiff_t kPlaces>
class Place {
 public:
  Place(std::counting_semaphore<kPlaces>& places, std::chrono::seconds patience)
      : places_(places), taken_(places.try_acquire_for(patience)) {}
  ~Place() {
    if (taken_) places_.release();
  }
  Place(const Place&) = delete;
  Place& operator=(const Place&) = delete;
  explicit operator bool() const { return taken_; }

 private:
  std::counting_semaphore<kPlaces>& places_;
  bool taken_;
};

void answer(Response& response, int status, const Json& json) {
  response.status = status;
  response.set_content(json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n",
                       "application/json");
}

void refuse(Response& response, const Refusal& refusal) {
  answer(response, refusal.status, {{"error", refusal.error}});
}

// What the library itself refuses has no text yet.
std::string words_for(int status) {
  switch (status) {
    case 400:
      return "The request is malformed, too long, or did not come to its end in time.";
    case 414:
      return "The address is too long.";
    case 416:
      return "Ask for the whole of it, without a Range.";
    default:
      return "This request is not understood.";
  }
}

// Of the parameters of a request; nothing if one has an unknown value.
std::optional<FindOptions> find_options(const Request& request) {
  static const std::map<std::string, Ink> kInks = {
      {"auto", Ink::kAuto}, {"yes", Ink::kLight}, {"no", Ink::kDark}};
  FindOptions options;
  for (const auto& [name, value] : request.params) {
    const auto ink = kInks.find(value);
    if (name == "invert" && ink != kInks.end()) {
      options.ink = ink->second;
    } else if (name == "single" && (value == "0" || value == "1")) {
      options.single = value == "1";
    } else {
      return std::nullopt;
    }
  }
  return options;
}

Json page_json(const PictureReading& reading) {
  Json json = reading_json(reading);
  json["width"] = reading.width;
  json["height"] = reading.height;
  for (size_t i = 0; i < reading.digits.size(); ++i)
    json["digits"][i]["image"] = reading.digits[i].image;
  return json;
}

const PageFile* page_file(std::string_view path) {
  for (const PageFile& file : page_files())
    if (file.path == path) return &file;
  return nullptr;
}

}  // namespace

class Server::Http final : public BoundedServer {
 public:
  Http(Recognizer& recognizer, ServeOptions options);

  std::string url() const { return "http://" + authority(options_.host, port_) + "/"; }
  bool run(const std::function<bool()>& stop);

 private:
  std::optional<Refusal> refusal(const Request& request, Response& response) const;
  Handled route(const Request& request, Response& response);
  Json about() const;
  void read_picture(const Request& request, Response& response,
                    const httplib::ContentReader& receive);
  Answer reading(const std::string& file, const FindOptions& options);

  const ServeOptions options_;
  const std::string device_;
  ReadingDesk desk_;
  const int port_;
  const RequestRules rules_;
  std::counting_semaphore<kMaxPicturesAtOnce> pictures_{kMaxPicturesAtOnce};
  std::counting_semaphore<kMaxLargePictures> large_pictures_{kMaxLargePictures};
};

Server::Http::Http(Recognizer& recognizer, ServeOptions options)
    : BoundedServer(kMaxPictureBytes),
      options_(std::move(options)),
      device_(recognizer.device().name),
      desk_(recognizer),
      port_(take_port(options_.host, options_.port)),
      rules_(options_.host, port_) {
  set_default_headers(kHeaders);
  // All but the upload is answered before the library reads a body or matches a pattern.
  set_pre_routing_handler(
      [this](const Request& request, Response& response) { return route(request, response); });
  set_expect_100_continue_handler([this](const Request& request, Response& response) {
    const auto refused = refusal(request, response);
    if (!refused) return 100;
    refuse(response, *refused);
    return refused->status;
  });
  Post(kReadPath,
       [this](const Request& request, Response& response, const httplib::ContentReader& receive) {
         read_picture(request, response, receive);
       });
  set_error_handler(HandlerWithResponse([](const Request& /*request*/, Response& response) {
    if (response.body.empty()) refuse(response, {response.status, words_for(response.status)});
    return Handled::Unhandled;
  }));
  // The library sets a length on some ways only.
  set_post_routing_handler([](const Request& /*request*/, Response& response) {
    response.headers.erase("Content-Length");
    response.set_header("Content-Length", std::to_string(response.body.size()));
  });
  set_exception_handler([](const Request& /*request*/, Response& response, std::exception_ptr) {
    refuse(response, {500, "The server failed at this request."});
  });
}

bool Server::Http::run(const std::function<bool()>& stop) {
  start();
  desk_.work([&] { return stop() || !listening(); });
  const bool idle = end();
  if (!stop()) throw Error(ExitCode::kUnavailable, "the system has closed the server's port");
  return idle;
}

std::optional<Refusal> Server::Http::refusal(const Request& request, Response& response) const {
  if (auto refused = rules_.refuse_host(request)) return refused;
  const bool upload = request.path == kReadPath;
  if (!upload && request.path != kAboutPath && request.path != kReportPath &&
      page_file(request.path) == nullptr)
    return Refusal{404, "There is nothing at this address."};
  if (upload ? request.method != "POST" : request.method != "GET" && request.method != "HEAD") {
    response.set_header("Allow", upload ? "POST" : "GET, HEAD");
    return Refusal{405, "This address does not answer to that method."};
  }
  if (!upload) return std::nullopt;
  if (!find_options(request))
    return Refusal{400, "The options are invert=auto|yes|no and single=0|1."};
  return RequestRules::refuse_upload(request, kMaxPictureBytes);
}

Handled Server::Http::route(const Request& request, Response& response) {
  if (const auto refused = refusal(request, response)) {
    refuse(response, *refused);
  } else if (request.path == kReadPath) {
    return Handled::Unhandled;
  } else if (request.path == kAboutPath) {
    answer(response, 200, about());
  } else if (request.path == kReportPath) {
    send_report(options_.report, response);
  } else {
    const PageFile* file = page_file(request.path);
    response.set_content(file->content.data(), file->content.size(), std::string(file->type));
  }
  return Handled::Handled;
}

Json Server::Http::about() const {
  return {{"model", options_.model}, {"device", device_}, {"report", !options_.report.empty()}};
}

void Server::Http::read_picture(const Request& request, Response& response,
                                const httplib::ContentReader& receive) {
  const auto size = request.get_header_value<uint64_t>("Content-Length");
  std::optional<Place<kMaxLargePictures>> place;
  if (size > kLargePicture && !place.emplace(large_pictures_, 0s))
    return refuse(response, {503, "Other large pictures are being read; try again in a moment."});

  std::string file;
  file.reserve(size);
  const bool complete = receive([&](const char* bytes, size_t count) {
    file.append(bytes, count);
    return true;
  });
  if (!complete) return;  // the library has set the status
  const auto [status, json] = reading(file, *find_options(request));
  answer(response, status, json);
}

Answer Server::Http::reading(const std::string& file, const FindOptions& options) {
  const auto failure = [](int status, const std::string& error) {
    return Answer{status, {{"error", error}}};
  };
  try {
    PictureDigits digits;
    {
      const Place place(pictures_, kPatience);
      if (!place) return failure(503, "Other pictures are being read; try again in a moment.");
      digits = find_picture_digits({reinterpret_cast<const uint8_t*>(file.data()), file.size()},
                                   options);
    }
    return {200, page_json(desk_.read(std::move(digits)))};
  } catch (const Error& error) {
    const bool bad = error.code() == ExitCode::kBadInput;
    return bad ? failure(400, fmt::format("This file {}.", error.what()))
               : failure(500, error.what());
  } catch (const std::future_error&) {
    return failure(503, "The server is stopping.");
  }
}

Server::Server(Recognizer& recognizer, ServeOptions options)
    : http_(std::make_unique<Http>(recognizer, std::move(options))) {}
Server::~Server() = default;

std::string Server::url() const {
  return http_->url();
}

bool Server::run(const std::function<bool()>& stop) {
  return http_->run(stop);
}

}  // namespace mnist
