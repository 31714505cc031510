// An HTTP server with a page to draw digits on, for people at this machine.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string>

#include "host/recognition/recognizer.h"

namespace mnist {

struct ServeOptions {
  std::string host = "127.0.0.1";  // a name or an address of this machine
  int port = 0;                    // 0: one that is free
  std::string model;               // its name, for the page
  std::filesystem::path report;    // an HTML file, read anew whenever it is asked for; empty: none
};

class Server {
 public:
  // Takes the port; `recognizer` outlives the server. Throws Error(kUnavailable) if the port or
  // the address cannot be had, Error(kInternal) if the model gives NaN.
  Server(Recognizer& recognizer, ServeOptions options);
  ~Server();

  std::string url() const;  // "http://127.0.0.1:8080/"

  // Answers requests until `stop`, asked ten times a second, says so. The caller's thread reads
  // the digits. False: a picture is still being looked at, by a thread that uses this object.
  bool run(const std::function<bool()>& stop);

 private:
  class Http;
  std::unique_ptr<Http> http_;
};

// Whether only this machine can reach a server on `host`.
bool is_loopback(const std::string& host);

}  // namespace mnist
