# Writes the page's files into a C++ source: cmake -DFOLDER=... -DFILES="page/a;..." -DOUT=... -P
set(type_html "text/html; charset=utf-8")
set(type_css "text/css; charset=utf-8")
set(type_js "text/javascript; charset=utf-8")
set(type_svg "image/svg+xml")

set(files "")
foreach(name IN LISTS FILES)
  file(READ ${FOLDER}/${name} text)
  string(REGEX REPLACE "^.*\\." "" suffix ${name})
  string(REGEX REPLACE "^page/(index\\.html)?" "/" path ${name})
  string(APPEND files
    "      {\"${path}\", \"${type_${suffix}}\",\n       R\"page(${text})page\"},\n")
endforeach()
file(WRITE ${OUT} "#include \"host/serve/page.h\"

namespace mnist {

std::span<const PageFile> page_files() {
  static constexpr PageFile kFiles[] = {
${files}  };
  return kFiles;
}

}  // namespace mnist
")
