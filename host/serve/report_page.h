// The report of a run, beside the page to draw on.
#pragma once

#include <httplib.h>

#include <filesystem>

namespace mnist {

// The file as it is now; or a page that says what to do where it cannot be read, or where `report`
// is empty.
void send_report(const std::filesystem::path& report, httplib::Response& response);

}  // namespace mnist
