#include "host/serve/report_page.h"

#include <fmt/format.h>

#include <string>
#include <vector>

#include "host/error.h"
#include "host/os/file_bytes.h"
#include "host/report/markup.h"
#include "host/report/report.h"

namespace mnist {
namespace {

constexpr size_t kMaxReportBytes = 64'000'000;

// A page in place of a report that is not there.
std::string no_report(const std::string& why) {
  return fmt::format(R"(<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>No report</title>
<link rel="icon" href="/icon.svg">
<link rel="stylesheet" href="/style.css">
</head>
<body>
<main class="notice">
<h1>No report</h1>
<p>{}</p>
<p><a href="/">Back to the drawing</a></p>
</main>
</body>
</html>
)",
                     why);
}

}  // namespace

void send_report(const std::filesystem::path& report, httplib::Response& response) {
  std::string why =
      "The server was started without one: <code>cuda-mnist serve --report "
      "report.html</code> shows what <code>cuda-mnist report</code> or "
      "<code>cuda-mnist train --report report.html</code> writes.";
  if (!report.empty()) {
    try {
      const std::vector<uint8_t> file = read_file_bytes(report, kMaxReportBytes);
      response.set_content(reinterpret_cast<const char*>(file.data()), file.size(),
                           "text/html; charset=utf-8");
      response.headers.erase("Content-Security-Policy");
      response.set_header("Content-Security-Policy",
                          std::string(kReportPolicy) + "; frame-ancestors 'none'; sandbox");
      return;
    } catch (const Error& error) {
      why = fmt::format(
          "{}. <code>cuda-mnist report</code> and <code>cuda-mnist train "
          "--report</code> write it; then load this page again.",
          escaped(error.what()));
    }
  }
  response.status = 404;
  response.set_content(no_report(why), "text/html; charset=utf-8");
}

}  // namespace mnist
